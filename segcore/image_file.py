"""Image files before their pixels: which file a path means, and why one cannot be read."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePath

from PIL import Image

IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
LIMIT = "SEGCORE_MAX_MEGAPIXELS"  # of the environment, so that worker processes have it too
CANNOT_READ = {  # suffixes of image files that Pillow alone does not open
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".dng": "a raw photograph",
    ".nef": "a raw photograph",
    ".cr2": "a raw photograph",
    ".arw": "a raw photograph",
}
LEFT_BEHIND = {"__MACOSX", ".ipynb_checkpoints"}  # folders


def reason(error: Exception, path: Path) -> str:
    """Why an image cannot be read, and what to do."""
    kind = CANNOT_READ.get(path.suffix.lower())
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"({error}); where the file is trusted, set {LIMIT}, such as {LIMIT}=400 for 20,000 x"
            " 20,000, in the environment, or cut the image into tiles"
        )
    if kind:
        return f"(it is {kind}); save it as JPEG or PNG"
    return f"({error}); replace it or take it out of the list"


def present(path: Path) -> Path:
    """The file itself, or the one whose name differs by Unicode's forms alone (NFC, NFD).

    macOS writes an accent as a letter of its own, others do not; both look the same.
    """
    if path.exists() or str(path).isascii():
        return path
    real = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        real /= next((form for form in forms if (real / form).exists()), part)
    return real


def is_companion(path: PurePath) -> bool:
    """Whether a program left the file beside the data: macOS (`._x`, __MACOSX) or Jupyter."""
    return path.name.startswith("._") or not LEFT_BEHIND.isdisjoint(path.parts)
