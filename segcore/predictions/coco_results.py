"""COCO's results: one JSON list with an entry for each instance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from segcore import masks as mask_io
from segcore.data.parsing.run_lengths import RleCheck, check_total
from segcore.data.parsing.values import get, identity, listing, real, typed, whole
from segcore.errors import DataError
from segcore.evaluation.writers import write_json
from segcore.file_names import short_name
from segcore.predictions.image_predictions import ImageId, ImagePredictions, Predictions
from segcore.structures import Rle, Size

FORM = "{image_id, category_id, score, segmentation}"


def read_coco_results(path: Path) -> Predictions:
    """A list of {image_id, category_id, score, segmentation: RLE}; all of it is checked here.

    Refined entries keep everything but `segmentation`, `bbox` and `area`, and their order.
    """
    entries = read_entries(path)
    check = RleCheck(path)
    rles = [check_entry(entry, f"entry {i}", path, check) for i, entry in enumerate(entries)]
    check.flush()
    of_image: dict[ImageId, list[int]] = {}
    for i, entry in enumerate(entries):
        of_image.setdefault(entry["image_id"], []).append(i)
    images = tuple(of_image)
    numbers = {image: i for i, image in enumerate(images)}

    def part(output: Path, image: ImageId) -> Path:
        return _parts(output) / f"{numbers[image]}.json"

    def read(image: ImageId) -> ImagePredictions:
        places = tuple(of_image[image])
        return predictions_of(
            image, [entries[i] for i in places], [rles[i] for i in places], places,
            f"{path}: image {image}",
        )  # fmt: skip

    def write(output: Path, refined: ImagePredictions) -> None:
        write_json(part(output, refined.image), list(refined.entries))

    def join(output: Path) -> None:
        refined = list(entries)  # what nobody refined stays as it was
        for image, places in of_image.items():
            if not (file := part(output, image)).exists():
                continue
            for i, entry in zip(places, json.loads(file.read_text(encoding="utf-8")), strict=True):
                refined[i] = entry
        write_json(output, refined)
        shutil.rmtree(_parts(output))

    return Predictions(
        path=path,
        images=images,
        read=read,
        done=lambda output, image: part(output, image).exists(),
        write=write,
        join=join,
        workplace=_parts,
    )


def _parts(output: Path) -> Path:
    return output.with_name(short_name(output.name) + ".parts")


def read_entries(path: Path, form: str = FORM) -> list[Any]:
    """The list in a JSON file, or an error that says what the file is instead.

    Args:
        form: of an entry, for errors.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: predictions not found") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON at character {error.pos} ({error.msg}); is it complete?"
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    if isinstance(content, list):
        return content
    keys = content if isinstance(content, dict) else {}
    if isinstance(keys.get("annotations"), list):
        what = "is an annotation file (an object with 'annotations')"
    elif isinstance(keys.get("tracks"), list):
        what = "has the tracks of one video as segcore predict writes them, for no data set"
    else:
        what = f"has {type(content).__name__} at the top"
    raise DataError(f"{path}: {what}; expected predictions: a list of {form}")


def check_entry(entry: Any, what: str, path: Path, check: RleCheck) -> Rle:
    """The mask of an entry; DataError where something is missing or of the wrong type."""
    if isinstance(entry, dict) and "image_id" not in entry and "video_id" in entry:
        raise DataError(
            f"{path}: {what} is of a video (video_id); expected instances of images: a list of"
            f" {FORM}"
        )
    typed(entry, "image_id", identity, what, path)
    typed(entry, "category_id", whole, what, path)
    typed(entry, "score", real, what, path)
    return check_mask(get(entry, "segmentation", what, path), what, path, check)


def check_mask(value: Any, what: str, path: Path, check: RleCheck) -> Rle:
    """The mask that a segmentation is; DataError where it is none.

    Args:
        what: has it, for errors.
    """
    if not isinstance(value, dict) or not {"counts", "size"} <= value.keys():
        raise DataError(
            f"{path}: {what} has a segmentation that is no RLE; expected {{size: [height, width],"
            " counts}}; are these boxes, or polygons?"
        )
    stated, counts = typed(value, "size", listing, f"the mask of {what}", path), value["counts"]
    if len(stated) != 2 or not all(type(edge) is int and edge > 0 for edge in stated):
        raise DataError(f"{path}: {what} has a mask of size {stated}; expected [height, width]")
    size: Size = (stated[0], stated[1])
    if isinstance(counts, str):
        text = counts.encode()
        check.add(text, what, size)
        return {"size": stated, "counts": text}
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise DataError(
            f"{path}: {what} has RLE counts {counts!r:.60}; expected a text, or a list of whole"
            " numbers"
        )
    check_total(sum(counts), size, what, path)
    return mask_io.compress(counts, size)


def predictions_of(
    image: ImageId,
    entries: list[dict[str, Any]],
    rles: list[Rle],
    places: tuple[int, ...],
    where: str,
    picture: Path | None = None,
) -> ImagePredictions:
    """Checked entries as predictions."""
    return ImagePredictions(
        image,
        tuple(int(entry["category_id"]) for entry in entries),
        tuple(float(entry["score"]) for entry in entries),
        tuple(rles),
        tuple(entries),
        places,
        where,
        picture,
    )
