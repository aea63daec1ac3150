"""The folder that the demo writes: a JSON for each image, with its path and its instances."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

from segcore.data.parsing.run_lengths import RleCheck
from segcore.errors import DataError
from segcore.evaluation.writers import write_json
from segcore.predictions.coco_results import check_entry, predictions_of
from segcore.predictions.image_predictions import ImageId, ImagePredictions, Predictions
from segcore.user_path import user_path


def demo_files(folder: Path) -> list[Path]:
    """Its JSON files that have instances, in order."""
    return [file for file in sorted(folder.rglob("*.json")) if "instances" in _content(file)]


def read_demo_results(folder: Path) -> Predictions:
    """Images are called like their JSON below the folder, without the suffix.

    Refined JSONs have the image's path, its size and the instances; maps and pictures that lie
    beside the first ones are not refined, and not mentioned.
    """
    # dots in a name stay: frame.0001.json
    files = {f.relative_to(folder).as_posix().removesuffix(".json"): f for f in demo_files(folder)}
    counts = [len(_content(file)["instances"]) for file in files.values()]
    first = dict(zip(files, accumulate(counts, initial=0), strict=False))

    def read(image: ImageId) -> ImagePredictions:
        file = files[str(image)]
        content, check = _content(file), RleCheck(file)
        entries = content["instances"]
        rles = [check_entry(entry, f"instance {i}", file, check) for i, entry in enumerate(entries)]
        check.flush()
        start = first[str(image)]
        places = tuple(range(start, start + len(entries)))
        return predictions_of(image, entries, rles, places, str(file), _picture(content, file))

    def write(output: Path, refined: ImagePredictions) -> None:
        content = _content(files[str(refined.image)])
        kept = {key: content[key] for key in ("file_name", "size") if key in content}
        write_json(_at(output, refined.image), kept | {"instances": list(refined.entries)})

    return Predictions(
        path=folder,
        images=tuple(files),
        read=read,
        done=lambda output, image: _at(output, image).exists(),
        write=write,
        join=lambda output: None,
        workplace=lambda output: output,
    )


def _at(output: Path, image: ImageId) -> Path:
    return output / f"{image}.json"


def _content(file: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is not one of the demo's."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{file}: cannot be read as JSON: {error}") from None
    demos = isinstance(content, dict) and isinstance(content.get("instances"), list)
    return content if demos else {}


def _picture(content: dict[str, Any], file: Path) -> Path | None:
    """The demo writes its image's path as it was given, maybe relative to where it ran."""
    name = content.get("file_name")
    if not isinstance(name, str):
        return None
    picture = user_path(name)
    beside = file.parent / picture.name
    return picture if picture.exists() or not beside.exists() else beside
