"""Configs by name, from any folder."""

import os

import pytest

from segcore.config import load_config
from segcore.errors import ConfigError
from segcore.shipped import config_file, shipped

NAME = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep"


@pytest.mark.parametrize("name", [NAME, f"{NAME}.yaml", f"configs/{NAME}.yaml"])
def test_a_config_that_comes_along_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file(name) == shipped("configs") / f"{NAME}.yaml"
    assert load_config(name).MODEL.SEM_SEG_HEAD.NUM_CLASSES == 133


def test_an_own_file_goes_before_one_that_comes_along(tmp_path, monkeypatch):
    own = tmp_path / "configs" / f"{NAME}.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: 7}}")
    monkeypatch.chdir(tmp_path)
    assert load_config(f"configs/{NAME}.yaml").MODEL.SEM_SEG_HEAD.NUM_CLASSES == 7
    assert load_config(NAME).MODEL.SEM_SEG_HEAD.NUM_CLASSES == 133


def test_an_unknown_name_raises_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"{tmp_path}.*nearest names: .*{NAME}.yaml"):
        config_file("coco/panoptic-segmentation/maskformer_R50_bs16_50ep.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: config file not found"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("name", ["train.json", "train.json@images"])
def test_data_in_place_of_a_config_raise_how_data_are_given(name, tmp_path):
    (tmp_path / "train.json").write_text('{"images": [], "annotations": [], "categories": []}')
    relative = os.path.relpath(tmp_path / name)
    with pytest.raises(ConfigError, match=r"given as --data my/train\.json"):
        load_config(relative)


def test_a_checkpoint_in_place_of_a_config_raises_where_it_goes(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"\x80\x02")
    with pytest.raises(ConfigError, match=r"not a config file \(a checkpoint goes to MODEL"):
        load_config(tmp_path / "model.pth")
