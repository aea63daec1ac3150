"""Where the numbers of a run go beside its own files: TensorBoard, W&B, MLflow, trackio.

Each package but TensorBoard's is imported when LOGGERS names it; accounts, servers and offline
modes are set as the package itself has it (WANDB_MODE, MLFLOW_TRACKING_URI ...).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from segcore.errors import ConfigError

PROJECT = "segcore"


@dataclass(frozen=True, slots=True)
class NumberLog:
    """Takes numbers by name and iteration, until it is closed."""

    write: Callable[[Mapping[str, float], int], None]
    close: Callable[[], Any]


def _tensorboard(folder: Path) -> NumberLog:
    board = SummaryWriter(str(folder))

    def write(values: Mapping[str, float], iteration: int) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, iteration)

    return NumberLog(write, board.close)


def _wandb(folder: Path) -> NumberLog:
    run = _package("wandb").init(project=PROJECT, name=folder.resolve().name, dir=str(folder))
    return NumberLog(lambda values, iteration: run.log(dict(values), step=iteration), run.finish)


def _trackio(folder: Path) -> NumberLog:
    trackio = _package("trackio")
    trackio.init(project=PROJECT, name=folder.resolve().name)
    return NumberLog(
        lambda values, iteration: trackio.log(dict(values), step=iteration), trackio.finish
    )


def _mlflow(folder: Path) -> NumberLog:
    mlflow = _package("mlflow")
    mlflow.start_run(run_name=folder.resolve().name)

    def write(values: Mapping[str, float], iteration: int) -> None:
        known = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in values.items()}
        mlflow.log_metrics(known, step=iteration)  # it refuses other signs in names

    return NumberLog(write, mlflow.end_run)


LOGGERS: dict[str, Callable[[Path], NumberLog]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}


def open_logger(name: str, folder: Path) -> NumberLog:
    """One of LOGGERS, for a run.

    Args:
        folder: OUTPUT_DIR; its last part is the run's name.
    """
    return LOGGERS[name](folder)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"LOGGERS has {name}, whose package cannot be imported ({error}):"
            f" pip install {name}, or take it out of LOGGERS"
        ) from None
