"""The page needs nothing beside it, believes no name, and is the same however images are shared."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from squares import SIZE, THREE, record, result

from segcore.report import collector as collecting
from segcore.report import worst as module
from segcore.report.collector import segments_collector, worst_per_class
from segcore.report.compared import DOUBT
from segcore.report.outcome import WRONG_CLASS
from segcore.report.page import report_page
from segcore.report.pictures import COLORS, error_map, error_pixels
from segcore.report.section import Section
from segcore.report.segments import compare_as
from segcore.report.worst import short_names

CAT, DOG, OTHER = range(3)
METRICS = {"AP": 41.5, "APl": float("nan"), "AP-cat": 50.0, "AP-<b>$x</b>": 12.0}


def image(folder, name):
    pixels = np.random.default_rng(len(name)).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def filled(folder, count=3, ranks=1):
    """A section whose collectors had every `ranks`-th image each, put together as by the engine."""
    collectors = [segments_collector(compare_as("instance", THREE), 3) for _ in range(ranks)]
    for i in range(count):
        truth = [(CAT, 0, 10), (OTHER, 20, 30), (DOG, 40, 50)]
        sure = 0.8 + 0.01 * (i % 15)
        predictions = [(CAT, 0, 9, 0.9), (OTHER, 40, 49, sure), (DOG, 20 + i % 5, 32, 0.6)]
        file = image(folder, f"<i>{i:03d}.png")
        collectors[i % ranks].update(result(predictions), record(file, truth))
    collectors[0].parts = [part for one in collectors for part in one.parts]
    return Section("instance", THREE, collectors[0])


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return report_page("<script>x", METRICS, [filled(tmp_path_factory.mktemp("a"))], about="<u>")


def test_the_page_has_no_link_to_anything_outside(text):
    assert not re.search(r"https?:|url\(|@import|//", re.sub(r'src="data:[^"]*"', "", text))
    assert set(re.findall(r'(?:src|href)="([^"]{0,6})', text)) == {
        "data:i", "#metri", "#worst", "#doubts"[:6],
    }  # fmt: skip


def test_names_of_strangers_are_escaped(text):
    for evil in ("<script>x", "<b>$x</b>", "<i>", "<u>"):
        assert evil not in text
    for shown in ("&lt;script&gt;x", "&lt;b&gt;$x&lt;/b&gt;", "&lt;i&gt;000.png", "&lt;u&gt;"):
        assert shown in text


def test_the_page_says_metrics_causes_classes_and_doubts(text):
    assert "how many objects are found" in text
    assert "nothing of the kind is annotated here" in text  # of APl
    assert 'data-value="12.0000"' in text  # AP of the third class
    assert "labelled dog; the model says &lt;b&gt;$x&lt;/b&gt;, 82 % sure" in text
    assert "1 of 3 found; 2 wrong class" in text
    assert text.count("<figure") == 3 + 3 + 3  # plots, images, doubts


def test_pictures_can_be_read_and_are_small(text):
    for kind, data in re.findall(r"data:image/(\w+);base64,([^\"]+)", text):
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.format == kind.upper() and max(picture.size) < 1400


def test_two_ranks_make_the_same_page(tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "PER_CLASS", 2)
    monkeypatch.setattr(collecting, "SUSPECTS", 2)
    pages = [report_page("a", METRICS, [filled(tmp_path, 11, ranks)]) for ranks in (1, 2)]
    assert pages[0] == pages[1]


def test_masks_of_the_worst_images_alone_are_held(tmp_path):
    collector = filled(tmp_path, 120).collector
    held = [part for part in collector.parts if part.kept]
    lists = collector.ranked()
    wanted = {o.name for outcomes in lists.values() for o in outcomes}
    assert {part.name for part in held} == wanted
    assert len(held) <= 3 * worst_per_class(3) + 24 and len(lists[DOUBT]) == 24


def test_pictures_stop_where_the_page_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 30_000)
    text = report_page("a", {}, [filled(tmp_path, 3)])
    assert len(text) < 250_000 and "the page would be too large" in text


def test_an_image_that_is_gone_is_said_on_the_page(tmp_path):
    section = filled(tmp_path)
    (tmp_path / "<i>001.png").unlink()
    text = report_page("a", {}, [section])
    assert "001.png: not found" in text or "001.png: " in text
    assert text.count("<figure") == 9


def test_nothing_wrong_makes_a_page_too(tmp_path):
    collector = segments_collector(compare_as("instance", THREE), 3)
    collector.update(result([(CAT, 0, 10, 0.9)]), record(image(tmp_path, "a.png"), [(CAT, 0, 10)]))
    text = report_page("a", {}, [Section("instance", THREE, collector)])
    assert "None: all segments are found" in text and "None: no sure prediction" in text
    empty = segments_collector(compare_as("instance", THREE), 3)
    assert "no annotations or no predictions" in report_page(
        "a", {}, [Section("instance", THREE, empty)]
    )


def test_errors_have_their_colours():
    collector = segments_collector(compare_as("instance", THREE), 3)
    truth = [(CAT, 0, 10), (DOG, 20, 30), (CAT, 40, 50)]
    predictions = [(CAT, 0, 8, 0.9), (CAT, 20, 30, 0.8), (DOG, 33, 36, 0.7)]
    collector.update(result(predictions), record("a.png", truth))
    (outcome,) = collector.parts
    assert WRONG_CLASS in outcome.causes
    compared = outcome.kept.compared
    predicted = dict(enumerate(compared.predicted))
    at = error_pixels(outcome, compared.truth, predicted, SIZE)
    columns = {kind: np.flatnonzero(where[0]).tolist() for kind, where in at.items()}
    assert columns == {
        "boundary": [8, 9],
        "invented": [33, 34, 35],
        "missed": list(range(40, 50)),
        "wrong class": list(range(20, 30)),
    }
    drawn = error_map(np.full((*SIZE, 3), 90, np.uint8), outcome, compared.truth, predicted)
    for kind, column in (("boundary", 8), ("invented", 33), ("missed", 40), ("wrong class", 20)):
        assert tuple(drawn[0, column]) == COLORS[kind]
    assert tuple(drawn[0, 0]) == (155, 155, 155)


def test_names_are_shown_from_the_common_folder_on():
    assert short_names(["/a/b/c/1.png", "/a/b/2.png"]) == {
        "/a/b/c/1.png": "c/1.png", "/a/b/2.png": "2.png",
    }  # fmt: skip
    assert short_names([]) == {}
