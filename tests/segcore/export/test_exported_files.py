"""Files of tiny models in ONNX Runtime, OpenVINO and torch, held to the models they are made of."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tensorrt_operators import SUPPORTED

from cropformer.build import build_crops
from mask2former.build import build
from segcore import masks as mask_io
from segcore.cli.export import export
from segcore.config import load_config
from segcore.errors import ConfigError, DataError, WeightsError
from segcore.export import openvino_file, parity
from segcore.export.as_model import ExportedModel
from segcore.export.facts import Wanted
from segcore.export.graph import Graph, drawn_input, graph_of
from segcore.export.read import read_exported
from segcore.structures import Batch, Frame, Metadata, Outputs, Prediction, Record

TINY = Path(__file__).resolve().parents[3] / "configs/tiny"
CLASSES = ("box", "disc", "ground")
THREE = Metadata(
    "drawn", CLASSES, (3, 7, 9), (True, True, False), ((9, 8, 7), (1, 2, 3), (4, 5, 6))
)
SIZES = ((64, 96), (128, 64), (160, 192))
SWIN = ["MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", "12"]
SWIN += ["MODEL.SWIN.DEPTHS", "[1, 2, 2, 1]", "MODEL.SWIN.NUM_HEADS", "[1, 2, 3, 4]"]
CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "True"]
CROPS += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
CROPS += ["ENTITY.FUSE_ENC_DIM_FEEDFORWARD", "32", "ENTITY.CROP_SAMPLE_NUM_TEST", "2"]
NETWORKS = {  # config, options, builder, views
    "resnet50": (
        "instance_tiny.yaml", ["MODEL.BACKBONE.NAME", "build_resnet_backbone"], build, 1,
    ),
    "swin": ("panoptic_tiny.yaml", SWIN, build, 1),
    "cropformer": ("panoptic_tiny.yaml", CROPS, build_crops, 3),
    "semantic": ("semantic_tiny.yaml", [], build, 1),
}  # fmt: skip


def task_of(name):
    config, opts, builder, views = NETWORKS[name]
    cfg = load_config(TINY / config, opts)
    torch.manual_seed(0)
    task = builder(cfg, THREE)
    task.model.eval().requires_grad_(False)
    return cfg, task, views


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory):
    """A network for any size in ONNX, and that file for OpenVINO."""
    cfg, task, views = task_of(request.param)
    wanted = Wanted(size=None, views=views)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export(cfg, task, wanted, "onnx", path)
    opened = read_exported(path)
    openvino_file.write(path, path.with_suffix(".xml"), opened.facts)
    return task, graph_of(task, wanted), wanted, path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_runtimes_say_what_the_model_says_at_three_sizes(exported, suffix):
    task, graph, wanted, path = exported
    opened = read_exported(path.with_suffix(suffix))
    compared = parity.compare(opened, graph, wanted, SIZES)
    parity.refuse_difference(compared, path)
    for size in SIZES:
        shape = [wanted.views, 3, *size]
        best = [one for one in compared if one.row["shape"] == shape and one.within]
        assert max(best[0].row["differences"].values()) < 1e-4
        assert_same_results(task, opened, best[0])


def assert_same_results(task, opened, one):
    """By our post-processing of what both say; a pixel at the threshold may differ."""
    pixels, sizes = (torch.from_numpy(one.arrays[name]) for name in ("pixels", "sizes"))
    H, W = sizes[0].tolist()
    record = Record(1, (H, W), (Frame(Path("drawn")),))
    boxes = torch.tensor([[0, 0, W, H]]).repeat(len(pixels), 1)
    batch = Batch(pixels[None], sizes[None], boxes[None], [], [record])
    ours = [torch.from_numpy(one.arrays[name])[None] for name in ("logits", "masks")]
    (mine,) = task.postprocess(Outputs([Prediction(*ours)]), batch)
    (theirs,) = task.postprocess(ExportedModel(opened)(batch.images, batch.sizes), batch)
    some = H * W // 500
    if mine.semantic is not None:
        assert (mine.semantic != theirs.semantic).sum() <= some
    if mine.panoptic is not None:
        assert (mine.panoptic.map != theirs.panoptic.map).sum() <= some
        pairs = zip(mine.panoptic.segments, theirs.panoptic.segments, strict=True)
        assert all(a.category == b.category for a, b in pairs)
    if mine.instances is not None:
        assert theirs.instances.scores.numpy() == pytest.approx(mine.instances.scores, abs=1e-4)
        pairs = zip(mine.instances.masks, theirs.instances.masks, strict=True)
        for a, b in pairs:
            assert (mask_io.decode(a) != mask_io.decode(b)).sum() <= some


@pytest.mark.slow
def test_tensorrt_lists_every_operator(exported):
    nodes = onnx.load(exported[-1]).graph.node
    assert {node.op_type for node in nodes} <= SUPPORTED
    assert {node.domain for node in nodes} == {""}
    assert any(node.op_type == "GridSample" for node in nodes)


@pytest.mark.slow
def test_a_file_says_what_it_is(exported):
    task, _, wanted, path = exported
    for suffix in (".onnx", ".xml"):
        facts = read_exported(path.with_suffix(suffix)).facts
        assert facts["classes"] == list(task.metadata.classes)
        assert facts["colors"] == [list(color) for color in task.metadata.colors]
        assert facts["makes"] == list(task.makes)
        assert facts["resize"] == {"shorter": 64, "longest": 1333}
        assert (facts["views"], facts["size"]) == (wanted.views, None)
        assert facts["outputs"] == ["logits", "masks"]


@pytest.mark.slow
def test_beside_a_file_lies_what_it_was_compared_with(exported):
    _, graph, _, path = exported
    rows = [
        json.loads(x)
        for x in (path.parent / "model.onnx.parity.jsonl").read_text().split("\n")[:-1]
    ]
    arrays = np.load(path.parent / "model.onnx.parity.npz")
    assert len({tuple(row["shape"]) for row in rows}) == 2
    assert all(row["runtime"].startswith("onnxruntime") for row in rows)
    pixels, sizes = (torch.from_numpy(arrays[name]) for name in ("pixels_0", "sizes_0"))
    with torch.no_grad():
        assert np.allclose(graph(pixels, sizes)[0].numpy(), arrays["logits_0"], atol=1e-6)
    assert not list(path.parent.glob(".export*"))


@pytest.mark.slow
@pytest.mark.parametrize("to, suffix", [("torchscript", ".ts"), ("torch-export", ".pt2")])
def test_torch_runs_its_own_formats(tmp_path, to, suffix):
    cfg, task, _ = task_of("semantic")
    path = tmp_path / f"model{suffix}"
    export(cfg, task, Wanted(size=(64, 96), post=True), to, path)
    opened = read_exported(path)
    assert opened.facts["outputs"] == ["logits", "masks", "semantic"]
    assert opened.facts["size"] == [64, 96]


@pytest.mark.slow
def test_programs_of_torch_may_keep_our_operator(tmp_path):
    cfg, task, _ = task_of("semantic")
    path = tmp_path / "model.pt2"
    export(cfg, task, Wanted(size=(64, 96), custom=True), "torch-export", path)
    names = [str(node.target) for node in torch.export.load(path).graph.nodes]
    assert any("segcore.deform_attn" in name for name in names)
    assert not any("grid_sampler" in name for name in names)


def test_a_file_of_one_size_takes_smaller_images():
    _, task, _ = task_of("semantic")
    graph = Graph(task.model)
    model = ExportedModel(runs(graph, size=[96, 128]))
    pixels, sizes = drawn_input(Wanted(size=None), (64, 96))
    with torch.no_grad():
        answer = model(pixels[None], sizes[None]).layers[-1]
        padded = torch.nn.functional.pad(pixels, (0, 32, 0, 32))
        logits, masks = graph(padded, sizes)
    assert answer.masks.shape[-2:] == (16, 24)
    assert torch.equal(answer.logits[0], logits)
    assert torch.equal(answer.masks[0], masks[..., :16, :24])
    with pytest.raises(DataError, match=r"160x128.*larger than.*96x128"):
        model(torch.zeros(1, 1, 3, 160, 128, dtype=torch.uint8), torch.tensor([[[160, 128]]]))
    with pytest.raises(ConfigError, match=r"takes 1 views.*makes 2"):
        model(torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8), torch.tensor([[[64, 64]] * 2]))


def runs(graph, size=None, wrong=0.0):
    """The graph as if a runtime ran it."""

    def run(pixels, sizes):
        with torch.no_grad():
            named = graph.named(torch.from_numpy(pixels), torch.from_numpy(sizes))
        return {name: value.numpy() + wrong for name, value in named.items()}

    facts = {"views": 1, "size": size, "pixels": {"type": "uint8"}}
    return parity.Opened(facts, run, "another runtime 1.0")


def test_another_answer_is_refused():
    _, task, _ = task_of("semantic")
    graph, wanted = Graph(task.model), Wanted(size=(64, 96))
    parity.refuse_difference(parity.compare(runs(graph), graph, wanted, [(64, 96)]), Path("x"))
    compared = parity.compare(runs(graph, wrong=0.01), graph, wanted, [(64, 96)])
    assert len(compared) == parity.TRIES
    with pytest.raises(ConfigError, match=r"another runtime 1.0.*logits.*0.01"):
        parity.refuse_difference(compared, Path("x"))


@pytest.mark.parametrize(
    "change, wanted, problem",
    [
        ({"clips": True}, {}, "clips cannot be exported"),
        ({"no_graph": "it is too large"}, {}, "cannot be exported: it is too large"),
        ({"graph_results": None}, {"post": True}, "no results in a graph"),
        ({}, {"post": True, "views": 3}, "CROP_SAMPLE_NUM_TEST 0"),
        ({}, {"size": (64, 100)}, "multiples of 32"),
    ],
)
def test_what_cannot_be_exported_is_refused(change, wanted, problem):
    _, task, _ = task_of("semantic")
    with pytest.raises(ConfigError, match=problem):
        graph_of(replace(task, **change), Wanted(**{"size": None} | wanted))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no such file.*segcore export"):
        read_exported(tmp_path / "model.onnx")
