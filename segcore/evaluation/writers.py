"""Results as files: COCO JSON and panoptic PNG, whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcore import masks
from segcore.structures import Metadata, Panoptic, Result
from segcore.whole_file import whole_file


def coco_json(result: Result, image_id: int | str, metadata: Metadata) -> list[dict[str, Any]]:
    """Instances as COCO results: dataset category ids, x y w h boxes, RLE with text counts."""
    instances = result.instances
    if instances is None:
        return []
    columns = (instances.scores, instances.labels, instances.boxes)
    rows = zip(*(column.tolist() for column in columns), instances.masks, strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": metadata.dataset_ids[label],
            "category": metadata.classes[label],
            "score": round(score, 5),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "segmentation": masks.to_text(rle),
        }
        for score, label, (x0, y0, x1, y1), rle in rows
    ]


def tracks_json(result: Result, video_id: int | str, metadata: Metadata) -> list[dict[str, Any]]:
    """Tracks as the servers of YouTube-VIS take them: one RLE a frame, empty where absent."""
    tracks = result.tracks
    if tracks is None:
        return []
    rows = zip(tracks.scores.tolist(), tracks.labels.tolist(), tracks.masks, strict=True)
    return [
        {
            "video_id": video_id,
            "score": score,
            "category_id": metadata.dataset_ids[label],
            "segmentations": [masks.to_text(rle) for rle in track],
        }
        for score, label, track in rows
    ]


def panoptic_png(panoptic: Panoptic, metadata: Metadata) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """(H, W, 3) uint8 with id = R + 256 G + 65536 B, and COCO's segments_info."""
    ids = panoptic.map.numpy()
    png = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=2).astype(np.uint8)
    segments = [
        {
            "id": s.id,
            "category_id": metadata.dataset_ids[s.category],
            "category": metadata.classes[s.category],
            "isthing": int(s.is_thing),
            "score": round(s.score, 5),
            "area": s.area,
        }
        for s in panoptic.segments
    ]
    return png, segments


def id_png(panoptic: Panoptic) -> np.ndarray:
    """Segment ids, 0: none. (H, W) uint16; past 65,535 (H, W, 4) uint8, low byte first."""
    ids = panoptic.map.numpy()
    if ids.max(initial=0) < 1 << 16:
        return ids.astype(np.uint16)
    return np.ascontiguousarray(ids.astype("<u4")).view(np.uint8).reshape(*ids.shape, 4)


def json_text(content: object) -> str:
    """JSON that every program reads: a number that is none or infinite is null."""
    try:
        return json.dumps(content, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(content), allow_nan=False)


def _finite(content: object) -> object:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {_finite(key): _finite(value) for key, value in content.items()}
    return [_finite(x) for x in content] if isinstance(content, list | tuple) else content


def write_json(path: Path, content: object) -> None:
    """Write the whole file or none."""
    with whole_file(path, "w") as stream:
        stream.write(json_text(content))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write the whole file or none; (H, W) of small integers or (H, W, 3) uint8."""
    pixels = pixels.astype(np.uint16) if pixels.dtype == np.int16 else pixels
    with whole_file(path) as stream:
        Image.fromarray(pixels).save(stream, format="PNG")
