"""Where the images of some predictions lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segcore.errors import DataError
from segcore.predictions.image_predictions import ImageId, ImagePredictions, Predictions

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
CITYSCAPES = "_leftImg8bit"  # what its images are called after their names


def stated_pictures(predictions: Predictions) -> Callable[[ImagePredictions], Path]:
    """As the predictions say it themselves."""

    def picture_of(found: ImagePredictions) -> Path:
        if found.picture is None:
            raise DataError(
                f"{found.where}: does not say where image {found.image} lies; give --images: a"
                " folder, or the data set that was predicted"
            )
        return found.picture

    return picture_of


def pictures_below(predictions: Predictions, folder: Path) -> Callable[[ImagePredictions], Path]:
    """In a folder, by name: an image's id is the name without its suffix, or the number in it.

    DataError where no image of the predictions is there.
    """
    places: dict[ImageId, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            for name in _names(file.stem):
                places.setdefault(name, []).append(file)
    unknown = [image for image in predictions.images if image not in places]
    if len(unknown) == len(predictions.images) > 0:
        raise DataError(
            f"{folder}: has none of the {len(unknown)} images of {predictions.path}, first:"
            f" {unknown[0]!r}; are the predictions of another image set? Where images are not"
            " called by their ids, give the data set instead: its name or its annotation file"
        )

    def picture_of(found: ImagePredictions) -> Path:
        files = places.get(found.image, [])
        if len(files) != 1:
            raise DataError(
                f"{folder}: has {len(files)} images {found.image!r}"
                f" ({', '.join(map(str, files[:2])) or 'none'}); expected one"
            )
        return files[0]

    return picture_of


def _names(stem: str) -> set[ImageId]:
    """What predictions may call an image of that name."""
    found: set[ImageId] = {stem, stem.removesuffix(CITYSCAPES)}
    return found | {int(stem)} if stem.isdecimal() else found
