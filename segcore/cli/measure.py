"""Measure predictions that lie in files, whoever made them: instances of images, or tracks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from segcore import masks
from segcore.build.data import data_root
from segcore.build.evaluators import EVALUATORS, NEEDS, evaluators_of, measured
from segcore.build.report import build_sections
from segcore.cli.evaluate import write_report
from segcore.data.catalog import Catalog
from segcore.data.formats.coco_file import class_of, unknown_category
from segcore.data.store import Records
from segcore.errors import ConfigError, DataError
from segcore.evaluation.table import format_table
from segcore.evaluation.writers import write_json
from segcore.predictions.image_predictions import ImagePredictions, Predictions
from segcore.predictions.read import read_predictions
from segcore.predictions.track_results import TrackPredictions, read_track_results
from segcore.structures import Instances, Metadata, Record, Result

logger = logging.getLogger(__name__)

KINDS = {  # what predictions in files are, and evaluators of those
    "instance": ("instances", "instance boundary"),
    "tracks": ("tracks", "tracks hota"),
}


def main(
    *,
    predictions: Path,
    name: str,
    evaluators: Sequence[str],
    catalogs: Sequence[Path],
    output: Path | None,
    report: Path | None = None,
    detections: int = 0,
) -> int:
    """Measure a file or folder against a data set.

    Args:
        name: of the data set.
        evaluators: of its own metrics, or others; none: its own, as far as they are of instances;
            of a data set of videos, of tracks.
        output: a JSON file for the numbers.
        report: an HTML page of where the predictions fail.
        detections: as TEST.AP_DETECTIONS.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    catalog = Catalog(data_root(), list(catalogs))
    if not catalog.annotated(name):
        raise DataError(f"{name} has no annotations: there is nothing to measure predictions by")
    videos = "tracks" in catalog.entry(name).format.evaluators
    makes = "tracks" if videos else "instance"
    metadata = _wanted(catalog.metadata(name), evaluators, makes)
    made = evaluators_of((makes,), catalog, metadata, max_dets=detections)
    if videos:
        tracks = read_track_results(predictions)
        listed = set(tracks.videos)
        result_of = partial(_video_result, tracks, metadata)
    else:
        images = read_predictions(predictions)
        listed = set(images.images)
        result_of = partial(_image_result, images, listed, metadata)
    kinds = measured((makes,), metadata) if report else set[str]()
    sections = build_sections(kinds, catalog, metadata) if report else []
    made += [section.collector for section in sections]
    records = catalog.read(name)
    _check_listed(listed, records, predictions, name, "videos" if videos else "images")
    for record in track(records, "measuring", console=Console(stderr=True)):
        result = result_of(record)
        for evaluator in made:
            evaluator.update(result, record)
    metrics: dict[str, float] = {}
    for evaluator in made:
        metrics |= evaluator.compute()
    print(format_table(metrics, name))
    if output:
        write_json(output, metrics)
    if report and sections:
        write_report(report, name, metrics, sections)
    return 0


def _wanted(metadata: Metadata, evaluators: Sequence[str], makes: str) -> Metadata:
    """With the evaluators that were asked for, or its own as far as they are of what is there."""
    wanted = evaluators or [k for k in metadata.evaluators if NEEDS.get(k, k) == makes]
    if not wanted or any(NEEDS.get(k, k) != makes for k in wanted if k in EVALUATORS):
        kind, example = KINDS[makes]
        asked = ", ".join(evaluators or metadata.evaluators) or "nothing"
        raise ConfigError(
            f"{metadata.name} is evaluated by {asked};"
            f" predictions in files are {kind}: name evaluators of those (--evaluators {example})"
        )
    return replace(metadata, evaluators=tuple(dict.fromkeys(wanted)))


def _check_listed(
    listed: set[int | str], records: Records, path: Path, name: str, kind: str
) -> None:
    """That the file is of this data set; what it has of others is left out, and that is said."""
    known = {record.id for record in records}
    if not listed & known:
        raise DataError(
            f"{path}: none of its {len(listed)} {kind} is in {name} (it has"
            f" {next(iter(listed), 'nothing')!r}, {name} {next(iter(known), 'nothing')!r});"
            f" expected the ids of {kind} of the data set"
        )
    if others := len(listed - known):
        logger.warning(
            "%s: %d of %d %s are not in %s; their predictions do not count",
            path,
            others,
            len(listed),
            kind,
            name,
        )


def _video_result(tracks: TrackPredictions, metadata: Metadata, record: Record) -> Result:
    return Result(tracks=tracks.of(record, metadata))


def _image_result(
    images: Predictions, listed: set[int | str], metadata: Metadata, record: Record
) -> Result:
    predicted = images.read(record.id) if record.id in listed else None
    return Result(instances=instances_of(predicted, record, metadata))


def instances_of(
    predicted: ImagePredictions | None, record: Record, metadata: Metadata
) -> Instances:
    """Predictions of an image, best first; None: there are none."""
    if predicted is None:
        return Instances(torch.zeros(0), torch.zeros(0, dtype=torch.int64), [], torch.zeros(0, 4))
    predicted.check_size(record.size)
    known = class_of(metadata)
    if unknown := [i for i in predicted.categories if i not in known]:
        raise DataError(unknown_category(unknown[0], f"{predicted.where}: an instance", metadata))
    scores = torch.tensor(predicted.scores, dtype=torch.float64)
    order = scores.argsort(descending=True, stable=True)
    labels = torch.tensor([known[i] for i in predicted.categories], dtype=torch.int64)
    rles = [predicted.masks[n] for n in order.tolist()]
    return Instances(scores[order], labels[order], rles, _boxes(predicted)[order])


def _boxes(predicted: ImagePredictions) -> torch.Tensor:
    """(N, 4) as the file has them, or tight around masks: the old Mask2Former wrote zeros."""
    given = [entry.get("bbox") for entry in predicted.entries]
    if given and all(isinstance(box, list) and len(box) == 4 for box in given):
        boxes = torch.tensor(given, dtype=torch.float64)  # x y w h
        if boxes[:, 2:].any():
            return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    if not predicted.masks:
        return torch.zeros(0, 4)
    return torch.from_numpy(masks.boxes(predicted.masks))
