"""File names that every disk takes."""

from __future__ import annotations

from zlib import crc32

LONGEST = 255  # bytes of a name on all common disks
ROOM = 32  # that endings of ours may need: "_leftImg8bit_pred.txt.tmp"


def short_name(name: str, longest: int = LONGEST - ROOM) -> str:
    """A file's name; one of too many bytes is cut, and ends on a mark of the whole.

    Args:
        name: without folders, and without the endings that are still to come.
        longest: bytes that it may have in UTF-8.
    """
    content = name.encode(errors="surrogateescape")
    if len(content) <= longest:
        return name
    mark = f"-{crc32(content):08x}"
    return content[: longest - len(mark)].decode(errors="ignore") + mark
