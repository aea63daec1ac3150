"""What a key of the config may hold stands on its field, and is read from there.

class Solver:
    BASE_LR: float = number(1e-4, low=0)
    OPTIMIZER: str = one_of("ADAMW", "SGD")

A plain default is a key that takes every value of its type. Keys that a section accepts and does
not have stand in its IGNORED, by name: whole sections of other programs, and what nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from math import inf
from typing import Any, cast, get_type_hints

from segcore.errors import ConfigError


def anything(value: Any) -> str:
    """No value is wrong."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for a key beyond its type.

    Args:
        fault: of a value, in words; "" where it is right.
        ignored: why another value than the default changes nothing; "" where it does.
        divides: the key of the same section that it must divide.
        importable: "package.module:function" of one's own is a value.
    """

    fault: Callable[[Any], str] = anything
    ignored: str = ""
    divides: str = ""
    importable: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A key with its default."""

    default: Any
    rule: Rule


# What follows returns a dataclass's field; its type is that of the key, which the annotation says.


def number(default: float, *, low: float = -inf, high: float = inf, divides: str = "") -> Any:
    """A number within limits, both included."""
    return _field(default, Rule(fault=lambda value: _outside(value, low, high), divides=divides))


def numbers(*default: float, low: float = -inf, high: float = inf, count: int = 0) -> Any:
    """A list of numbers within limits; `count` of them, 0 for any number."""

    def fault(value: Any) -> str:
        if count and len(value) != count:
            return f"expected {count} numbers"
        return next((text for x in value if (text := _outside(x, low, high))), "")

    return _field(list(default), Rule(fault=fault))


def names(*default: str) -> Any:
    """A list of names."""
    return _field(list(default), Rule())


def rates() -> Any:
    """[[PATTERN, FACTOR], ...]: none by default."""

    def fault(value: Any) -> str:
        for pair in cast(list[Any], value):
            right = isinstance(pair, list | tuple) and len(cast(list[Any], pair)) == 2
            if not (right and isinstance(pair[0], str) and isinstance(pair[1], int | float)):
                return "expected pairs of a name's pattern and a factor, like [[backbone.*, 0.1]]"
            if not pair[1] >= 0:
                return f"the factor of {pair[0]} must be at least 0"
        return ""

    return _field([], Rule(fault=fault))


def pairs() -> Any:
    """[[NAME, NAME], ...], or the word auto, which a list of it stands for: none by default."""
    text = "expected auto, or pairs of two names like [[left_hand, right_hand]]"

    def fault(value: Any) -> str:
        given, found = cast(list[Any], value), list[str]()
        if given == ["auto"]:
            return ""
        for pair in given:
            words = cast(list[Any], pair) if isinstance(pair, list | tuple) else []
            if [type(word) for word in words] != [str, str]:
                return text
            found += words
        twice = sorted({name for name in found if found.count(name) > 1})
        return f"{twice[0]} stands in it twice" if twice else ""

    return _field([], Rule(fault=fault))


def sizes(*default: int) -> Any:
    """A size in pixels, or a list of sizes to choose from: the one kind of key with two types."""

    def fault(value: Any) -> str:
        given = cast(list[Any], value if isinstance(value, list) else [value])
        if given and all(type(size) is int and size > 0 for size in given):
            return ""
        return "expected a size in pixels, or a list of sizes to choose from"

    return _field(list(default), Rule(fault=fault))


def one_of(default: Any, *others: Any) -> Any:
    """The default or one of the others."""
    choices = (default, *others)
    text = "expected " + ", ".join(str(choice) or "''" for choice in choices)
    return _field(default, Rule(fault=lambda value: "" if value in choices else text))


def some_of(default: list[str], *others: str) -> Any:
    """A list of any of the default's names and the others."""
    choices = (*default, *others)

    def fault(value: Any) -> str:
        wrong = [name for name in value if name not in choices]
        return f"expected a list of {', '.join(choices)}" if wrong else ""

    return _field(default, Rule(fault=fault))


def only(default: Any) -> Any:
    """A key that old files may set, of which one value was ever published and is built here."""
    text = f"only {default!r} is built here, the value of every published file; remove the key"
    return _field(default, Rule(fault=lambda value: "" if value == default else text))


def ignored(default: Any, instead: str = "") -> Any:
    """A key that old files repeat: another value changes nothing here, and is logged.

    Args:
        instead: what counts in its place.
    """
    return _field(default, Rule(ignored=instead or f"only {default!r} is done here"))


def importable(default: str) -> Any:
    """A name of a table that stands where it is looked up, or "package.module:function"."""
    return _field(default, Rule(importable=True))


@cache
def keys_of(section: type) -> dict[str, Key]:
    """Every key below a section by its dotted name; ConfigError for one without a default."""
    return dict(_keys(section))


@cache
def ignored_keys(section: type) -> frozenset[str]:
    """Names of keys and whole sections that are accepted and not there."""
    return frozenset(_ignored(section))


def _field(default: Any, rule: Rule) -> Any:
    if isinstance(default, list):
        values = cast(list[Any], default)
        return field(default_factory=values.copy, metadata={"rule": rule})
    return field(default=default, metadata={"rule": rule})


def _outside(value: float, low: float, high: float) -> str:
    if low <= value <= high:  # no number is in no range
        return ""
    return f"it must be at least {low}" if high == inf else f"it must be from {low} to {high}"


def _keys(section: type) -> Iterator[tuple[str, Key]]:
    types = get_type_hints(section)
    for here in fields(section):
        if is_dataclass(kind := types[here.name]):
            inside = keys_of(kind)  # type: ignore[arg-type]  # a class, not an instance
            yield from ((f"{here.name}.{name}", key) for name, key in inside.items())
        else:
            yield here.name, Key(_default(here, section), here.metadata.get("rule", Rule()))


def _default(here: Field[Any], section: type) -> Any:
    if here.default_factory is not MISSING:
        return here.default_factory()
    if here.default is MISSING:
        raise ConfigError(
            f"{section.__module__}.{section.__name__}.{here.name} has no default; give it one, as"
            " files leave keys out"
        )
    return here.default


def _ignored(section: type) -> Iterator[str]:
    yield from getattr(section, "IGNORED", "").split()
    types = get_type_hints(section)
    for here in fields(section):
        if is_dataclass(kind := types[here.name]):
            inside = ignored_keys(kind)  # type: ignore[arg-type]  # a class, not an instance
            yield from (f"{here.name}.{name}" for name in inside)
