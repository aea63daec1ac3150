"""Train or evaluate; detectron2's flags.

python train_net.py --config-file configs/....yaml [--num-gpus N] [--resume] [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from segcore import build
from segcore.config import Config, load_config, save_config, to_dict
from segcore.contracts import Task
from segcore.engine import log
from segcore.engine.checkpoint import Checkpoints, restore_rng, rng_state
from segcore.engine.evaluate import evaluate
from segcore.engine.launch import Fabric, launch
from segcore.engine.trainer import NonFiniteError, Trainer
from segcore.engine.weights import load_weights
from segcore.errors import ConfigError, DataError, WeightsError
from segcore.evaluation.table import format_table
from segcore.evaluation.writers import write_json
from segcore.structures import Metadata

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


def test(cfg: Config, task: Task, fabric: Fabric) -> dict[str, float]:
    """Evaluate on every test set; metrics go to OUTPUT_DIR/inference/<name>/metrics.json."""
    results: dict[str, float] = {}
    for name in cfg.DATASETS.TEST:
        loader = build.test_batches(cfg, task, name, fabric)
        found = evaluate(task, loader, build.build_evaluators(cfg, name), fabric)
        if fabric.is_global_zero:
            folder = Path(cfg.OUTPUT_DIR) / "inference" / name.replace("/", "_").strip("._")
            write_json(folder / "metrics.json", found)
            logger.info("%s\n%s\n%s", name, format_table(found), folder / "metrics.json")
        many = len(cfg.DATASETS.TEST) > 1
        results |= {f"{name}/{k}" if many else k: v for k, v in found.items()}
    return results


class Run:
    """A training run and its folder."""

    def __init__(self, cfg: Config, task: Task, metadata: Metadata, fabric: Fabric) -> None:
        self.cfg, self.task, self.metadata, self.fabric = cfg, task, metadata, fabric
        self.folder = Path(cfg.OUTPUT_DIR)
        self.checkpoints = Checkpoints(self.folder)
        first = fabric.is_global_zero
        self.log = log.RunLog(self.folder, cfg.SOLVER.MAX_ITER) if first else None
        self.trainer = Trainer(
            task,
            *build.build_optimizer(cfg, task.model),
            fabric,
            **build.clipping(cfg),
            accumulate=cfg.SOLVER.ACCUMULATE,
            log=self.log,
            folder=self.folder,
        )

    def save(self, iteration: int, name: str = "") -> None:
        """A checkpoint under official names, with all that --resume needs."""
        if self.fabric.is_global_zero:
            content: dict[str, Any] = {
                "model": self.task.official(self.task.model.state_dict()),
                "trainer": self.trainer.state(),
                "rng": rng_state(),
                "iteration": iteration,
                "config": to_dict(self.cfg),
                "metadata": self.metadata.to_dict(),
            }
            self.checkpoints.save(content, name or f"model_{iteration - 1:07d}")
        self.fabric.barrier()

    def resume(self) -> bool:
        """Take up the last checkpoint; False where there is none."""
        content = self.checkpoints.last()
        if content is None:
            return False
        load_weights(self.task.model, content["model"], self.task.renames)
        self.trainer.restore(content["trainer"])
        restore_rng(content["rng"])
        logger.info("resumed at iteration %d", self.trainer.iteration)
        return True

    def evaluated(self, iteration: int) -> None:
        """Evaluate and log."""
        found = test(self.cfg, self.task, self.fabric)
        if self.log:
            self.log.write({"iteration": iteration} | found, iteration)


def train(cfg: Config, args: argparse.Namespace, fabric: Fabric) -> int:
    metadata = build.train_metadata(cfg)
    task = build.build_task(cfg, metadata)
    if fabric.is_global_zero:
        save_config(cfg, Path(cfg.OUTPUT_DIR) / "config.yaml")
    run = Run(cfg, task, metadata, fabric)
    if not (args.resume and run.resume()) and cfg.MODEL.WEIGHTS:
        load_weights(task.model, cfg.MODEL.WEIGHTS, task.renames)
    every = [(cfg.SOLVER.CHECKPOINT_PERIOD, run.save), (cfg.TEST.EVAL_PERIOD, run.evaluated)]
    start = run.trainer.iteration
    batches = build.train_batches(cfg, task, fabric, start)
    done = run.trainer.fit(batches, cfg.SOLVER.MAX_ITER, every)
    command = f"{sys.executable} {' '.join(sys.argv)}"
    if not done:
        run.save(run.trainer.iteration)
        resume = (
            command if args.resume else command.replace("train_net.py", "train_net.py --resume")
        )
        logger.info("stopped at iteration %d; go on with\n  %s", run.trainer.iteration, resume)
        return 143
    run.save(run.trainer.iteration, "model_final")
    if cfg.DATASETS.TEST:
        run.evaluated(run.trainer.iteration)
    if run.log:
        run.log.close()
    final = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    logger.info(
        "done: %s; look at it with\n  python tools/demo.py --config-file %s --input 'photos/*.jpg'"
        " --output out --weights %s",
        final,
        Path(cfg.OUTPUT_DIR) / "config.yaml",
        final,
    )
    return 0


def main(args: argparse.Namespace) -> int:
    cfg = load_config(args.config_file, args.opts)
    if args.dist_url.startswith("tcp://"):
        host, _, port = args.dist_url.removeprefix("tcp://").rpartition(":")
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    os.environ.setdefault("NODE_RANK", str(args.machine_rank))
    fabric = launch(
        num_gpus=args.num_gpus,
        num_machines=args.num_machines,
        device=cfg.MODEL.DEVICE,
        precision=build.precision(cfg),
    )
    log.set_up(Path(cfg.OUTPUT_DIR), fabric.global_rank)
    fabric.seed_everything(cfg.SEED if cfg.SEED >= 0 else None, verbose=False)
    if not args.eval_only:
        return train(cfg, args, fabric)
    task = build.build_task(cfg)
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("--eval-only needs weights; add MODEL.WEIGHTS path/to/checkpoint")
    load_weights(task.model, cfg.MODEL.WEIGHTS, task.renames)
    task.model.to(fabric.device)
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty; name a data set to evaluate on")
    test(cfg, task, fabric)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(parse_args()))
    except (ConfigError, DataError, WeightsError, NonFiniteError, OSError) as problem:
        sys.exit(f"error: {problem}")
