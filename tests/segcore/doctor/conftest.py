"""A drawn data set whose faults are chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from drawn_images import SIZE, scene, square
from PIL import Image


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., str]:
    """Write a COCO file and its images; returns the data set's path.

    `objects` has one list of annotations an image; what an annotation leaves out is that of a
    square of 400 pixels.
    """

    def write(
        objects: Sequence[Sequence[dict[str, Any]]],
        *,
        name: str = "train",
        classes: Sequence[str] = ("square", "disc"),
        seeds: Sequence[int] | None = None,
        more: Sequence[dict[str, Any]] = (),
    ) -> str:
        folder = tmp_path / name
        folder.mkdir()
        images, annotations = [], []
        for i, (entries, seed) in enumerate(
            zip(objects, seeds or range(len(objects)), strict=True), 1
        ):
            Image.fromarray(scene(seed)).save(folder / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]})
            for entry in entries:
                whole = {"id": len(annotations) + 1, "image_id": i, "category_id": 1}
                whole |= {"iscrowd": 0, "area": 400, "bbox": [5, 5, 20, 20]}
                annotations.append(whole | {"segmentation": [square(5, 5, 20)]} | entry)
        categories = [{"id": k, "name": name} for k, name in enumerate(classes, 1)]
        content = {"info": {"year": 2026}, "images": images, "categories": categories}
        content["annotations"] = [*annotations, *more]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return f"{tmp_path}/{name}.json@{folder}"

    return write
