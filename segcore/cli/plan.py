"""A training recipe for a data set and this machine, written as a config."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from segcore.build.data import data_root
from segcore.cli.analyze_memory import RUNS, measured_alone, worst_parts
from segcore.cli.measured_steps import typical_seconds
from segcore.cli.plan_machine import this_machine
from segcore.cli.plan_words import head_lines, report, said_of, said_of_test
from segcore.config import load_config, to_dict
from segcore.data.catalog import Catalog
from segcore.data.held_back import TRAIN, VAL, split_part
from segcore.errors import ConfigError
from segcore.plan import schedule
from segcore.plan.decision import Decision, rounded_up
from segcore.plan.facts import DataFacts, Machine, Measured
from segcore.plan.plan import Plan, Wishes, begin, draft, finished
from segcore.plan.plan_yaml import plan_yaml
from segcore.plan.read_facts import data_facts
from segcore.user_path import user_path
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)

Seconds = Callable[[str, Sequence[str], Sequence[str]], dict[str, tuple[float, float]]]
Share = Callable[[str, Sequence[str], float], float]
PROBES = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16"), "mps": ("fp32",)}  # precisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plan is asked for.

    Args:
        data: name or path of what is trained on.
        val: of what is evaluated; "": a fifth of `data` is held back.
        wishes: task, network, minutes.
        opts: KEY VALUE ... that will be laid over the plan.
        catalogs: more catalogue files.
        ranks: processes that will share a batch; measurements are of one.
    """

    data: str
    val: str = ""
    wishes: Wishes = Wishes()
    opts: tuple[str, ...] = ()
    catalogs: tuple[Path, ...] = ()
    ranks: int = 1


def main(
    *,
    data: str,
    val: str | None,
    output: Path,
    overwrite: bool,
    catalogs: Sequence[Path],
    opts: Sequence[str],
    **wishes: Any,
) -> int:
    """Write the plan, print it and the command that trains with it."""
    if output.exists() and not overwrite:
        raise ConfigError(
            f"{output} is there already, perhaps with changes of yours; --overwrite to replace it,"
            " or --output for another file"
        )
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    asked = Asked(
        data=data,
        val=val or "",
        wishes=Wishes(**wishes),
        opts=tuple(opts),
        catalogs=tuple(catalogs),
    )
    write_plan(asked, output)
    command = shlex.join(["segcore", "train", str(output), *opts])
    print(f"written: {output}; train with it\n  {command}")
    return 0


def worst_share(config_file: str, opts: Sequence[str], memory: float) -> float:
    """Share of the memory that the worst batch takes, training and inference; 2: it does not fit.

    Args:
        memory: MB that there are.
    """
    shares = []
    for part, images in worst_parts(load_config(config_file, opts), 1):
        _, peak = measured_alone(part, images, config_file, opts, RUNS[part])
        shares.append(2.0 if peak is None else peak.reserved / memory)
    return max(shares)


def write_plan(
    asked: Asked, output: Path, *, seconds: Seconds = typical_seconds, share: Share = worst_share
) -> Plan:
    """Make a plan, write it to `output`, and print its table.

    Args:
        seconds: measures typical steps and images of a config.
        share: measures what part of the memory its worst batch takes.
    """
    catalog = Catalog(data_root(), asked.catalogs)
    train, test = part_names(asked)
    facts = data_facts(catalog.read(train), catalog.metadata(train))
    tested = len(catalog.records(test))
    machine = this_machine(asked.opts)
    plan = begin(facts, machine, asked.wishes)
    base = values_of(plan.base)
    plan = draft(plan, facts, machine, base).with_(
        Decision("DATASETS.TRAIN", [train], said_of(facts)),
        Decision("DATASETS.TEST", [test], said_of_test(tested, held_back=not asked.val)),
        *catalog_files(asked),
    )
    with TemporaryDirectory() as folder:
        probe = Probe(Path(folder) / "plan.yaml", base, asked.opts, seconds, share)
        plan, measured = fitted(plan, facts, machine, probe, asked.ranks)
    plan = finished(plan, facts, base, measured, tested)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output, "w") as stream:
        names = [name for name in (asked.data, asked.val) if name]
        head = head_lines(names, asked.wishes, asked.opts, machine)
        stream.write(plan_yaml(plan, base, head))
    report(plan, base)
    return plan


@dataclass(frozen=True, slots=True)
class Probe:
    """Measures a plan that is not finished.

    Args:
        file: where it is written to.
        base: values of its base.
        opts: laid over it.
    """

    file: Path
    base: dict[str, Any]
    opts: tuple[str, ...]
    seconds: Seconds
    share: Share

    def time(self, plan: Plan, precisions: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Seconds of a step and of an image, by precision."""
        return self.seconds(self._written(plan), self.opts, precisions)

    def memory(self, plan: Plan, machine: Machine) -> float:
        """Share of the memory."""
        return self.share(self._written(plan), self.opts, machine.memory)

    def _written(self, plan: Plan) -> str:
        self.file.write_text(plan_yaml(plan, self.base, ()), encoding="utf-8")
        return str(self.file)


def fitted(
    plan: Plan, facts: DataFacts, machine: Machine, probe: Probe, ranks: int = 1
) -> tuple[Plan, Measured]:
    """Precision, batch and its parts by measurements, and the last of these."""
    base = probe.base
    times = probe.time(plan, PROBES[machine.device])
    plan = plan.with_(*schedule.precision({name: step for name, (step, _) in times.items()}))
    on = plan.value("SOLVER.AMP.PRECISION", "fp32")
    step, image = times[on]
    size = rounded_up(schedule.batch_of(base, plan.minutes, step), ranks)
    plan = plan.with_(*schedule.batch(base, size, facts.images))
    if size != base["SOLVER.IMS_PER_BATCH"]:
        step, image = probe.time(plan, [on])[on]
    peak, pieces = probe.memory(plan, machine), 1
    while (more := schedule.pieces_of(size, peak, pieces)) != pieces:
        pieces = more
        plan = plan.with_(*schedule.batch(base, size, facts.images, pieces))
        peak = probe.memory(plan, machine)
    if pieces > 1:
        step, image = probe.time(plan, [on])[on]
    if peak > schedule.FULL:
        logger.warning("the worst batch takes %.0f %% of the memory that is free", 100 * peak)
    return plan, Measured(step=step, image=image, peak=peak)


def part_names(asked: Asked) -> tuple[str, str]:
    """What is trained on and what is evaluated."""
    if asked.val:
        return asked.data, asked.val
    if split_part(asked.data)[1]:
        raise ConfigError(f"{asked.data} is a part of a data set; name the other part as VAL")
    return f"{asked.data}#{TRAIN}", f"{asked.data}#{VAL}"


def values_of(config: str) -> dict[str, Any]:
    """A config's values by dotted key."""
    values: dict[str, Any] = {}

    def add(section: dict[str, Any], above: str) -> None:
        for key, value in section.items():
            if isinstance(value, dict):
                add(value, f"{above}{key}.")
            else:
                values[f"{above}{key}"] = value

    add(to_dict(load_config(config)), "")
    return values


def catalog_files(asked: Asked) -> list[Decision]:
    """DATASETS.CATALOGS."""
    if not asked.catalogs:
        return []
    return [Decision("DATASETS.CATALOGS", [str(c) for c in asked.catalogs], "as they were given")]


def plan_of_run(
    *,
    data: str,
    val: str | None,
    opts: Sequence[str],
    resume: bool,
    num_gpus: int = 1,
    num_machines: int = 1,
    **wishes: Any,
) -> Path:
    """OUTPUT_DIR/plan.yaml: made now, or that of the run that is resumed.

    A rank that another process has started takes what that one made.

    Args:
        num_gpus, num_machines: of `segcore train`; 0 GPUs are the CPU.
    """
    if num_gpus == 0:
        opts = [*opts, "MODEL.DEVICE", "cpu"]
    cfg = load_config(None, opts)
    output = user_path(cfg.OUTPUT_DIR) / "plan.yaml"
    if output.is_file() and (resume or "LOCAL_RANK" in os.environ):
        return output
    asked = Asked(
        data=data,
        val=val or "",
        wishes=Wishes(**wishes),
        opts=tuple(opts),
        catalogs=tuple(map(user_path, cfg.DATASETS.CATALOGS)),
        ranks=max(num_gpus, 1) * num_machines,
    )
    write_plan(asked, output)
    command = shlex.join(["segcore", "train", str(output), *opts])
    print(f"written: {output}; this run is\n  {command}", flush=True)
    return output
