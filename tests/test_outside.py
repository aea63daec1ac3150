"""What a package outside of this project adds without a change to it."""

import copy
import pickle

import pytest
import torch
from lightning_fabric import Fabric
from outside import networks, pixels
from tiny import make_dataset

from mask2former.decoder import MaskedDecoder
from segcore.build import solver
from segcore.build.data import catalog as catalog_of
from segcore.build.data import test_batches as batches_of
from segcore.build.data import train_batches, train_metadata
from segcore.build.evaluators import evaluators_of
from segcore.build.task import build_task
from segcore.config import config_from_dict, load_config, save_config, section, to_dict
from segcore.data.catalog import Catalog
from segcore.engine.evaluate import evaluate
from segcore.engine.trainer import Trainer
from segcore.errors import ConfigError
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.labels import semantic_map
from segcore.structures import Result

OWN = ["MODEL.META_ARCHITECTURE", "outside.pixels:build"]
TINY = "configs/tiny/panoptic_tiny.yaml"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("tiny"))


def test_an_architecture_brings_its_section():
    cfg = load_config(None, [*OWN, "MODEL.PATCHES.SIDE", "4"])
    own = section(cfg, "MODEL.PATCHES", pixels.Patches)
    assert own is cfg.MODEL.PATCHES
    assert (own.SIDE, own.WIDTH, own.NOTES) == (4, 16, [])
    assert not hasattr(cfg.MODEL, "MASK_FORMER")
    assert not hasattr(load_config().MODEL, "PATCHES")
    with pytest.raises(ConfigError, match=r"has no section MODEL\.PATCHES"):
        section(load_config(), "MODEL.PATCHES", pixels.Patches)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.PATCHES.SIDE", "9"], r"PATCHES\.SIDE is 9; it must be from 1 to 8"),
        (["MODEL.PATCHES.SIDE", "wide"], "expected int like 2"),
        (["MODEL.PATCHES.ACTIVATION", "tanh"], "expected relu, gelu"),
        (["MODEL.PATCHS.SIDE", "2"], r"did you mean MODEL\.PATCHES\.SIDE"),
        (["MODEL.MASK_FORMER.NUM_OBJECT_QUERYS", "2"], r"mean MODEL\.MASK_FORMER\.NUM_OBJECT_QUE"),
    ],
)
def test_mistakes_in_an_own_section_raise(opts, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [*OWN, *opts])


def test_sections_that_the_architecture_does_not_read_warn(caplog):
    load_config(None, [*OWN, "MODEL.MASK_FORMER.NHEADS", "4", "ENTITY.FUSE_DEC_NUM_LAYERS", "3"])
    assert "MODEL.MASK_FORMER.NHEADS 4" in caplog.text
    assert "ENTITY.FUSE_DEC_NUM_LAYERS" in caplog.text
    caplog.clear()
    load_config(None, [*OWN, "MODEL.MASK_FORMER.NHEADS", "8"])  # as it would be anyway
    assert not caplog.text


def test_own_sections_survive_files_checkpoints_and_pickles(tmp_path):
    cfg = load_config(None, [*OWN, "MODEL.PATCHES.NOTES", "[a, b]"])
    save_config(cfg, tmp_path / "config.yaml")
    for again in (
        load_config(tmp_path / "config.yaml"),
        config_from_dict(to_dict(cfg)),
        copy.deepcopy(cfg),
        pickle.loads(pickle.dumps(cfg)),
    ):
        assert again == cfg
        assert again.MODEL.PATCHES.NOTES == ["a", "b"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.META_ARCHITECTURE", "outside.never_imported:build"),
        ("MODEL.BACKBONE.NAME", "outside.never_imported:build"),
        ("MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "outside.never_imported:build"),
    ],
)
def test_a_stored_config_imports_nothing(key, value):
    with pytest.raises(ConfigError, match=r"import outside\.never_imported first"):
        config_from_dict({key: value})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outside.missing:build", "cannot be imported: No module named 'outside.missing'"),
        ("outside.pixels:missing", "pixels.py has no missing"),
        (":build", "expected package.module:function"),
        ("..pixels:build", "expected package.module:function"),
    ],
)
def test_an_import_path_that_leads_nowhere_raises(name, message):
    with pytest.raises(ConfigError, match=f"META_ARCHITECTURE .*'{name}'.*{message}"):
        load_config(None, ["MODEL.META_ARCHITECTURE", name])


def test_an_own_architecture_trains_and_is_evaluated(catalog):
    given = {
        "DATASETS.CATALOGS": f"[{catalog}]",
        "DATASETS.TRAIN": "tiny_semantic",
        "INPUT.MIN_SIZE_TRAIN": "64",
        "INPUT.MIN_SIZE_TEST": "64",
        "DATALOADER.NUM_WORKERS": "0",
        "SOLVER.IMS_PER_BATCH": "4",
        "SOLVER.BASE_LR": "0.05",
        "SOLVER.CLIP_GRADIENTS.ENABLED": "false",
    }
    cfg = load_config(None, [*OWN, *(word for pair in given.items() for word in pair)])
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    sets = catalog_of(cfg)
    task = build_task(cfg, train_metadata(cfg, sets))
    optimizer, schedule = solver.build_optimizer(cfg, task)
    trainer = Trainer(task, optimizer, schedule, fabric, clipping=solver.clipping(cfg))
    trainer.fit(train_batches(cfg, task, sets, fabric), 15, [])
    evaluator = SemanticEvaluator(task.metadata)
    metrics = evaluate(
        task, batches_of(cfg, task, sets, "tiny_semantic", fabric), [evaluator], fabric
    )
    assert metrics["mIoU"] > 80


def test_a_metric_from_outside_is_named_in_a_catalogue(catalog):
    own = catalog.with_name("own.yaml")
    own.write_text(
        "reader: label_png\nclasses: [box, disc, ground]\n"
        "evaluators: [outside.accuracy:Accuracy]\n"
        "names: {own: {images: images, annotations: labels}}\n"
    )
    sets = Catalog(catalog.parent, [own])
    metadata, records = sets.metadata("own"), sets.records("own")
    (evaluator,) = evaluators_of((), sets, metadata)
    assert evaluator.kinds == ("outside.accuracy:Accuracy",)
    for i, record in enumerate(records):
        truth = semantic_map(record.frames[0], metadata)
        classes = truth.clip(0) if i else (truth + 1) % 3  # all wrong in the first image
        evaluator.update(Result(semantic=torch.from_numpy(classes)), record)
    (right, wrong), *others = evaluator.parts
    assert (right, {r == n for r, n in others}) == (0, {True})
    rest = sum(r for r, _ in others)
    assert evaluator.compute() == {"accuracy": pytest.approx(100 * rest / (rest + wrong))}


def test_an_architecture_builds_on_another_and_its_sections(root, catalog):
    opts = ["MODEL.META_ARCHITECTURE", "outside.weighted:build", "MODEL.WEIGHTED.MASKS", "0.0"]
    cfg = load_config(root / TINY, [*opts, "DATASETS.CATALOGS", f"[{catalog}]"])
    assert cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES == 8
    task = build_task(cfg)
    batch = next(train_batches(cfg, task, catalog_of(cfg), Fabric(accelerator="cpu", devices=1)))
    outputs = task.model(batch.images, batch.sizes)
    losses = task.losses(outputs, batch.targets, batch.counts())
    assert losses["loss_mask"] == 0 < losses["loss_ce"]


def test_networks_of_ones_own_take_the_place_of_ours(root, catalog):
    names = {
        "MODEL.BACKBONE.NAME": "outside.networks:build_backbone",
        "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "outside.networks:build_pixel_decoder",
        "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "outside.networks:build_decoder",
    }
    opts = [word for pair in names.items() for word in pair]
    cfg = load_config(root / TINY, [*opts, "DATASETS.CATALOGS", f"[{catalog}]"])
    model = build_task(cfg).model
    assert isinstance(model.backbone, networks.Stairs)
    assert isinstance(model.pixel_decoder, networks.Sideways)
    assert isinstance(model.decoder, MaskedDecoder)
    images = torch.zeros(1, 1, 3, 64, 96, dtype=torch.uint8)
    layers = model(images, torch.tensor([[[64, 96]]])).layers
    assert layers[-1].masks.shape == (1, 5, 1, 16, 24)


def test_a_backbone_that_does_not_say_its_channels_raises(root, catalog):
    opts = ["MODEL.BACKBONE.NAME", "outside.networks:build_without_channels"]
    cfg = load_config(root / TINY, [*opts, "DATASETS.CATALOGS", f"[{catalog}]"])
    with pytest.raises(ConfigError, match="makes a Identity without channels and strides"):
        build_task(cfg)
