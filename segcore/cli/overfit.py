"""A training on a few images that must end near 100: the check of data, labels and model."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from segcore.config import load_config
from segcore.engine.best import Best
from segcore.errors import ConfigError

logger = logging.getLogger(__name__)

STEPS = 500
NEAR = 90.0  # of 100: what a model that has seen nothing else reaches where all is right


def overfit_words(
    config_file: str | None, opts: Sequence[str], count: int, ranks: int
) -> list[str]:
    """KEY VALUE pairs for such a training; those of the user hold, but for data and folder.

    Images are resized as for a test and otherwise left alone; training set and test set are the
    first training set, of which the catalogue gives `count` images.

    Args:
        ranks: processes of the training, for the batch.
    """
    cfg = load_config(config_file, opts)
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("--overfit: DATASETS.TRAIN is empty; there is nothing to train on")
    sizes = cfg.INPUT.MIN_SIZE_TRAIN if isinstance(cfg.INPUT.MIN_SIZE_TRAIN, list) else []
    size = cfg.INPUT.MIN_SIZE_TEST or max(sizes, default=cfg.INPUT.MIN_SIZE_TRAIN)
    below = {
        "SOLVER.MAX_ITER": STEPS,
        "SOLVER.IMS_PER_BATCH": max(min(cfg.SOLVER.IMS_PER_BATCH, count) // ranks, 1) * ranks,
        "SOLVER.ACCUMULATE": 1,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.CHECKPOINT_PERIOD": 0,
        "TEST.EVAL_PERIOD": 0,
        "SOLVER.EARLY_STOPPING.PATIENCE": 0,
        "INPUT.RANDOM_FLIP": "none",
        "INPUT.VERTICAL_FLIP": 0.0,
        "INPUT.ROTATION": 0.0,
        "INPUT.COPY_PASTE.PROBABILITY": 0.0,
        "INPUT.COLOR_AUG_SSD": False,
        "INPUT.CROP.ENABLED": False,
        "INPUT.SIZE_DIVISIBILITY": -1,
        "INPUT.MIN_SIZE_TRAIN": [size],
        "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
        "INPUT.MAX_SIZE_TRAIN": cfg.INPUT.MAX_SIZE_TEST,
        "INPUT.MIN_SCALE": 1.0,
        "INPUT.MAX_SCALE": 1.0,
    }
    above = {
        "DATASETS.TRAIN": cfg.DATASETS.TRAIN[:1],
        "DATASETS.TEST": cfg.DATASETS.TRAIN[:1],
        "DATASETS.SHARES": [],
        "OUTPUT_DIR": str(Path(cfg.OUTPUT_DIR) / "overfit"),
    }
    return [*_words(below), *opts, *_words(above)]


def _words(values: dict[str, object]) -> list[str]:
    return [
        word
        for key, value in values.items()
        for word in (key, value if isinstance(value, str) else json.dumps(value))
    ]


def log_verdict(best: Best, name: str, count: int, steps: int) -> None:
    """What the metric of the images that were trained on says of data and labels."""
    last = best.evaluations[-1] if best.evaluations else None
    if last is None or last["value"] is None:
        logger.warning("overfit: %s has no metric that says how well it was learnt", name)
        return
    start = f"overfit: {last['metric']} {last['value']:.2f} on the {count} images that it learnt"
    if last["value"] >= NEAR:
        logger.info("%s, of about 100: data, labels and model fit together", start)
        return
    logger.warning(
        "%s, and it should come near 100: where the loss still fell at the end, give more steps"
        " (SOLVER.MAX_ITER %d); else look at the labels with\n  segcore doctor '%s' --images"
        " --report report.html", start, 2 * steps, name,
    )  # fmt: skip
