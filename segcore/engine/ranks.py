"""What the processes of a run tell each other, from host to host: no GPU waits for it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from segcore.errors import DataError, NonFiniteError, UserError
from segcore.structures import Batch

Value = TypeVar("Value")
Problem = UserError | NonFiniteError
PERIOD = 60.0  # seconds between two signs of life of rank 0; collectives time out after 1800


def of_all_ranks(value: Any, fabric: Fabric) -> list[Any]:
    """Everybody's small value, in rank order, on every rank; all of them must ask."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(values, value)
    return values


def raise_together(problem: Problem | None, fabric: Fabric) -> None:
    """One rank's error on every rank, so that none waits for the one that failed."""
    every = of_all_ranks((type(problem), str(problem)) if problem else None, fabric)
    problems = [(rank, *found) for rank, found in enumerate(every) if found]
    # a number that is none comes first: it says that nothing may be saved
    for rank, kind, message in sorted(problems, key=lambda p: p[1] is not NonFiniteError):
        where = f" (process {rank} of {len(every)})" if len(every) > 1 else ""
        raise kind(message + where)


def on_first_rank(compute: Callable[[], Value], fabric: Fabric) -> Value | None:
    """What `compute` returns, on rank 0; the others wait, however long it takes.

    A collective that waits for its end would time out: rank 0 tells them now and then that it is
    still at work. Raises its UserError on all.
    """
    value, problem = None, None
    if fabric.world_size == 1:
        return compute()
    if fabric.is_global_zero:
        done = threading.Event()
        signs = threading.Thread(target=_signs_of_life, args=(done, fabric), daemon=True)
        signs.start()
        try:
            value = compute()
        except UserError as error:
            problem = error
        finally:
            done.set()
            signs.join()
    else:
        while of_all_ranks(None, fabric)[0] == "busy":
            pass
    raise_together(problem, fabric)
    return value


def _signs_of_life(done: threading.Event, fabric: Fabric) -> None:
    while not done.wait(PERIOD):
        of_all_ranks("busy", fabric)
    of_all_ranks("done", fabric)


def from_first_rank(read: Callable[[], Value], fabric: Fabric) -> Value:
    """What `read` returns on rank 0, on every rank: machines need not share a disk.

    Tensors, wherever they are in the value, travel one by one. Raises rank 0's UserError on all.
    """
    value, problem = None, None
    try:
        value = read() if fabric.is_global_zero else None
    except UserError as error:
        problem = error
    raise_together(problem, fabric)
    if fabric.world_size == 1:
        return cast(Value, value)
    stream, received = BytesIO(), list[Tensor]()
    packer = _Packer(stream)
    if fabric.is_global_zero:
        packer.dump(value)
    like = [(x.shape, x.dtype) for x in packer.tensors]
    pickled, like = of_all_ranks((stream.getvalue(), like), fabric)[0]
    for i, (shape, dtype) in enumerate(like):
        given = packer.tensors[i].cpu().contiguous() if fabric.is_global_zero else None
        received.append(torch.empty(shape, dtype=dtype) if given is None else given)
        dist.broadcast(received[-1], 0)
    if fabric.is_global_zero:
        return cast(Value, value)
    return _Unpacker(BytesIO(pickled), received).load()


def share_buffers(model: nn.Module, fabric: Fabric) -> None:
    """Rank 0's buffers to all ranks: steps leave each with its own running means of BatchNorm."""
    if fabric.world_size == 1:
        return
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)


class _Packer(pickle.Pickler):
    """Leaves a value's tensors out, and collects them."""

    def __init__(self, stream: BytesIO) -> None:
        super().__init__(stream)
        self.tensors: list[Tensor] = []

    def persistent_id(self, obj: Any) -> int | None:
        """The number of a tensor."""
        if not isinstance(obj, Tensor):
            return None
        self.tensors.append(obj)
        return len(self.tensors) - 1


class _Unpacker(pickle.Unpickler):
    """Puts them back."""

    def __init__(self, stream: BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(stream)
        self.tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        """The tensor of a number."""
        return self.tensors[pid]


class Feed:
    """The batches of this rank's steps. An error of one rank's is raised on all, between steps.

    The others learn of it with the numbers of a step, not by a message of its own in every step.
    So the rank that failed takes part in a step more, with the batches that it had before.

    Args:
        accumulate: batches to one step.
    """

    def __init__(self, accumulate: int, fabric: Fabric) -> None:
        self.accumulate, self.fabric = accumulate, fabric
        self.problem: DataError | NonFiniteError | None = None  # of this rank, not raised yet
        self.shared = fabric.world_size == 1  # an error is every rank's: they may still save
        self._batches: list[Batch] = []

    def take(self, batches: Iterator[Batch]) -> list[Batch]:
        """The batches of a step, or those of the step before where there is a problem."""
        first = not self._batches
        try:
            if not self.problem:
                self._batches = [next(batches) for _ in range(self.accumulate)]
        except DataError as problem:
            self.fail(problem)
        if first:
            self.raise_together()  # nobody has a batch to repeat yet
        return self._batches

    def fail(self, problem: DataError | NonFiniteError) -> None:
        """Raise it, alone; with others there, only when all of them can."""
        if self.fabric.world_size == 1:
            raise problem
        if not isinstance(self.problem, NonFiniteError):  # which says that nothing may be saved
            self.problem = problem

    def raise_together(self) -> None:
        """The error of one rank on all; all of them must ask."""
        try:
            raise_together(self.problem, self.fabric)
        except (DataError, NonFiniteError):
            self.shared = True
            raise
