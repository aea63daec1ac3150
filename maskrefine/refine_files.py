"""Refine all predictions of a file or folder, so that a stopped run can go on."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskrefine.bpr import PatchRefiner
from maskrefine.patch_weights import load_patch_refiner
from maskrefine.pictures import pictures_below, stated_pictures
from maskrefine.truth import pictures_in
from segcore.data.images import read_image
from segcore.errors import DataError
from segcore.evaluation.writers import write_json
from segcore.predictions.image_predictions import ImageId, ImagePredictions, Predictions
from segcore.predictions.read import read_predictions
from segcore.structures import Record, Rle

RUN = "refinement.txt"  # in the workplace: with what the results there were made


@dataclass(frozen=True, slots=True)
class Refined:
    """What became of the images of a file."""

    done: int  # now
    before: int  # by an earlier run
    missing: tuple[str, ...]  # why images were left out


def refine_files(
    weights: str | Path,
    predictions: Path,
    output: Path,
    *,
    images: Path | Sequence[Record] | None,
    device: torch.device,
    batch_size: int | None = None,
    precision: torch.dtype = torch.float32,
    least_area: int = 0,
    **options: Any,
) -> Refined:
    """Refine a file or folder of predictions with a trained patch network.

    Args:
        weights: whatever MODEL.WEIGHTS takes.
        output: file or folder, as the predictions are.
        images: the folder where they lie, or the data set; None: the predictions say it.
        batch_size: patches at a time; None: what suits the device.
        least_area: masks of fewer pixels stay as they are.
        options: of `refine_predictions`.
    """
    found = read_predictions(predictions)
    check_output(found, output)  # before the weights are read
    if images is None:
        picture_of = stated_pictures(found)
    elif isinstance(images, Path):
        picture_of = pictures_below(found, images)
    else:
        picture_of = pictures_in(found, images)
    refiner = load_patch_refiner(
        weights,
        device=device,
        batch_size=batch_size,
        precision=precision,
        least_area=least_area,
    )
    return refine_predictions(refiner.pack(), found, output, picture_of, **options)


def refine_predictions(
    refiner: PatchRefiner,
    predictions: Predictions,
    output: Path,
    picture_of: Callable[[ImagePredictions], Path],
    *,
    iou_threshold: float = 0.25,
    numerics: str = "batch",
    keep_missing: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Refined:
    """Refine every image's masks and write them to `output`, in the form that they came in.

    Results are written image by image; started again with the same settings, it goes on. An image
    that cannot be read does not stop the others; then nothing is joined and DataError says so.

    Args:
        output: file or folder, another than the input.
        picture_of: where the image of some predictions lies; DataError where it has none.
        keep_missing: masks of images that cannot be read stay as they are.
        progress: is told how many images are done, of how many.
    """
    check_output(predictions, output)
    settings = _settings(refiner, predictions, iou_threshold, numerics)
    _begin(predictions.workplace(output), settings)
    left = [image for image in predictions.images if not predictions.done(output, image)]
    before = len(predictions.images) - len(left)
    missing: dict[ImageId, DataError] = {}
    pairs = _ahead(predictions, left, picture_of)
    for i, refined in enumerate(_refined(refiner, pairs, missing, iou_threshold, numerics), 1):
        predictions.write(output, refined)
        progress(before + i, len(predictions.images))
    if missing and not keep_missing:
        raise DataError(
            f"{len(missing)} of {len(predictions.images)} images cannot be read, first:"
            f" {next(iter(missing.values()))}; the others are done: put these images there and"
            " start again, or leave their masks as they are (--keep-missing)"
        )
    for image in missing:
        predictions.write(output, predictions.read(image))
    predictions.join(output)
    return Refined(len(left) - len(missing), before, tuple(map(str, missing.values())))


def _refined(
    refiner: PatchRefiner,
    pairs: Iterator[tuple[ImagePredictions, np.ndarray | DataError]],
    missing: dict[ImageId, DataError],
    iou_threshold: float,
    numerics: str,
) -> Iterator[ImagePredictions]:
    """Predictions with refined masks; those of images that could not be read go to `missing`."""
    waiting: deque[ImagePredictions] = deque()

    def readable() -> Iterator[tuple[np.ndarray, Sequence[Rle]]]:
        for found, pixels in pairs:
            if isinstance(pixels, DataError):
                missing[found.image] = pixels
                continue
            found.check_size((pixels.shape[0], pixels.shape[1]))
            waiting.append(found)
            yield pixels, found.masks

    for masks in refiner.refine_images(readable(), iou_threshold, numerics):
        yield waiting.popleft().with_masks(masks)


def check_output(predictions: Predictions, output: Path) -> None:
    """DataError where the results would replace the predictions, or something else."""
    source, goal = predictions.path.resolve(), output.resolve()
    if source == goal or source in goal.parents or goal in source.parents:
        raise DataError(
            f"{output}: the results would lie among the predictions {predictions.path} that they"
            " are made from; name another output"
        )
    if predictions.path.is_file() and output.exists():
        raise DataError(
            f"{output}: exists already; remove it to refine again, or name another output"
        )


def _settings(
    refiner: PatchRefiner, predictions: Predictions, iou_threshold: float, numerics: str
) -> dict[str, Any]:
    """All that the results depend on."""
    return {
        "predictions": str(predictions.path.resolve()),
        "images": len(predictions.images),
        "weights": refiner.checksum(),
        "patch_size": refiner.patch_size,
        "precision": str(refiner.precision),
        "least_area": refiner.least_area,
        "iou_threshold": iou_threshold,
        "numerics": numerics,
    }


def _begin(workplace: Path, settings: dict[str, Any]) -> None:
    """Note the settings; DataError where a run with others has begun there."""
    file = workplace / RUN
    if not file.exists():
        write_json(file, settings)
        return
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: cannot be read ({error}); remove {workplace}") from None
    differing = [k for k, value in settings.items() if noted.get(k) != value]
    if differing:
        told = ", ".join(f"{k} {noted.get(k)!r}, now {settings[k]!r}" for k in differing)
        raise DataError(
            f"{workplace}: holds results of a run with other settings ({told}); remove it, or name"
            " another output"
        )


def _ahead(
    predictions: Predictions,
    images: Sequence[ImageId],
    picture_of: Callable[[ImagePredictions], Path],
) -> Iterator[tuple[ImagePredictions, np.ndarray | DataError]]:
    """Predictions and pixels of every image; the next one is read while one is worked on."""

    def load(image: ImageId) -> tuple[ImagePredictions, np.ndarray | DataError]:
        found = predictions.read(image)
        try:
            return found, read_image(picture_of(found))
        except DataError as error:
            return found, error

    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(load, image) for image in images[:1]]
        for image in [*images[1:], None]:
            if not following:
                return
            current = following.pop()
            if image is not None:
                following.append(pool.submit(load, image))
            yield current.result()
