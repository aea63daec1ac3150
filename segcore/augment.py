"""Test-time augmentation: every image at several sizes, plain and mirrored; semantic maps only.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from segcore.contracts import AugmentedOutputs, Task
from segcore.data.views import test_sample
from segcore.errors import ConfigError
from segcore.structures import Batch, Record, Result


class Augmented:
    """Results of a batch, from the mean over several versions of each image.

    As published, an image is first resized to the usual test size and from there to each of
    `sizes`.

    Args:
        sizes: shorter edges.
        max_size: of the longer edge.
        flip: every size comes mirrored as well.
        swapped: (K,) the class of each in a mirrored image; None: classes stay what they are.
    """

    def __init__(
        self,
        task: Task,
        sizes: Sequence[int],
        max_size: int,
        flip: bool,
        device: torch.device,
        *,
        swapped: tuple[int, ...] | None = None,
    ) -> None:
        self.task, self.device = task, device
        self.sizes, self.max_size, self.flips = sizes, max_size, (False, True)[: 1 + flip]
        self.swapped = swapped
        if task.average is None:
            raise ConfigError(
                "TEST.AUG.ENABLED true is for semantic models; this architecture does not average"
                " several versions of an image"
            )
        self.average = task.average

    def __call__(self, batch: Batch) -> list[Result]:
        """One result a sample."""
        results = []
        for views, sizes, record in zip(batch.images, batch.sizes, batch.records, strict=True):
            h, w = sizes[0].tolist()
            image = views[0, :, :h, :w].permute(1, 2, 0).cpu().numpy()
            augmented = [
                self._outputs(image[:, ::-1] if mirrored else image, record, size, mirrored)
                for size in self.sizes
                for mirrored in self.flips
            ]
            results.append(self.average(augmented))
        return results

    def _outputs(
        self, image: np.ndarray, record: Record, size: int, mirrored: bool
    ) -> AugmentedOutputs:
        pixels = np.ascontiguousarray(image)
        sample = test_sample(pixels, record, min_size=size, max_size=self.max_size)
        batch = Batch.collate([sample])
        outputs = self.task.infer(batch, self.device)
        return AugmentedOutputs(outputs, batch, mirrored, self.swapped if mirrored else None)
