"""YAML files and `KEY VALUE` pairs laid over the schema; loading never runs code."""

from __future__ import annotations

import ast
import difflib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from segcore.errors import ConfigError
from segcore.schema import ACCEPTED_UNUSED, Config

logger = logging.getLogger(__name__)


class _Loader(yaml.SafeLoader):
    """Safe YAML, plus the one expression that Mask2Former's files use for multi-scale sizes."""


def _scaled_range(loader: _Loader, node: yaml.Node) -> list[int]:
    """`!!python/object/apply:eval ["[int(x * 0.1 * 512) for x in range(5, 21)]"]`, no eval."""
    parts: list[Any] = loader.construct_sequence(node)  # type: ignore[arg-type]
    pattern = r"\[int\(x \* ([\d.]+) \* (\d+)\) for x in range\((\d+), (\d+)\)\]"
    match = re.fullmatch(pattern, str(parts[0]) if len(parts) == 1 else "")
    if not match:
        raise ConfigError(f"code in YAML is never run: {parts}; write the values out")
    step, size, low, high = float(match[1]), int(match[2]), int(match[3]), int(match[4])
    return [int(x * step * size) for x in range(low, high)]


_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _scaled_range)


def load_config(path: Path | str | None = None, opts: Sequence[str] = ()) -> Config:
    """The schema's defaults, under the file (and its bases), under `KEY VALUE` pairs.

    Raises ConfigError for unknown keys (with the nearest right one), wrong types, code in YAML.
    """
    if len(opts) % 2:
        raise ConfigError(f"options come as KEY VALUE pairs, got {len(opts)} words: {list(opts)}")
    config = OmegaConf.structured(Config)
    if path is not None:
        config = _merge(config, _read(Path(path), ()), str(path))
    for key, text in zip(opts[::2], opts[1::2], strict=True):
        nested: Any = _literals(_parse(str(text)))
        for part in reversed(key.split(".")):
            nested = {part: nested}
        config = _merge(config, nested, f"option {key}")
    return OmegaConf.to_object(config)  # type: ignore[return-value]


def to_dict(cfg: Config) -> dict[str, Any]:
    """Plain nested values, as checkpoints carry them."""
    return OmegaConf.to_container(OmegaConf.structured(cfg))  # type: ignore[return-value]


def config_from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`."""
    return OmegaConf.to_object(_merge(OmegaConf.structured(Config), values, "stored config"))  # type: ignore[return-value]


def save_config(cfg: Config, path: Path) -> None:
    """Write the resolved config, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(yaml.safe_dump(to_dict(cfg), sort_keys=False))
    os.replace(temporary, path)


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """The file's mapping, laid over that of its `_BASE_` file or files."""
    path = path.expanduser().resolve()
    if path in below:
        raise ConfigError(f"{path}: _BASE_ comes back to itself: {' -> '.join(map(str, below))}")
    try:
        content = yaml.load(path.read_text(), _Loader)  # a SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"{path}: config file not found") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not a config file: {error}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, got {type(content).__name__}")
    bases = content.pop("_BASE_", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = _over(merged, _read(path.parent / Path(base).expanduser(), (*below, path)))
    return _over(merged, _literals(content))


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`top` over `base`, mapping by mapping; lists replace."""
    both = dict(base)
    for key, value in top.items():
        old = both.get(key)
        deeper = isinstance(old, dict) and isinstance(value, dict)
        both[key] = _over(old or {}, value) if deeper else value
    return both


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


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text


@cache
def _schema() -> dict[str, Any]:
    """Every key and its default."""
    return dict(_leaves(OmegaConf.to_container(OmegaConf.structured(Config))))  # type: ignore


def _merge(config: Any, values: dict[str, Any], where: str) -> Any:
    """Values over the config, leaf by leaf, so that an error names its key."""
    known = _schema()
    for key, value in _leaves(values):
        if any(key == k or key.startswith(k + ".") for k in ACCEPTED_UNUSED):
            logger.warning("%s: %s is accepted, but changes nothing here", where, key)
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{where}: unknown key {key}{hint}")
        try:
            OmegaConf.update(config, key, _fit(value, known[key]), merge=False)
        except (ConfigKeyError, OmegaConfBaseException) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{where}: {key} is {value!r}; expected {type(known[key]).__name__}"
                f" like {known[key]!r} ({reason})"
            ) from None
    return config


def _fit(value: Any, default: Any) -> Any:
    """YAML 1.1 reads 1e-4 as a string; and one name may stand for a list of one."""
    if isinstance(default, float) and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    if isinstance(default, str) and value is None:
        return ""  # KEY '' on the command line
    if isinstance(default, list) and isinstance(value, str):
        return [value]
    return value


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, name + ".")
        else:
            yield name, value
