"""Weights that others have published: addresses, licences and what is known of their hashes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote

import yaml

from segcore.engine.fetched_file import Digest
from segcore.errors import WeightsError

DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"  # what detectron2:// stands for
HUB = re.compile(r"hf://((?:datasets/)?[^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+?))?(?:@([^/@]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Weights that somebody has published together.

    Args:
        what: they are, in words.
        licence: that they are under.
        start: of their addresses, as `address` takes them.
        revision: of their repository; "" where there is none.
        digest: kind of hash whose beginning is in the files' names; "" where there is none.
        digits: pattern of a name; its group is that beginning.
        files: by the names that configs know them under, what follows `start`.
    """

    what: str
    licence: str
    start: str
    revision: str
    digest: str
    digits: str
    files: Mapping[str, str]

    def address(self, file: str) -> str:
        """URL of a file of these; of "" what all their URLs begin with."""
        return address(self.start + file + (f"@{self.revision}" if self.revision else ""))

    def digest_of(self, url: str) -> Digest | None:
        """What is known of a file's hash."""
        match = re.search(self.digits, url) if self.digest else None
        return Digest(kind=self.digest, start=match[1]) if match else None


@cache
def table() -> tuple[Published, ...]:
    """All of published_weights.yaml."""
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return tuple(
        Published(
            what=group["what"],
            licence=group["licence"],
            start=group["from"],
            revision=group.get("revision", ""),
            digest=group.get("digest", ""),
            digits=group.get("digits", ""),
            files={file.rsplit("/", 1)[-1]: file for file in group.get("files", ())}
            | group.get("names", {}),
        )
        for group in yaml.safe_load(text)
    )


def address_of(name: str) -> str:
    """URL of a published file, by its name or by what follows the start; "" if none is known."""
    for group in table():
        if name in group.files:
            return group.address(group.files[name])
        if name in group.files.values():
            return group.address(name)
    return ""


def group_of(url: str) -> Published | None:
    """Those that a URL is one of, listed or not."""
    return next((group for group in table() if url.startswith(group.address(""))), None)


def hub() -> str:
    """Where hf:// leads: HF_ENDPOINT, or Hugging Face."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_repository(path: str) -> bool:
    """Whether a path is hf://owner/repo[@revision] without a file."""
    match = HUB.fullmatch(path)
    return match is not None and not match[3]


def address(path: str) -> str:
    """The URL that detectron2://... or hf://... stands for; a URL itself.

    Raises:
        WeightsError: no file of a repository is named.
    """
    if not path.startswith("hf://"):
        return path.replace("detectron2://", DETECTRON2)
    match = HUB.fullmatch(path)
    if not match or not match[3]:
        raise WeightsError(
            f"{path}: expected hf://owner/repo/file or hf://owner/repo/file@revision; a repository"
            " of data is hf://datasets/owner/repo/..."
        )
    revision = quote(unquote(match[2] or match[4] or "main"), safe="")
    return f"{hub()}/{match[1]}/resolve/{revision}/{quote(match[3])}"
