"""Evaluate a checkpoint, and all test sets of a task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from segcore.build import data, evaluators
from segcore.build.refine import build_refined_inference
from segcore.build.report import build_sections, reported
from segcore.build.task import load_for_inference
from segcore.cli.launched import alone_in_output, launched
from segcore.config import Config
from segcore.contracts import Task
from segcore.data.catalog import Catalog
from segcore.engine.checkpoint import Checkpoints
from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.engine.evaluate import evaluate
from segcore.engine.launch import Fabric
from segcore.engine.ranks import from_first_rank
from segcore.errors import ConfigError
from segcore.evaluation.predictions import Predictions
from segcore.evaluation.table import format_table
from segcore.evaluation.writers import write_json
from segcore.export.read import is_exported
from segcore.file_names import short_name
from segcore.report.page import report_page
from segcore.report.section import Section
from segcore.structures import Batch, Result
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)


def main(
    *,
    config_file: str | None,
    opts: Sequence[str],
    resume: bool,
    report: bool = False,
    **machines: Any,
) -> int:
    """Evaluate MODEL.WEIGHTS, or with `resume` the last checkpoint of OUTPUT_DIR.

    Args:
        report: as TEST.REPORT always.
    """
    opts = [*opts, "TEST.REPORT", "always"] if report else opts
    cfg, fabric, _ = launched(config_file, opts, machines)
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty; name a data set to evaluate on")
    with alone_in_output(cfg, fabric):
        evaluate_checkpoint(cfg, fabric, resume=resume)
    return 0


def evaluate_checkpoint(cfg: Config, fabric: Fabric, *, resume: bool) -> None:
    """`main`, once the ranks are launched."""
    checkpoint = from_first_rank(lambda: _checkpoint(cfg, resume), fabric)
    catalog = data.catalog(cfg)
    task = load_for_inference(cfg, checkpoint, device=fabric.device)
    reports = reported(cfg, catalog, last=False)
    augmented = evaluators.build_augmented(cfg, task, fabric) if cfg.TEST.AUG.ENABLED else None
    refined = build_refined_inference(cfg, task, fabric.device)
    again = partial(evaluate_all, cfg, task, catalog, fabric, write=True, reports=reports)
    again()
    if augmented:
        logger.info("once more with test-time augmentation: %s", cfg.TEST.AUG)
        again(infer=augmented, folder="inference_TTA")
    if refined:
        logger.info("once more with refined masks: %s", cfg.TEST.REFINE)
        again(infer=refined, folder="inference_refined")


def _checkpoint(cfg: Config, resume: bool) -> dict[str, Any] | str:
    if resume and (content := Checkpoints(Path(cfg.OUTPUT_DIR)).last()):
        return content
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("--eval-only needs weights; add MODEL.WEIGHTS path/to/checkpoint")
    return (
        cfg.MODEL.WEIGHTS if is_exported(cfg.MODEL.WEIGHTS) else read_checkpoint(cfg.MODEL.WEIGHTS)
    )


def evaluate_all(
    cfg: Config,
    task: Task,
    catalog: Catalog,
    fabric: Fabric,
    *,
    write: bool = False,
    infer: Callable[[Batch], list[Result]] | None = None,
    folder: str = "inference",
    stop: Callable[[], bool] = lambda: False,
    reports: Sequence[str] = (),
) -> dict[str, float]:
    """Evaluate on every test set; metrics go to OUTPUT_DIR/<folder>/<name>/metrics.json.

    Args:
        write: all predictions go there too, and a file that cannot be written is an error.
        infer: results of a batch, where they are not the task's own.
        stop: asked between batches; the data sets done before count.
        reports: test sets that get a page of where the model fails, report.html beside the metrics.
    """
    results: dict[str, float] = {}
    infer = infer or evaluators.build_windowed(cfg, task, fabric)
    for name in cfg.DATASETS.TEST:
        metadata = data.test_metadata(task, catalog, name)
        loader = data.test_batches(cfg, task, catalog, name, fabric)
        place = Path(cfg.OUTPUT_DIR) / folder / folder_of(name, cfg.DATASETS.TEST)
        shown = metadata.as_entities() if "entity" in task.makes else metadata
        predictions = Predictions(place, shown, fabric.global_rank) if write else None
        limit = cfg.TEST.AP_DETECTIONS
        asked = evaluators.build_evaluators(task, catalog, metadata, max_dets=limit)
        measured = evaluators.measured(task.makes, metadata)
        sections = build_sections(measured, catalog, metadata) if name in reports else []
        if not asked and not write:  # nobody would see what is predicted
            continue
        seen = [*asked, *(section.collector for section in sections)]
        metrics = evaluate(
            task, loader, seen, fabric, save_result=predictions, infer=infer, stop=stop
        )
        if metrics is None:
            logger.warning("%s: evaluation left, as a signal asked for", name)
            break
        fabric.barrier()
        if predictions and fabric.is_global_zero:
            predictions.join(fabric.world_size)
        if fabric.is_global_zero:
            report(name, metrics, place / "metrics.json", needed=write)
            if sections:
                write_report(place / "report.html", name, metrics, sections, needed=write)
        several = len(cfg.DATASETS.TEST) > 1
        results |= {f"{name}/{k}" if several else k: v for k, v in metrics.items()}
    return results


def folder_of(name: str, names: Sequence[str]) -> str:
    """What the folder of a test set is called: like it, unlike those of all others."""
    called = {other: short_name(other.replace("/", "_").strip("._")) for other in names}
    alike = sum(called[other] == called[name] for other in dict.fromkeys(names)) > 1
    return f"{called[name]}-{crc32(name.encode()):08x}" if alike else called[name]


def report(name: str, metrics: dict[str, float], file: Path, *, needed: bool) -> None:
    """Metrics to the log and to a file; hours of training are worth more than the file."""
    logger.info("%s\n%s", name, format_table(metrics))
    write_or_log(file, lambda: write_json(file, metrics), needed=needed)


def write_report(
    file: Path,
    name: str,
    metrics: Mapping[str, float],
    sections: Sequence[Section],
    *,
    needed: bool = True,
) -> None:
    """The page of where a model fails on a data set."""

    def write() -> None:
        text = report_page(name, metrics, sections)
        with whole_file(file, "w") as stream:
            stream.write(text)

    write_or_log(file, write, needed=needed)


def write_or_log(file: Path, write: Callable[[], None], *, needed: bool) -> None:
    """A full disk is an error where the file is needed, else logged."""
    try:
        write()
    except OSError as error:
        problem = f"{file}: could not be written ({error}); free some disk space"
        if needed:
            raise OSError(problem) from error
        logger.error("%s; training goes on", problem)
        return
    logger.info("%s", file)
