"""JSON in pieces."""

from __future__ import annotations

import json

import pytest

from segcore.data.parsing import json_stream
from segcore.data.parsing.json_stream import last_member, read_object
from segcore.errors import DataError

TEXT = (
    ' {"a" : [ {"x": [1, "]}\\u00e9\\\\"]} ,12.5e3, [], null],"b":{"c":"é"},"e":[], "n": -17 } \n'
)


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
def test_pieces_make_the_whole(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "x.json"
    path.write_text(TEXT, encoding="utf-8")
    whole, pieces = json.loads(TEXT), []
    assert read_object(path, {}) == whole
    members = read_object(path, {"a": pieces.append, "e": pieces.append, "n": pieces.append})
    assert pieces == whole["a"]
    assert members == whole | {"a": 4, "e": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "b": [1, {"a": 2}]}', None),  # the last one lies deeper
        ('{"b": {"a": 2}, "a" : ["é"], "c": "]"}\n', ["é"]),
        ('{"b": "a"}', None),
        ('{"b": "x\\"a\\": 3"}', None),
        ('{"c": {"a": 3}}', None),
        ('{"a": [1', None),
        ('{"b": 1}', None),
    ],
)
def test_the_last_member_is_certain_or_not_given(tmp_path, text, expected):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert last_member(path, "a") == expected


def test_truncated_anywhere_raises(tmp_path):
    path = tmp_path / "x.json"
    end = TEXT.rindex("}")
    for length in range(1, end + 1):
        path.write_text(TEXT[:length], encoding="utf-8")
        with pytest.raises(DataError, match=r"x\.json: not valid JSON.*download complete"):
            read_object(path, {"a": lambda _: None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected an object"),
        ("", "not valid JSON"),
        ("<html>", "not valid JSON at character 0"),
        ('{"a": [1 2]}', "at character 9"),
        ('{"a": 1} {', "more follows"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_is_no_object_raises(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read_object(path, {"a": lambda _: None})
