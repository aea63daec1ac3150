"""Names in a config that stand for code: of a table, or "package.module:function" of one's own."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from segcore.errors import ConfigError, UserError

Choice = TypeVar("Choice")


def is_import_path(name: str) -> bool:
    """Whether it is "package.module:function", as no name of a table is."""
    return ":" in name


def is_imported(path: str) -> bool:
    """Whether the module of "package.module:function" is here already."""
    return path.partition(":")[0] in sys.modules


def import_from(path: str, key: str, error: type[UserError] = ConfigError) -> Any:
    """What "package.module:function" names.

    Args:
        key: of the config where it stands, or what else names it, for the message of the error:
            no such path, no such module on Python's path, or nothing of that name in it.
        error: the kind of it.
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        raise error(f"{key} is {path!r}; expected package.module:function")
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        raise error(
            f"{key} {path!r} cannot be imported: {problem}; is the folder of the package on"
            " PYTHONPATH?"
        ) from None
    if not hasattr(module, attribute):
        where = getattr(module, "__file__", None) or module_name
        raise error(f"{key} {path!r}: {where} has no {attribute}")
    return getattr(module, attribute)


def choose(table: Mapping[str, Choice], name: str, key: str) -> Choice:
    """The table's value of that name, or what an import path of one's own names.

    Args:
        key: of the config, for the message of a ConfigError.
    """
    if is_import_path(name):
        return import_from(name, key)
    if name not in table:
        raise ConfigError(
            f"{key} is {name!r}; expected {', '.join(table)}, or package.module:function of your"
            " own"
        )
    return table[name]
