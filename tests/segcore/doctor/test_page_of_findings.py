"""The report: one file, with pictures, in which nobody's text is markup."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from drawn_images import scene
from PIL import Image

from segcore.data.catalog import Catalog
from segcore.doctor.chapters import chapter, random_images
from segcore.doctor.checkup import check_up
from segcore.doctor.finding import Case, finding
from segcore.doctor.page import Chapter, page
from segcore.doctor.pictures import MARK, entry_picture, segment_picture
from segcore.html_page import Picture, small

EVIL = "<script>alert('\"')</script>"


class Tags(HTMLParser):
    """Tags, their attributes, and the text between them."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts, self.links = Counter(), [], []
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed(text):
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    return tags


def test_texts_are_no_markup(coco, tmp_path):
    name = coco([[{}]], classes=(EVIL, "disc"))
    metadata = Catalog(tmp_path).metadata(name)
    made = Chapter(EVIL, metadata, Counter({0: 3, 1: 1}), sampled=EVIL)
    bad = finding("error", EVIL, EVIL, [Case(message=EVIL)], advice=EVIL)
    made.findings.append((bad, [Picture(EVIL)]))
    made.samples.append(Picture(EVIL))
    text = page([made])
    tags = parsed(text)
    assert "script" not in tags.tags and EVIL not in text
    assert tags.texts.count(EVIL) >= 8


def test_the_page_is_whole(coco, tmp_path):
    """A picture of a fault, of a loss as its file has it, and of random images."""
    beyond = {"segmentation": [[70, 10, 100, 10, 100, 30]]}
    name = coco([[{}, {"category_id": 2}], [beyond, {"category_id": 7}]])
    catalog = Catalog(tmp_path)
    checkup = check_up(catalog, name)
    made = chapter(checkup, catalog, checkup.findings)
    made.samples, made.sampled = random_images(checkup), "Random images"
    text = page([made])
    tags = parsed(text)
    assert all(link.startswith("data:image/jpeg;base64,") for link in tags.links)
    assert not re.search(r"https?:|url\(|@import", text)
    pictures = [Image.open(io.BytesIO(base64.b64decode(x.partition(",")[2]))) for x in tags.links]
    assert len(pictures) == 4 and {max(p.size) for p in pictures} == {360}
    assert {"category", "outside its image"} <= {f.check for f, _ in made.findings}
    assert text.count('class="bar"') == 2


def test_a_page_without_findings():
    assert "Nothing is wrong." in page([Chapter("data")])


def test_an_annotation_beyond_its_image_is_drawn(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
    entry = {"segmentation": [[-10, 10, 100, 10, 100, 30]], "bbox": [0, 0, 20, 90]}
    picture = entry_picture(path, entry)
    assert picture.shape == (48 + 42 + 1, 10 + 64 + 36 + 1, 3)
    assert (picture[10, 40:108] == MARK).all()
    points = [[2, 3], [60, 3], [60, 40]]
    for value in (points, [points], [2, 3, 60, 3, 60, 40]):
        assert (entry_picture(path, {"segmentation": value})[3, 5:55] == MARK).all()
    nothing = entry_picture(path, {"segmentation": "x", "bbox": [1, "2", None]})
    assert nothing.shape == (49, 65, 3)


def test_a_small_object_is_shown_close(tmp_path, coco):
    ring = [30, 20, 34, 20, 34, 24, 30, 24]
    name = coco([[{"segmentation": [ring]}]])
    big = scene(0, (400, 600))
    Image.fromarray(big).save(tmp_path / "train/1.png")
    file = tmp_path / "train.json"
    file.write_text(
        file.read_text().replace('"height": 48, "width": 64', '"height": 400, "width": 600')
    )
    catalog = Catalog(tmp_path)
    (record,) = catalog.read(name)
    picture = segment_picture(record, 0, catalog.metadata(name))
    assert picture.shape == (96, 96, 3)
    assert (picture[17, 28:36] == MARK).all()


@pytest.mark.parametrize(("size", "expected"), [((10, 20), (180, 360)), ((900, 300), (360, 120))])
def test_pictures_have_one_size(size, expected):
    assert small(scene(0, size)).shape[:2] == expected
