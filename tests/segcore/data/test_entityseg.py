"""EntitySeg's own forms, on drawn files."""

import json
from pathlib import Path

import pytest
from loading import load
from tiny import make_dataset

from segcore.cli import doctor
from segcore.data.catalog import Catalog
from segcore.errors import DataError
from segcore.predict import Predictor


def entry(folder, text):
    (folder / "own.yaml").write_text(text)
    return [folder / "own.yaml"]


def test_lists_of_image_and_label_names(tmp_path):
    make_dataset(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{i:02d}.png {i:02d}.png\n" for i in range(3)))
    text = (
        "reader: label_list\nclasses: [box, disc, ground]\nnames:\n"
        "  own: {images: images, annotations: list.txt, semantic: labels}\n"
    )
    metadata, records = load("own", Path(), entry(tmp_path, text))
    assert len(records) == 3
    assert records[1].frames[0].semantic == tmp_path / "labels" / "01.png"
    assert metadata.classes == ("box", "disc", "ground")
    (tmp_path / "list.txt").write_text("just_one_name\n")
    with pytest.raises(DataError, match="with one space"):
        load("own", Path(), entry(tmp_path, text))


def test_panoptic_files_that_name_the_image(tmp_path):
    make_dataset(tmp_path)
    content = json.loads((tmp_path / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        annotation["file_name"] = annotation["file_name"].replace(".png", ".jpeg.jpg")
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    _, records = load(f"{tmp_path}/panoptic.json@{tmp_path}/images")
    assert records[2].frames[0].panoptic == tmp_path / "panoptic" / "02.png"


def test_names_of_the_catalogue():
    metadata = Catalog(Path("nowhere")).metadata("entityv2_sem150_test")
    assert len(metadata.classes) == 150
    assert (metadata.classes[0], metadata.classes[-1]) == ("sky", "pumkin")
    with pytest.raises(DataError, match="entityv2_010203_entity_val"):
        load("entityv2_entity_val_all")


def test_entities_need_no_annotation_file(root):
    opts = ["ENTITY.ENABLE", "true", "MODEL.META_ARCHITECTURE", "CropFormer"]
    opts += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
    opts += ["DATASETS.TRAIN", "[entityv2_entity_train_01]"]
    predictor = Predictor(root / "configs/tiny/panoptic_tiny.yaml", "", opts)
    assert predictor.metadata.classes == ("entity",)


def test_doctor_lists_what_is_missing_or_of_the_wrong_size(tmp_path, capsys):
    make_dataset(tmp_path)
    names = [str(tmp_path / "panoptic.json")]
    assert doctor.main(names=names, catalogs=[]) == 0
    assert "every file is there, has the right size" in capsys.readouterr().out
    (tmp_path / "panoptic" / "01.png").unlink()
    (tmp_path / "images" / "02.png").write_bytes((tmp_path / "images" / "01.png").read_bytes())
    assert doctor.main(names=names, catalogs=[]) == 1
    printed = capsys.readouterr().out
    assert "file that cannot be read: 1\n" in printed and "01.png: image not found" in printed
    assert "size: 1\n" in printed and "expected (72, 64)" in printed
    assert printed.endswith("2 problems\n")
