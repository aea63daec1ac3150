"""File names that every disk takes."""

import pytest

from segcore.file_names import short_name


@pytest.mark.parametrize("name", ["a.png", "x" * 223, "口" * 74])
def test_names_that_fit_stay(name):
    assert short_name(name) == name


@pytest.mark.parametrize("letter", ["x", "é", "口", "😀"])
def test_long_names_are_cut_at_whole_letters_and_stay_different(letter):
    names = [letter * 300 + end for end in "ab"]
    short = [short_name(name) for name in names]
    assert short[0] != short[1]
    for name in short:
        assert 210 < len(name.encode()) <= 223
        assert name.rpartition("-")[0].strip(letter) == ""
    assert short_name(names[0]) == short[0]  # in every process
