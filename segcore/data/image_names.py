"""From what an annotation file calls an image to where the image lies.

Labelling tools write names of their own disk: with backslashes, as URLs, with a server's folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from segcore.data.zip_files import is_zipped, zip_of, zipped_ending
from segcore.errors import DataError
from segcore.image_file import present

URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://[^/]*")  # s3://bucket, https://host:80
ODD = re.compile(r"[\\%?]|://|^/|^[a-zA-Z]:")


class ImageFiles:
    """Images of an annotation file, by the names that it has for them.

    Where the first one is there under its name, so are the others, and no file is asked for; a
    name that is a URL, or has backslashes, a drive or %20, is looked up.

    Args:
        folder: of the images, or a place in a zip file.
        annotations: the file that has the names, for errors.
    """

    def __init__(self, folder: Path, annotations: Path) -> None:
        self.folder, self.annotations = folder, annotations
        self._plain: bool | None = None  # until the first one is asked for
        self._names: dict[Path, str] = {}  # of the images that were looked up

    def __call__(self, name: str) -> Path:
        """Where the image lies, or would lie if it were there.

        Raises:
            DataError: two names lead to one file, or they are URLs of images that are not here.
        """
        plain = self.folder / name
        odd = ODD.search(name)
        if self._plain is None and not odd:
            self._plain = _exists(plain)
        if self._plain is not False and not odd:
            return plain
        for candidate in candidates(name):
            file = _found(self.folder, candidate)
            if file is not None:
                other = self._names.setdefault(file, name)
                if other != name:
                    raise DataError(
                        f"{self.annotations}: {other!r} and {name!r} both lead to {file}; keep the"
                        " folders of their names below the folder of images"
                    )
                return file
        if URL.match(name) and not self._names:
            raise DataError(
                f"{self.annotations}: its images are URLs ({name!r:.120}), and {self.folder} has no"
                f" {candidates(name)[-1]}; download them into a folder, and name it:"
                f" {self.annotations}@IMAGES"
            )
        return plain


def candidates(name: str) -> list[str]:
    """Paths below the folder of images that a name may mean, the likely ones first."""
    return list(dict.fromkeys(filter(None, _candidates(name))))


def _candidates(name: str) -> Iterator[str]:
    yield name
    path = name.replace("\\", "/")
    if URL.match(path):
        path = URL.sub("", path).partition("#")[0]
    path = re.sub(r"^[a-zA-Z]:/", "/", path)
    file, _, query = path.partition("?")
    served = re.match(r"(?:.*&)?d=([^&]+)", query)  # Label Studio's files of a local disk
    for text in (path, file, served.group(1) if served else ""):
        yield from _tails(text)
        if "%" in text:
            yield from _tails(unquote(text))


def _tails(path: str) -> Iterator[str]:
    """a/b/c, b/c, c."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _exists(path: Path) -> bool:
    if path.exists():
        return True
    archive = zip_of(path)
    if archive is not None:
        return is_zipped(archive, path.relative_to(archive).as_posix())
    return present(path).exists()


def _found(folder: Path, name: str) -> Path | None:
    """The image, also where a zip file has a single one of that name in another folder."""
    if _exists(folder / name):
        return folder / name
    archive = zip_of(folder)
    if archive is not None:
        others = zipped_ending(archive, name)
        if len(others) == 1:
            return archive / others[0]
    return None


def exists_as(name: str, folder: Path) -> bool:
    """Whether a folder has an image, under its name or another one that it may mean."""
    return any(_exists(folder / candidate) for candidate in candidates(name))
