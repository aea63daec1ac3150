"""Whether an image file goes on to its end: half of one is what a broken copy leaves.

The last bytes of a file are read, not its pixels; what looks cut off there is then decoded, because
some cameras and programs write more behind the end.
"""

from __future__ import annotations

import os
from pathlib import Path

from segcore.data.images import opened, read_image
from segcore.errors import DataError

HEAD, TAIL = 16, 64  # bytes
JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xae\x42\x60\x82"


def end_fault(path: Path) -> str:
    """Why an image with a sound head cannot be read to its end; "": it can.

    JPEG, PNG, GIF, WebP and BMP say where they end; any other kind is taken to be whole.
    """
    with opened(path) as file:
        head = file.read(HEAD)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    if not may_be_cut(head, tail, size):
        return ""
    try:
        read_image(path)
    except DataError as fault:
        return str(fault)
    return ""


def may_be_cut(head: bytes, tail: bytes, size: int) -> bool:
    """Whether the first and the last bytes of a file of `size` bytes do not belong together."""
    if head.startswith(JPEG):
        return not tail.rstrip(b"\0").endswith(JPEG_END)
    if head.startswith(PNG):
        return not tail.endswith(PNG_END)
    if head.startswith(b"GIF8"):
        return not tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return size < 8 + int.from_bytes(head[4:8], "little")
    if head.startswith(b"BM"):
        return size < int.from_bytes(head[2:6], "little")
    return False
