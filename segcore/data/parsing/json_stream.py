"""JSON files of any size, read piece by piece: COCO's 450 MB would be 3 GB of Python objects."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from segcore.data.parsing.text_file import as_text, not_unicode
from segcore.errors import DataError

CHUNK = 1 << 20  # characters
TAIL = 1 << 24  # bytes: classes with long descriptions are a tenth of it
BLANK = re.compile(r"[ \t\n\r]*")


def read_object(path: Path, each: Mapping[str, Callable[[Any], None]]) -> dict[str, Any]:
    """The JSON object in a file, or an error that says what the file is instead.

    Args:
        each: by key: who is given the elements of that array, one by one. In what is returned
            their number stands in the array's place.
    """
    try:
        with path.open("rb") as file, as_text(file) as text:
            return _Window(text).read(each)
    except FileNotFoundError:
        raise DataError(
            f"{path}: annotation file not found; data sets lie below DETECTRON2_DATASETS"
            " (default ./datasets), see datasets/README.md"
        ) from None
    except _NoObject:
        raise DataError(
            f"{path}: expected an object with images and annotations at the top"
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON at character {error.pos} ({error.msg});"
            " is the download complete?"
        ) from None
    except UnicodeDecodeError as error:
        raise not_unicode(path, "annotation file", error) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None


def last_member(path: Path, key: str) -> Any:
    """The value of the last `key` at the top of a JSON object, searched from the file's end.

    None where it is not certain: what follows the key must be valid to the very end, so that one
    bracket, the object's own, was open before it. None, too, where more than TAIL follows.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(json.dumps(key).encode(), max(0, len(content) - TAIL))
        if start < 0:
            return None
        tail = content[start:]
    try:
        return json.loads(b"{" + tail).get(key)
    except ValueError:
        return None


class _NoObject(Exception):
    """Valid JSON, but no object."""


class _Window:
    """The part of a file that is being parsed."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.text, self.here, self.before = "", 0, 0
        self.scan = json.JSONDecoder().raw_decode

    def read(self, each: Mapping[str, Callable[[Any], None]]) -> dict[str, Any]:
        """The object at the top."""
        if self._peek() != "{":
            self._value()
            raise _NoObject
        members: dict[str, Any] = {}
        for _ in self._elements("{", "}"):
            key = self._value()
            self._step(":")
            if key in each and self._peek() == "[":
                members[key] = 0
                for _ in self._elements("[", "]"):
                    each[key](self._value())
                    members[key] += 1
            else:
                members[key] = self._value()
        if self._peek():
            raise self._error("more follows the object's end")
        return members

    def _elements(self, opening: str, closing: str):
        """Stops where each element starts."""
        self._step(opening)
        if self._peek() == closing:
            self._step(closing)
            return
        sign = ","
        while sign == ",":
            yield
            sign = self._step("," + closing)

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self.scan(self.text, self.here)
            except json.JSONDecodeError as error:
                if self._more():  # it may only have been cut
                    continue
                raise self._error(error.msg, error.pos) from None
            if end == len(self.text) and self._more():  # a number may go on
                continue
            self.here = end
            return value

    def _peek(self) -> str:
        """The next sign that is not blank; nothing at the file's end."""
        if self.here < len(self.text) and (sign := self.text[self.here]) > " ":
            return sign
        while True:
            if blank := BLANK.match(self.text, self.here):
                self.here = blank.end()
            if self.here < len(self.text):
                return self.text[self.here]
            if not self._more():
                return ""

    def _step(self, expected: str) -> str:
        sign = self._peek()
        if not sign or sign not in expected:
            raise self._error(f"expected {' or '.join(expected)}")
        self.here += 1
        return sign

    def _more(self) -> bool:
        """Forget what has been parsed, read on; twice as much each time nothing was parsed."""
        new = self.file.read(max(CHUNK, len(self.text) - self.here))
        self.before += self.here
        self.text, self.here = self.text[self.here :] + new, 0
        return bool(new)

    def _error(self, message: str, where: int | None = None) -> json.JSONDecodeError:
        error = json.JSONDecodeError(message, self.text, self.here if where is None else where)
        error.pos += self.before
        return error
