"""A model's parts through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def compile_parts(
    model: nn.Module, parts: tuple[str, ...], backend: str | Callable[..., Any] = "inductor"
) -> None:
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
            child.compile(dynamic=True, backend=backend)
