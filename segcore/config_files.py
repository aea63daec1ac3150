"""YAML files and the files that they build on, read without running what stands in them."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from segcore.errors import ConfigError
from segcore.shipped import OF_DATA, shipped
from segcore.user_path import user_path

logger = logging.getLogger(__name__)

CHECKPOINTS = (".pth", ".pkl", ".pt", ".safetensors")
WEIGHTS = "MODEL.WEIGHTS"


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


def read_files(path: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The file's values, after those of its `_BASE_` file or files: later ones win.

    Args:
        above: the files that name it as their base.
    """
    path = user_path(path).resolve()
    if path in above:
        raise ConfigError(f"{path}: _BASE_ comes back to itself: {' -> '.join(map(str, above))}")
    values = _read(path, above)
    bases = values.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _BASE_ is {bases!r}; expected a file name or a list of them")
    for base in bases:
        yield from read_files(_base_file(path, base), (*above, path))
    yield path, values


def _base_file(path: Path, base: str) -> Path:
    """Beside the file that names it, or else among the configs that come along."""
    beside, known = path.parent / user_path(base), shipped("configs") / base
    return known if known.is_file() and not beside.exists() else beside


def read_word(text: str) -> Any:
    """A word of the command line as a value of a file; itself where it is no YAML."""
    try:
        return _literals(yaml.load(text, _Loader))  # a SafeLoader
    except yaml.YAMLError:
        return text


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """One file's mapping, without its bases."""
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, _Loader)  # a SafeLoader
    except FileNotFoundError:
        hint = f", the _BASE_ of {above[-1]}" if above else ""
        raise ConfigError(f"{path}: config file not found{hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        hint = f" (a checkpoint goes to {WEIGHTS})" if path.suffix in CHECKPOINTS else ""
        raise ConfigError(f"{path}: not a config file{hint}: {error}") from None
    content = _literals({} if content is None else content)
    if isinstance(content, dict) and "images" in content and "MODEL" not in content:
        raise ConfigError(f"{path}: an annotation file, not a config; {OF_DATA}")
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
