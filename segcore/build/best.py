"""What a run calls its best, and when it ends before its time."""

from __future__ import annotations

from segcore.config import Config
from segcore.engine.best import Best
from segcore.errors import ConfigError


def build_best(cfg: Config) -> Best:
    """Of TEST.BEST_METRIC and SOLVER.EARLY_STOPPING."""
    stopping, test = cfg.SOLVER.EARLY_STOPPING, cfg.TEST
    if stopping.PATIENCE:
        asked = {
            "TEST.EVAL_PERIOD": test.EVAL_PERIOD,
            "DATASETS.TEST": cfg.DATASETS.TEST,
            "TEST.BEST_METRIC": test.BEST_METRIC,
        }
        for key, value in asked.items():
            if not value:
                raise ConfigError(
                    f"SOLVER.EARLY_STOPPING.PATIENCE {stopping.PATIENCE} counts evaluations while"
                    f" training, but {key} is {value!r}: set it, or PATIENCE 0"
                )
    return Best(
        test.BEST_METRIC,
        cfg.DATASETS.TEST,
        patience=stopping.PATIENCE,
        min_delta=stopping.MIN_DELTA,
    )
