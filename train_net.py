"""Train or evaluate; detectron2's flags.

python train_net.py --config-file configs/....yaml [--num-gpus N] [--resume] [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import logging
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from segcore.build import data, evaluators, solver
from segcore.build.task import build_task
from segcore.config import Config, load_config, save_config, to_dict
from segcore.contracts import Task
from segcore.engine import log
from segcore.engine.checkpoint import Checkpoints
from segcore.engine.evaluate import evaluate
from segcore.engine.launch import Fabric, launch
from segcore.engine.run import Run
from segcore.engine.trainer import NonFiniteError, Trainer
from segcore.engine.weights import load_weights, read_checkpoint
from segcore.errors import ConfigError, DataError, WeightsError
from segcore.evaluation.predictions import Predictions
from segcore.evaluation.table import format_table
from segcore.evaluation.writers import write_json
from segcore.structures import Batch, Metadata, Result

logger = logging.getLogger("train_net")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", metavar="FILE")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="", help="tcp://host:port of machine 0")
    parser.add_argument("opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser.parse_args()


def test(
    cfg: Config,
    task: Task,
    trained: Metadata,
    fabric: Fabric,
    write: bool = False,
    infer: Callable[[Batch], list[Result]] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Evaluate on every test set; metrics go to OUTPUT_DIR/inference/<name>/metrics.json.

    Args:
        trained: the classes of the model.
        write: all predictions go there too, and a file that cannot be written is an error.
        infer: with test-time augmentation; then the folder is inference_TTA.
        stop: asked between batches; the data sets done before count.
    """
    results: dict[str, float] = {}
    for name in cfg.DATASETS.TEST:
        metadata = data.test_metadata(cfg, name, trained)
        loader = data.test_batches(cfg, task, name, fabric)
        top = Path(cfg.OUTPUT_DIR) / ("inference_TTA" if infer else "inference")
        folder = top / name.replace("/", "_").strip("._")
        shown = metadata.as_entities() if cfg.ENTITY.ENABLE else metadata
        keep = Predictions(folder, shown, fabric.global_rank) if write else None
        judges = evaluators.build_evaluators(cfg, metadata)
        found = evaluate(task, loader, judges, fabric, keep, infer, stop)
        if found is None:
            logger.warning("%s: evaluation left, as a signal asked for", name)
            break
        fabric.barrier()
        if keep and fabric.is_global_zero:
            keep.join(fabric.world_size)
        if fabric.is_global_zero:
            tell(name, found, folder / "metrics.json", needed=write)
        many = len(cfg.DATASETS.TEST) > 1
        results |= {f"{name}/{k}" if many else k: v for k, v in found.items()}
    return results


def tell(name: str, found: dict[str, float], file: Path, needed: bool) -> None:
    """Metrics to the log and to a file; hours of training are worth more than the file."""
    logger.info("%s\n%s", name, format_table(found))
    try:
        write_json(file, found)
    except OSError as error:
        problem = f"{file}: could not be written ({error}); free some disk space"
        if needed:
            raise OSError(problem) from error
        logger.error("%s; training goes on", problem)
        return
    logger.info("%s", file)


def train(cfg: Config, args: argparse.Namespace, fabric: Fabric, seed: int) -> int:
    """Train on DATASETS.TRAIN, then judge; `seed` counts where SEED is below 0."""
    metadata, folder = data.train_metadata(cfg), Path(cfg.OUTPUT_DIR)
    evaluators.check_test_sets(cfg, metadata)
    task = build_task(cfg, metadata)
    book = log.RunLog(folder, cfg.SOLVER.MAX_ITER) if fabric.is_global_zero else None
    optimizer, schedule = solver.build_optimizer(cfg, task)
    clip, accumulate = solver.clipping(cfg), cfg.SOLVER.ACCUMULATE
    trainer = Trainer(
        task, optimizer, schedule, fabric, **clip, accumulate=accumulate, log=book, folder=folder
    )
    run = Run(task, trainer, fabric, Checkpoints(folder), {"metadata": metadata.to_dict()})
    cfg, batches = start(cfg, run, args.resume, seed)

    def judge(iteration: int) -> None:
        if cfg.DATASETS.TEST:
            run.save(iteration)  # whatever happens to the evaluation
        found = test(cfg, task, metadata, fabric, stop=lambda: bool(trainer.signals.caught))
        if book and found:
            book.write({"iteration": iteration} | found, iteration)

    every = [(cfg.SOLVER.CHECKPOINT_PERIOD, run.save), (cfg.TEST.EVAL_PERIOD, judge)]
    try:
        done = trainer.fit(batches, cfg.SOLVER.MAX_ITER, every)
    except (ConfigError, DataError, OSError):
        if trainer.together:
            run.save(trainer.iteration)
            logger.error("ended by an error at iteration %d; see below", trainer.iteration)
        raise
    run.save_as("model_final" if done else f"model_{max(trainer.iteration - 1, 0):07d}")
    if done:
        judge(trainer.iteration)
    if book:
        book.close()
        say_next(folder, trainer.iteration, done)
    return 0 if done or not book else 128 + (trainer.signals.caught or 15)


def start(cfg: Config, run: Run, resume: bool, seed: int) -> tuple[Config, Iterator[Batch]]:
    """The last checkpoint, or MODEL.WEIGHTS; the config with its seed filled in, and batches.

    Checkpoints of an earlier run stay where they are until all was found to be right.
    """
    task, fabric, folder = run.task, run.fabric, Path(cfg.OUTPUT_DIR)
    stored = run.resume() if resume else None
    if stored is None and cfg.MODEL.WEIGHTS:
        names = run.about["metadata"]["classes"]
        load_weights(task.model, cfg.MODEL.WEIGHTS, task.renames, classes=names)
    if stored and cfg.SEED < 0:  # or the stream of images would be another one
        seed = max(stored["config"].get("SEED", 0), 0)
    logger.info("SEED %d%s", seed, " (drawn; give it to repeat this run)" if cfg.SEED < 0 else "")
    cfg = replace(cfg, SEED=seed)
    batches = data.train_batches(cfg, task, fabric, run.trainer.iteration)
    if stored is None:
        run.begin()
    run.about["config"] = to_dict(cfg)
    if fabric.is_global_zero:
        save_config(cfg, folder / "config.yaml")
    return cfg, batches


def say_next(folder: Path, iteration: int, done: bool) -> None:
    """The command to type now."""
    final, config = shlex.quote(f"{folder}/model_final.pth"), shlex.quote(f"{folder}/config.yaml")
    if done:
        look = f"python tools/demo.py --config-file {config} --weights {final}"
        logger.info(
            "done: %s; look at it with\n  %s --input 'photos/*.jpg' --output out", final, look
        )
        return
    flags = [] if "--resume" in sys.argv else ["--resume"]
    command = shlex.join(["python", sys.argv[0], *flags, *sys.argv[1:]])
    logger.info("stopped at iteration %d; go on with\n  %s", iteration, command)


def eval_only(cfg: Config, args: argparse.Namespace, fabric: Fabric) -> int:
    """Judge MODEL.WEIGHTS, or with --resume the last checkpoint of OUTPUT_DIR."""
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty; name a data set to evaluate on")
    content: dict[str, Any] | None = (
        Checkpoints(Path(cfg.OUTPUT_DIR)).last() if args.resume else None
    )
    if content is None and not cfg.MODEL.WEIGHTS:
        raise ConfigError("--eval-only needs weights; add MODEL.WEIGHTS path/to/checkpoint")
    content = content or read_checkpoint(cfg.MODEL.WEIGHTS)
    known = content.get("metadata")  # the classes as the checkpoint was trained with
    metadata = Metadata.from_dict(known) if known else data.train_metadata(cfg)
    task = build_task(cfg, metadata)
    load_weights(task.model, content["model"], task.renames, complete=True)
    task.model.to(fabric.device)
    infer = evaluators.build_augmented(cfg, task, fabric) if cfg.TEST.AUG.ENABLED else None
    test(cfg, task, metadata, fabric, write=True)
    if infer:
        logger.info("once more with test-time augmentation: %s", cfg.TEST.AUG)
        test(cfg, task, metadata, fabric, write=True, infer=infer)
    return 0


def main(args: argparse.Namespace) -> int:
    cfg = load_config(args.config_file, args.opts)
    fabric = launch(
        num_gpus=args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        device=cfg.MODEL.DEVICE,
        precision=solver.precision(cfg),
    )
    log.set_up(Path(cfg.OUTPUT_DIR), fabric.global_rank)
    seed = cfg.SEED if cfg.SEED >= 0 else fabric.broadcast(secrets.randbelow(2**31))
    # every rank draws its own random numbers; the weights are those of rank 0
    fabric.seed_everything(seed + fabric.global_rank, verbose=False)
    return eval_only(cfg, args, fabric) if args.eval_only else train(cfg, args, fabric, seed)


if __name__ == "__main__":
    try:
        sys.exit(main(parse_args()))
    except (ConfigError, DataError, WeightsError, NonFiniteError, OSError) as problem:
        sys.exit(f"error: {problem}")
