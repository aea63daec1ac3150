"""`segcore.train`: a training run by one call, and what is left of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from segcore.config import load_config
from segcore.config_files import read_word
from segcore.data.held_back import TRAIN, VAL, split_part
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
    overwrite: bool = False,
    task: str | None = None,
    network: str | None = None,
    minutes: float | None = None,
    opts: Sequence[str] = (),
    **keys: Any,
) -> TrainedRun:
    """Train a model in this process, on one GPU or the CPU; several GPUs need `segcore train`.

    run = segcore.train(data="my/train.json@my/images", output="out", minutes=30,
                        SOLVER={"EMA": {"DECAY": 0.999}})

    Args:
        data: what is trained on, as DATASETS.TRAIN takes it; None: what the config names.
        val: what is evaluated, as DATASETS.TEST takes it; None: a fifth of `data` that is held
            back; []: nothing, with a config.
        config: a YAML file, or the name of one that comes along; None: what `segcore plan` writes
            for `data`, into `output`/plan.yaml, or the plan that is there already.
        output: OUTPUT_DIR.
        resume: from the last checkpoint in `output`.
        overwrite: plan anew, whatever plan is there.
        task, network, minutes: wishes for the plan, as `segcore plan` takes them.
        opts: `KEY VALUE` pairs laid over the config.
        keys: sections of the config with values, or dotted keys, laid over all of it.

    Raises ConfigError, DataError, WeightsError as `segcore train` prints them.
    """
    words = [*words_of({"OUTPUT_DIR": str(output)}), *opts, *words_of(keys)]
    wishes = {"task": task, "network": network, "minutes": minutes}
    with log_of_the_run():
        if config is None:
            asked = {"data": _planned(data), "val": None if val is None else _planned(val)}
            plan = import_module("segcore.cli.plan")
            anew = {"overwrite": overwrite, "anew": "overwrite=True"}
            config = plan.plan_of_run(**asked, **wishes, opts=words, resume=resume, **anew)
        elif overwrite:
            raise ConfigError("overwrite is for a plan, but there is a config; leave one out")
        elif meant := [name for name in wishes if wishes[name] is not None]:
            raise ConfigError(f"{meant[0]} is for a plan, but there is a config; leave one out")
        elif data is not None:
            words = [*words_of(_data_keys(_listed(data), val)), *words]
        status = import_module("segcore.cli.train").main(
            config_file=str(config), opts=words, resume=resume, num_gpus=1, num_machines=1,
            machine_rank=0, dist_url="", again="segcore.train(..., resume=True)",
        )  # fmt: skip
    return trained_run(output_folder(str(config), words), finished=status == 0)


def _planned(given: Names | None) -> str:
    """The one data set of a plan."""
    names = [] if given is None else _listed(given)
    if len(names) != 1:
        raise ConfigError(
            f"segcore.train got {len(names)} data sets and no config; a plan is made for one: give"
            " data one name or path, or give config"
        )
    return names[0]


def _data_keys(names: list[str], val: Names | None) -> dict[str, list[str]]:
    """DATASETS.TRAIN and DATASETS.TEST."""
    if val is not None:
        return {"DATASETS.TRAIN": names, "DATASETS.TEST": _listed(val)}
    if part := next((name for name in names if split_part(name)[1]), ""):
        raise ConfigError(f"{part} is a part of a data set; name the other part as val")
    parts = {"DATASETS.TRAIN": TRAIN, "DATASETS.TEST": VAL}
    return {key: [f"{name}#{part}" for name in names] for key, part in parts.items()}


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


def _listed(given: Names) -> list[str]:
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
