"""The table of formats."""

from __future__ import annotations

import pytest
from loading import load

from segcore.data.formats.table import FORMATS
from segcore.errors import DataError


def test_formats_are_a_table():
    assert {"coco_instances", "coco_panoptic", "label_png"} <= FORMATS.keys()
    assert all(format.name == name for name, format in FORMATS.items())


def test_paths_are_data_sets(tiny):
    for name in ("panoptic.json", "instances.json"):
        metadata, records = load(str(tiny / name))
        assert metadata.classes[:2] == ("box", "disc")
        assert records[3].frames[0].file.exists()
    with pytest.raises(DataError, match=r"classes\.json"):
        load(f"{tiny}/labels@{tiny}/images")
