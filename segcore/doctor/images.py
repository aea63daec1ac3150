"""Findings of images that have been read to their last pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from segcore.data.store import Records
from segcore.doctor.finding import Case, Finding, finding
from segcore.doctor.pixels import Look

BROKEN = "image that cannot be read to its end"
ADVICE = "annotations are read in pixels of the image as it is shown, its EXIF turn applied"


def image_findings(
    files: Sequence[tuple[Path, int]],
    looks: Sequence[Look],
    records: Records,
    data: str,
    known: Set[Path] = frozenset(),
) -> Iterator[Finding]:
    """Of one data set.

    Args:
        files: each with the index of its record.
        looks: of each of these files.
        known: files whose heads cannot be read: that has been said.
    """
    broken, astray, doubtful, turned = [], [], [], []
    for (file, i), look in zip(files, looks, strict=True):
        record = None if look.turn == 1 and not look.fault else records[i]
        if record is None:
            continue
        if look.fault:
            if file not in known:
                broken.append(Case(message=look.fault, image=record.id))
            continue
        case = Case(message=f"{file}: EXIF orientation {look.turn}", image=record.id)
        if record.size != look.size:
            astray.append(case)
        elif look.turn < 5 or look.size[0] == look.size[1]:
            doubtful.append(case)
        else:
            turned.append(case)
    if broken:
        yield finding("error", BROKEN, data, broken)
    if astray:
        check = "annotation of an image without its EXIF turn"
        yield finding("error", check, data, astray, advice=f"{ADVICE}: turn the files themselves")
    if doubtful:
        check = "EXIF turn that sizes cannot confirm"
        yield finding("warning", check, data, doubtful, advice=f"{ADVICE}: look at the pictures")
    if turned:
        yield finding("note", "EXIF turn", data, turned, advice=ADVICE)
