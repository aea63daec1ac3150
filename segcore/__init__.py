"""The framework: data, training, evaluation; knows no architecture by name.

`segcore.train` and `segcore.Predictor` are imported when they are asked for: the rest is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ASKED_FOR = {"train": "segcore.cli.train_call", "Predictor": "segcore.predict"}


def __getattr__(name: str) -> Any:
    if name not in _ASKED_FOR:
        raise AttributeError(f"module 'segcore' has no attribute {name!r}")
    return getattr(import_module(_ASKED_FOR[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ASKED_FOR})
