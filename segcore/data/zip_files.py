"""Zip files that are read in place, whoever packed them: the one door into them."""

from __future__ import annotations

import io
import os
import unicodedata
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath

from segcore.errors import DataError
from segcore.image_file import is_companion

# what a damaged, encrypted or unusually packed archive makes zipfile raise
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
UTF8 = 0x800  # the flag of a name that says how it is written
# how others write names without saying so: Chinese, Japanese, Korean and European Windows, DOS
ENCODINGS = ("gb18030", "cp932", "big5", "cp949", "cp1252", "cp1251", "cp1250", "cp866")


class Archive:
    """An open zip file; its names have slashes, composed letters, and no companions of macOS.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)
        self.entries: dict[str, zipfile.ZipInfo] = {}
        self._unsaid: dict[str, zipfile.ZipInfo] = {}  # names that do not say how they are written
        for entry in self.zip.infolist():
            if is_companion(PurePosixPath(name := _name(entry))):
                continue
            self.entries[name] = entry
            if not entry.flag_bits & UTF8 and not entry.filename.isascii():
                self._unsaid[_plain(entry.filename)] = entry

    def find(self, name: str) -> zipfile.ZipInfo | None:
        """The entry of that name, in whatever encoding it was written."""
        entry = self.entries.get(_plain(name))
        for encoding in ENCODINGS if entry is None and self._unsaid else ():
            try:
                garbled = name.encode(encoding).decode("cp437")  # as zipfile reads it
            except UnicodeEncodeError:
                continue
            entry = entry or self._unsaid.get(_plain(garbled))
        return entry


def _name(entry: zipfile.ZipInfo) -> str:
    name = entry.filename
    if not entry.flag_bits & UTF8 and not name.isascii():
        try:
            name = name.encode("cp437").decode("utf-8")  # macOS writes UTF-8 and does not say so
        except UnicodeError:
            name = entry.filename
    return _plain(name)


def _plain(name: str) -> str:
    """With slashes, and letters in one piece; half a letter of Japanese may be a backslash."""
    name = name if "/" in name else name.replace("\\", "/")
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _archive(path: Path) -> Archive:
    """Each process has its own: two that share an open file would move each other's place in it."""
    state = path.stat()
    return _opened(path, state.st_mtime_ns, state.st_size, os.getpid())


@lru_cache(maxsize=8)
def _opened(path: Path, _changed: int, _size: int, _process: int) -> Archive:
    return Archive(path)


def zip_of(path: Path) -> Path | None:
    """The zip file that a path leads into."""
    return next(
        (p for p in (path, *path.parents) if p.suffix.lower() == ".zip" and p.is_file()), None
    )


def zip_names(archive: Path) -> list[str]:
    """All that a zip file holds."""
    try:
        return list(_archive(archive).entries)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive}: cannot be read as a zip file ({error})") from None


def is_zipped(archive: Path, name: str) -> bool:
    """Whether a zip file has a file of that name."""
    try:
        return _archive(archive).find(name) is not None
    except (OSError, zipfile.BadZipFile):
        return False  # which is said where it is read


def zipped_ending(archive: Path, ending: str) -> list[str]:
    """The files of a zip file whose path ends so: `train/x.png` for `x.png`."""
    return [name for name in zip_names(archive) if f"/{name}".endswith(f"/{ending}")]


def read_zipped(archive: Path, name: str) -> io.BytesIO:
    """A file of a zip file.

    Raises:
        FileNotFoundError: it has none of that name.
    """
    opened = _archive(archive)
    entry = opened.find(name)
    if entry is None:
        raise FileNotFoundError(f"{archive}/{name}")
    return io.BytesIO(opened.zip.read(entry))
