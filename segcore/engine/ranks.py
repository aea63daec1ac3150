"""What the processes of a run tell each other."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from lightning_fabric import Fabric

from segcore.errors import DataError


def of_all_ranks(value: Any, fabric: Fabric) -> list[Any]:
    """Everybody's small value, in rank order, on every rank; all of them must ask."""
    if fabric.world_size == 1:
        return [value]
    found: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(found, value)
    return found


def raise_together(problem: DataError | None, fabric: Fabric) -> None:
    """One rank's error on every rank, so that none waits for the one that failed."""
    messages = of_all_ranks(str(problem) if problem else "", fabric)
    for rank, message in enumerate(messages):
        if message:
            where = f" (process {rank} of {len(messages)})" if len(messages) > 1 else ""
            raise DataError(message + where)
