"""Whether a file that was fetched is all of the file that was meant."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

OLD_TORCH = b"\x80\x02\x8a\x0a"  # several pickles and then numbers: no telling where it should end


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """How a file's hash begins: `kind` is md5 or sha256, `start` hexadecimal digits."""

    kind: str
    start: str


def damage(path: Path, name: str, *, size: int | None = None, digest: Digest | None = None) -> str:
    """What speaks against a file, in words; "" if nothing does.

    Args:
        name: that it will have; its ending says which form it should have.
        size: bytes that it should have.
        digest: of the right file.
    """
    have = path.stat().st_size
    if size is not None and have != size:
        return f"{have} bytes came, {size} were expected"
    if digest and not (found := _hash(path, digest.kind)).startswith(digest.start):
        found = found[: len(digest.start)]
        return f"its {digest.kind} begins with {found}, expected {digest.start}: another file"
    return _form(path, name)


def _hash(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()


def _form(path: Path, name: str) -> str:
    """What beginning and end say; servers may be wrong about the size."""
    with path.open("rb") as stream:
        start = stream.read(64)
        stream.seek(max(0, path.stat().st_size - 1))
        end = stream.read(1)
    if not start:
        return "an empty file came"
    if start.lstrip()[:1] == b"<":
        return "a web page came instead of the file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer came instead of the file"
    whole = True
    if name.endswith(".safetensors"):
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError:
            whole = False
    elif start.startswith(b"PK\3\4"):
        whole = zipfile.is_zipfile(path)  # its table of contents is at the end
    elif start[:1] == b"\x80" and not start.startswith(OLD_TORCH):
        whole = end == b"."  # how a pickle ends
    return "" if whole else "its end is missing"
