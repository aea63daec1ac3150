"""YAML files, and JSON ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from segcore.data.parsing.text_file import read_text
from segcore.errors import DataError


def read_yaml(file: Path, what: str) -> Any:
    """What the file holds; `what` it should be is said in errors.

    JSON is read as JSON, which may have tabs, and letters in two halves, where YAML may not.
    """
    text = read_text(file, what)
    fault = None
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:  # YAML has such brackets too
            fault = f"not valid JSON: {error}"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        if fault is None or file.suffix.lower() != ".json":
            fault = f"not valid YAML: {' '.join(str(error).split())}"
            fault += "; YAML is indented with spaces, not with tabs" if "\\t" in fault else ""
    raise DataError(f"{file}: {what} is {fault}")
