"""From a record to a sample: read the image, transform it, and only then look at the masks.

Legend of one-letter names: N segments, K classes, H W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

from segcore import masks
from segcore.data.images import read_image
from segcore.data.transforms import Example, Resample, pillow, shortest_edge
from segcore.errors import DataError
from segcore.labels import frame_ids, panoptic_file, refuse_bgr, semantic_map
from segcore.segment_rle import to_rle
from segcore.structures import (
    Frame,
    Metadata,
    PngId,
    Polygons,
    Record,
    Rle,
    Sample,
    Segment,
    Size,
    Targets,
)

logger = logging.getLogger(__name__)

_warned: set[str] = set()  # warnings that need no second time

Transform = Callable[[Example, np.random.Generator], Example]
Box = tuple[int, int, int, int]  # x0 y0 x1 y1


class StillViews:
    """Samples of one view: the whole image.

    Args:
        targets: "semantic" (one mask a class), "panoptic" or "instance" (one a segment).
        steps: training transforms, in order.
        min_size: shorter edge at test time; 0: the image as it is.
        max_size: longest edge at test time.
        outlines: targets have polygons, in pixels of the window, where segments have any.
        resample: how images are resized.
        mirrored: (K,) the class of each in a mirrored image; None: classes stay what they are.
    """

    def __init__(
        self,
        *,
        metadata: Metadata,
        targets: str,
        steps: Sequence[Transform],
        min_size: int,
        max_size: int,
        outlines: bool = False,
        resample: Resample = pillow,
        mirrored: Sequence[int] | None = None,
    ) -> None:
        self.mirrored = mirrored
        self.metadata, self.targets, self.steps = metadata, targets, tuple(steps)
        self.outlines, self.resample = outlines, resample
        self.min_size, self.max_size = min_size, max_size

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """A sample; without `rng` the whole image at its test size, without targets."""
        frame = record.frames[0]
        image = read_image(frame.file)
        check_size(record, image)
        if rng is None:
            return self.test(image, record)
        semantic = None
        if self.targets == "semantic":
            semantic = semantic_map(frame, self.metadata)
            if semantic.shape != image.shape[:2]:
                raise DataError(
                    f"{frame.semantic or frame.panoptic}: labels are {semantic.shape}, the image"
                    f" {frame.file} is {image.shape[:2]}; expected the same height and width"
                )
        example = Example.whole(image, semantic, resample=self.resample)
        for step in self.steps:
            example = step(example, rng)
        polygons = None
        if semantic is not None:
            labels, shapes = _semantic(example)
        else:
            segments, seen = segments_in([example], record)
            labels, size = [s.category for s in segments], example.image.shape[:2]
            shapes = np.stack([views[0] for views in seen]) if seen else _none(size)
            if self.outlines:
                polygons = [_outlines(s.shape, example) for s in segments]
        if self.mirrored is not None and example.mirrored:
            labels = [self.mirrored[k] for k in labels]
        targets = Targets(
            torch.as_tensor(labels, dtype=torch.int64),
            torch.from_numpy(shapes)[:, None],
            torch.ones(len(labels), 1, dtype=torch.bool),
            polygons,
        )
        return _sample(example.image, targets, record)

    def with_segments(self) -> StillViews:
        """The same views with a mask a segment in training, whatever their targets are."""
        views = copy(self)
        views.targets = "instance"
        return views

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """The whole image at its test size, without targets."""
        return test_sample(
            image,
            record,
            min_size=self.min_size,
            max_size=self.max_size,
            resample=self.resample,
        )


def test_sample(
    image: np.ndarray,
    record: Record,
    *,
    min_size: int,
    max_size: int,
    resample: Resample = pillow,
) -> Sample:
    """A whole image (H, W, 3) uint8 RGB at its test size, without targets."""
    image = test_image(image, min_size=min_size, max_size=max_size, resample=resample)
    return _sample(image, None, record)


def test_image(
    image: np.ndarray, *, min_size: int, max_size: int, resample: Resample = pillow
) -> np.ndarray:
    """An image (H, W, 3) uint8 at its test size; 0 as the shorter edge leaves it as it is."""
    if min_size <= 0:
        return image
    height, width = shortest_edge(*image.shape[:2], edge=min_size, longest=max_size)
    return Example.whole(image, resample=resample).resize(height, width).image


def _sample(image: np.ndarray, targets: Targets | None, record: Record) -> Sample:
    return padded_sample([image], [whole_box(record)], targets, record)


def whole_box(record: Record) -> Box:
    """Of an image, or of each frame of a video."""
    return 0, 0, record.size[1], record.size[0]


def padded_sample(
    images: Sequence[np.ndarray], boxes: Sequence[Box], targets: Targets | None, record: Record
) -> Sample:
    """T views (H, W, 3) uint8, padded to a common size.

    Args:
        boxes: where each view lies in the original image.
        targets: whose masks have that size already.
    """
    planes = [torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) for x in images]
    sizes = torch.tensor([image.shape[:2] for image in images])
    pixels = planes[0][None] if len(planes) == 1 else _padded(planes, *sizes.amax(0).tolist())
    return Sample(pixels, sizes, torch.tensor(boxes), targets, record)


def _padded(planes: Sequence[Tensor], height: int, width: int) -> Tensor:
    pixels = torch.zeros(len(planes), 3, height, width, dtype=torch.uint8)
    for out, plane in zip(pixels, planes, strict=True):
        out[:, : plane.shape[1], : plane.shape[2]] = plane
    return pixels


def _semantic(example: Example) -> tuple[list[int], np.ndarray]:
    """Every class in the window: labels, masks (N, H, W) bool."""
    assert example.semantic is not None
    seen = example.read(example.semantic, -1, labels=True)
    labels = [int(k) for k in np.unique(seen) if k >= 0]
    return labels, np.stack([seen == k for k in labels]) if labels else _none(seen.shape)


def segments_in(
    views: Sequence[Example], record: Record
) -> tuple[list[Segment], list[list[np.ndarray]]]:
    """Every segment that shows in some view, crowds left out, and a mask a view of each.

    Args:
        views: windows of the record's image.
    """
    frame = record.frames[0]
    segments = [s for s in frame.segments if not s.crowd]
    whole, ids = ids_of(frame, record.size), [None] * len(views)
    if whole is not None:
        ids = [view.read(whole, -1) for view in views]
    shown, shapes, lost = [], [], 0
    for segment in segments:  # a loop, so that one mask at the original size exists at a time
        seen = [mask_in(v, segment, frame, record.size, i) for v, i in zip(views, ids, strict=True)]
        if any(mask.any() for mask in seen):  # what is cut away would teach nothing but emptiness
            shown.append(segment)
            shapes.append(seen)
        elif whole is not None and isinstance(segment.shape, PngId):
            lost += not (whole == segment.shape.id).any()
    if lost and whole is not None:
        refuse_bgr(
            whole,
            [s.shape.id for s in segments if isinstance(s.shape, PngId)],
            panoptic_file(frame),
        )
        _warn_lost(f"{lost} of the {len(segments)} segments", frame)
    return shown, shapes


def ids_of(frame: Frame, size: Size) -> np.ndarray | None:
    """(H, W) of the panoptic PNG that tells a frame's segments; None where none is told so."""
    if not any(isinstance(s.shape, PngId) and not s.crowd for s in frame.segments):
        return None
    ids = frame_ids(frame)
    if ids.shape != size:
        raise DataError(
            f"{frame.panoptic}: ids are {ids.shape}, the image {frame.file} is {size};"
            " expected the same height and width"
        )
    return ids


def _warn_lost(what: str, frame: Frame) -> None:
    """Once in a process: there may be thousands."""
    if not _warned:
        logger.warning(
            "%s: has no pixel of %s that its annotation lists; they are left out, here and in other"
            " images (said once; `segcore doctor` lists them)",
            frame.panoptic,
            what,
        )
        _warned.add("lost segments")


def mask_in(
    example: Example, segment: Segment, frame: Frame, size: Size, ids: np.ndarray | None
) -> np.ndarray:
    """(H, W) bool: a segment of a frame, as it shows in a window of it.

    Args:
        size: of the frame.
        ids: (H, W) of the window, where segments are told by them.
    """
    shape = segment.shape
    if isinstance(shape, PngId):
        assert ids is not None
        return ids == shape.id
    if isinstance(shape, Polygons):
        outlines = _moved(shape, example)
        window = (example.image.shape[0], example.image.shape[1])
        mask = masks.decode(to_rle(Segment(segment.category, outlines), frame, window))
        mask[~_filled(example)] = False  # also where a rotation leaves the window's corners empty
        return mask
    if tuple(shape["size"]) != size:
        raise DataError(
            f"{frame.file}: a mask has size {tuple(shape['size'])}; the image is {size}"
        )
    return example.read(masks.decode(shape), False)


def _filled(example: Example) -> np.ndarray:
    """(H, W) bool: what shows pixels of the file, neither padding nor what a rotation left."""
    filled = (example.y.pixels >= 0)[:, None] & (example.x.pixels >= 0)
    return filled if example.turn is None else example.turn.nearest(filled, False)


def _outlines(shape: Rle | Polygons | PngId, example: Example) -> Polygons | None:
    return _moved(shape, example) if isinstance(shape, Polygons) else None


def _moved(shape: Polygons, example: Example) -> Polygons:
    """In pixels of the window, beyond its edges too."""
    scale = np.array([example.x.scale, example.y.scale])
    shift = np.array([example.x.shift, example.y.shift])
    rings = (np.reshape(ring, (-1, 2)) * scale + shift for ring in shape.rings)
    if example.turn is not None:
        rings = map(example.turn.points, rings)
    return Polygons(tuple(tuple(ring.ravel().tolist()) for ring in rings))


def _none(size: Sequence[int]) -> np.ndarray:
    return np.zeros((0, size[0], size[1]), bool)


def check_size(record: Record, image: np.ndarray, frame: int = 0) -> None:
    """Raise DataError where the file and its annotation disagree."""
    if image.shape[:2] != record.size:
        raise DataError(
            f"{record.frames[frame].file}: the image is {image.shape[:2]}, its annotation says"
            f" {record.size} (height, width); annotate the image as it is shown, EXIF turn included"
        )
