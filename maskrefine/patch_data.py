"""Training samples of boundary patch refinement: from a store, or cut when they are asked for.

Legend of one-letter names: P patches, S side of the network's input, s side of a patch, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torch.nn import functional as F

from maskrefine.degrade import degrade
from maskrefine.opencv_resize import resize_uint8
from maskrefine.patch_store import STORE_SUFFIX, Patches, read_patch
from maskrefine.patches import PATCH_SIZE, PatchedMask
from maskrefine.truth import MatchedInstance, record_objects
from segcore import masks as mask_io
from segcore.data.color import ColorSSD
from segcore.data.images import read_image
from segcore.data.transforms import Example
from segcore.data.views import check_size
from segcore.structures import Record, Rle, Sample, Targets

CoarseMask = Callable[[Record, np.random.Generator], tuple[np.ndarray, np.ndarray] | None]
PatchOf = Callable[[Record, np.random.Generator], Patches | None]


def cut_patches(
    image: np.ndarray,
    coarse: np.ndarray,
    truth: np.ndarray,
    *,
    iou_threshold: float,
    size: int = PATCH_SIZE,
) -> Patches:
    """All patches on the boundary of a coarse mask.

    Args:
        image: (H, W, 3) uint8 RGB
        coarse: (H, W) bool, what the network is given.
        truth: (H, W) bool, what it should say.
        iou_threshold: windows overlap at most so much; published: .25, for COCO .15.
    """
    mask = PatchedMask.of(coarse, iou_threshold=iou_threshold, size=size)
    if not len(mask.boxes):
        none = np.zeros((0, size, size), bool)
        return Patches(np.zeros((0, 3, size, size), np.uint8), none, none)
    x, y = mask.boxes[:, 0], mask.boxes[:, 1]
    window = (size, size)
    return Patches(
        sliding_window_view(image, window, (0, 1))[y, x],
        mask.patches(),
        sliding_window_view(truth, window)[y, x],
    )


def training_patches(
    instances: Sequence[MatchedInstance],
    records: Sequence[Record],
    *,
    iou_threshold: float = 0.25,
    size: int = PATCH_SIZE,
) -> Iterator[Patches]:
    """The patches of every instance, image by image, for `write_patches`."""
    by_record = sorted(instances, key=lambda instance: instance.record)
    for index, group in groupby(by_record, key=lambda instance: instance.record):
        record = records[index]
        image = read_image(record.frames[0].file)
        check_size(record, image)
        for instance in group:
            truth = instance.truth
            yield cut_patches(
                image,
                mask_io.decode(instance.coarse),
                np.zeros(record.size, bool) if truth is None else mask_io.decode(truth),
                iou_threshold=iou_threshold,
                size=size,
            )


@dataclass(frozen=True, slots=True)
class PredictedMasks:
    """A random one of the predicted instances of a record, and the object that it means."""

    by_record: dict[int | str, list[tuple[Rle, Rle | None]]]

    @classmethod
    def of(cls, instances: Sequence[MatchedInstance], records: Sequence[Record]) -> PredictedMasks:
        by_record: dict[int | str, list[tuple[Rle, Rle | None]]] = {}
        for instance in instances:
            pair = (instance.coarse, instance.truth)
            by_record.setdefault(records[instance.record].id, []).append(pair)
        return cls(by_record)

    def __call__(
        self, record: Record, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """(H, W) bool coarse and true; None where nothing usable was predicted."""
        pairs = self.by_record.get(record.id, [])
        if not pairs:
            return None
        coarse, truth = pairs[int(rng.integers(len(pairs)))]
        nothing = np.zeros(record.size, bool)
        return mask_io.decode(coarse), nothing if truth is None else mask_io.decode(truth)


def degraded_truth(
    record: Record, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """(H, W) bool: a random object made coarse, and as it is annotated."""
    _, objects = record_objects(record)
    if not objects:
        return None
    truth = mask_io.decode(objects[int(rng.integers(len(objects)))])
    coarse = degrade(truth, rng)
    return None if coarse is None else (coarse, truth)


def stored_patch(record: Record, rng: np.random.Generator) -> Patches:
    """The patch that a record of `patch_records` means."""
    return read_patch(record.frames[0].file, int(record.id))


def any_patch(
    record: Record,
    rng: np.random.Generator,
    *,
    coarse: CoarseMask,
    iou_threshold: float,
    size: int,
) -> Patches | None:
    """The patch that a record means, where it is one of a store; else a `fresh_patch`."""
    if record.frames[0].file.suffix == STORE_SUFFIX:
        return stored_patch(record, rng)
    return fresh_patch(record, rng, coarse=coarse, iou_threshold=iou_threshold, size=size)


def fresh_patch(
    record: Record,
    rng: np.random.Generator,
    *,
    coarse: CoarseMask = degraded_truth,
    iou_threshold: float = 0.25,
    size: int = PATCH_SIZE,
) -> Patches | None:
    """A random patch of a random object of an annotated image; None where there is none.

    The whole image is read for it, and each image counts the same, however many objects it has; a
    store of all patches is quicker, and what is published.

    Args:
        coarse: a coarse mask of some object and the true one: `degraded_truth`, or
            `PredictedMasks`.
        iou_threshold: windows of a mask overlap at most so much.
        size: s
    """
    masks = coarse(record, rng)
    if masks is None:
        return None
    image = read_image(record.frames[0].file)
    check_size(record, image)
    patches = cut_patches(image, *masks, iou_threshold=iou_threshold, size=size)
    if not len(patches.images):
        return None
    i = int(rng.integers(len(patches.images)))
    return Patches(*(part[i : i + 1] for part in (patches.images, patches.coarse, patches.truth)))


class PatchViews:
    """Samples of one patch each: the trainer's ViewSampler.

    Args:
        input_size: S
        patch_of: a patch (P = 1) for a record: `stored_patch`, or `fresh_patch` with its options.
        mirror: half of the patches in training.
    """

    def __init__(
        self, *, input_size: int, patch_of: PatchOf = stored_patch, mirror: bool = True
    ) -> None:
        self.input_size, self.patch_of, self.mirror = input_size, patch_of, mirror

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """A patch, changed at random in training; without `rng` as it is, the same every time."""
        patch = self.patch_of(record, rng or np.random.default_rng(0))
        if patch is None:
            return None
        return patch_sample(patch, record, self.input_size, rng, mirror=self.mirror)

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """Of a patch (S, S, 4) uint8, RGB and the coarse mask as 0 or 1, without a target."""
        views = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        return _sample(views, None, record)


def patch_sample(
    patch: Patches,
    record: Record,
    input_size: int,
    rng: np.random.Generator | None,
    *,
    mirror: bool = True,
) -> Sample:
    """One patch at the network's size; in training mirrored half of the time, then recoloured.

    The order is the published one: resize, mirror, colours. The view has four channels, RGB and
    the coarse mask as 0 or 1, and the target is one mask.

    Args:
        patch: P = 1
        input_size: S
        mirror: False: never; what else is drawn stays the same.
    """
    colors = resize_uint8(torch.from_numpy(patch.images), input_size)[0]  # (3, S, S)
    masks = [_nearest(torch.from_numpy(m), input_size) for m in (patch.coarse, patch.truth)]
    if rng is not None:
        if rng.random() < 0.5 and mirror:
            colors, masks = colors.flip(-1), [m.flip(-1) for m in masks]
        colors = _recolored(colors, rng)
    coarse, truth = masks  # (1, S, S)
    views = torch.cat((colors, coarse.to(torch.uint8)))[None]  # (1, 4, S, S)
    targets = Targets(torch.zeros(1).long(), truth[None], torch.ones(1, 1, dtype=torch.bool))
    return _sample(views, targets, record)


def _sample(views: Tensor, targets: Targets | None, record: Record) -> Sample:
    size, whole = torch.tensor([views.shape[-2:]]), torch.tensor([[0, 0, *record.size[::-1]]])
    return Sample(views, size, whole, targets, record)


def _nearest(masks: Tensor, side: int) -> Tensor:
    """(P, s, s) bool -> (P, S, S) bool"""
    return F.interpolate(masks[:, None].float(), (side, side), mode="nearest")[:, 0] > 0


def _recolored(colors: Tensor, rng: np.random.Generator) -> Tensor:
    """(3, S, S) uint8: mmsegmentation's PhotoMetricDistortion, whose steps ColorSSD has."""
    pixels = np.ascontiguousarray(colors.permute(1, 2, 0).numpy())
    changed = ColorSSD()(Example.whole(pixels), rng).image
    return torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)))
