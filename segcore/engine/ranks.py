"""What the processes of a run tell each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from lightning_fabric import Fabric

from segcore.errors import DataError
from segcore.structures import Batch


def of_all_ranks(value: Any, fabric: Fabric) -> list[Any]:
    """Everybody's small value, in rank order, on every rank; all of them must ask."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(values, value)
    return values


def raise_together(problem: DataError | None, fabric: Fabric) -> None:
    """One rank's error on every rank, so that none waits for the one that failed."""
    messages = of_all_ranks(str(problem) if problem else "", fabric)
    for rank, message in enumerate(messages):
        if message:
            where = f" (process {rank} of {len(messages)})" if len(messages) > 1 else ""
            raise DataError(message + where)


class Feed:
    """The batches of this rank's steps. A DataError of one rank's is raised on all, between steps.

    The others learn of it with the numbers of a step, not by a message of its own in every step.
    So the rank that failed takes part in one step more, with the batches that it had before.

    Args:
        accumulate: batches to one step.
    """

    def __init__(self, accumulate: int, fabric: Fabric) -> None:
        self.accumulate, self.fabric = accumulate, fabric
        self.problem: DataError | None = None  # of this rank, not raised yet
        self.shared = fabric.world_size == 1  # an error is every rank's: they may still save
        self._batches: list[Batch] = []

    def take(self, batches: Iterator[Batch]) -> list[Batch]:
        """The batches of a step, or those of the step before where there is a problem."""
        first = not self._batches
        try:
            if not self.problem:
                self._batches = [next(batches) for _ in range(self.accumulate)]
        except DataError as problem:
            if self.fabric.world_size == 1:
                raise
            self.problem = problem
        if first:
            self.raise_together()  # nobody has a batch to repeat yet
        return self._batches

    def raise_together(self) -> None:
        """The error of one rank's data on all; all of them must ask."""
        try:
            raise_together(self.problem, self.fabric)
        except DataError:
            self.shared = True
            raise
