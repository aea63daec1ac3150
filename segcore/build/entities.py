"""Training and results without classes, for architectures that were made for classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segcore.config import Config
from segcore.contracts import ViewSampler
from segcore.structures import Record, Sample


def entities_wanted(cfg: Config) -> bool:
    """ENTITY.ENABLE, where the architecture has that section."""
    return bool(getattr(getattr(cfg, "ENTITY", None), "ENABLE", False))


@dataclass(frozen=True, slots=True)
class OneClassViews:
    """Views whose targets are all of one class; the files keep theirs."""

    views: ViewSampler

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """As the views make it, every label 0."""
        sample = self.views(record, rng)
        if sample is not None and sample.targets is not None:
            sample.targets.labels.zero_()
        return sample

    def with_segments(self) -> OneClassViews:
        """They have a mask a segment."""
        return self

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """As the views make it."""
        return self.views.test(image, record)
