"""Measure predictions of instances that lie in files, whoever made them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from segcore import masks
from segcore.build.data import data_root
from segcore.build.evaluators import NEEDS, evaluators_of
from segcore.data.catalog import Catalog
from segcore.data.formats.coco_file import class_of, unknown_category
from segcore.data.store import Records
from segcore.errors import ConfigError, DataError
from segcore.evaluation.table import format_table
from segcore.evaluation.writers import write_json
from segcore.predictions.image_predictions import ImagePredictions, Predictions
from segcore.predictions.read import read_predictions
from segcore.structures import Instances, Metadata, Record, Result

logger = logging.getLogger(__name__)


def main(
    *,
    predictions: Path,
    name: str,
    evaluators: Sequence[str],
    catalogs: Sequence[Path],
    output: Path | None,
) -> int:
    """Measure a file or folder against a data set.

    Args:
        name: of the data set.
        evaluators: of its own metrics, or others; none: its own, as far as they are of instances.
        output: a JSON file for the numbers.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    catalog = Catalog(data_root(), list(catalogs))
    metadata = catalog.metadata(name)
    wanted = evaluators or [k for k in metadata.evaluators if NEEDS.get(k, k) == "instance"]
    if not wanted:
        raise ConfigError(
            f"{name} is evaluated by {', '.join(metadata.evaluators) or 'nothing'}; predictions in"
            " files are instances: name evaluators of those (--evaluators instance boundary)"
        )
    metadata = replace(metadata, evaluators=tuple(dict.fromkeys(wanted)))
    made = evaluators_of(("instance",), catalog, metadata)
    found = read_predictions(predictions)
    records = catalog.read(name)
    listed = _listed(found, records, name)
    for record in track(records, "measuring", console=Console(stderr=True)):
        predicted = found.read(record.id) if record.id in listed else None
        result = Result(instances=instances_of(predicted, record, metadata))
        for evaluator in made:
            evaluator.update(result, record)
    metrics: dict[str, float] = {}
    for evaluator in made:
        metrics |= evaluator.compute()
    print(format_table(metrics, name))
    if output:
        write_json(output, metrics)
    return 0


def _listed(found: Predictions, records: Records, name: str) -> set[int | str]:
    """Images that have predictions; others of the file are left out, and that is said."""
    listed, known = set(found.images), {record.id for record in records}
    if not listed & known:
        raise DataError(
            f"{found.path}: none of its {len(listed)} images is in {name} (it has"
            f" {next(iter(listed), 'nothing')!r}, {name} {next(iter(known), 'nothing')!r});"
            " expected the image ids of the data set"
        )
    if others := len(listed - known):
        logger.warning(
            "%s: %d of %d images are not in %s; their predictions do not count",
            found.path,
            others,
            len(listed),
            name,
        )
    return listed


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
