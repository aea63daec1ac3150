"""Tracks of one window and the next, joined where they are of the same object.

What a window shows is compared with what is known: by the masks in the frames that both have, by
the likeness of the model's queries, by the class. One assignment a window decides for all.

Legend of one-letter names: N known tracks, M tracks of the window, T its frames, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from segcore import masks
from segcore.structures import Rle, Tracks

MIN_IOU = 0.1  # of tracks with the same class
OTHER_CLASS_IOU = 0.5  # of tracks whose classes differ
ALIKE = 0.8  # cosine of queries that are enough without masks to compare
QUERY_WEIGHT, CLASS_WEIGHT = 0.5, 0.1  # beside the IoU, which counts whole
PATIENCE = 30  # frames for which a track that shows no longer is waited for


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose track one row of a window is, and what is known of it so far."""

    id: int  # from 1
    label: int  # contiguous class that most of its windows voted for, by their scores
    score: float  # mean over its windows


@dataclass(slots=True)
class KnownTrack:
    """A track, as it was when it was last seen."""

    id: int
    masks: dict[int, Rle]  # in the frames of its last window, by the frame's index
    embedding: np.ndarray | None  # (C,)
    votes: dict[int, float]  # sums of scores, by label
    windows: int = 0
    total: float = 0.0  # sum of scores
    seen: int = -1  # the last frame where it shows

    @property
    def identity(self) -> Identity:
        """As all its windows together say."""
        label = max(self.votes, key=self.votes.__getitem__)
        return Identity(self.id, label, self.total / self.windows)


class Linker:
    """Gives the tracks of each window the ids of those that they go on with, or new ones.

    Its memory does not grow: tracks that were not seen for a while are forgotten.

    Args:
        threshold: score from which something begins a track; half of it lets one go on.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold
        self.known: list[KnownTrack] = []
        self.next_id = 1

    def link(self, window: Tracks, frames: Sequence[int]) -> list[Identity | None]:
        """Whose each of the window's M tracks is; None for what is too unsure to be one.

        Args:
            frames: T indices of the window's frames in the video, rising.
        """
        scores, labels = window.scores.tolist(), window.labels.tolist()
        shown = [bool(masks.area(track).any()) for track in window.masks]
        rows = [i for i, s in enumerate(scores) if s >= self.threshold / 2 and shown[i]]
        vectors = None if window.embeddings is None else window.embeddings.numpy()
        pairs = self._pairs([window.masks[i] for i in rows], [labels[i] for i in rows],
                            None if vectors is None else vectors[rows], frames)  # fmt: skip
        identities: list[Identity | None] = [None] * len(scores)
        for m, i in enumerate(rows):
            track = pairs.get(m)
            if track is None:
                if scores[i] < self.threshold:
                    continue
                track = KnownTrack(self.next_id, {}, None, {})
                self.known.append(track)
                self.next_id += 1
            track.masks = dict(zip(frames, window.masks[i], strict=True))
            track.embedding = None if vectors is None else vectors[i]
            track.votes[labels[i]] = track.votes.get(labels[i], 0.0) + scores[i]
            track.windows, track.total = track.windows + 1, track.total + scores[i]
            track.seen = max(f for f, rle in track.masks.items() if masks.area([rle])[0])
            identities[i] = track.identity
        self.known = [k for k in self.known if k.seen >= frames[-1] - PATIENCE]
        return identities

    def _pairs(
        self,
        tracks: list[list[Rle]],
        labels: list[int],
        embeddings: np.ndarray | None,
        frames: Sequence[int],
    ) -> dict[int, KnownTrack]:
        """The known track of each row that goes on with one."""
        if not tracks or not self.known:
            return {}
        iou, compared = track_ious([k.masks for k in self.known], tracks, frames)
        same = np.array([k.identity.label for k in self.known])[:, None] == np.array(labels)
        likeness = np.zeros(iou.shape)
        vectors = [k.embedding for k in self.known if k.embedding is not None]
        if embeddings is not None and len(vectors) == len(self.known):
            likeness = cosines(np.stack(vectors), embeddings)
        pairs = assign(iou, compared=compared, likeness=likeness, same=same)
        return {m: self.known[n] for n, m in pairs}

    def state(self) -> dict[str, Any]:
        """All that it knows in plain values, for a JSON file."""
        known = [
            {
                "id": k.id,
                "masks": [[frame, masks.to_text(rle)] for frame, rle in k.masks.items()],
                "embedding": None if k.embedding is None else k.embedding.tolist(),
                "votes": list(k.votes.items()),
                "windows": k.windows,
                "total": k.total,
                "seen": k.seen,
            }
            for k in self.known
        ]
        return {"threshold": self.threshold, "next_id": self.next_id, "known": known}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Linker:
        """The inverse of `state`."""
        linker = cls(state["threshold"])
        linker.next_id = state["next_id"]
        for k in state["known"]:
            vector = k["embedding"]
            track = KnownTrack(
                k["id"],
                {frame: masks.from_text(text) for frame, text in k["masks"]},
                None if vector is None else np.array(vector, np.float32),
                dict(k["votes"]),
                k["windows"],
                k["total"],
                k["seen"],
            )
            linker.known.append(track)
        return linker


def track_ious(
    known: Sequence[Mapping[int, Rle]], tracks: Sequence[Sequence[Rle]], frames: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """(N, M) IoU of tracks as YouTube-VIS has it, over the frames that both have.

    Where neither shows in such a frame, it is that of the last mask of one with the first of the
    other. Also (N, M) bool: there were frames to compare.

    Args:
        known: N times masks by frame.
        tracks: M lists of T masks that are not all empty.
        frames: the T frames.
    """
    shared, union = np.zeros((2, len(known), len(tracks)))
    for t, frame in enumerate(frames):
        rows = [n for n, track in enumerate(known) if frame in track]
        if rows:
            here, there = [known[n][frame] for n in rows], [track[t] for track in tracks]
            iou = masks.iou(here, there)
            areas = masks.area(here).astype(float)[:, None] + masks.area(there)
            inside = iou * areas / (1 + iou)
            shared[rows] += inside
            union[rows] += areas - inside
    compared = union > 0
    last = [_first_shown([*track.values()][::-1]) for track in known]
    iou = masks.iou(last, [_first_shown(track) for track in tracks])
    return np.where(compared, shared / np.maximum(union, 1), iou), compared


def _first_shown(track: Sequence[Rle]) -> Rle:
    return track[int(np.argmax(masks.area(track) > 0))]


def cosines(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, C), (M, C) -> (N, M)"""
    lengths = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(others, axis=1)
    return vectors @ others.T / np.maximum(lengths, 1e-12)


def assign(
    iou: np.ndarray, *, compared: np.ndarray, likeness: np.ndarray, same: np.ndarray
) -> list[tuple[int, int]]:
    """Which known track each track of the window goes on with: the pairs that fit best together.

    Args:
        iou, compared: of `track_ious`.
        likeness: (N, M) cosines of queries; zeros where the model has none.
        same: (N, M) bool: they are of the same class.
    """
    near = iou >= np.where(same, MIN_IOU, OTHER_CLASS_IOU)
    allowed = near | (~compared & same & (likeness >= ALIKE))
    fit = iou + QUERY_WEIGHT * likeness.clip(0) + CLASS_WEIGHT * same
    rows, columns = linear_sum_assignment(np.where(allowed, fit, 0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [pair for pair in pairs if allowed[pair]]
