"""YAML files, and JSON ones, which are YAML too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from segcore.errors import DataError


def read_yaml(file: Path, what: str) -> Any:
    """What the file holds; `what` it should be is said in errors."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: {what} not found") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{file}: {what} is not valid YAML: {error}") from None
