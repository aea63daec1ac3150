"""Average precision of tracks, and Boundary AP of them, over space and time (Yang et al., 2019).

Legend of one-letter names: N predictions, G true tracks, T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import minimum_filter1d

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation.coco_ap import percent, summary
from segcore.evaluation.track_ap import LIMITS, TrackPart, track_tables
from segcore.segment_rle import to_rle
from segcore.structures import Metadata, Record, Result, Rle, Size

KINDS = {"tracks": "", "track_boundary": "boundary "}  # what a number's name begins with
SHOWN = (1, 10)  # of LIMITS: AR1 and AR10 are published


class TrackEvaluator:
    """AP over IoU .5:.95 of tracks, which is that of all their pixels in all frames.

    Args:
        kinds: "tracks": of masks; "track_boundary": the smaller one of the IoU of masks and the
            IoU of what lies near their edges (Cheng et al., 2021), both over all frames.
    """

    def __init__(
        self, metadata: Metadata, *, kinds: tuple[str, ...] = ("tracks",), **_: Any
    ) -> None:
        if unknown := set(kinds) - KINDS.keys():
            raise ValueError(f"kinds {sorted(unknown)}: expected some of {', '.join(KINDS)}")
        self.metadata, self.kinds = metadata, kinds
        self.parts: list[TrackPart] = []

    def update(self, result: Result, record: Record) -> None:
        """Compare the tracks of one video; its masks are not held."""
        tracks = result.tracks
        assert tracks is not None
        labels, scores = tracks.labels.numpy(), tracks.scores.numpy().astype(np.float64)
        check_tracks(tracks.masks, record)
        true, truth_labels, truth_areas, crowd = true_tracks(record)
        alike = labels[:, None] == truth_labels[None]  # (N, G)
        ious = {"tracks": track_ious(tracks.masks, true, alike)}
        if "track_boundary" in self.kinds:
            edges = [_edges(t, record.size, self.metadata.boundary_dilation) for t in tracks.masks]
            truth = [_edges(t, record.size, self.metadata.boundary_dilation) for t in true]
            ious["track_boundary"] = np.minimum(ious["tracks"], track_ious(edges, truth, alike))
        areas = np.array([_mean(masks.area(track)) for track in tracks.masks])
        self.parts.append(TrackPart(labels, scores, areas, truth_labels, truth_areas, crowd, ious))

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR1, AR10 and AP-<class> in percent.

        Small is under 128 x 128 pixels in the mean of a track's frames, large from 256 x 256.
        """
        metrics: dict[str, float] = {}
        for kind in self.kinds:
            prefix = KINDS[kind]
            precision, recall = track_tables(self.parts, len(self.metadata.classes), kind)
            metrics |= {prefix + name: value for name, value in summary(precision).items()}
            for limit in SHOWN:
                value = percent(recall[:, :, 0, LIMITS.index(limit)])
                metrics[f"{prefix}AR{limit}"] = value
            for k in np.flatnonzero((precision[..., 0] > -1).any((0, 1))):
                name = f"{prefix}AP-{self.metadata.row_names[k]}"
                metrics[name] = percent(precision[:, :, k, 0])
        return metrics


def track_ious(
    tracks: Sequence[Sequence[Rle]], others: Sequence[Sequence[Rle]], wanted: np.ndarray
) -> np.ndarray:
    """(N, G): shared pixels over all pixels, both summed over frames; nothing with nothing is 0.

    Args:
        tracks: N times T masks, empty where the object is absent.
        wanted: (N, G) bool: pairs to be compared; the others are 0.
    """
    shared, union = np.zeros(wanted.shape), np.zeros(wanted.shape)
    rows, columns = (np.flatnonzero(wanted.any(axis)).tolist() for axis in (1, 0))
    if not rows:
        return shared
    cells = np.ix_(rows, columns)
    for t in range(len(tracks[rows[0]])):  # a frame at a time: its pairs are few
        ours, theirs = [tracks[n][t] for n in rows], [others[g][t] for g in columns]
        areas, truths = masks.area(ours).astype(float), masks.area(theirs).astype(float)
        # the IoU with a crowd is the share of the first mask: whole pixels come back from it
        shares = masks.coco_mask.iou(ours, theirs, [1] * len(theirs))
        both = np.rint(np.nan_to_num(shares) * areas[:, None])
        shared[cells] += both
        union[cells] += areas[:, None] + truths - both
    return np.where(wanted, shared / np.maximum(union, 1), 0.0)


def true_tracks(record: Record) -> tuple[list[list[Rle]], np.ndarray, np.ndarray, np.ndarray]:
    """True tracks, their classes, mean areas (as the file says) and whether they are crowds: G."""
    empty = masks.encode(np.zeros((1, *record.size), bool))[0]
    tracks: dict[int | None, list[Rle]] = {}
    areas: dict[int | None, list[float]] = {}
    about: dict[int | None, tuple[int, bool]] = {}
    for t, frame in enumerate(record.frames):
        for segment in frame.segments:
            rle, track = to_rle(segment, frame, record.size), segment.track
            tracks.setdefault(track, [empty] * len(record.frames))[t] = rle
            area = float(masks.area([rle])[0]) if segment.area is None else segment.area
            areas.setdefault(track, []).append(area)
            about[track] = segment.category, segment.crowd
    labels = np.array([label for label, _ in about.values()], np.int64)
    crowd = np.array([is_crowd for _, is_crowd in about.values()], bool)
    means = np.array([_mean(np.array(each)) for each in areas.values()])
    return list(tracks.values()), labels, means, crowd


def _mean(areas: np.ndarray) -> float:
    """Over the frames where the object shows."""
    shown = areas[areas > 0]
    return float(shown.mean()) if len(shown) else 0.0


def _edges(track: Sequence[Rle], size: Size, dilation: float) -> list[Rle]:
    """What of each mask lies within a share of the image's diagonal of its edge, or the image's."""
    reach = max(1, round(dilation * float(np.hypot(*size))))
    return [_edge(rle, reach) for rle in track]


def _edge(rle: Rle, reach: int) -> Rle:
    x, y, w, h = masks.coco_mask.toBbox(rle).astype(int).tolist()
    if not w:
        return rle
    mask = masks.decode(rle)
    part = mask[y : y + h, x : x + w]
    inside = part
    for axis in (0, 1):  # a square of 2 reach + 1, nothing beyond
        inside = minimum_filter1d(inside, 2 * reach + 1, axis, mode="constant", cval=0)
    mask[y : y + h, x : x + w] = np.logical_and(part, np.logical_not(inside))
    return masks.encode(mask[None])[0]


def check_tracks(tracks: Sequence[Sequence[Rle]], record: Record) -> None:
    """DataError unless each has a mask of the record's size for each of its frames."""
    frames, size = len(record.frames), list(record.size)
    for track in tracks:
        if len(track) != frames or any(list(rle["size"]) != size for rle in track):
            sizes = {tuple(rle["size"]) for rle in track}
            raise DataError(
                f"{record.frames[0].file}: a predicted track has {len(track)} masks of {sizes}; the"
                f" annotations say {frames} frames of {tuple(size)}; expected the same"
            )
