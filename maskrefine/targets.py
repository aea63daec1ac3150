"""True boxes of a sample, and true masks inside any boxes.

Legend of one-letter names: B samples, N objects, R regions, H W input pixels, s cells on a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from maskrefine.boxes import has_area
from maskrefine.regions import pool
from segcore import masks as mask_io
from segcore.structures import Polygons, Regions, Targets

CHUNK = 16  # masks of image size that exist as float32 at a time

AT_ONCE = 16  # objects whose masks are made float together


def true_boxes(targets: Targets) -> Tensor:
    """(N, 4) float32 tight around the polygons where there are any, else around the masks."""
    boxes = boxes_of_masks(targets.masks[:, 0])
    shapes = targets.polygons or []
    rows = [i for i, shape in enumerate(shapes) if shape is not None]
    if not rows:
        return boxes
    H, W = targets.masks.shape[-2:]
    outlines = [_polygon_box(shape, H, W) for shape in shapes if shape is not None]
    tight = torch.tensor(outlines).to(boxes.device, non_blocking=True)
    # an outline that the window has cut to a line has pixels all the same
    boxes[rows] = torch.where(has_area(tight)[:, None], tight, boxes[rows])
    return boxes


def _polygon_box(shape: Polygons, H: int, W: int) -> list[float]:
    points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in shape.rings])
    low, high = points.min(0).clip(0), points.max(0).clip(None, (W, H))
    return [*low.tolist(), *high.tolist()]


def boxes_of_masks(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N, 4) float32, x1 y1 exclusive; zeros where a mask is empty."""
    ends = []
    for dim in (1, 2):  # what the columns say, then the rows
        line = masks.any(dim)  # (N, W), (N, H)
        place = torch.arange(line.shape[1], device=masks.device)
        first = torch.where(line, place, line.shape[1]).amin(1)
        ends.append((first, torch.where(line, place + 1, 0).amax(1)))
    (x0, x1), (y0, y1) = ends
    boxes = torch.stack((x0, y0, x1, y1), 1)
    return torch.where((x1 > 0)[:, None], boxes, 0).float()


def mask_targets(
    regions: Regions, targets: Sequence[Targets], size: int, *, least_side: float
) -> Tensor:
    """(R, s, s) bool: the matched objects inside the regions' boxes, as published.

    Polygons are rasterised inside each box; masks without polygons are resampled.

    Args:
        regions: `matched` says which object of its sample each region stands for.
        size: s.
        least_side: in pixels, of a box in which a polygon is rasterised.
    """
    assert regions.matched is not None
    out = torch.zeros(len(regions.boxes), size, size, dtype=torch.bool, device=regions.boxes.device)
    for i, target in enumerate(targets):
        rows = (regions.sample == i).nonzero()[:, 0]
        index, boxes = regions.matched[rows], regions.boxes[rows]
        shapes = target.polygons or [None] * len(target.labels)
        if any(shape is None for shape in shapes):
            out[rows] = masks_inside(target.masks[:, 0], index, boxes, size)
        if any(shape is not None for shape in shapes):
            picked = [shapes[k] for k in index.tolist()]
            drawn = [k for k, shape in enumerate(picked) if shape is not None]
            inside = polygons_inside(
                [picked[k] for k in drawn],  # type: ignore[misc]
                boxes[drawn].cpu().numpy(),
                size,
                least_side=least_side,
            )
            out[rows[drawn]] = torch.from_numpy(inside).to(out.device)
    return out


def masks_inside(masks: Tensor, index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """(N, H, W) bool -> (R, s, s) bool: RoIAlign of mask `index` in each box, at least one half."""
    out = masks.new_zeros(len(boxes), size, size)
    for maps, rows, place in shown(masks[:, None], index):
        pooled = pool([maps], place, boxes[rows], size, strides=(1,))
        out[rows] = pooled[:, 0] >= 0.5
    return out


def shown(masks: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The objects that regions show, each once and some at a time: images of floats are large.

    Args:
        masks: (N, 1, H, W) bool.
        index: (R,) which object each region shows.

    Yields:
        maps (n, 1, H, W) float, the rows (r,) of the regions that show them, and (r,) which map.
    """
    objects, place = index.unique(return_inverse=True)
    for start in range(0, len(objects), AT_ONCE):
        rows = ((place >= start) & (place < start + AT_ONCE)).nonzero()[:, 0]
        yield masks[objects[start : start + AT_ONCE]].float(), rows, place[rows] - start


def polygons_inside(
    shapes: Sequence[Polygons], boxes: np.ndarray, size: int, *, least_side: float
) -> np.ndarray:
    """(R, s, s) bool: each shape as it fills the cells of its box (R, 4).

    The boxes come from the host, as every published program has them: polygons are lists of
    different lengths, and COCO's rule for their pixels is a C function.
    """
    moved = []
    for shape, (x0, y0, x1, y1) in zip(shapes, boxes, strict=True):
        scale = np.array([size / max(x1 - x0, least_side), size / max(y1 - y0, least_side)])
        points = ((np.reshape(r, (-1, 2)) - (x0, y0)) * scale for r in shape.rings)
        moved.append([p.ravel().tolist() for p in points])
    return mask_io.rasterise(moved, (size, size))
