"""Files of tiny models in ONNX Runtime, OpenVINO and torch, held to the models they are made of."""

import json
from dataclasses import dataclass, replace
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
from segcore.contracts import Task
from segcore.errors import ConfigError, DataError, WeightsError
from segcore.export import openvino_file, parity
from segcore.export.as_model import ExportedModel
from segcore.export.facts import Wanted
from segcore.export.graph import Graph, drawn_input, graph_of
from segcore.export.read import SUFFIXES, read_exported
from segcore.predict import Predictor
from segcore.structures import Batch, Frame, Metadata, Outputs, Prediction, Record, Size

TINY = Path(__file__).resolve().parents[3] / "configs/tiny"
CLASSES = ("box", "disc", "ground")
THREE = Metadata(
    "drawn", CLASSES, (3, 7, 9), (True, True, False), ((9, 8, 7), (1, 2, 3), (4, 5, 6))
)
SIZES = ((64, 96), (128, 64), (160, 192))
SWIN = ["MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", "12"]
SWIN += ["MODEL.SWIN.DEPTHS", "[1, 2, 1, 1]", "MODEL.SWIN.NUM_HEADS", "[1, 2, 3, 4]"]
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


@dataclass(frozen=True)
class Exported:
    """A network, and its files: of each what it takes, where it is, and images to try."""

    task: Task
    files: list[tuple[Wanted, Path, tuple[Size, ...]]]


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory):
    """In ONNX, and that for OpenVINO; Swin with results, and a file for each size."""
    cfg, task, views = task_of(request.param)
    folder, files = tmp_path_factory.mktemp(request.param), []
    fixed = request.param == "swin"  # for all sizes it takes torch.export minutes
    for size in SIZES if fixed else (None,):
        wanted = Wanted(size=size, views=views, post=fixed)
        path = folder / f"model{len(files)}.onnx"
        export(cfg, task, wanted, "onnx", path)
        openvino_file.write(path, path.with_suffix(".xml"), read_exported(path).facts)
        files.append((wanted, path, (size,) if size else SIZES))
    return Exported(task, files)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_runtimes_say_what_the_model_says_at_three_sizes(exported, suffix):
    for wanted, path, sizes in exported.files:
        opened = read_exported(path.with_suffix(suffix))
        compared = parity.compare(opened, graph_of(exported.task, wanted), wanted, sizes)
        parity.refuse_difference(compared, path)
        well = [one for one in compared if one.within]
        assert [tuple(one.row["shape"][-2:]) for one in well] == list(sizes)
        for one in well:
            differences = one.row["differences"]
            assert max(differences[name] for name in parity.RAW) < 1e-4
            if wanted.post:
                assert max(differences[name] for name in ("scores", "segment_scores")) < 1e-4
                assert max(differences[name] for name in ("semantic", "panoptic")) < 0.002
            assert_same_results(exported.task, opened, one)


def assert_same_results(task, opened, one):
    """By our post-processing of what both say."""
    pixels, sizes = (torch.from_numpy(one.arrays[name]) for name in ("pixels", "sizes"))
    H, W = sizes[0].tolist()
    record = Record(1, (H, W), (Frame(Path("drawn")),))
    boxes = torch.tensor([[0, 0, W, H]]).repeat(len(pixels), 1)
    batch = Batch(pixels[None], sizes[None], boxes[None], [], [record])
    ours = [torch.from_numpy(one.arrays[name])[None] for name in ("logits", "masks")]
    (mine,) = task.postprocess(Outputs([Prediction(*ours)]), batch)
    (theirs,) = task.postprocess(ExportedModel(opened)(batch.images, batch.sizes), batch)
    assert_alike(mine, theirs, some=H * W // 500)


def assert_alike(mine, theirs, some):
    """Results, but for some pixels at the threshold."""
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
def test_a_file_takes_the_place_of_weights(exported, tmp_path):
    """With the config that it holds."""
    task, (_, path, _) = exported.task, exported.files[0]
    config = tmp_path / "config.yaml"
    config.write_text(read_exported(path).facts["config"])
    predictor = Predictor(config, path, ["MODEL.DEVICE", "cpu"])
    assert predictor.metadata.classes == task.metadata.classes
    image = drawn_input(Wanted(size=None), (64, 96))[0][0].permute(1, 2, 0).numpy()
    batch = Batch.collate([predictor.sample(image)])
    (mine,) = task.postprocess(task.infer(batch, torch.device("cpu")), batch)
    (theirs,) = predictor([image])
    assert_alike(mine, theirs, some=64 * 96 // 500)


@pytest.mark.slow
def test_tensorrt_lists_every_operator(exported):
    nodes = onnx.load(exported.files[0][1]).graph.node
    assert {node.op_type for node in nodes} <= SUPPORTED
    assert {node.domain for node in nodes} == {""}
    assert any(node.op_type == "GridSample" for node in nodes)


@pytest.mark.slow
def test_a_file_says_what_it_is(exported):
    task, (wanted, path, _) = exported.task, exported.files[0]
    for suffix in (".onnx", ".xml"):
        facts = read_exported(path.with_suffix(suffix)).facts
        assert facts["classes"] == list(task.metadata.classes)
        assert facts["colors"] == [list(color) for color in task.metadata.colors]
        assert facts["makes"] == list(task.makes)
        assert facts["resize"] == {"shorter": 64, "longest": 1333}
        assert facts["views"] == wanted.views
        assert facts["size"] == (list(wanted.size) if wanted.size else None)
        results = ["semantic", "panoptic", "segment_ids", "segment_labels", "segment_scores"]
        results += ["scores", "labels", "instance_masks"]
        assert facts["outputs"] == ["logits", "masks", *(results if wanted.post else [])]


@pytest.mark.slow
def test_beside_a_file_lies_what_it_was_compared_with(exported):
    wanted, path, _ = exported.files[0]
    graph = graph_of(exported.task, wanted)
    lines = (path.parent / "model0.onnx.parity.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    arrays = np.load(path.parent / "model0.onnx.parity.npz")
    assert len({tuple(row["shape"]) for row in rows}) == (1 if wanted.size else 2)
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


@pytest.mark.slow
@pytest.mark.parametrize("to, mark", [("onnx", b"QuantizeLinear"), ("openvino", b"FakeQuantize")])
def test_int8_files_are_quantised_and_say_on_how_many_images(tmp_path, to, mark):
    pytest.importorskip("nncf")
    cfg, task, _ = task_of("semantic")
    wanted = Wanted(size=(64, 96))
    drawn = (drawn_input(wanted, wanted.size, seed) for seed in range(4))
    images = [(pixels.numpy(), sizes.numpy()) for pixels, sizes in drawn]
    path = tmp_path / f"model{SUFFIXES[to]}"
    export(cfg, task, wanted, to, path, images)
    assert mark in path.read_bytes()
    opened = read_exported(path)
    assert opened.facts["int8"] == 4
    (one,) = parity.compare(opened, graph_of(task, wanted), wanted, [wanted.size], tries=1)
    assert not one.within
    assert one.row["nine_of_ten"]["logits"] < 0.2 * one.row["largest"]["logits"]
