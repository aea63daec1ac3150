"""Anybody's instance predictions, image by image, whatever files they came in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segcore import masks as mask_io
from segcore.errors import DataError
from segcore.structures import Rle, Size

ImageId = int | str


@dataclass(frozen=True, slots=True)
class ImagePredictions:
    """The instances that a file has of one image; N of each."""

    image: ImageId  # as the file calls it
    categories: tuple[int, ...]  # as the file numbers them
    scores: tuple[float, ...]
    masks: tuple[Rle, ...]
    entries: tuple[dict[str, Any], ...]  # what the file has of each, to be written back
    places: tuple[int, ...]  # of each in the order of the whole file
    where: str  # for errors: the file, and the part of it
    picture: Path | None = None  # where the format says it

    def check_size(self, size: Size) -> None:
        """DataError unless all masks have the image's height and width."""
        for i, rle in enumerate(self.masks):
            if tuple(rle["size"]) != size:
                raise DataError(
                    f"{self.where}: instance {i} has a mask of size {tuple(rle['size'])}, the image"
                    f" is {size} (height, width); expected the same: are they of this image?"
                )

    def with_masks(self, masks: list[Rle]) -> ImagePredictions:
        """Other masks for the same instances; the entries' segmentation, bbox and area follow."""
        boxes = mask_io.boxes(masks).tolist() if masks else []
        areas = mask_io.area(masks).tolist() if masks else []
        entries = []
        for entry, rle, (x0, y0, x1, y1), area in zip(
            self.entries, masks, boxes, areas, strict=True
        ):
            counts = bytes(rle["counts"]).decode()
            changed: dict[str, Any] = {"segmentation": {"size": rle["size"], "counts": counts}}
            # a published refiner leaves the box of the mask before; nobody wants that one
            changed |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": area}
            entries.append(entry | {k: v for k, v in changed.items() if k in entry})
        return replace(self, masks=tuple(masks), entries=tuple(entries))


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Predictions in files, and how refined ones are written in the same form.

    Args:
        path: the file or folder.
        images: what it calls its images, in its order.
        read: the instances of an image.
        done: whether the output has the results of an image.
        write: the refined results of one image into the output, whole or not at all.
        join: what is left to do when all images are written.
        workplace: what is written first, and holds what a stopped run has done.
    """

    path: Path
    images: tuple[ImageId, ...]
    read: Callable[[ImageId], ImagePredictions]
    done: Callable[[Path, ImageId], bool]
    write: Callable[[Path, ImagePredictions], None]
    join: Callable[[Path], None]
    workplace: Callable[[Path], Path]
