"""`segcore plan`, and `segcore train --data`."""

import json
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from tiny import make_dataset

from segcore.cli.main import main
from segcore.cli.plan import Asked, plan_of_run, values_of, write_plan
from segcore.cli.plan import main as plan_command
from segcore.config import load_config
from segcore.errors import ConfigError, DataError
from segcore.plan.plan import Wishes

CLASSES = '["box", "disc", "ground"]'
QUICK = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.BACKBONE.NAME": "outside.networks:build_backbone",
    "MODEL.BACKBONE.FROZEN_NORM": "false",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.MAX_ITER": "2",
    "SEED": "1",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    make_dataset(folder)
    (folder / "classes.json").write_text(CLASSES)
    return folder


class GivenMeter(nullcontext):
    """Seconds of a step, half of them in bf16, and shares of the memory that are given."""

    def __init__(self, seconds, shares):
        super().__init__(self)
        self.seconds, self.shares = seconds, shares

    def step(self, config, opts, precision, **_):
        load_config(config, opts)  # a draft is a config already
        return self.seconds * (1 if precision == "fp32" else 0.5)

    def image(self, *_, **__):
        return 0.1

    def share(self, *_):
        return self.shares.pop(0)


def planned(folder, data, tmp_path, *, seconds=0.5, share=0.1, val="", **wishes):
    """A plan whose measurements are given; its file."""
    asked = Asked(
        data=f"{folder / data}@{folder / 'images'}",
        val=val,
        wishes=Wishes(**wishes),
        opts=("MODEL.DEVICE", "cpu"),
    )
    output = tmp_path / "plan.yaml"

    write_plan(asked, output, meter=GivenMeter(seconds, [share, 0.1, 0.1]))
    return output


@pytest.mark.parametrize(
    ("data", "wishes", "base"),
    [
        ("instances.json", {}, "small/maskrcnn_lite0.yaml"),
        ("instances.json", {"network": "mask2former"}, "small/instance_lite0.yaml"),
        ("instances.json", {"task": "entity"}, "small/maskrcnn_lite0.yaml"),
        ("panoptic.json", {}, "small/panoptic_lite0.yaml"),
        ("panoptic.json", {"task": "semantic"}, "small/semantic_lite0.yaml"),
        ("panoptic.json", {"task": "entity"}, "small/maskrcnn_lite0.yaml"),
        (
            "panoptic.json",
            {"task": "entity", "network": "mask2former"},
            "small/entity_lite0.yaml",
        ),
        ("labels", {}, "small/semantic_lite0.yaml"),
    ],
)
def test_plan_is_a_config_with_a_reason_a_line(folder, tmp_path, data, wishes, base):
    output = planned(folder, data, tmp_path, **wishes)
    cfg = load_config(output)
    assert yaml.safe_load(output.read_text())["_BASE_"] == base
    assert [f"{folder / data}@{folder / 'images'}#train"] == cfg.DATASETS.TRAIN
    assert [f"{folder / data}@{folder / 'images'}#val"] == cfg.DATASETS.TEST
    assert cfg.SOLVER.MAX_ITER > 20
    assert cfg.SOLVER.AMP.PRECISION == "bf16"
    lines = output.read_text().splitlines()
    for above, line in pairwise(lines):
        key, _, value = line.partition(":")
        if value and not key.lstrip().startswith("#"):
            assert above.lstrip().startswith("#"), line


def test_a_plan_that_is_there_raises_and_stays_unless_it_may_be_replaced(folder, tmp_path):
    output = tmp_path / "plan.yaml"
    output.write_text("SEED: 7\n")
    given = {"val": None, "output": output, "catalogs": (), "opts": ()}
    with pytest.raises(ConfigError, match=r"plan.yaml is there already.*--overwrite"):
        plan_command(data=str(folder / "none.json"), overwrite=False, **given)
    assert output.read_text() == "SEED: 7\n"
    with pytest.raises((ConfigError, DataError), match=r"none\.json"):  # which is looked at then
        plan_command(data=str(folder / "none.json"), overwrite=True, **given)


def test_few_images_are_offered_augmentations_as_comments(folder, tmp_path):
    text = planned(folder, "instances.json", tmp_path).read_text()
    assert "  # VERTICAL_FLIP: 0.5\n" in text
    assert "  # COPY_PASTE: {PROBABILITY: 0.5}\n" in text
    taken = tmp_path / "taken.yaml"
    taken.write_text(text.replace("# VERTICAL", "VERTICAL").replace("# COPY_PASTE", "COPY_PASTE"))
    for file, share in ((tmp_path / "plan.yaml", 0.0), (taken, 0.5)):
        data = load_config(file).INPUT
        assert (share, share) == (data.VERTICAL_FLIP, data.COPY_PASTE.PROBABILITY)


def test_plan_says_what_differs_from_its_base_alone(folder, tmp_path):
    output = planned(folder, "panoptic.json", tmp_path)
    base, cfg = values_of("small/panoptic_lite0.yaml"), values_of(str(output))
    text = output.read_text()
    for key, value in cfg.items():
        if value != base[key]:
            assert f"{key.rpartition('.')[2]}: " in text
    assert "BASE_LR: " not in text  # the base's, at the base's batch


def test_memory_that_is_too_little_is_answered_by_accumulation(folder, tmp_path):
    cfg = load_config(planned(folder, "panoptic.json", tmp_path, share=2.0))
    assert cfg.SOLVER.ACCUMULATE == 2
    assert cfg.SOLVER.IMS_PER_BATCH % 2 == 0


def test_second_data_set_is_evaluated(folder, tmp_path):
    data = f"{folder / 'labels'}@{folder / 'images'}"
    cfg = load_config(planned(folder, "labels", tmp_path, val=data, minutes=20.0))
    assert cfg.DATASETS.TRAIN == cfg.DATASETS.TEST == [data]
    with pytest.raises(ConfigError, match="name the other part"):
        write_plan(Asked(data=f"{data}#train"), tmp_path / "no.yaml")


def test_crowded_images_and_sides_are_in_the_plan(folder, tmp_path):
    """1,000 squares in each of three images, of classes that say left and right."""
    make_dataset(tmp_path, count=3)
    file = tmp_path / "instances.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 3, "name": "left_hand"}, {"id": 7, "name": "right_hand"}]
    squares = [[x, y, x + 1, y, x + 1, y + 1, x, y + 1] for x in range(40) for y in range(25)]
    content["annotations"] = [
        {"id": 1000 * i + n, "image_id": i, "category_id": 3, "iscrowd": 0, "area": 1}
        | {"segmentation": [ring], "bbox": [*ring[:2], 1, 1]}
        for i in range(3)
        for n, ring in enumerate(squares)
    ]
    file.write_text(json.dumps(content))
    cfg = load_config(planned(tmp_path, "instances.json", tmp_path, network="mask2former"))
    assert cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES == cfg.TEST.DETECTIONS_PER_IMAGE == 1100
    assert cfg.INPUT.RANDOM_FLIP == "horizontal"
    assert cfg.INPUT.MIRROR_SWAP == [["left_hand", "right_hand"]]
    detector = load_config(planned(tmp_path, "instances.json", tmp_path))
    assert detector.TEST.DETECTIONS_PER_IMAGE == 1100
    assert detector.SOLVER.MAX_ITER == 800  # enough for three images


def test_a_run_uses_the_plan_of_its_folder_again_as_people_changed_it(
    folder, tmp_path, capsys, monkeypatch
):
    plan = planned(folder, "instances.json", tmp_path, minutes=20.0)
    text = plan.read_text() + "SEED: 7\n"
    plan.write_text(text)
    given = {"data": f"{folder}/instances.json@{folder}/images", "val": None}
    given["opts"] = ["OUTPUT_DIR", str(tmp_path)]
    monkeypatch.setattr("segcore.cli.plan.write_plan", None)  # which nobody may call
    for more in ({}, {"minutes": 20.0}, {"task": "instance"}, {"resume": True}):
        assert plan_of_run(**{"resume": False, **given, **more}) == plan
        assert f"{plan} is used as it is; --overwrite plans anew" in capsys.readouterr().out
    assert plan.read_text() == text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"data": "other.json"},
            r"is there from before; it trains on .*#train, and other",
        ),
        ({"val": "other.json"}, r"evaluates .*#val, and other\.json is asked for: --overwrite"),
        ({"minutes": 30.0}, r"is of minutes 20, and 30 is asked for"),
        ({"network": "mask2former"}, r"is of network maskrcnn, and mask2former is asked for"),
        ({"resume": True, "data": "other.json"}, "it trains on"),
        ({"resume": True, "overwrite": True}, "is resumed keeps its plan, --overwrite"),
    ],
)
def test_a_plan_of_something_else_raises_and_stays(folder, tmp_path, more, said):
    plan = planned(folder, "instances.json", tmp_path, minutes=20.0)
    text = plan.read_text()
    given = {"data": f"{folder}/instances.json@{folder}/images", "val": None, "resume": False}
    with pytest.raises(ConfigError, match=said):
        plan_of_run(**{**given, "opts": ["OUTPUT_DIR", str(tmp_path)], **more})
    assert plan.read_text() == text


def test_overwrite_plans_anew_and_a_rank_takes_what_the_first_one_made(
    folder, tmp_path, capsys, monkeypatch
):
    plan = planned(folder, "instances.json", tmp_path)
    asked = []
    monkeypatch.setattr("segcore.cli.plan.write_plan", lambda *given: asked.append(given))
    given = {"data": "other.json", "val": None, "resume": False, "overwrite": True}
    given["opts"] = ["OUTPUT_DIR", str(tmp_path)]
    assert plan_of_run(**given) == plan
    assert [(each[0].data, each[1]) for each in asked] == [("other.json", plan)]
    assert f"written: {plan}; this run is" in capsys.readouterr().out
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert plan_of_run(**given) == plan
    assert len(asked) == 1


@pytest.mark.slow
def test_train_plans_for_data_trains_and_resumes_by_the_same_plan(tmp_path, capfd):
    make_dataset(tmp_path)
    data, output = f"{tmp_path}/instances.json@{tmp_path}/images", tmp_path / "out"
    words = ["train", "--data", data, "--minutes", "1", "OUTPUT_DIR", str(output)]
    words += [word for pair in QUICK.items() for word in pair]
    for more in ([], ["--resume"]):
        with pytest.raises(SystemExit) as ended:
            main([*words[:1], *more, *words[1:]])
        assert ended.value.code == 0
    out = capfd.readouterr().out
    assert out.index("written: ") < out.index("is used as it is")
    plan = output / "plan.yaml"
    assert f"TRAIN: ['{data}#train']" in plan.read_text() or f"{data}#train" in plan.read_text()
    assert (output / "model_final.pth").is_file()
    metrics = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in metrics if "AP" in row][-1] == 2
    assert Path(output / "config.yaml").is_file()
