"""One value of a JSON or YAML file, of the type that it must have."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from segcore.errors import DataError

LARGEST = 1 << 53  # whole numbers that JSON's readers agree on


def get(entry: Any, key: str, what: str, path: Path | str) -> Any:
    """A required value, whatever it is.

    Args:
        what: the entry, for errors: "annotation 17".
    """
    if not isinstance(entry, dict):
        raise DataError(f"{path}: {what} is {entry!r:.80}; expected an object")
    if key not in entry:
        raise DataError(f"{path}: {what} has no {key!r}; it has {sorted(map(str, entry))}")
    return entry[key]


def typed(
    entry: Any,
    key: str,
    kind: Callable[[Any], Any],
    what: str,
    path: Path | str,
    default: Any = ...,
) -> Any:
    """A value as `kind` makes it; with a default, null or nothing is that.

    Args:
        kind: one of the functions below, which raise ValueError(what they expect).
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if value is None:
        if default is not ... and isinstance(entry, dict):
            return default
        value = get(entry, key, what, path)
    try:
        return kind(value)
    except ValueError as expected:
        raise DataError(f"{path}: {what} has {key} {value!r:.80}; expected {expected}") from None


def whole(value: Any) -> int:
    """A whole number."""
    if type(value) is int and abs(value) < LARGEST:
        return value
    if type(value) is float and value.is_integer() and abs(value) < LARGEST:
        return int(value)
    raise ValueError("a whole number")


def real(value: Any) -> float:
    """A finite number."""
    if type(value) in (int, float) and abs(value) < LARGEST:  # which no NaN is
        return value
    raise ValueError("a number")


def text(value: Any) -> str:
    """Some letters, whole ones."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("whole letters; one has half of its surrogate pair")
    return value


def identity(value: Any) -> int | str:
    """What images and annotations are numbered with."""
    return value if isinstance(value, str) else whole(value)


def flag(value: Any) -> bool:
    """0 or 1."""
    if type(value) in (bool, int, float) and value in (0, 1):
        return bool(value)
    raise ValueError("0 or 1, without quotes")


def listing(value: Any) -> list[Any]:
    """A list."""
    if isinstance(value, list):
        return value
    raise ValueError("a list")


def known_keys(entry: dict[Any, Any], known: Iterable[str], where: str) -> None:
    """Refuse what nobody reads, and name what may be meant."""
    known = sorted(known)
    for key in entry:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"{where}: unknown key {key!r}; {meant}there are {', '.join(known)}")
