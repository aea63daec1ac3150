"""Where the crop views lie.

Legend of one-letter names: H W the image's pixels.
"""

from __future__ import annotations

from segcore.structures import Size

Box = tuple[int, int, int, int]  # x0 y0 x1 y1


def crop_windows(size: Size, crop: float = 0.7, stride: float = 0.6) -> list[Box]:
    """Windows of `crop` of each side, every `stride` of it, shifted back inside at the border.

    With .7 and .6 these are the four corners: top left, top right, bottom left, bottom right.
    Products are truncated, in double precision: .7 * 90 is 62.99..., so 62.
    """
    height, width = size
    h, w = max(1, int(crop * height)), max(1, int(crop * width))
    rows = _starts(height, h, max(1, int(stride * height)))
    columns = _starts(width, w, max(1, int(stride * width)))
    return [(x, y, x + w, y + h) for y in rows for x in columns]


def _starts(length: int, window: int, step: int) -> list[int]:
    return list(dict.fromkeys(min(x, length - window) for x in range(0, length, step)))
