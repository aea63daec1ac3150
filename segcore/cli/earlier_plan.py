"""A plan that lies in a run's folder from before: is it of what is asked for now?"""

from __future__ import annotations

import re
from pathlib import Path

from segcore.config import load_config
from segcore.data.held_back import TRAIN
from segcore.errors import ConfigError
from segcore.plan.choices import NETWORKS, TASKS
from segcore.plan.plan import Wishes

SAID = {  # by a comment at its beginning
    "task": rf"({'|'.join(TASKS)}): ",
    "network": rf"({'|'.join(NETWORKS)}): ",
    "minutes": r"([\d.e+]+) minutes: ",
}


def check_earlier_plan(file: Path, data: str, val: str, wishes: Wishes, anew: str) -> None:
    """ConfigError where it is of other data, or was made by other wishes.

    What is not wished for now may be as it is there; so may all that people change in it.

    Args:
        val: "": whatever it has.
        anew: how people ask for another plan.
    """
    sets = load_config(file, ()).DATASETS
    if not {data, f"{data}#{TRAIN}"} & {*sets.TRAIN}:
        _refuse(file, f"trains on {', '.join(sets.TRAIN)}, and {data} is asked for", anew)
    if val and val not in sets.TEST:
        _refuse(file, f"evaluates {', '.join(sets.TEST)}, and {val} is asked for", anew)
    text = file.read_text(encoding="utf-8")
    for name, said in SAID.items():
        wish, found = getattr(wishes, name), re.search(rf"^# {said}", text, re.MULTILINE)
        if wish is not None and found and found[1] != _in_words(wish):
            _refuse(file, f"is of {name} {found[1]}, and {_in_words(wish)} is asked for", anew)


def _in_words(wish: str | float) -> str:
    return wish if isinstance(wish, str) else f"{wish:g}"


def _refuse(file: Path, why: str, anew: str) -> None:
    raise ConfigError(
        f"{file} is there from before; it {why}: {anew} replaces it, another OUTPUT_DIR leaves it"
    )
