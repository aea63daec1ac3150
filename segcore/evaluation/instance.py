"""Average precision of masks and boxes, and Boundary AP, by the rules of COCO or of LVIS.

Legend of one-letter names: N masks, K classes, H W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation.coco_ap import Part, Tables, coco_datasets, coco_tables, percent, summary
from segcore.evaluation.lvis_ap import by_frequency, lvis_datasets, lvis_tables
from segcore.labels import frame_ids
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, PngId, Polygons, Record, Result, Rle, Segment

logger = logging.getLogger(__name__)

KINDS = ("instance", "boundary", "lvis")
LVIS_DETECTIONS, COCO_DETECTIONS = 300, 100  # of an image; of an image and class


class InstanceEvaluator:
    """AP over IoU .5:.95 with at most `max_dets` detections of an image: per class, or LVIS's.

    Truth and predictions are held once, whatever is measured on them.

    Args:
        kinds: "instance": AP of masks and boxes; "boundary": Boundary AP (Cheng et al., 2021);
            "lvis": both by LVIS's rules.
        max_dets: None: what is usual.
        dilation: width of the boundary as a share of the image's diagonal; None: what the data set
            says.
        truth: from a record to the one whose segments are the ground truth, where that is another.
    """

    def __init__(
        self,
        metadata: Metadata,
        *,
        kinds: tuple[str, ...] = ("instance",),
        max_dets: int | None = None,
        dilation: float | None = None,
        truth: Callable[[Record], Record] | None = None,
    ) -> None:
        if unknown := set(kinds) - set(KINDS):
            raise ValueError(f"kinds {sorted(unknown)}: expected some of {', '.join(KINDS)}")
        if {"instance", "lvis"} <= set(kinds):
            raise DataError(
                f"{metadata.name}: the evaluators `instance` and `lvis` are AP by different rules;"
                " name one of them"
            )
        self.metadata, self.kinds, self.truth = metadata, kinds, truth
        self.lvis = "lvis" in kinds
        self.max_dets = max_dets or (LVIS_DETECTIONS if self.lvis else COCO_DETECTIONS)
        self.dilation = metadata.boundary_dilation if dilation is None else dilation
        self.parts: list[Part] = []

    def update(self, result: Result, record: Record) -> None:
        """Keep the RLEs of one image."""
        self.parts.append(part_of(result, record, self.metadata, self.truth))

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR and AP-<class> in percent; AP of boxes as APb.

        Where classes have frequencies there are APr, APc, APf in place of a thousand classes.
        Numbers of boundaries begin with "boundary ".
        """
        self._warn_of_crowded_images()
        measure = self._measure()
        metrics: dict[str, float] = {}
        if self.lvis or "instance" in self.kinds:
            boxes, _ = measure("bbox")
            metrics |= self._named(measure("segm"), "", {"APb": percent(boxes[..., 0])})
        if "boundary" in self.kinds:
            metrics |= self._named(measure("boundary"), "boundary ", {})
        return metrics

    def _warn_of_crowded_images(self) -> None:
        """Where the truth has more than can be counted: no network gets them all."""
        crowded = sum(part.most_of_a_class() > self.max_dets for part in self.parts)
        if crowded and not self.lvis:
            logger.warning(
                "%s: %d of %d images have more than %d objects of a class; AP counts only so many"
                " predictions: TEST.AP_DETECTIONS (`segcore measure --detections`) raises that",
                self.metadata.name, crowded, len(self.parts), self.max_dets,
            )  # fmt: skip

    def _measure(self) -> Callable[[str], Tables]:
        """From "bbox", "segm" or "boundary" to its tables."""
        K, limits = len(self.metadata.classes), {"max_dets": self.max_dets}
        if self.lvis:
            if self.parts and not any(part.negatives for part in self.parts):
                logger.warning(
                    "%s: no image says which classes it lacks (neg_category_ids); predictions of"
                    " absent classes do not count",
                    self.metadata.name,
                )
            data = lvis_datasets(self.parts, K, **limits)
            return partial(lvis_tables, *data, dilation=self.dilation, **limits)
        data = coco_datasets(self.parts, K)
        return partial(coco_tables, *data, dilation=self.dilation, **limits)

    def _named(self, tables: Tables, prefix: str, more: dict[str, float]) -> dict[str, float]:
        """Overall numbers, `more`, then those of the classes."""
        precision, recall = tables
        metrics = {prefix + name: value for name, value in summary(precision).items()}
        metrics[f"{prefix}AR{self.max_dets}"] = percent(recall[:, :, 0])
        metrics |= more
        if self.metadata.frequencies:
            groups = by_frequency(precision, self.metadata.frequencies)
            return metrics | {prefix + name: value for name, value in groups.items()}
        for k in np.flatnonzero((precision[..., 0] > -1).any((0, 1))):
            metrics[f"{prefix}AP-{self.metadata.row_names[k]}"] = percent(precision[:, :, k, 0])
        return metrics


def part_of(
    result: Result,
    record: Record,
    metadata: Metadata,
    truth: Callable[[Record], Record] | None = None,
) -> Part:
    """Objects and predicted instances of one image; `truth` as of InstanceEvaluator."""
    assert result.instances is not None
    predictions = result.instances
    for rle in predictions.masks[:1]:
        _check(tuple(rle["size"]), record, "predicted masks are")
    true = truth(record) if truth else record
    things = [s for s in true.frames[0].segments if metadata.is_thing[s.category]]
    objects = [
        (s.category, rle, float(masks.area([rle])[0]) if s.area is None else s.area, s.crowd)
        for s, rle in zip(things, _rles(things, true), strict=True)
    ]
    labels, scores = predictions.labels.tolist(), predictions.scores.tolist()
    triples = list(zip(labels, predictions.masks, scores, strict=True))
    boxes = predictions.boxes.numpy().reshape(-1, 4)
    of_truth = [_box(s, rle) for s, (_, rle, _, _) in zip(things, objects, strict=True)]
    return Part(
        record.size,
        objects,
        triples,
        np.array(of_truth, np.float64).reshape(-1, 4),
        np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1),
        record.negatives,
        record.not_exhaustive,
    )


def _box(segment: Segment, rle: Rle) -> list[float]:
    """x y w h; polygons reach as far as COCO's files say, a fraction of a pixel from their mask."""
    if not isinstance(segment.shape, Polygons):
        return masks.coco_mask.toBbox(rle).tolist()
    xs = [x for ring in segment.shape.rings for x in ring[::2]]
    ys = [y for ring in segment.shape.rings for y in ring[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _rles(things: Sequence[Segment], record: Record) -> list[Rle]:
    """N masks; a panoptic PNG is read and walked through once for all that it holds."""
    frame: Frame = record.frames[0]
    numbers = [s.shape.id for s in things if isinstance(s.shape, PngId)]
    painted: dict[int, Rle] = {}
    if numbers:
        ids = frame_ids(frame)
        _check(ids.shape, record, f"{frame.panoptic} is")
        painted = dict(zip(numbers, masks.encode_ids(ids, numbers), strict=True))
    return [
        painted[s.shape.id] if isinstance(s.shape, PngId) else to_rle(s, frame, record.size)
        for s in things
    ]


def _check(size: tuple[int, ...], record: Record, what: str) -> None:
    if tuple(size) != tuple(record.size):
        raise DataError(
            f"{record.frames[0].file}: {what} {tuple(size)}, the annotations say"
            f" {tuple(record.size)}; expected the same height and width"
        )
