"""YAML files and `KEY VALUE` pairs laid over the schema; loading never runs code."""

from __future__ import annotations

import ast
import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, NoReturn

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segcore.errors import ConfigError
from segcore.schema import ACCEPTED_UNUSED, DIVIDES, INERT, INSTEAD, RANGES, Config
from segcore.shipped import config_file
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)


class _Loader(yaml.SafeLoader):
    """Safe YAML, plus tuples and the one expression that Mask2Former's files use for sizes."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As the safe loader does it, with a word about keys that are written twice."""
        lines: dict[str, int] = {}
        scalars = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in scalars:
            line = key.start_mark.line + 1
            if key.value in lines:
                logger.warning(
                    "%s: %s is written twice, in lines %d and %d; only the last one counts",
                    self.name, key.value, lines[key.value], line,
                )  # fmt: skip
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _scaled_range(loader: _Loader, node: yaml.Node) -> list[int]:
    """`!!python/object/apply:eval ["[int(x * 0.1 * 512) for x in range(5, 21)]"]`, no eval."""
    text = str(node.value[0].value) if len(node.value) == 1 else ""
    pattern = r"\[int\(x \* ([\d.]+) \* (\d+)\) for x in range\((\d+), (\d+)\)\]"
    match = re.fullmatch(pattern, text)
    if not match:
        _refuse(loader, "object/apply:eval", node)
    step, size, low, high = float(match[1]), int(match[2]), int(match[3]), int(match[4])
    return [int(x * step * size) for x in range(low, high)]


def _refuse(loader: _Loader, tag: str, node: yaml.Node) -> NoReturn:
    raise ConfigError(
        f"{loader.name}:{node.start_mark.line + 1}: !!python/{tag}: code in YAML is never run;"
        " write the values out"
    )


_PYTHON = "tag:yaml.org,2002:python/"
_Loader.add_multi_constructor(_PYTHON, _refuse)
_Loader.add_constructor(_PYTHON + "object/apply:eval", _scaled_range)
_Loader.add_constructor(_PYTHON + "tuple", _Loader.construct_yaml_seq)


def load_config(path: Path | str | None = None, opts: Sequence[str] = ()) -> Config:
    """The schema's defaults, under the file (and its bases), under `KEY VALUE` pairs.

    Raises ConfigError for unknown keys (with the nearest right one), wrong types, code in YAML.
    """
    if len(opts) % 2:
        raise ConfigError(f"options come as KEY VALUE pairs, got {len(opts)} words: {list(opts)}")
    config = OmegaConf.structured(Config)
    if path is not None:
        for file, values in _files(config_file(path), ()):
            config = _merge(config, values, str(file))
    for key, text in zip(opts[::2], opts[1::2], strict=True):
        config = _merge(config, {key: _option(key, str(text))}, "command line")
    _check_divisors(config)
    return OmegaConf.to_object(config)  # type: ignore[return-value]


def to_dict(cfg: Config) -> dict[str, Any]:
    """Plain nested values, as checkpoints carry them."""
    return OmegaConf.to_container(OmegaConf.structured(cfg))  # type: ignore[return-value]


def config_from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`."""
    return OmegaConf.to_object(_merge(OmegaConf.structured(Config), values, "stored config"))  # type: ignore[return-value]


def save_config(cfg: Config, path: Path) -> None:
    """Write the resolved config, whole or not at all."""
    with whole_file(path, "w") as stream:
        yaml.safe_dump(to_dict(cfg), stream, sort_keys=False)


def _files(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The file's values, after those of its `_BASE_` file or files: later ones win."""
    path = path.expanduser().resolve()
    if path in above:
        raise ConfigError(f"{path}: _BASE_ comes back to itself: {' -> '.join(map(str, above))}")
    values = _read(path, above)
    bases = values.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _BASE_ is {bases!r}; expected a file name or a list of them")
    for base in bases:
        yield from _files(path.parent / Path(base).expanduser(), (*above, path))
    yield path, values


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """One file's mapping, without its bases."""
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, _Loader)  # a SafeLoader
    except FileNotFoundError:
        hint = f", the _BASE_ of {above[-1]}" if above else ""
        raise ConfigError(f"{path}: config file not found{hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not a config file: {error}") from None
    content = _literals({} if content is None else content)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, got {type(content).__name__}")
    return content


def _literals(value: Any) -> Any:
    """yacs writes tuples as strings: '("coco_2017_val",)' -> ["coco_2017_val"]."""
    if isinstance(value, dict):
        return {key: _literals(v) for key, v in value.items()}
    if isinstance(value, str) and value[:1] in ("(", "["):
        try:
            parsed = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            return value  # a plain string that happens to start with a bracket
        return list(parsed) if isinstance(parsed, tuple) else parsed
    return value


def _option(key: str, text: str) -> Any:
    """A word of the command line: YAML, except where the key wants text (010 is a name then)."""
    try:
        value = _literals(yaml.load(text, _Loader))
    except yaml.YAMLError:
        return text
    if isinstance(_schema().get(key), str) and not isinstance(value, str):
        return "" if value is None else text
    return value


@cache
def _schema() -> dict[str, Any]:
    """Every key and its default."""
    return dict(_leaves(OmegaConf.to_container(OmegaConf.structured(Config))))  # type: ignore


def _merge(config: Any, values: dict[str, Any], where: str) -> Any:
    """Values over the config, leaf by leaf, so that an error names its key."""
    known = _schema()
    unused: list[str] = []
    for key, value in _leaves(values):
        if any(key == k or key.startswith(k + ".") for k in ACCEPTED_UNUSED):
            unused.append(key)
            continue
        if key not in known:
            raise ConfigError(f"{where}: {_unknown(key, value)}")
        try:
            value = _fit(value, known[key], key)
            OmegaConf.update(config, key, value, merge=False)
            _check_range(key, OmegaConf.select(config, key))
        except (TypeError, ValueError, OmegaConfBaseException) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{where}: {key} is {value!r}; expected {type(known[key]).__name__}"
                f" like {known[key]!r} ({reason})"
            ) from None
        if key in INERT and value != known[key]:
            why = INSTEAD.get(key, f"only {known[key]!r} is done here")
            unused.append(f"{key} {value!r} ({why})")
    _tell_unused(where, tuple(unused))
    return config


def _check_range(key: str, value: Any) -> None:
    low, high = RANGES.get(key, (-inf, inf))
    if key in RANGES and not low <= value <= high:  # no number is in no range
        limit = f"at least {low}" if high == inf else f"from {low} to {high}"
        raise ValueError(f"must be {limit}")


def _check_divisors(config: Any) -> None:
    for key, of in DIVIDES.items():
        part, whole = OmegaConf.select(config, key), OmegaConf.select(config, of)
        if whole % part:
            raise ConfigError(f"{key} is {part}; expected a divisor of {of}, which is {whole}")


@cache  # once for each file, however often it is loaded
def _tell_unused(where: str, keys: tuple[str, ...]) -> None:
    if keys:
        logger.warning("%s: accepted, but changes nothing here: %s", where, ", ".join(keys))


def _unknown(key: str, value: Any) -> str:
    """What is wrong with a key that the schema lacks, and what to write."""
    known = _schema()
    inside = [k for k in known if k.startswith(key + ".")]
    if inside:
        return f"{key} is {value!r}; expected a section with keys like {inside[0]}"
    values = [k for k in known if key.startswith(k + ".")]
    if values:
        return f"unknown key {key}; {values[0]} is a value like {known[values[0]]!r}, not a section"
    upper = {k.upper(): k for k in known}
    near = difflib.get_close_matches(key.upper(), upper, n=1, cutoff=0.5)
    return f"unknown key {key}" + (f"; did you mean {upper[near[0]]}?" if near else "")


def _fit(value: Any, default: Any, key: str) -> Any:
    """What YAML and yacs write differently; and what OmegaConf would let pass."""
    if "${" in str(value):
        raise ValueError("${...} is not filled in here")
    if "???" in (value if isinstance(value, list) else [value]):
        raise ValueError("??? stands for no value; write one")
    if isinstance(default, bool) and not isinstance(value, bool | str):
        raise TypeError("write true or false")
    if isinstance(default, str) and value is None:
        return ""  # KEY '' on the command line
    if isinstance(default, list) and isinstance(value, str):
        if value[:1] in ("(", "["):
            raise ValueError("names in a tuple need quotes")
        value = [value]  # one name may stand for a list of one
    if key == "INPUT.MIN_SIZE_TRAIN":  # the one key with two types
        sizes = value if isinstance(value, list) else [value]
        if not sizes or not all(type(s) is int and s > 0 for s in sizes):
            raise TypeError("a size in pixels, or a list of sizes to choose from")
    return value


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, name + ".")
        else:
            yield name, value
