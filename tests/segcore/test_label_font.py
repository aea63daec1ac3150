"""Labels are drawn in whatever language classes are named in."""

import numpy as np
import pytest
import torch
from PIL import ImageFont

from segcore import label_font as module
from segcore.label_font import label_font
from segcore.masks import encode
from segcore.structures import Instances, Metadata, Result
from segcore.visualize import draw

DEJAVU = "/usr/share/fonts/truetype/dejavu"  # which has Cyrillic and Greek
RUSSIAN = "Ёж Ѯ"


@pytest.fixture(autouse=True)
def _forgets():
    for function in (module._file_with, module._font_files):
        function.cache_clear()
    yield
    for function in (module._file_with, module._font_files):
        function.cache_clear()


@pytest.fixture
def dejavu(monkeypatch):
    try:
        font = ImageFont.truetype(f"{DEJAVU}/DejaVuSans.ttf", 20)
    except OSError:
        pytest.skip("no DejaVu fonts here")
    monkeypatch.setattr(module, "FOLDERS", (DEJAVU,))
    return font


def test_plain_names_have_the_usual_font():
    font, text = label_font("traffic light 87%", 20)
    assert (font.getname(), text) == (ImageFont.load_default(20).getname(), "traffic light 87%")


def test_names_in_other_letters_have_a_font_with_them(dejavu):
    font, text = label_font(RUSSIAN, 20)
    assert text == RUSSIAN
    assert font.getname() == dejavu.getname()
    shapes = [bytes(font.getmask(sign)) for sign in (*"ЁжѮ", "\U0010ffff")]
    assert len(set(shapes)) == 4


def test_signs_of_no_font_are_written_out_and_warned_of_once(monkeypatch, caplog):
    monkeypatch.setattr(module, "FOLDERS", ())
    for _ in range(3):
        assert label_font("口 a", 20)[1] == "\\u53e3 a"
    assert caplog.text.count("no font here has 口") == 1


def test_a_named_font_goes_first(dejavu, monkeypatch):
    monkeypatch.setattr(module, "FOLDERS", ())
    monkeypatch.setenv("SEGCORE_FONT", f"{DEJAVU}/DejaVuSans.ttf")
    assert label_font(RUSSIAN, 20)[1] == RUSSIAN


def test_pictures_of_different_names_differ(dejavu):
    """Boxes in the place of letters would be the same for all names of one length."""
    mask = np.zeros((1, 80, 80), bool)
    mask[0, 10:70, 10:70] = True
    one = Instances(
        torch.ones(1), torch.zeros(1, dtype=torch.int64), encode(mask), torch.ones(1, 4)
    )
    pictures = [
        draw(
            np.zeros((80, 80, 3), np.uint8),
            Result(instances=one),
            Metadata("x", (name,), (1,), (True,), ((1, 2, 3),)),
        )
        for name in ("ЁЁЁ", "ѮѮѮ")
    ]
    assert not np.array_equal(*pictures)
