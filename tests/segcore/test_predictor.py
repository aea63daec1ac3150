"""The Python API: what it takes, and what it refuses."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_dataset

from segcore.config import load_config
from segcore.errors import ConfigError, DataError, WeightsError
from segcore.predict import Predictor
from segcore.structures import Batch

CPU = ["MODEL.DEVICE", "cpu"]
GREY = np.full((40, 60, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return ["DATASETS.CATALOGS", f"[{make_dataset(tmp_path_factory.mktemp('data'))}]"]


@pytest.fixture(scope="module")
def config(root):
    return root / "configs/tiny/panoptic_tiny.yaml"


@pytest.fixture(scope="module")
def predictor(config, catalog):
    return Predictor(config, "", [*CPU, *catalog])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 60, 3), np.uint8), r"shape \(0, 60, 3\); expected .* with pixels"),
        (np.zeros((60, 60), np.uint8), r"shape \(60, 60\); expected"),
        (torch.zeros(3, 40, 60), r"got Tensor; expected .*permute\(1, 2, 0\)"),
        (7, "got int; expected a path"),
        (None, "got NoneType; expected a path"),
    ],
)
def test_what_is_no_image_is_told(predictor, image, message):
    for given in (image, [GREY, image]):
        for call in (predictor, predictor.outputs):
            with pytest.raises(DataError, match=message):
                call(given)


def test_images_of_pil_are_taken(predictor):
    for image in (Image.fromarray(GREY), Image.new("L", (60, 40), 128)):
        assert torch.equal(predictor.sample(image).views, predictor.sample(GREY).views)
    (result,) = predictor(Image.fromarray(GREY))
    assert result.panoptic.map.shape == (40, 60)
    assert len(predictor(Image.fromarray(GREY) for _ in range(2))) == 2


CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
CROPS += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]


@pytest.mark.parametrize("options", [[], CROPS], ids=["Mask2Former", "CropFormer"])
def test_two_threads_are_told_what_one_is(config, catalog, options):
    """By one predictor, from its first image on, prepared for a CPU as it is by default."""
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 60), (64, 50), (40, 60)) * 2
    ]
    predictors = []
    for _ in range(2):
        torch.manual_seed(0)
        predictors.append(Predictor(config, "", [*CPU, *catalog, *options]))
    alone, shared = predictors
    wanted = [alone(image)[0] for image in images]
    with ThreadPoolExecutor(2) as threads:
        found = [results[0] for results in threads.map(shared, images)]
    for result, other in zip(found, wanted, strict=True):
        assert torch.equal(result.instances.scores, other.instances.scores)
        assert len(result.instances.masks) and result.instances.masks == other.instances.masks
        assert options or torch.equal(result.panoptic.map, other.panoptic.map)


def test_no_images_at_all(predictor):
    assert predictor([]) == []
    with pytest.raises(DataError, match="at least one image"):
        predictor.outputs([])


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "xpu:77"])
def test_devices_that_are_not_here_are_told(config, catalog, name):
    with pytest.raises(ConfigError, match=f"MODEL.DEVICE '{name}' .*expected cpu, cuda"):
        Predictor(config, "", ["MODEL.DEVICE", name, *catalog])


def test_options_are_not_dropped_where_a_config_is_given(config, catalog):
    cfg = load_config(config, [*CPU, *catalog])
    with pytest.raises(ConfigError, match="load_config"):
        Predictor(cfg, "", ["TEST.BATCH_SIZE", "2"])
    assert Predictor(cfg, "").cfg is cfg


def test_a_start_for_training_is_no_model_to_look_with(config, catalog, tmp_path):
    plain = [*CPU, *catalog, "TEST.PREPARE", "false"]  # whose weights can be saved
    first = Predictor(config, "", plain)
    state = first.task.model.state_dict()
    torch.save(state, tmp_path / "whole.pth")
    again = Predictor(config, tmp_path / "whole.pth", plain)
    assert torch.equal(again.outputs(GREY).layers[-1].masks, first.outputs(GREY).layers[-1].masks)
    torch.save(
        {k: v for k, v in state.items() if k.startswith("backbone.")}, tmp_path / "start.pth"
    )
    opts = [*CPU, *catalog, "MODEL.WEIGHTS", str(tmp_path / "start.pth")]
    for weights in (None, tmp_path / "start.pth"):
        with pytest.raises(WeightsError, match=r"start\.pth: .*not a trained model; missing"):
            Predictor(config, weights, opts)


def test_feature_maps_are_not_kept_for_results(predictor):
    batch = Batch.collate([predictor.sample(GREY)])
    plain, full = (predictor.task.infer(batch, torch.device("cpu"), aux) for aux in (False, True))
    assert plain.features == []
    assert len(full.features) == 4
    assert torch.equal(plain.layers[-1].masks, full.layers[-1].masks)


def test_inference_in_bf16_is_the_same_but_coarser(config, catalog):
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    answers = {}
    for kind in ("fp32", "bf16"):
        torch.manual_seed(0)
        predictor = Predictor(config, "", [*CPU, *catalog, "TEST.PRECISION", kind])
        answers[kind] = predictor.outputs(image).layers[0].masks.float()
        assert predictor(image)[0].panoptic.map.shape == (64, 80)
    error = (answers["bf16"] - answers["fp32"]).abs().max() / answers["fp32"].abs().max()
    assert 0 < error < 0.05


@pytest.mark.parametrize(("kind", "message"), [("fp16", "needs a GPU"), ("half", "expected fp32")])
def test_other_precisions_of_inference_are_refused(config, catalog, kind, message):
    with pytest.raises(ConfigError, match=f"TEST.PRECISION.*{message}"):
        Predictor(config, "", [*CPU, *catalog, "TEST.PRECISION", kind])
