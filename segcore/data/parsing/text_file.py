"""Text files in the encodings that programs write."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import IO

from segcore.errors import DataError


def as_text(file: io.BufferedReader) -> IO[str]:
    """An open file as text: UTF-8, UTF-16 or UTF-32, with its mark or without."""
    return io.TextIOWrapper(file, encoding=json.detect_encoding(file.peek(4)[:4]), newline="")


def decoded(content: bytes) -> str:
    """A whole file's text; UnicodeDecodeError where it has another encoding."""
    return content.decode(json.detect_encoding(content))


def read_text(path: Path, what: str) -> str:
    """What a text file says; `what` it should be is said in errors.

    Raises:
        DataError: it is not there, or its encoding is none of these.
    """
    try:
        return decoded(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: {what} not found") from None
    except UnicodeDecodeError as error:
        raise not_unicode(path, what, error) from None
    except OSError as error:
        raise DataError(f"{path}: {what} cannot be read ({error.strerror})") from None


def not_unicode(path: Path, what: str, error: UnicodeDecodeError) -> DataError:
    """What to say of another encoding, such as Latin-1."""
    return DataError(
        f"{path}: {what} cannot be read as text ({error}); save it as UTF-8, such as by"
        f" `iconv -f latin1 -t utf-8`"
    )
