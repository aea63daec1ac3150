"""YAML files, and JSON ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from segcore.data.parsing.text_file import read_text
from segcore.errors import DataError

LISTS = ("names", "classes")  # keys of lists of names
TEXT, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


def read_yaml(file: Path, what: str) -> Any:
    """What the file holds; `what` it should be is said in errors.

    In a list of names every word of YAML is a text: `no` and `off` are no booleans, 010 is no 8.
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
        return _loaded(text)
    except yaml.YAMLError as error:
        if fault is None or file.suffix.lower() != ".json":
            fault = f"not valid YAML: {' '.join(str(error).split())}"
            fault += "; YAML is indented with spaces, not with tabs" if "\\t" in fault else ""
    raise DataError(f"{file}: {what} is {fault}")


def _loaded(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        top = loader.get_single_node()
        if top is None:
            return None
        _make_words(top)
        return loader.construct_document(top)
    finally:
        loader.dispose()


def _make_words(node: Node) -> None:
    """Names in lists become texts as they are written; a list at the top is one of names."""
    if isinstance(node, SequenceNode):
        for item in node.value:
            if isinstance(item, ScalarNode) and item.tag != NULL:
                item.tag = TEXT
            elif isinstance(item, MappingNode):
                _make_words(item)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(value, MappingNode) or key.value in LISTS:
                _make_words(value)
