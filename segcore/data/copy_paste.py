"""Objects of a second image on the first: "Simple Copy-Paste" (Ghiasi et al., 2021).

Legend of one-letter names: N segments, M of them that are pasted, K classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from segcore.contracts import ViewSampler
from segcore.structures import Polygons, Record, Sample, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPasteViews:
    """Training samples of stills; onto a share of them objects of another image are pasted.

    Both images go through the same transforms, each with draws of its own. A random number of the
    second one's objects lie on the first as they are, not blended, which the paper found to be as
    good; what they cover is cut out of the first one's masks, stuff included.

    Args:
        views: of an image that is pasted on.
        objects: of an image whose objects are taken: the same transforms, one mask a segment.
        records: from which the second image is drawn, all alike.
        things: (K,) whether objects of a label are taken; None: all are.
        probability: share of the samples.
        most: objects that are pasted, at most.
        least: pixels; objects that show fewer are not pasted, and not kept once they are covered.
        by_class: targets of `views` are one mask a class.
    """

    views: ViewSampler
    objects: ViewSampler
    records: Sequence[Record]
    things: tuple[bool, ...] | None
    probability: float
    most: int
    least: int
    by_class: bool = False

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """A sample of `views`, with objects of another image in so many of them."""
        if rng is None or rng.random() >= self.probability:
            return self.views(record, rng)
        sample = self.views(record, rng)
        other = self.objects(self.records[int(rng.integers(len(self.records)))], rng)
        if sample is None or sample.targets is None or other is None:
            return sample
        pasted = self._chosen(_placed(other, sample.views.shape[-2:], rng), rng)
        return sample if pasted is None else self._with(sample, sample.targets, pasted)

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """As the views make it."""
        return self.views.test(image, record)

    def _chosen(self, placed: _Placed, rng: np.random.Generator) -> _Placed | None:
        """A random number of those that may be pasted, in their order; None where there is none."""
        able = placed.masks.flatten(1).sum(1) >= self.least
        if self.things is not None:
            able &= torch.tensor(self.things)[placed.labels]
        among = able.nonzero()[:, 0].numpy()
        if not len(among):
            return None
        count = int(rng.integers(min(len(among), self.most))) + 1
        return placed.take(np.sort(rng.choice(among, count, replace=False)))

    def _with(self, sample: Sample, targets: Targets, pasted: _Placed) -> Sample:
        """The sample, changed in place: nobody else has it."""
        rows, columns = pasted.window
        covered = pasted.masks.any(0)  # (H, W) of the window
        sample.views[0, :, rows, columns][:, covered] = pasted.image[:, covered]
        before = targets.masks.flatten(1).sum(1)
        targets.masks[:, 0, rows, columns] &= ~covered
        left = targets.masks.flatten(1).sum(1)
        kept = left > 0 if self.by_class else (left == before) | (left >= self.least)
        masks = targets.masks.new_zeros(len(pasted.masks), *targets.masks.shape[1:])  # (M, 1, H, W)
        masks[:, 0, rows, columns] = pasted.masks
        labels = torch.cat([targets.labels[kept], pasted.labels])
        masks = torch.cat([targets.masks[kept], masks])
        if self.by_class:
            labels, masks = _by_class(labels, masks)
        polygons = None
        if targets.polygons is not None:
            whole = (left == before).tolist()  # a part of an object has no outline but its mask
            own = zip(targets.polygons, whole, kept.tolist(), strict=True)
            polygons = [ring if as_it_was else None for ring, as_it_was, stays in own if stays]
            polygons += pasted.polygons
        present = torch.ones(len(labels), 1, dtype=torch.bool)
        return replace(sample, targets=Targets(labels, masks, present, polygons))


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where a second image lies on the first, and what shows of it there.

    Args:
        window: rows and columns of the first image.
        image: (3, H, W) uint8 of the window.
        masks: (N, H, W) bool of the window.
        polygons: in pixels of the first image; None: the mask says it.
    """

    window: tuple[slice, slice]
    image: Tensor
    labels: Tensor  # (N,) int64
    masks: Tensor
    polygons: list[Polygons | None]

    def take(self, which: np.ndarray) -> _Placed:
        """Some of the objects."""
        polygons = [self.polygons[i] for i in which.tolist()]
        index = torch.from_numpy(which)
        return replace(self, labels=self.labels[index], masks=self.masks[index], polygons=polygons)


def _placed(other: Sample, size: Sequence[int], rng: np.random.Generator) -> _Placed:
    """At random where one image is larger than the other; those of one size lie on each other.

    Args:
        size: (height, width) of the first image.
    """
    assert other.targets is not None
    height, width = other.views.shape[-2:]
    rows, rows_other, y = _overlap(size[0], height, rng)
    columns, columns_other, x = _overlap(size[1], width, rng)
    targets = other.targets
    polygons = [_moved(p, (height, width), y, x) for p in targets.polygons or ()]
    return _Placed(
        (rows, columns),
        other.views[0, :, rows_other, columns_other],
        targets.labels,
        targets.masks[:, 0, rows_other, columns_other],
        polygons or [None] * len(targets.labels),
    )


def _overlap(first: int, second: int, rng: np.random.Generator) -> tuple[slice, slice, int]:
    """Of two lengths: which part of each lies on the other's, and where the second one begins."""
    start, length = int(rng.integers(abs(first - second) + 1)), min(first, second)
    part, whole = slice(start, start + length), slice(0, length)
    return (part, whole, start) if first >= second else (whole, part, -start)


def _moved(shape: Polygons | None, size: tuple[int, int], y: int, x: int) -> Polygons | None:
    """None of an object that the window of its own image cuts: its outline would say more."""
    if shape is None:
        return None
    points = [np.reshape(ring, (-1, 2)) for ring in shape.rings]  # (P, 2) x y
    ends = np.array([size[1], size[0]])
    if any((p < 0).any() or (p > ends).any() for p in points):
        return None
    return Polygons(tuple(tuple((p + np.array([x, y])).ravel().tolist()) for p in points))


def _by_class(labels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """(N,), (N, 1, H, W) -> one mask a class, in the order of the classes."""
    classes = labels.unique()
    if not len(classes):
        return labels, masks
    return classes, torch.stack([masks[labels == k].any(0) for k in classes])
