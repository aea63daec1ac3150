"""Small JSON files, read at once; COCO's large ones: json_stream.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segcore.data.parsing.text_file import read_text
from segcore.errors import DataError

HEAD = 1 << 16  # bytes


def read_json(path: Path) -> Any:
    """What a file holds; DataError says why it cannot be read."""
    try:
        return json.loads(read_text(path, "annotation file"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON at character {error.pos} ({error.msg}); is it complete?"
        ) from None
    except RecursionError:
        raise DataError(f"{path}: cannot be read as JSON: its brackets are too deep") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        # a number of thousands of digits
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None


def head_of_json(path: Path) -> str:
    """The first characters of a JSON file, blanks left out; "" of any other file; never raises."""
    try:
        with path.open("rb") as file:
            content = file.read(HEAD)
            text = content.decode(json.detect_encoding(content), errors="ignore").lstrip()
    except OSError:
        return ""
    return text if text[:1] in ("{", "[") else ""
