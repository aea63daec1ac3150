"""`segcore.train`: a training run by one call, and what is left of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcore.cli.train import main
from segcore.config import load_config
from segcore.config_files import read_word
from segcore.engine.best import best_of
from segcore.engine.metrics_file import read_history
from segcore.errors import ConfigError
from segcore.predict import Predictor
from segcore.user_path import user_path

Names = str | Path | Sequence[str | Path]  # of data sets


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """What a training left in its folder.

    Args:
        output: the folder: log, curves, checkpoints, config.yaml.
        weights: of the best evaluation, or the last ones where none is called best.
        metrics: by name, in percent, of these weights; {}: nothing was evaluated.
        finished: False where Ctrl-C or SIGTERM ended it before; `resume=True` goes on.
    """

    output: Path
    weights: Path
    metrics: dict[str, float]
    finished: bool = True

    def predictor(self, opts: Sequence[str] = ()) -> Predictor:
        """The model with these weights.

        Args:
            opts: `KEY VALUE` pairs laid over the run's config.
        """
        return Predictor(self.output / "config.yaml", self.weights, opts)


def train(
    *,
    data: Names | None = None,
    val: Names | None = None,
    config: str | Path | None = None,
    output: str | Path = "output",
    resume: bool = False,
    opts: Sequence[str] = (),
    **keys: Any,
) -> TrainedRun:
    """Train a model in this process, on one GPU or the CPU; several GPUs need `segcore train`.

    run = segcore.train(data="my/train.json@my/images", val="my/val.json@my/images",
                        config="small/instance_lite0.yaml", output="out", SOLVER={"MAX_ITER": 300})

    Args:
        data: what is trained on, as DATASETS.TRAIN takes it; None: what the config names.
        val: what is evaluated, as DATASETS.TEST takes it.
        config: a YAML file, or the name of one that comes along.
        output: OUTPUT_DIR.
        resume: from the last checkpoint in `output`.
        opts: `KEY VALUE` pairs laid over the config.
        keys: sections of the config with values, or dotted keys, laid over all of it.

    Raises ConfigError, DataError, WeightsError as `segcore train` prints them.
    """
    given: dict[str, Any] = {"OUTPUT_DIR": str(output)}
    given |= {} if data is None else {"DATASETS.TRAIN": _names(data)}
    given |= {} if val is None else {"DATASETS.TEST": _names(val)}
    words = [*words_of(given), *opts, *words_of(keys)]
    if config is None:
        raise ConfigError("segcore.train needs config: a YAML file, or the name of one")
    with log_of_the_run():
        status = main(
            config_file=str(config), opts=words, resume=resume, num_gpus=1, num_machines=1,
            machine_rank=0, dist_url="", again="segcore.train(..., resume=True)",
        )  # fmt: skip
    return trained_run(output_folder(str(config), words), finished=status == 0)


def output_folder(config: str, words: Sequence[str]) -> Path:
    """OUTPUT_DIR of a config."""
    return user_path(load_config(config, words).OUTPUT_DIR)


def trained_run(folder: Path, *, finished: bool = True) -> TrainedRun:
    """What lies in OUTPUT_DIR of a run; ConfigError where there are no weights."""
    evaluations, pointer = read_history(folder).evaluations, folder / "last_checkpoint"
    best = best_of(folder)
    if best:
        evaluations = [e for e in evaluations if e["iteration"] == best["iteration"]]
        weights = folder / best["weights"]
    elif pointer.is_file():
        weights = folder / pointer.read_text(encoding="utf-8").strip()
    else:
        raise ConfigError(f"{folder}: has no weights of a run; is it the OUTPUT_DIR of one?")
    metrics = {k: v for k, v in (evaluations or [{}])[-1].items() if k != "iteration"}
    return TrainedRun(output=folder, weights=weights, metrics=metrics, finished=finished)


def words_of(values: Mapping[str, Any], above: str = "") -> list[str]:
    """Nested or dotted keys with plain values -> KEY VALUE KEY VALUE ... as words are read."""
    words = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            words += words_of(value, f"{above}{key}.")
            continue
        plain = isinstance(value, str) and read_word(value) == value
        text = json.dumps(value, default=str, ensure_ascii=False)
        words += [f"{above}{key}", str(value) if plain or isinstance(value, float) else text]
    return words


def _names(given: Names) -> list[str]:
    """Of one data set, or of several."""
    several = not isinstance(given, str | Path)
    return [str(name) for name in (given if several else [given])]


@contextmanager
def log_of_the_run() -> Iterator[None]:
    """The run has the log for itself inside; afterwards it is the caller's again."""
    log = logging.getLogger()
    handlers, level = log.handlers[:], log.level
    log.handlers[:] = []
    try:
        yield
    finally:
        for handler in log.handlers:
            handler.close()
        log.handlers[:] = handlers
        log.setLevel(level)
