"""How large an annotated object is, without its pixels where the file says it."""

from __future__ import annotations

from segcore import masks
from segcore.structures import PngId, Polygons, Segment, Size


def object_area(segment: Segment, size: Size) -> float | None:
    """Pixels of a mask, as the file says where it does; None where only its PNG would know.

    Args:
        size: of the image.
    """
    if segment.area is not None and segment.area > 0:
        return segment.area
    if isinstance(segment.shape, PngId):
        return None
    shape = segment.shape
    if isinstance(shape, Polygons):
        shape = masks.encode_polygons(shape.rings, size)
    return float(masks.area([shape])[0])
