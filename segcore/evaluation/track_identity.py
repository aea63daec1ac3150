"""HOTA and IDF1: are objects found in every frame, and do they keep their identity?

HOTA is that of Luiten et al., 2021, IDF1 that of Ristani et al., 2016; both as TrackEval counts
them, from the IoU of masks in each frame.

Legend of one-letter names: N predictions and G true tracks of a class, T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from segcore import masks
from segcore.errors import ConfigError
from segcore.evaluation.tracks import check_tracks, true_tracks
from segcore.structures import Metadata, Record, Result, Rle

THRESHOLD = 0.5  # score from which a track counts: what `segcore predict` draws
OF_HOTA, OF_IDENTITY = ("HOTA", "DetA", "AssA"), ("IDF1", "IDP", "IDR")
SHOWN = ("HOTA", "IDF1")  # of each class
MATCH = 0.5  # IoU from which a mask is that of an object, whatever crowd it lies in


class TrackIdentityEvaluator:
    """HOTA and IDF1 of the tracks of videos, as a mean over the classes.

    AP looks at rankings; here everything that is said counts, and so tracks below a score are left
    out. A predicted mask that is no object's, and lies in a crowd of its class by more than half,
    is neither right nor wrong, as in MOTS (Voigtlaender et al., 2019).

    Args:
        threshold: score from which a track counts, 0 to 1.

    Raises:
        ConfigError: TrackEval is not installed.
    """

    def __init__(self, metadata: Metadata, *, threshold: float = THRESHOLD, **_: Any) -> None:
        self.metadata, self.threshold = metadata, threshold
        self.hota, self.identity = _metrics()
        # of each video, by class: TrackEval's results of both; no masks
        self.parts: list[dict[int, tuple[dict[str, Any], dict[str, Any]]]] = []

    def update(self, result: Result, record: Record) -> None:
        """Compare the tracks of one video; its masks are not held."""
        tracks = result.tracks
        assert tracks is not None
        check_tracks(tracks.masks, record)
        true, truth_labels, _, crowd = true_tracks(record)
        labels = np.where(tracks.scores.numpy() >= self.threshold, tracks.labels.numpy(), -1)
        part = {}
        for k in sorted({*labels.tolist(), *truth_labels[~crowd].tolist()} - {-1}):
            data = sequence(
                _of(true, (truth_labels == k) & ~crowd),
                _of(tracks.masks, labels == k),
                crowds=_of(true, (truth_labels == k) & crowd),
                frames=len(record.frames),
            )
            part[k] = self.hota.eval_sequence(data), self.identity.eval_sequence(data)
        self.parts.append(part)

    def compute(self) -> dict[str, float]:
        """HOTA, its DetA and AssA (means over IoU .05:.95), IDF1, IDP, IDR (IoU .5) in percent.

        Means over the classes that have true tracks, then HOTA-<class> and IDF1-<class>.
        """
        of_class = {k: self._of_class(k) for k in sorted(set().union(*self.parts))}
        of_class = {k: numbers for k, numbers in of_class.items() if numbers}
        metrics = {
            name: float(np.mean([numbers[name] for numbers in of_class.values()]))
            if of_class
            else float("nan")
            for name in OF_HOTA + OF_IDENTITY
        }
        for k, numbers in of_class.items():
            row = self.metadata.row_names[k]
            metrics |= {f"{name}-{row}": numbers[name] for name in SHOWN}
        return metrics

    def _of_class(self, k: int) -> dict[str, float]:
        """Over all videos; nothing where there is no such object."""
        videos = [part[k] for part in self.parts if k in part]
        hota = self.hota.combine_sequences(dict(enumerate(first for first, _ in videos)))
        identity = self.identity.combine_sequences(dict(enumerate(last for _, last in videos)))
        if not identity["IDTP"] + identity["IDFN"]:
            return {}
        numbers = {name: 100 * float(np.mean(hota[name])) for name in OF_HOTA}
        return numbers | {name: 100 * float(identity[name]) for name in OF_IDENTITY}


def _metrics() -> tuple[Any, Any]:
    """TrackEval's HOTA and Identity; nothing else of it is used, its readers of files neither."""
    try:
        from trackeval.metrics import HOTA, Identity
    except ImportError as error:
        raise ConfigError(
            f"the evaluator hota needs TrackEval ({error}): pip install 'segcore[tracking]', or"
            " leave hota out of the data set's evaluators"
        ) from None
    return HOTA(), Identity({"PRINT_CONFIG": False})


def _of(tracks: Sequence[Sequence[Rle]], chosen: np.ndarray) -> list[Sequence[Rle]]:
    return [tracks[i] for i in np.flatnonzero(chosen).tolist()]


def sequence(
    true: Sequence[Sequence[Rle]],
    tracks: Sequence[Sequence[Rle]],
    *,
    crowds: Sequence[Sequence[Rle]],
    frames: int,
) -> dict[str, Any]:
    """What TrackEval's metrics take: who is in each frame, and the IoU of each true mask with each.

    Args:
        true: G times T masks, empty where the object is absent.
        tracks: N times T, the same.
        crowds: the same; what lies in them may be left out.
        frames: T.
    """
    true_ids, ids, ious = [], [], []
    for t in range(frames):  # a frame at a time: its pairs are few
        rows, columns = _shown(true, t), _shown(tracks, t)
        theirs, ours = [true[g][t] for g in rows], [tracks[n][t] for n in columns]
        iou = masks.iou(theirs, ours)  # (G, N) of those that show
        counted = ~_excused(iou, ours, [crowd[t] for crowd in crowds])
        true_ids.append(rows)
        ids.append(columns[counted])
        ious.append(iou[:, counted])
    true_ids, num_true = _renumbered(true_ids)
    ids, num_tracks = _renumbered(ids)
    return {
        "gt_ids": true_ids,
        "tracker_ids": ids,
        "similarity_scores": ious,
        "num_gt_ids": num_true,
        "num_tracker_ids": num_tracks,
        "num_gt_dets": sum(map(len, true_ids)),
        "num_tracker_dets": sum(map(len, ids)),
    }


def _shown(tracks: Sequence[Sequence[Rle]], t: int) -> np.ndarray:
    """Indices of the tracks that show in a frame."""
    return np.flatnonzero(masks.area([track[t] for track in tracks]))


def _excused(iou: np.ndarray, ours: list[Rle], crowds: list[Rle]) -> np.ndarray:
    """(N,) bool: the mask is no object's, and lies in crowds by more than half."""
    if not crowds or not ours:
        return np.zeros(len(ours), bool)
    inside = masks.coco_mask.iou(ours, [masks.union(crowds)], [1])[:, 0]  # shares of each
    rows, columns = linear_sum_assignment(np.where(iou >= MATCH, iou, 0), maximize=True)
    objects = np.zeros(len(ours), bool)
    objects[columns] = iou[rows, columns] >= MATCH
    return ~objects & (inside > 0.5)


def _renumbered(ids: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
    """Numbers without gaps, and how many there are."""
    every = np.unique(np.concatenate(ids)) if ids else np.zeros(0, int)
    return [np.searchsorted(every, each) for each in ids], len(every)
