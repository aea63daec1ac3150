"""What an exported file says of itself, so that whoever has it alone can use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from segcore.contracts import Task
from segcore.structures import Size

INPUTS = ("pixels", "sizes")
DIVISOR = 32  # of height and width
KINDS = {"uint8": torch.uint8, "float32": torch.float32}  # of pixels
PREFIX = "segcore."  # of the keys, where a file has keys of others too
Facts = dict[str, Any]  # plain values by name, as JSON has them


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a graph shall take and give.

    Args:
        size: height and width of its images; None: any multiples of 32.
        views: T.
        kind: of its pixels, one of KINDS.
        post: with results.
        custom: the sampling operator stays ours.
    """

    size: Size | None
    views: int = 1
    kind: str = "uint8"
    post: bool = False
    custom: bool = False


def facts_of(
    task: Task, wanted: Wanted, *, outputs: tuple[str, ...], resize: Mapping[str, Any], config: str
) -> Facts:
    """By name: what goes in, what comes out, and what it means.

    Args:
        resize: of an image, before it goes in.
        config: the whole config as YAML.
    """
    classes = task.metadata
    return {
        "version": version("segcore"),
        "makes": list(task.makes),
        "data_set": classes.name,
        "classes": list(classes.classes),
        "colors": [list(color) for color in classes.colors],
        "is_thing": list(classes.is_thing),
        "dataset_ids": list(classes.dataset_ids),
        "inputs": list(INPUTS),
        "outputs": list(outputs),
        "pixels": {"type": wanted.kind, "channels": "RGB", "least": 0, "most": 255},
        "views": wanted.views,
        "size": list(wanted.size) if wanted.size else None,
        "padding": {"divisor": DIVISOR, "sides": ["right", "bottom"], "value": 0},
        "resize": dict(resize),
        "config": config,
    }


def metadata_of(facts: Facts) -> dict[str, Any]:
    """The classes as `Metadata.from_dict` takes them."""
    names = ("classes", "dataset_ids", "is_thing", "colors")
    return {"name": facts["data_set"], **{name: facts[name] for name in names}}


def to_strings(facts: Facts) -> dict[str, str]:
    """Each value as JSON, under its prefixed name."""
    return {PREFIX + name: json.dumps(value) for name, value in facts.items()}


def from_strings(strings: Mapping[str, str]) -> Facts:
    """The inverse, without keys of others."""
    own = {k.removeprefix(PREFIX): v for k, v in strings.items() if k.startswith(PREFIX)}
    return {name: json.loads(value) for name, value in own.items()}
