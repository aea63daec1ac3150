"""Results as Cityscapes' scripts read them: a text file for each image, a PNG for each instance.

A line of `*_pred.txt` is `PNG LABEL_ID SCORE`; where the PNG is not zero, the instance is.
"""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from segcore import masks as mask_io
from segcore.errors import DataError
from segcore.evaluation.writers import write_png
from segcore.file_names import short_name
from segcore.labels import read_png
from segcore.predictions.image_predictions import ImageId, ImagePredictions, Predictions
from segcore.whole_file import whole_file

ENDINGS = re.compile(r"(_leftImg8bit)?_(pred|index)\.txt$")  # the second is SegFix's


def cityscapes_files(folder: Path) -> list[Path]:
    """Its text files, in order."""
    return [file for file in sorted(folder.rglob("*.txt")) if ENDINGS.search(file.name)]


def read_cityscapes_results(folder: Path) -> Predictions:
    """Images are called CITY_SEQUENCE_FRAME, as in `segcore.data.formats.cityscapes`."""
    files: dict[str, Path] = {}
    for file in cityscapes_files(folder):
        image = ENDINGS.sub("", file.name)
        if image in files:
            raise DataError(
                f"{file}: image {image} has results in {files[image]} already; expected one text"
                " file for each image"
            )
        files[image] = file
    counts = [len(_lines(file)) for file in files.values()]
    first = dict(zip(files, accumulate(counts, initial=0), strict=False))

    def read(image: ImageId) -> ImagePredictions:
        return _read(str(image), files[str(image)], first[str(image)])

    return Predictions(
        path=folder,
        images=tuple(files),
        read=read,
        done=lambda output, image: _at(output, image).exists(),
        write=write_cityscapes_image,
        join=lambda output: None,
        workplace=lambda output: output,
    )


def write_cityscapes_image(output: Path, predictions: ImagePredictions) -> None:
    """PNGs first, the text file last: where it is, the image is done. No instance, no line."""
    lines = []
    for i, (rle, label, score) in enumerate(
        zip(predictions.masks, predictions.categories, predictions.scores, strict=True)
    ):
        name = short_name(f"{predictions.image}_{i}_{label}") + ".png"
        write_png(output / name, mask_io.decode(rle).astype(np.uint8) * 255)
        lines.append(f"{name} {label} {score!r}\n")
    with whole_file(_at(output, predictions.image), "w") as file:
        file.writelines(lines)


def _at(output: Path, image: ImageId) -> Path:
    return output / f"{short_name(str(image))}_leftImg8bit_pred.txt"


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{file}: cannot be read as text: {error}") from None


def _read(image: str, file: Path, first: int) -> ImagePredictions:
    labels: list[int] = []
    scores: list[float] = []
    rles: list[Any] = []
    for number, line in enumerate(_lines(file), 1):
        try:
            name, label, score = line.rsplit(maxsplit=2)
            labels.append(int(label))
            scores.append(float(score))
        except ValueError:
            raise DataError(
                f"{file}, line {number}: is {line!r:.80}; expected PNG LABEL_ID SCORE"
            ) from None
        pixels = read_png(file.parent / name)  # (H, W), or (H, W, C) if somebody drew in colour
        inside = pixels != 0 if pixels.ndim == 2 else (pixels[..., :3] != 0).any(2)
        rles += mask_io.encode(inside[None])
    return ImagePredictions(
        image,
        tuple(labels),
        tuple(scores),
        tuple(rles),
        tuple({} for _ in rles),
        tuple(range(first, first + len(rles))),
        str(file),
    )
