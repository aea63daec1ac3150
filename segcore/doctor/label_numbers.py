"""Label images that count their classes from 1.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import numpy as np

from segcore.data.store import Records
from segcore.doctor.finding import Case, Finding, finding
from segcore.errors import DataError
from segcore.labels import read_png
from segcore.structures import Metadata

LOOKED_AT = 50  # label images of those that have a value too high


def shifted_labels(
    classes: Set[int], wrong: Sequence[Path], records: Records, metadata: Metadata
) -> Iterator[Finding]:
    """Values 1..K in the place of 0..K-1; nothing where a label_map says what they mean.

    Args:
        classes: that occur in label images without a wrong value.
        wrong: label images with one.
    """
    semantic = len(records) and records[0].frames[0].semantic is not None
    if metadata.label_map is not None or not semantic:
        return
    K = len(metadata.classes)
    values = _values(wrong[:LOOKED_AT], metadata) | classes
    if 0 in values:
        return
    mapping = "{" + ", ".join(f'"{k + 1}": {k}' for k in range(min(K, 3)))
    mapping += (", ..." if K > 3 else "") + "}"
    advice = f'if they count from 1, say so: "label_map": {mapping}'
    if wrong and max(values, default=0) == K:
        cases = [Case(message=f"{path}: has the value {K}", files=(path,)) for path in wrong]
        yield finding("error", "label images count from 1", metadata.name, cases, advice=advice)
    elif not wrong and K > 1 and values == set(range(1, K)):
        text = f"0, {metadata.classes[0]!r}, is never there, and every other class is"
        check = "label images may count from 1"
        yield finding("warning", check, metadata.name, [Case(message=text)], advice=advice)


def _values(paths: Sequence[Path], metadata: Metadata) -> set[int]:
    """All of them but the ignored one."""
    values: set[int] = set()
    for path in paths:
        try:
            values |= set(np.unique(read_png(path)).tolist())
        except DataError:
            continue  # it is reported as such
    return values - {metadata.ignore_label}
