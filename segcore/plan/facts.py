"""What a plan is made of: measurements of a data set and of a machine.

Legend of one-letter names: N images, M objects, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """One data set that may be trained on.

    Args:
        name: as DATASETS.TRAIN has it.
        classes: K names.
        is_thing: of each class.
        sizes: (N, 2) height and width of the images that have an annotation.
        counts: (N,) objects in each, crowds left out.
        sides: (M,) square roots of the objects' areas in pixels of their files.
        owners: (M,) the image of each of them, 0..N-1.
        labels: annotated by label images: pixels have a class, objects are not kept apart.
        clips: records are videos.
        strokes: of label images, the width in shares of the shorter edge that a region of each
            class typically has, by class.
    """

    name: str
    classes: tuple[str, ...]
    is_thing: tuple[bool, ...]
    sizes: np.ndarray
    counts: np.ndarray
    sides: np.ndarray
    owners: np.ndarray
    labels: bool = False
    clips: bool = False
    strokes: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def images(self) -> int:
        """N."""
        return len(self.sizes)

    @property
    def edge(self) -> int:
        """The shorter edge of a typical image."""
        return int(np.median(self.sizes.min(1)))

    @property
    def aspect(self) -> float:
        """Longer by shorter edge of the longest images (all but one in a hundred)."""
        return float(np.percentile(self.sizes.max(1) / self.sizes.min(1), 99))

    @property
    def small(self) -> float:
        """Side of a small object (one in ten is smaller), as a share of the shorter edge."""
        return self.share(10)

    def share(self, percent: float) -> float:
        """A percentile of the objects' sides, as shares of their image's shorter edge."""
        return float(np.percentile(self.sides / self.sizes.min(1)[self.owners], percent))

    def objects(self, percent: float) -> float:
        """A percentile of the objects of an image."""
        return float(np.percentile(self.counts, percent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the training will run.

    Args:
        device: "cpu", "cuda" or "mps".
        name: for people.
        memory: MB that the device has.
        workers: processes that may read images.
    """

    device: str
    name: str
    memory: float
    workers: int

    @property
    def gpu(self) -> bool:
        """Whether it is no CPU."""
        return self.device != "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a draft of the plan takes on this machine.

    Args:
        step: seconds of an optimizer step on images of the data set, the loader's wait included.
        image: seconds of an image at test time, its results included.
        peak: share of the device's memory that the worst batch takes; 1 or more: it does not fit.
    """

    step: float
    image: float
    peak: float
