"""Batches on their way to a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from segcore.structures import Batch


class Upload:
    """Copies batches to a device; to a GPU on a stream of its own, beside the step before."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> Batch:
        """The batch there, for work that is given to the current stream from now on."""
        if self.stream is None:
            return batch.to(self.device)
        with torch.cuda.stream(self.stream):
            moved = batch.to(self.device)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        for tensor in _memories(moved):
            tensor.record_stream(current)  # or it would be given away while that still reads it
        return moved


def _memories(batch: Batch) -> list[Tensor]:
    """One tensor of each piece of memory."""
    targets = [x for t in batch.targets for x in (t.labels, t.masks, t.present)]
    return list({x.untyped_storage().data_ptr(): x for x in (batch.images, *targets)}.values())
