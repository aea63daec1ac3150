"""The mask of an annotated segment, however its file tells it."""

from __future__ import annotations

from segcore import masks
from segcore.labels import frame_ids
from segcore.structures import Frame, PngId, Polygons, Rle, Segment, Size


def to_rle(segment: Segment, frame: Frame, size: Size) -> Rle:
    """Any shape of a segment as RLE at the record's size; a panoptic PNG is read for it."""
    shape = segment.shape
    if isinstance(shape, Polygons):
        return masks.encode_polygons(shape.rings, size)
    if isinstance(shape, PngId):
        return masks.encode((frame_ids(frame) == shape.id)[None])[0]
    return shape
