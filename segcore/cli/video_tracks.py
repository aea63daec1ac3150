"""Tracks of a whole video, out of the parts in which it was done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcore.structures import Metadata

MASKS_AT_ONCE = 20_000  # that are in memory when tracks are written


def content_of(file: Path) -> dict[str, Any]:
    """What a JSON file of ours holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def tracks_of(parts: Sequence[Path], metadata: Metadata, threshold: float) -> Iterator[dict]:
    """All tracks that reach the threshold, a bounded number of masks at a time."""
    spans: dict[int, _Span] = {}
    for part in parts:
        for index, number, label, score, _ in _rows(part):
            span = spans.setdefault(number, _Span(index))
            span.last, span.label, span.score = index, label, score  # the last one knows most
            span.count += 1
    blocks: list[dict[int, _Span]] = [{}]
    for number, span in spans.items():
        if span.score < threshold:
            continue
        if sum(s.count for s in blocks[-1].values()) > MASKS_AT_ONCE:
            blocks.append({})
        blocks[-1][number] = span
    for block in filter(None, blocks):
        yield from _block(block, parts, metadata)


@dataclass(slots=True)
class _Span:
    first: int
    last: int = 0
    label: int = 0
    score: float = 0.0
    count: int = 0


def _block(
    spans: dict[int, _Span], parts: Sequence[Path], metadata: Metadata
) -> Iterator[dict[str, Any]]:
    shown: dict[int, dict[int, Any]] = {number: {} for number in spans}
    for part in parts:
        for index, number, _, _, mask in _rows(part):
            if number in shown:
                shown[number][index] = mask
    for number, span in spans.items():
        yield {
            "id": number,
            "category_id": metadata.dataset_ids[span.label],
            "category": metadata.classes[span.label],
            "score": round(span.score, 5),
            "first_frame": span.first,
            "segmentations": [shown[number].get(i) for i in range(span.first, span.last + 1)],
        }


def _rows(part: Path) -> Iterator[tuple[int, int, int, float, Any]]:
    """Frame, id, label, score and mask of all that shows in a part."""
    for frame in content_of(part)["frames"]:
        for number, label, score, mask in frame["tracks"]:
            yield frame["index"], number, label, score, mask
