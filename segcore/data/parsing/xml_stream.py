"""XML of any size, element by element; what could make a reader do anything is refused.

A document type may define entities that grow to gigabytes or name files of this machine; no
annotation tool writes one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from segcore.errors import DataError

CHUNK = 1 << 20  # bytes
DEEPEST = 64  # elements inside each other


@dataclass(slots=True)
class Element:
    """An element with all that is in it."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list["Element"])
    text: str = ""


class _Reader:
    """Builds the wanted elements; of the others nothing but their tags is kept."""

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        self.path, self.wanted = path, wanted
        self.finished: list[Element] = []
        self.open_tags: list[str] = []
        self._stack: list[Element] = []  # from a wanted element to the innermost one
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add_text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        raise DataError(
            f"{self.path}: line {self.parser.CurrentLineNumber} has a document type (<!DOCTYPE ...>"
            " or <!ENTITY ...>), which is not read; take it out if you know who wrote it"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.open_tags.append(tag)
        if len(self.open_tags) > DEEPEST:
            raise DataError(f"{self.path}: has more than {DEEPEST} elements inside each other")
        if not self._stack and tag not in self.wanted:
            return
        element = Element(tag, attributes, self.parser.CurrentLineNumber)
        if self._stack:
            self._stack[-1].children.append(element)
        self._stack.append(element)

    def _end(self, tag: str) -> None:
        self.open_tags.pop()
        if self._stack:
            element = self._stack.pop()
            if not self._stack:
                self.finished.append(element)

    def _add_text(self, text: str) -> None:
        if self._stack:
            self._stack[-1].text += text


def elements(path: Path, wanted: Collection[str]) -> Iterator[Element]:
    """The wanted elements of a file, those inside another wanted one as its children.

    Args:
        wanted: tags.

    Raises:
        DataError: the file is missing, is no XML, ends too early, or has a document type.
    """
    reader = _Reader(path, wanted)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                reader.parser.Parse(chunk, False)
                yield from reader.finished
                reader.finished.clear()
            reader.parser.Parse(b"", True)
        yield from reader.finished
    except expat.ExpatError as error:
        raise DataError(
            f"{path}: not valid XML at line {error.lineno} ({expat.ErrorString(error.code)});"
            " is the download complete?"
        ) from None
    except FileNotFoundError:
        raise DataError(f"{path}: annotation file not found") from None
    except (OSError, ValueError, LookupError) as error:  # an encoding that nobody knows
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as XML: {error}") from None


def root_tag(path: Path) -> str:
    """The tag of the outermost element; "" where a file is no XML, or a dangerous one."""
    reader = _Reader(path, ())
    seen: list[str] = []

    def note(tag: str, _: dict[str, str]) -> None:
        seen.append(tag)

    reader.parser.StartElementHandler = note
    reader.parser.EndElementHandler = None
    try:
        with path.open("rb") as file:
            reader.parser.Parse(file.read(CHUNK // 16), False)
    except (expat.ExpatError, DataError, OSError, ValueError, LookupError):
        pass
    return seen[0] if seen else ""
