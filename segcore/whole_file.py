"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from segcore.file_names import LONGEST, short_name


@contextmanager
def whole_file(path: Path, mode: Literal["w", "wb"] = "wb") -> Iterator[IO[Any]]:
    """A stream into a temporary file that takes the place of `path` when all is written.

    Whoever reads `path`, now or after a loss of power, finds the old content or the whole new one.
    An error leaves the old file as it was, and no temporary one.

    Args:
        path: its folders are made. The temporary file lies beside it, its name with ".tmp" added,
            shortened where it would be too long.
        mode: "w" for text, in UTF-8; "wb" for bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(short_name(path.name, LONGEST - 4) + ".tmp")
    try:
        with temporary.open(mode, encoding="utf-8" if mode == "w" else None) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # or the new name may reach the disk before the content
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
