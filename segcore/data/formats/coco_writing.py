"""What COCO's two kinds of annotation files share when they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from segcore.data.formats.format import Goal
from segcore.structures import Metadata, Record


def categories(metadata: Metadata) -> list[dict[str, Any]]:
    """One a class, as COCO panoptic has them."""
    return [
        {"id": number, "name": name, "isthing": int(thing), "color": list(color)}
        for number, name, thing, color in zip(
            metadata.dataset_ids,
            metadata.classes,
            metadata.is_thing,
            metadata.colors,
            strict=True,
        )
    ]


def image_entry(number: int, record: Record, goal: Goal) -> dict[str, Any]:
    """An entry of `images`."""
    height, width = record.size
    return {"id": number, "file_name": goal.name(record), "height": height, "width": width}


def numbered(records: Iterable[Record]) -> Iterator[tuple[int, Record]]:
    """Records with whole numbers, their own where they have one."""
    used: set[int] = set()
    for record in records:
        number = record.id if isinstance(record.id, int) else len(used) + 1
        while number in used:
            number += 1
        used.add(number)
        yield number, record
