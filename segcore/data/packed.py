"""A batch on its way from a loader's process to the trainer's, and to the GPU.

Legend of one-letter names: B samples, N segments of all of them, T views, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segcore.structures import Batch, Targets


@dataclass(slots=True)
class PackedBatch:
    """A batch in six tensors, however many targets it has.

    Each tensor that comes from another process holds a file descriptor: with three a target, large
    batches and many workers would use up all that a process may have.
    """

    batch: Batch  # without targets
    rest: list[Targets]  # what else they say
    counts: list[int]  # B: segments of each
    tensors: tuple[Tensor, ...]  # labels (N,), masks (N, T, H, W), present (N, T); () at test time

    @classmethod
    def pack(cls, batch: Batch, *, shared: bool) -> PackedBatch:
        """Copies the targets' tensors, once.

        Args:
            shared: into memory that another process can map, which handing them on needs anyway.
        """
        targets = batch.targets
        parts = [(t.labels, t.masks, t.present) for t in targets]
        return cls(
            replace(batch, targets=[]),
            [replace(t, labels=EMPTY, masks=EMPTY, present=EMPTY) for t in targets],
            [len(t.labels) for t in targets],
            tuple(_joined(column, shared=shared) for column in zip(*parts, strict=True)),
        )

    def pin_memory(self) -> PackedBatch:
        """For the data loader: page-locked, so that copies to a GPU make nobody wait."""
        batch = self.batch
        pinned = replace(batch, images=batch.images.pin_memory(), sizes=batch.sizes.pin_memory())
        return replace(self, batch=pinned, tensors=tuple(x.pin_memory() for x in self.tensors))

    def unpack(self) -> Batch:
        """The batch; its targets are views of the tensors here."""
        columns = zip(*(x.split(self.counts) for x in self.tensors), strict=True)
        targets = [
            replace(t, labels=labels, masks=masks, present=present)
            for t, (labels, masks, present) in zip(self.rest, columns, strict=True)
        ]
        return replace(self.batch, targets=targets)


EMPTY = torch.zeros(0, dtype=torch.bool)


def _joined(parts: Sequence[Tensor], *, shared: bool) -> Tensor:
    """All after one another, along the first axis."""
    shape = (sum(len(x) for x in parts), *parts[0].shape[1:])
    joined = torch.empty(0, dtype=parts[0].dtype)
    size = torch.Size(shape).numel() * joined.element_size()
    if shared and size:  # as torch's own collation does
        joined = joined.set_(torch.UntypedStorage._new_shared(size))
    return torch.cat(list(parts), out=joined.resize_(shape))
