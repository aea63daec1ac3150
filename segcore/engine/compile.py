"""A model's parts through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch._functorch import config as partitioner

Backend = str | Callable[..., Any]


def compile_parts(model: nn.Module, parts: tuple[str, ...], backend: Backend = "inductor") -> None:
    """Compile some children in place, when they are first called; names of parameters stay.

    Sizes are symbols from the start, so that images of other sizes compile nothing anew; only
    numbers that were equal by chance (a batch of 2, maps 2 rows high) cost another graph once.
    What lies between the parts stays as it is.

    Args:
        parts: names of children, of which the model may lack some.
        backend: torch.compile's.
    """
    for name, child in model.named_children():
        if name in parts:
            child.compile(dynamic=True, backend=_keeping_no_views(backend))


def _keeping_no_views(backend: Backend) -> Callable[..., Any]:
    """The backend, made to keep for backward what is in memory, and to view it anew there.

    Inductor sorts the strides of views that it keeps, and cannot where they are sums of symbols,
    as in tokens of several levels: 1 < 32*a*b + 32*c*d is nothing that it can decide.
    """

    def compile_graph(graph: Any, inputs: Any, **options: Any) -> Any:
        compiler = _compiler(backend)
        with partitioner.patch(recompute_views=True):
            return compiler(graph, inputs, **options)

    return compile_graph


def _compiler(backend: Backend) -> Callable[..., Any]:
    """What torch.compile calls for a backend, imported when it is needed."""
    if backend == "inductor":  # the entry of this name first wakes processes that may be gone
        return import_module("torch._inductor.compile_fx").compile_fx
    return torch._dynamo.lookup_backend(backend) if isinstance(backend, str) else backend
