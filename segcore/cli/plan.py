"""A training recipe for a data set and this machine, written as a config."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from segcore.build import data as data_sets
from segcore.build.task import build_for_training
from segcore.cli.analyze_memory import RUNS, measured_alone
from segcore.cli.earlier_plan import check_earlier_plan
from segcore.cli.measured_steps import Meter
from segcore.cli.plan_fitting import Probe, fitted
from segcore.cli.plan_machine import this_machine
from segcore.cli.plan_words import head_lines, report, said_of, said_of_test
from segcore.cli.worst_batches import in_order, worst_parts
from segcore.config import load_config, to_dict
from segcore.data.catalog import Catalog
from segcore.data.held_back import TRAIN, VAL, split_part
from segcore.errors import ConfigError
from segcore.plan.decision import Decision
from segcore.plan.plan import Plan, Wishes, begin, draft, finished
from segcore.plan.plan_yaml import plan_yaml
from segcore.plan.read_facts import data_facts
from segcore.user_path import user_path
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)


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
    """Share of the memory that the worst batch takes, each part in a process of its own."""
    cfg = in_order(load_config(config_file, opts))
    catalog = data_sets.catalog(cfg)
    task = build_for_training(cfg, data_sets.train_metadata(cfg, catalog))
    shares = []
    for part, images in worst_parts(cfg, task, catalog, 1):
        _, peak = measured_alone(part, images, config_file, opts, RUNS[part])
        shares.append(2.0 if peak is None else peak.reserved / memory)
    return max(shares)


def write_plan(asked: Asked, output: Path, *, meter: Meter | None = None) -> Plan:
    """Make a plan, write it to `output`, and print its table.

    Args:
        meter: what measures; None: a process of its own.
    """
    catalog = Catalog(data_sets.data_root(), asked.catalogs)
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
    with TemporaryDirectory() as folder, meter or Meter(worst_share) as meter:
        probe = Probe(Path(folder) / "plan.yaml", base, asked.opts, meter)
        plan, measured = fitted(plan, facts, machine, probe, asked.ranks)
    plan = finished(plan, facts, base, measured, tested)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output, "w") as stream:
        names = [name for name in (asked.data, asked.val) if name]
        head = head_lines(names, asked.wishes, asked.opts, machine)
        stream.write(plan_yaml(plan, base, head))
    report(plan, base)
    return plan


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
    overwrite: bool = False,
    anew: str = "--overwrite",
    num_gpus: int = 1,
    num_machines: int = 1,
    **wishes: Any,
) -> Path:
    """OUTPUT_DIR/plan.yaml: the one that is there, if it is of this data, or one that is made now.

    A rank that another process has started takes what that one made.

    Args:
        overwrite: make one, whatever is there.
        anew: how people ask for that.
        num_gpus, num_machines: of `segcore train`; 0 GPUs are the CPU.
    """
    if resume and overwrite:
        raise ConfigError(f"a run that is resumed keeps its plan, {anew} makes another: not both")
    if num_gpus == 0:
        opts = [*opts, "MODEL.DEVICE", "cpu"]
    cfg = load_config(None, opts)
    output = user_path(cfg.OUTPUT_DIR) / "plan.yaml"
    asked = Asked(
        data=data,
        val=val or "",
        wishes=Wishes(**wishes),
        opts=tuple(opts),
        catalogs=tuple(map(user_path, cfg.DATASETS.CATALOGS)),
        ranks=max(num_gpus, 1) * num_machines,
    )
    command = shlex.join(["segcore", "train", str(output), *opts])
    if output.is_file() and "LOCAL_RANK" in os.environ:
        return output
    if output.is_file() and not overwrite:
        check_earlier_plan(output, data, asked.val, asked.wishes, anew)
        print(f"{output} is used as it is; {anew} plans anew. This run is\n  {command}", flush=True)
        return output
    write_plan(asked, output)
    print(f"written: {output}; this run is\n  {command}", flush=True)
    return output
