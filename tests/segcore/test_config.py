"""Config: what files resolve to, and how mistakes are answered."""

from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

from segcore import architectures, config
from segcore.architectures import ARCHITECTURES, schema_of
from segcore.build.task import build_task
from segcore.config import check_config, config_from_dict, load_config, save_config, to_dict
from segcore.errors import ConfigError
from segcore.keys import one_of
from segcore.schema import Config, Input


@dataclass
class Alien:
    LEGS: int = 8


@dataclass
class Sharper(Input):
    FORMAT: str = one_of("BGR", "RGB")
    EDGE: int = 3


ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_every_file_loads_without_a_warning(path, caplog):
    config._warn_of_unread.cache_clear()  # each file warns once
    load_config(path)
    assert not caplog.text


def test_values_of_the_specification():
    ade = load_config(ROOT / "configs/ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml")
    sizes = [256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024]
    assert sizes == ade.INPUT.MIN_SIZE_TRAIN
    assert (ade.INPUT.MIN_SIZE_TEST, ade.INPUT.MAX_SIZE_TEST) == (512, 2048)
    assert (ade.SOLVER.MAX_ITER, ade.SOLVER.LR_SCHEDULER_NAME) == (160000, "WarmupPolyLR")
    swin = load_config(
        ROOT / "configs/coco/panoptic-segmentation/swin"
        "/maskformer2_swin_large_IN21k_384_bs16_100ep.yaml"
    )
    assert swin.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES == 200
    assert swin.SOLVER.STEPS == [655556, 710184]
    assert swin.MODEL.SWIN.DEPTHS == [2, 2, 18, 2]
    assert swin.MODEL.MASK_FORMER.TEST.PANOPTIC_ON
    mapillary = load_config(
        ROOT / "configs/mapillary-vistas/panoptic-segmentation/maskformer_R50_bs16_300k.yaml"
    )
    assert mapillary.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD == 0.0
    assert mapillary.INPUT.MIN_SIZE_TRAIN[-1] == 4096


def test_size_lists_of_the_old_files_are_read_without_running_them(tmp_path):
    text = "[int(x * 0.1 * 640) for x in range(5, 21)]"
    (tmp_path / "a.yaml").write_text(
        f'INPUT:\n  MIN_SIZE_TRAIN: !!python/object/apply:eval ["{text}"]\n'
        '  CROP: {SIZE: "(640, 640)"}\nDATASETS:\n  TRAIN: ("mine",)\n'
    )
    cfg = load_config(tmp_path / "a.yaml")
    assert cfg.INPUT.MIN_SIZE_TRAIN[:3] == [320, 384, 448]
    assert cfg.INPUT.CROP.SIZE == [640, 640]
    assert cfg.DATASETS.TRAIN == ["mine"]


@pytest.mark.parametrize(
    "text",
    [
        "SEED: !!python/object/apply:eval [\"__import__('os').getpid()\"]",
        'SEED: !!python/object/apply:os.system ["true"]',
        "SEED: !!python/name:os.system",
    ],
)
def test_code_is_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "a.yaml")


def test_bases_nest_and_cycles_raise(tmp_path):
    (tmp_path / "a.yaml").write_text("SEED: 1\nSOLVER: {STEPS: [1, 2], MAX_ITER: 9}\n")
    (tmp_path / "b.yaml").write_text("_BASE_: a.yaml\nSOLVER: {STEPS: [3]}\n")
    cfg = load_config(tmp_path / "b.yaml")
    assert (cfg.SEED, cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER) == (1, [3], 9)
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml\n")
    with pytest.raises(ConfigError, match="comes back to itself"):
        load_config(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.BASE_RL", "1"], "did you mean SOLVER.BASE_LR"),
        (["SOLVER.MAX_ITER", "many"], "expected int"),
        (["SOLVER"], "KEY VALUE"),
        (["SOLVER", "3"], "SOLVER is 3; expected a section"),
        (["SOLVER.IMS_PER_BATCH", "0"], r"SOLVER\.IMS_PER_BATCH is 0; .*must be at least 1"),
        (["SOLVER.ACCUMULATE", "0"], "must be at least 1"),
        (["SOLVER.MAX_ITER", "-1"], "must be at least 0"),
        (["TEST.BATCH_SIZE", "0"], "must be at least 1"),
        (["TEST.EVAL_PERIOD", "-1"], "must be at least 0"),
        (["DATALOADER.NUM_WORKERS", "-1"], "must be at least 0"),
        (["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "0"], "must be at least 1"),
        (["MODEL.MASK_FORMER.DEC_LAYERS", "0"], "must be at least 1"),
        (["MODEL.MASK_FORMER.DROPOUT", "1.5"], "must be from 0 to 1"),
        (["MODEL.MASK_FORMER.NHEADS", "7"], "NHEADS is 7; expected a divisor of .*HIDDEN_DIM"),
        (["SOLVER.BASE_LR", "nan"], "must be at least 0"),
        (["INPUT.MIN_SIZE_TRAIN", "0"], "a size in pixels"),
        (["OUTPUT_DIR", "???"], r"OUTPUT_DIR is '\?\?\?'.*stands for no value"),
        (["DATASETS.TRAIN", "['???']"], "stands for no value"),
        (["MODEL.MASK_FORMER.PRE_NORM", "true"], "PRE_NORM is True; only False is built here"),
        (["INPUT.FORMAT", "BGR"], "FORMAT is 'BGR'; only 'RGB' is built here"),
        (["MODEL.PIXEL_STD", "[1, 1]"], "expected 3 numbers"),
        (["SOLVER.OPTIMIZER", "ADAM"], "expected ADAMW, SGD"),
        (["FLOAT32_PRECISION", "low"], "expected '', highest, high, medium"),
        (["ENTITY.FUSE_ENC_NHEADS", "3"], "expected a divisor of ENTITY.FUSE_ENC_HIDDIEN_DIM"),
    ],
)
def test_mistakes_raise(opts, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, opts)


def test_options_take_yaml_and_empty_text():
    opts = ["SOLVER.BASE_LR", "1e-3", "MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TRAIN", "320"]
    cfg = load_config(None, [*opts, "DATASETS.TEST", "[a, b]", "DATASETS.TRAIN", "one"])
    assert (cfg.SOLVER.BASE_LR, cfg.MODEL.WEIGHTS) == (1e-3, "")
    assert (cfg.INPUT.MIN_SIZE_TRAIN, cfg.DATASETS.TEST) == (320, ["a", "b"])
    assert cfg.DATASETS.TRAIN == ["one"]


def test_keys_that_change_nothing_warn(caplog):
    load_config(None, ["MODEL.ROI_HEADS.NUM_CLASSES", "80"])
    assert "MODEL.ROI_HEADS.NUM_CLASSES" in caplog.text


def test_files_of_architectures_that_are_not_built_here_load(tmp_path):
    """Published files of other systems: who builds says what is wrong."""
    (tmp_path / "a.yaml").write_text(
        "MODEL: {META_ARCHITECTURE: PanopticFPN, SEM_SEG_HEAD: {NAME: SemSegFPNHead, NORM: ''},"
        " RPN: {IN_FEATURES: [p2]}}\nINPUT: {FORMAT: BGR}\n"
    )
    cfg = load_config(tmp_path / "a.yaml")
    assert (cfg.MODEL.SEM_SEG_HEAD.NAME, cfg.INPUT.FORMAT) == ("SemSegFPNHead", "BGR")
    with pytest.raises(ConfigError, match=r"'PanopticFPN'; expected MaskFormer, CropFormer, "):
        build_task(cfg)


def test_values_that_code_has_set_are_checked_before_building():
    cfg = load_config()
    check_config(cfg)
    cfg.MODEL.MASK_FORMER.PRE_NORM = True
    with pytest.raises(ConfigError, match="PRE_NORM is True; only False"):
        build_task(cfg)
    cfg = load_config()
    cfg.MODEL.MASK_FORMER.NHEADS = 7
    with pytest.raises(ConfigError, match="expected a divisor"):
        check_config(cfg)


def test_stored_configs_of_other_architectures_keep_their_unread_keys_to_themselves(caplog):
    """A run of an own architecture used to store the sections of all systems."""
    stored = to_dict(load_config()) | {"CUDNN_BENCHMARK": False}
    stored["MODEL"]["META_ARCHITECTURE"] = "outside.pixels:build"
    import_module("outside.pixels")
    assert config_from_dict(stored).MODEL.META_ARCHITECTURE == "outside.pixels:build"
    assert "MASK_FORMER" not in caplog.text
    assert "CUDNN_BENCHMARK" in caplog.text


def test_sections_have_one_place():
    with pytest.raises(ConfigError, match=r"INPUT is there already; .* segcore\.schema"):
        architectures._tree((("INPUT", Alien),))
    with pytest.raises(ConfigError, match=r"no section MODEL\.NOWHERE for DEEP"):
        architectures._tree((("MODEL.NOWHERE.DEEP", Alien),))
    tree = architectures._tree(
        (("INPUT", Sharper), ("MODEL.ALIEN", Alien), ("MODEL.ALIEN.A", Alien))
    )
    cfg = tree()
    assert (cfg.INPUT.FORMAT, cfg.INPUT.EDGE, cfg.INPUT.IMAGE_SIZE) == ("BGR", 3, 1024)
    assert (cfg.MODEL.ALIEN.LEGS, cfg.MODEL.ALIEN.A.LEGS) == (8, 8)
    assert isinstance(cfg, Config)


def test_round_trip(tmp_path):
    cfg = load_config(FILES[0])
    save_config(cfg, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == cfg
    assert config_from_dict(to_dict(cfg)) == cfg


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SEED: ${oc.env:HOME}", "not filled in"),
        ("MODEL: {MASK_FORMER: {DEEP_SUPERVISION: 1}}", "write true or false"),
        ("DATASETS: {TRAIN: (mine,)}", "names in a tuple need quotes"),
        ("INPUT: {MIN_SIZE_TRAIN: [a]}", "a size in pixels"),
        ("solver: {base_lr: 1}", r"did you mean SOLVER\.BASE_LR"),
        ("SEED: {NOW: 1}", "SEED is a value like"),
        ("_BASE_: 3", "expected a file name or a list"),
        ("_BASE_: none.yaml", "the _BASE_ of"),
        ("- SEED", "expected a mapping"),
    ],
)
def test_mistakes_in_files_raise(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "a.yaml")


def test_a_key_written_twice_warns_and_the_last_counts(tmp_path, caplog):
    (tmp_path / "a.yaml").write_text("SEED: 1\nSEED: 2\n")
    assert load_config(tmp_path / "a.yaml").SEED == 2
    assert "SEED is written twice, in lines 1 and 2" in caplog.text


def test_a_value_that_is_not_followed_warns(tmp_path, caplog):
    (tmp_path / "a.yaml").write_text("INPUT: {CROP: {TYPE: relative_range}}\n")
    load_config(tmp_path / "a.yaml")
    assert "INPUT.CROP.TYPE 'relative_range' (only 'absolute' is done here)" in caplog.text


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_default_keeps_its_rule(architecture):
    schema = schema_of(architecture)
    for name, key in schema.keys.items():
        assert not key.rule.fault(key.default), name
        if key.rule.divides:
            assert f"{name.rpartition('.')[0]}.{key.rule.divides}" in schema.keys


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("MODEL.MASK_FORMER.ENC_LAYERS", "6", "only 0 is done here"),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", "65", "the catalogue's ignore_label counts"),
        ("MODEL.MASK_ON", "true", "MASK_FORMER.TEST says"),
        ("INPUT.MASK_FORMAT", "bitmask", "read as it is"),
        ("INPUT.SAMPLING_FRAME_NUM", "5", "only 2 is done here"),
        ("INPUT.AUGMENTATIONS", "[brightness]", "is done here"),
    ],
)
def test_what_only_other_systems_read_warns_unless_it_is_the_default(caplog, key, value, says):
    cfg = load_config(None, [key, value])
    assert f"{key} " in caplog.text
    assert says in caplog.text
    caplog.clear()
    default = reduce(getattr, key.split("."), load_config())
    assert default != reduce(getattr, key.split("."), cfg)
    load_config(None, [key, str(default)])
    assert not caplog.text


def test_a_number_where_a_name_is_wanted_stays_a_name():
    assert load_config(None, ["OUTPUT_DIR", "010"]).OUTPUT_DIR == "010"
