"""Train a model, evaluate it now and then, and leave what a resume needs."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segcore.build import data, evaluators, solver
from segcore.build.best import build_best
from segcore.build.report import reported
from segcore.build.task import build_for_training
from segcore.cli.evaluate import evaluate_all
from segcore.cli.launched import alone_in_output, launched
from segcore.cli.overfit import log_verdict, overfit_words
from segcore.config import Config, save_config, to_dict
from segcore.contracts import Task
from segcore.data.catalog import Catalog
from segcore.engine.best import WEIGHTS
from segcore.engine.checkpoint import Checkpoints
from segcore.engine.curves import draw_curves
from segcore.engine.launch import Fabric
from segcore.engine.log import RunLog
from segcore.engine.parameter_rules import frozen_norms
from segcore.engine.run import Run
from segcore.engine.trainer import Trainer
from segcore.engine.weights import load_into_task
from segcore.errors import ConfigError, DataError
from segcore.structures import Batch, Metadata

logger = logging.getLogger(__name__)


def main(
    *,
    config_file: str | None,
    opts: Sequence[str],
    resume: bool,
    overfit: int = 0,
    again: str | None = None,
    **machines: Any,
) -> int:
    """Train on DATASETS.TRAIN, then evaluate; 128 + a signal's number where one ended it.

    Args:
        overfit: on so many images alone, and evaluate on them; 0: on all.
        again: what goes on with a run that was stopped; None: this command line, with --resume.
    """
    if overfit:
        ranks = max(machines["num_gpus"], 1) * machines["num_machines"]
        opts = overfit_words(config_file, opts, overfit, ranks)
    cfg, fabric, seed = launched(config_file, opts, machines)
    again = again or resuming(sys.argv)
    with alone_in_output(cfg, fabric):
        return train(cfg, fabric, seed, resume=resume, overfit=overfit, again=again)


def train(
    cfg: Config, fabric: Fabric, seed: int, *, resume: bool, again: str, overfit: int = 0
) -> int:
    """`main`, once the ranks are launched."""
    catalog = data.catalog(cfg, overfit)
    trained = data.train_metadata(cfg, catalog)
    task = build_for_training(cfg, trained)
    evaluators.check_test_sets(cfg, task, catalog)
    run = build_run(cfg, task, trained, fabric)
    stored = run.resume() if resume else None
    if stored is None and cfg.MODEL.WEIGHTS:
        load_into_task(task, cfg.MODEL.WEIGHTS)
    cfg = replace(cfg, SEED=seed_of_run(cfg, stored, seed))
    batches = data.train_batches(cfg, task, catalog, fabric, run.trainer.iteration)
    if stored is None:
        run.begin()  # not before: an earlier run's checkpoints stay until all is found to be right
    record_config(cfg, run)
    done = fit(cfg, run, batches, catalog)
    draw(run)
    if run.trainer.log:
        run.trainer.log.close()
        log_next_command(Path(cfg.OUTPUT_DIR), run, done, again)
        if overfit and done:
            count = len(catalog.records(cfg.DATASETS.TEST[0]))
            log_verdict(run.best, cfg.DATASETS.TEST[0], count, cfg.SOLVER.MAX_ITER)
    return 0 if done or not run.trainer.log else 128 + (run.trainer.signals.caught or 15)


def build_run(cfg: Config, task: Task, trained: Metadata, fabric: Fabric) -> Run:
    """The task with its trainer and the folder of its checkpoints."""
    folder = Path(cfg.OUTPUT_DIR)
    first = fabric.is_global_zero
    run_log = RunLog(folder, cfg.SOLVER.MAX_ITER, cfg.LOGGERS) if first else None
    optimizer, schedule = solver.build_optimizer(cfg, task)
    trainer = Trainer(
        task,
        optimizer,
        schedule,
        fabric,
        clipping=solver.clipping(cfg),
        accumulate=cfg.SOLVER.ACCUMULATE,
        ema=solver.build_ema(cfg, task, optimizer),
        still=frozen_norms(task.model) if cfg.MODEL.FREEZE else (),
        log=run_log,
        folder=folder,
    )
    about = {"metadata": trained.to_dict()}
    return Run(task, trainer, fabric, Checkpoints(folder), about, build_best(cfg))


def seed_of_run(cfg: Config, stored: dict[str, Any] | None, drawn: int) -> int:
    """SEED; below 0 that of the run that is resumed, or the drawn one.

    Another seed than the resumed run's would give another stream of images.
    """
    seed = max(stored["config"].get("SEED", 0), 0) if stored and cfg.SEED < 0 else drawn
    logger.info("SEED %d%s", seed, " (drawn; give it to repeat this run)" if cfg.SEED < 0 else "")
    return seed


def record_config(cfg: Config, run: Run) -> None:
    """The config as it is used, for checkpoints and for OUTPUT_DIR/config.yaml."""
    run.about["config"] = to_dict(cfg)
    if run.fabric.is_global_zero:
        save_config(cfg, Path(cfg.OUTPUT_DIR) / "config.yaml")


def fit(cfg: Config, run: Run, batches: Iterator[Batch], catalog: Catalog) -> bool:
    """All iterations, checkpoints and evaluations; False where a signal ended them before."""
    trainer, period = run.trainer, cfg.TEST.EVAL_PERIOD

    def evaluate(iteration: int) -> None:
        if cfg.DATASETS.TEST:
            run.save(iteration)  # whatever happens to the evaluation
        stop = trainer.signals
        last = iteration >= cfg.SOLVER.MAX_ITER or run.best.may_end()
        reports = reported(cfg, catalog, last=last)
        with run.evaluated_weights():
            metrics = evaluate_all(
                *(cfg, run.task, catalog, run.fabric),
                stop=lambda: bool(stop.caught),
                reports=reports,
            )
            if trainer.log and metrics:
                trainer.log.write({"iteration": iteration} | metrics, iteration)
            run.record({} if stop.caught else metrics)
        draw(run)

    every = [(cfg.SOLVER.CHECKPOINT_PERIOD, run.save), (period, evaluate)]
    try:
        if 0 < trainer.iteration < cfg.SOLVER.MAX_ITER and run.missed_evaluation(period):
            evaluate(trainer.iteration)
        done = trainer.fit(batches, cfg.SOLVER.MAX_ITER, every)
    except (ConfigError, DataError, OSError):
        if trainer.can_save:
            run.save(trainer.iteration)
            logger.error("ended by an error at iteration %d; see below", trainer.iteration)
        raise
    except RuntimeError:  # a GPU's memory is full, or another process is gone
        run.save_alone()
        raise
    if trainer.ended:
        logger.info("ended at iteration %d: %s", trainer.iteration, trainer.ended)
    run.save_as("model_final" if done else f"model_{max(trainer.iteration - 1, 0):07d}")
    if done and not trainer.ended:  # else it was evaluated just now
        evaluate(trainer.iteration)
    return done


def draw(run: Run) -> None:
    """curves.png of what was written so far, on the first rank."""
    if run.trainer.log:
        metrics = [evaluation["metric"] for evaluation in run.best.evaluations]
        draw_curves(run.checkpoints.folder, metrics[-1] if metrics else "")


def log_next_command(folder: Path, run: Run, done: bool, again: str) -> None:
    """The command to type now."""
    iteration, makes, best = run.trainer.iteration, run.task.makes, run.best.best
    final, config = f"{folder}/model_final.pth", f"{folder}/config.yaml"
    if done and best:
        final = f"{folder}/{WEIGHTS}.pth"
        logger.info(
            "the best is of iteration %d, %s %.2f: %s",
            best["iteration"], best["metric"], best["value"], final,
        )  # fmt: skip
    if done and "patch" in makes:
        logger.info(
            "done: %s; refine masks with it\n  segcore refine --weights %s --predictions"
            " results.json --images photos --output refined.json", final, shlex.quote(final),
        )  # fmt: skip
        return
    if done:
        look = shlex.join(["segcore", "predict", "--config-file", config, "--weights", final])
        given = "--video-input clip.mp4" if "tracks" in makes else "--input 'photos/*.jpg'"
        logger.info("done: %s; look at it with\n  %s %s --output out", final, look, given)
        return
    logger.info("stopped at iteration %d; go on with\n  %s", iteration, again)


def resuming(words: list[str]) -> str:
    """A command line, with --resume in it."""
    if Path(words[0]).name in ("train_net.py", "train_net_video.py"):
        program, rest = ["python", words[0]], words[1:]
    else:
        program, rest = ["segcore", *words[1:2]], words[2:]
    return shlex.join([*program, *([] if "--resume" in rest else ["--resume"]), *rest])
