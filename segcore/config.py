"""From files and `KEY VALUE` pairs to a Config; no value of them is ever run as code.

A module is imported where MODEL.META_ARCHITECTURE is an import path of one's own
("package.module:function"), for the sections that it may bring.
"""

from __future__ import annotations

import copyreg
import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segcore.architectures import DEFAULT, KEY, Schema, known_ignored, known_keys, schema_of
from segcore.config_files import read_files, read_word
from segcore.errors import ConfigError
from segcore.import_path import is_import_path, is_imported
from segcore.keys import Key
from segcore.schema import Config
from segcore.shipped import config_file
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)

Section = TypeVar("Section")


def load_config(path: Path | str | None = None, opts: Sequence[str] = ()) -> Config:
    """The schema's defaults, under the file (and its bases), under `KEY VALUE` pairs.

    Args:
        path: of a file, or the name of one that comes along, as `config_file` finds it.
        opts: "KEY", "VALUE", "KEY", "VALUE" ...

    Raises ConfigError for unknown keys (with the nearest right one), wrong types and values, code
    in YAML.
    """
    if len(opts) % 2:
        raise ConfigError(f"options come as KEY VALUE pairs, got {len(opts)} words: {list(opts)}")
    files = [] if path is None else read_files(config_file(path))
    layers = [(str(file), dict(_leaves(values))) for file, values in files]
    words = {key: str(text) for key, text in zip(opts[::2], opts[1::2], strict=True)}
    schema = schema_of(_architecture([*(values for _, values in layers), words]))
    typed = {key: _option(schema, key, text) for key, text in words.items()}
    return _config(schema, [*layers, ("command line", typed)])


def section(cfg: Config, name: str, kind: type[Section]) -> Section:
    """A section that a package brings, with its type: cfg.MODEL.MASK_FORMER for a type checker.

    Args:
        name: dotted, as in SECTIONS.
        kind: its dataclass. ConfigError where the config's architecture does not have it.
    """
    try:
        found = reduce(getattr, name.split("."), cast(Any, cfg))
    except AttributeError:
        found = None
    if isinstance(found, kind):
        return found
    raise ConfigError(
        f"{KEY} {cfg.MODEL.META_ARCHITECTURE!r} has no section {name} ({kind.__module__}."
        f"{kind.__name__}); add it to SECTIONS of its module"
    )


def check_config(cfg: Config) -> None:
    """ConfigError where a value breaks the rule of its key, as Python code may have set it."""
    schema = schema_of(cfg.MODEL.META_ARCHITECTURE)
    values = dict(_leaves(to_dict(cfg)))
    for name, key in schema.keys.items():
        _check(name, key, values.get(name, key.default), "config")
    _check_divisors(schema, values)


def to_dict(cfg: Config) -> dict[str, Any]:
    """Plain nested values, as checkpoints carry them."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(cfg)))


def config_from_dict(values: dict[str, Any], *, run_code: bool = False) -> Config:
    """The inverse of `to_dict`.

    Args:
        run_code: import the module of an own architecture. Without it, ConfigError for values that
            name code which is not imported yet: a checkpoint may come from anybody.
    """
    stored = dict(_leaves(values))
    name = _architecture([stored])
    if not run_code:
        _refuse_code({KEY: name})
    schema = schema_of(name)
    if not run_code:
        _refuse_code(
            {k: stored[k] for k, key in schema.keys.items() if key.rule.importable and k in stored}
        )
    return _config(schema, [("stored config", stored)])


def save_config(cfg: Config, path: Path) -> None:
    """Write the resolved config, whole or not at all."""
    with whole_file(path, "w") as stream:
        yaml.safe_dump(to_dict(cfg), stream, sort_keys=False)


def _architecture(layers: Iterable[Mapping[str, Any]]) -> str:
    """Which one the last of the layers names."""
    return str([DEFAULT, *(values[KEY] for values in layers if KEY in values)][-1])


def _refuse_code(values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, str) and is_import_path(value) and not is_imported(value):
            raise ConfigError(
                f"stored config: {key} is {value!r}, code that is not imported because a file says"
                f" so; import {value.partition(':')[0]} first, if you trust it"
            )


def _option(schema: Schema, name: str, text: str) -> Any:
    """A word of the command line: YAML, except where the key wants text (010 is a name then)."""
    value = read_word(text)
    key = schema.keys.get(name)
    if key and isinstance(key.default, str) and not isinstance(value, str):
        return "" if value is None else text
    return value


def _config(schema: Schema, layers: Iterable[tuple[str, Mapping[str, Any]]]) -> Config:
    """Layers over the defaults, the last one on top."""
    config = OmegaConf.structured(schema.tree)
    for where, values in layers:
        _merge(schema, config, values, where)
    plain = dict(_leaves(cast(dict[str, Any], OmegaConf.to_container(config))))
    _check_divisors(schema, plain)
    copyreg.pickle(schema.tree, _reduced)  # type: ignore[arg-type]  # trees are made at run time
    return cast(Config, OmegaConf.to_object(config))


def _merge(schema: Schema, config: Any, values: Mapping[str, Any], where: str) -> None:
    """Values over the config, key by key, so that an error names its key."""
    unread: list[str] = []
    for name, value in values.items():
        key = schema.keys.get(name)
        if key is None:
            if note := _note(schema, name, value, where):
                unread.append(note)
            continue
        try:
            value = _fit(value, key.default)
            OmegaConf.update(config, name, value, merge=False)
        except (TypeError, ValueError, OmegaConfBaseException) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{where}: {name} is {value!r}; expected {type(key.default).__name__}"
                f" like {key.default!r} ({reason})"
            ) from None
        if schema.built:
            _check(name, key, _plain(config, name), where)
        if key.rule.ignored and value != key.default:
            unread.append(f"{name} {value!r} ({key.rule.ignored})")
    _warn_of_unread(where, tuple(unread))


def _check(name: str, key: Key, value: Any, where: str) -> None:
    if fault := key.rule.fault(value):
        raise ConfigError(f"{where}: {name} is {value!r}; {fault}")


def _check_divisors(schema: Schema, values: Mapping[str, Any]) -> None:
    for name, key in schema.keys.items():
        whole = f"{name.rpartition('.')[0]}.{key.rule.divides}"
        if key.rule.divides and values[whole] % values[name]:
            raise ConfigError(
                f"{name} is {values[name]}; expected a divisor of {whole}, which is {values[whole]}"
            )


def _note(schema: Schema, name: str, value: Any, where: str) -> str:
    """What to log of a key that the schema lacks; ConfigError where nobody knows it."""
    if _inside(name, schema.ignored):
        return name
    if name in known_keys():  # another architecture reads it
        return f"{name} {value!r}" if value != known_keys()[name].default else ""
    if _inside(name, known_ignored()):
        return name
    raise ConfigError(f"{where}: {_unknown(schema, name, value)}")


def _inside(name: str, sections: frozenset[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:count]) in sections for count in range(1, len(parts) + 1))


@cache  # once for each file, however often it is loaded
def _warn_of_unread(where: str, notes: tuple[str, ...]) -> None:
    if notes:
        logger.warning("%s: accepted, but changes nothing here: %s", where, ", ".join(notes))


def _unknown(schema: Schema, name: str, value: Any) -> str:
    """What is wrong with a key that nobody knows, and what to write."""
    known = known_keys() | schema.keys
    inside = [k for k in known if k.startswith(name + ".")]
    if inside:
        return f"{name} is {value!r}; expected a section with keys like {inside[0]}"
    values = [k for k in known if name.startswith(k + ".")]
    if values:
        default = known[values[0]].default
        return f"unknown key {name}; {values[0]} is a value like {default!r}, not a section"
    upper = {k.upper(): k for k in known}
    near = difflib.get_close_matches(name.upper(), upper, n=1, cutoff=0.5)
    return f"unknown key {name}" + (f"; did you mean {upper[near[0]]}?" if near else "")


def _fit(value: Any, default: Any) -> Any:
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
        return [value]  # one name may stand for a list of one
    return value


def _plain(config: Any, name: str) -> Any:
    value = OmegaConf.select(config, name)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, name + ".")
        else:
            yield name, value


def _reduced(cfg: Config) -> tuple[Any, tuple[dict[str, Any]]]:
    return _restored, (to_dict(cfg),)


def _restored(values: dict[str, Any]) -> Config:
    return config_from_dict(values, run_code=True)  # as pickle does
