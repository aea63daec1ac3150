"""`segcore refine`, and refined results of any model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from prepared_models import needs_onednn
from scenes import METADATA, SIZE, coarse, coco_entries, make_records, quick_network, square
from test_refine_files import write_cityscapes, write_coco, write_demo
from tiny import make_dataset

from maskrefine import hrnet
from maskrefine.bpr import PatchRefiner
from maskrefine.patch_data import training_patches
from maskrefine.patch_store import open_patches
from maskrefine.patch_weights import load_patch_refiner
from maskrefine.pictures import pictures_below
from maskrefine.truth import match_instances
from segcore.build.data import catalog as catalog_of
from segcore.build.data import test_batches as batches_of
from segcore.build.evaluators import build_evaluators
from segcore.build.refine import build_refined_inference
from segcore.build.task import build_task
from segcore.cli import cut_patches, refine
from segcore.config import load_config
from segcore.engine.evaluate import evaluate
from segcore.engine.launch import launch
from segcore.errors import ConfigError, DataError, WeightsError
from segcore.masks import decode, encode
from segcore.predict import Predictor
from segcore.predictions.read import read_predictions
from segcore.refined import refined
from segcore.structures import Instances, Panoptic, PanopticSegment, Result

OPTIONS = {"iou_threshold": 0.25, "least_area": 0, "numerics": "batch"}
OPTIONS |= {"batch_size": None, "precision": "fp32"}
OPTIONS |= {"device": "cpu", "keep_missing": False, "catalogs": (), "images": None}
CPU = torch.device("cpu")
TINY = "tiny/panoptic_tiny.yaml"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of a small network whose size is among the known ones."""
    network = quick_network()
    variant = hrnet.Variant(32, 4, 1, (1, 1, 1), 1)
    monkeypatch.setitem(hrnet.VARIANTS, "quick", variant)
    torch.save({"state_dict": network.state_dict(), "meta": {}}, tmp_path / "quick.pth")
    return str(tmp_path / "quick.pth")


@pytest.fixture
def records(tmp_path):
    return make_records(tmp_path / "images")


def numbered(folder, records):
    """The same images, called by their ids."""
    folder.mkdir()
    for record in records:
        pixels = record.frames[0].file.read_bytes()
        (folder / f"{record.id:012d}.png").write_bytes(pixels)
    return folder


def test_coco_results_are_refined_by_images_of_their_numbers(tmp_path, weights, records, capsys):
    given = write_coco(tmp_path, coco_entries())
    before, output = given.read_bytes(), tmp_path / "refined.json"
    images = numbered(tmp_path / "photos", records)
    named = {"predictions": given, "output": output, "weights": weights, "images": str(images)}
    assert refine.main(**OPTIONS | named) == 0
    assert "4 images refined, 0 kept" in capsys.readouterr().out
    assert given.read_bytes() == before
    refiner = PatchRefiner(quick_network())
    wanted = refiner(np.array(Image.open(records[1].frames[0].file)), coarse(1))
    found = [e for e in json.loads(output.read_text()) if e["image_id"] == 11]
    masks = [
        decode({**e["segmentation"], "counts": e["segmentation"]["counts"].encode()}) for e in found
    ]
    assert np.array_equal(masks, wanted)
    assert not np.array_equal(wanted, coarse(1))
    with pytest.raises(DataError, match="exists already"):
        refine.main(**OPTIONS | named)


def test_images_of_a_data_set_are_found_by_its_records(tmp_path, weights):
    make_dataset(tmp_path / "data")
    rle = encode(np.pad(np.ones((1, 9, 9), bool), ((0, 0), (40, 23), (40, 15))))[0]
    entry = {"image_id": 4, "category_id": 3, "score": 0.5}
    entry["segmentation"] = {"size": [72, 64], "counts": rle["counts"].decode()}
    given = write_coco(tmp_path, [entry])
    named = {"predictions": given, "weights": weights, "output": tmp_path / "refined.json"}
    data = {"images": "tiny_instances", "catalogs": (tmp_path / "data" / "tiny.yaml",)}
    assert refine.main(**OPTIONS | named | data) == 0
    assert json.loads((tmp_path / "refined.json").read_text())[0]["image_id"] == 4


def test_a_folder_of_cityscapes_is_refined_by_names(tmp_path, weights, records):
    given = write_cityscapes(tmp_path / "given")
    for i, record in enumerate(records):
        record.frames[0].file.rename(tmp_path / "images" / f"scene_{i}_leftImg8bit.png")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "scene_9_leftImg8bit.png")
    named = {"predictions": given, "weights": weights, "output": tmp_path / "refined"}
    assert refine.main(**OPTIONS | named | {"images": str(tmp_path / "images")}) == 0
    assert len(list((tmp_path / "refined").glob("*_pred.txt"))) == 5


def test_the_demos_folder_says_where_its_images_are(tmp_path, weights, records):
    given = write_demo(tmp_path / "given", records)
    named = {"predictions": given, "weights": weights, "output": tmp_path / "refined"}
    assert refine.main(**OPTIONS | named) == 0
    assert len(list((tmp_path / "refined").glob("*.json"))) == 4


def test_images_of_another_set_raise(tmp_path, weights, records):
    predictions = read_predictions(write_coco(tmp_path, coco_entries()))
    with pytest.raises(DataError, match=r"has none of the 4 images .* first: 10; are the predict"):
        pictures_below(predictions, tmp_path / "images")
    folder = numbered(tmp_path / "photos", records[:2])
    (folder / "again").mkdir()
    (folder / "again" / "10.png").write_bytes((folder / "000000000010.png").read_bytes())
    picture_of = pictures_below(predictions, folder)
    assert picture_of(predictions.read(11)) == folder / "000000000011.png"
    with pytest.raises(DataError, match="has 2 images 10"):
        picture_of(predictions.read(10))
    with pytest.raises(DataError, match=r"has 0 images 12 \(none\); expected one"):
        picture_of(predictions.read(12))


def test_predictions_that_do_not_say_their_images_raise(tmp_path, weights):
    named = {"predictions": write_coco(tmp_path, coco_entries()), "weights": weights}
    with pytest.raises(DataError, match=r"4 of 4 images .* where image 10 lies; give --images"):
        refine.main(**OPTIONS | named | {"output": tmp_path / "out.json"})


def test_weights_of_other_networks_raise(tmp_path, weights):
    torch.save({"model": {"roi_heads.mask_head.deconv.weight": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth: holds no network of boundary patches; it has"):
        load_patch_refiner(tmp_path / "a.pth", device=CPU)
    state = torch.load(weights, weights_only=True)["state_dict"]
    del state["backbone.conv2.weight"]
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"b\.pth: the checkpoint lacks 1 tensors"):
        load_patch_refiner(tmp_path / "b.pth", device=CPU)


def test_wrapped_weights_are_unwrapped(tmp_path, weights):
    state = torch.load(weights, weights_only=True)["state_dict"]
    for start in ("module.", "model.module.", "_orig_mod.", "network."):
        torch.save({"net": {start + k: v for k, v in state.items()}}, tmp_path / "c.pth")
        loaded = load_patch_refiner(tmp_path / "c.pth", device=CPU).network.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in loaded.items())


def test_a_checkpoint_of_ours_says_its_sizes(tmp_path, weights):
    content = torch.load(weights, weights_only=True)
    bpr = {"PATCH_SIZE": 40, "INPUT_SIZE": 64, "NETWORK": "quick"}
    content |= {"config": {"MODEL": {"BPR": bpr}}}
    torch.save(content, tmp_path / "ours.pth")
    refiner = load_patch_refiner(tmp_path / "ours.pth", device=CPU)
    assert (refiner.patch_size, refiner.network.input_size) == (40, 64)


def grown(image, rles):
    """A refiner that makes squares one pixel wider on each side."""
    masks = [decode(rle) for rle in rles]
    wider = [np.pad(m, 1)[2:, 1:-1] | np.pad(m, 1)[:-2, 1:-1] | m for m in masks]
    return encode(np.stack(wider)) if wider else []


def test_instances_have_new_masks_and_tight_boxes():
    masks = encode(np.stack((square(30, 30, 5), np.zeros(SIZE, bool))))
    given = Instances(torch.ones(2), torch.zeros(2).long(), masks, torch.full((2, 4), 7.0))
    found = refined(Result(instances=given), np.zeros((*SIZE, 3), np.uint8), grown).instances
    assert decode(found.masks[0]).sum() == 9 * 11
    assert found.boxes.tolist() == [[26, 25, 35, 36], [7, 7, 7, 7]]
    assert found.scores is given.scores


def test_panoptic_overlaps_are_resolved_and_nothing_opens():
    ids = np.zeros(SIZE, np.int32)
    ids[:40], ids[40:60], ids[60:] = 1, 2, 3
    ids[80:] = 0  # nothing
    scores = {1: 0.9, 2: 0.4, 3: 0.7}
    segments = [PanopticSegment(i, 0, True, s, int((ids == i).sum())) for i, s in scores.items()]
    given = Panoptic(torch.from_numpy(ids), segments)
    found = refined(Result(panoptic=given), np.zeros((*SIZE, 3), np.uint8), grown).panoptic
    rows = found.map[:, 0].tolist()
    assert [rows.count(i) for i in (1, 2, 3, 0)] == [41, 18, 22, 9]
    assert [s.area for s in found.segments] == [41 * SIZE[1], 18 * SIZE[1], 22 * SIZE[1]]
    assert given.map[40, 0] == 2  # the first one is as it was

    def nothing(image, rles):
        return encode(np.zeros((len(rles), *SIZE), bool))

    kept = refined(Result(panoptic=given), np.zeros((*SIZE, 3), np.uint8), nothing).panoptic
    assert torch.equal(kept.map, given.map)


def test_segments_that_are_painted_over_leave():
    ids = np.zeros(SIZE, np.int32)
    ids[30:60], ids[45:46] = 1, 2
    segments = [PanopticSegment(1, 0, True, 0.9, 1), PanopticSegment(2, 1, True, 0.2, 1)]
    found = refined(
        Result(panoptic=Panoptic(torch.from_numpy(ids), segments)),
        np.zeros((*SIZE, 3), np.uint8),
        grown,
    ).panoptic
    assert [s.id for s in found.segments] == [1] and not (found.map == 2).any()
    empty = Panoptic(torch.zeros(SIZE, dtype=torch.int32), [])
    assert (
        refined(Result(panoptic=empty), np.zeros((*SIZE, 3), np.uint8), grown).panoptic.segments
        == []
    )


@pytest.fixture
def catalog(tmp_path):
    return make_dataset(tmp_path / "data")


def test_a_predictor_refines_what_it_finds(catalog, weights):
    """Panoptic segments and instances of random weights; files and arrays alike."""
    opts = ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu"]
    torch.manual_seed(0)
    plain = Predictor(TINY, "", opts)
    torch.manual_seed(0)
    behind = Predictor(TINY, "", opts, refine=weights)
    image = catalog.parent / "images" / "01.png"  # 64x80: no larger than a patch: stays
    small = np.array(Image.open(image))
    large = np.tile(small, (2, 2, 1))
    for coarse_result, result in zip(plain([large, small]), behind([large, small]), strict=True):
        same = [
            a == b
            for a, b in zip(coarse_result.instances.masks, result.instances.masks, strict=True)
        ]
        assert all(same) == (result.panoptic.map.shape == (64, 80))
    assert behind(image)[0].instances.masks == behind(small)[0].instances.masks
    assert Predictor(TINY, "", opts, refine="").refine is None


@needs_onednn
@pytest.mark.parametrize("behind", [Predictor, build_refined_inference])
def test_the_network_behind_a_model_is_packed_as_test_prepare_says(catalog, weights, behind):
    opts = ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu"]
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    masks, packed, refined_masks = [encode(coarse(1)[:1])[0]], [], []
    for wanted in ("true", "false"):
        more = ["TEST.REFINE.WEIGHTS", weights, "TEST.PREPARE", wanted]
        cfg = load_config(TINY, [*opts, *more])
        made = Predictor(cfg, "") if behind is Predictor else behind(cfg, None, CPU)
        packed.append(not list(made.refine.func.__self__.network.parameters()))
        refined_masks.append(decode(made.refine(image, masks)[0]))
    assert packed == [True, False]
    assert (refined_masks[0] != decode(masks[0])).any()
    assert (refined_masks[0] != refined_masks[1]).mean() < 1e-3


def test_a_model_is_evaluated_with_refined_masks(catalog, weights):
    opts = ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu"]
    cfg = load_config("tiny/detector_tiny.yaml", [*opts, "TEST.REFINE.WEIGHTS", weights])
    task, sets = build_task(cfg), catalog_of(cfg)
    infer = build_refined_inference(cfg, task, CPU)
    asked = build_evaluators(task, sets, sets.metadata("tiny_instances"))
    loader = batches_of(cfg, task, sets, "tiny_instances", launch(device="cpu"))
    metrics = evaluate(task, loader, asked, launch(device="cpu"), infer=infer)
    assert {"AP", "boundary AP"} <= metrics.keys()
    assert build_refined_inference(replace_weights(cfg, ""), task, CPU) is None


def replace_weights(cfg, weights):
    return replace(cfg, TEST=replace(cfg.TEST, REFINE=replace(cfg.TEST.REFINE, WEIGHTS=weights)))


def test_refiners_that_are_none_raise(catalog, weights):
    cfg = load_config(None, ["TEST.REFINE.WEIGHTS", weights, "TEST.REFINE.NAME", "snakes"])
    with pytest.raises(ConfigError, match=r"TEST.REFINE.NAME is 'snakes'; expected bpr, or"):
        build_refined_inference(cfg, None, CPU)
    own = replace_weights(
        load_config(None, ["TEST.REFINE.NAME", "outside.networks:build_refiner"]), "x"
    )
    assert build_refined_inference(own, None, CPU).refine("image", "masks") == "masks"


def annotations_of(records, folder):
    """The records as a COCO file."""
    images, annotations = [], []
    for record in records:
        (h, w), name = record.size, record.frames[0].file.name
        images.append({"id": record.id, "file_name": name, "height": h, "width": w})
        for segment in record.frames[0].segments:
            rle = {"size": segment.shape["size"], "counts": segment.shape["counts"].decode()}
            entry = {"id": len(annotations), "image_id": record.id, "segmentation": rle}
            annotations.append(entry | {"category_id": METADATA.dataset_ids[segment.category]})
    named = zip(METADATA.dataset_ids, METADATA.classes, strict=True)
    categories = [{"id": number, "name": name} for number, name in named]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return f"{folder / 'instances.json'}@{folder / 'images'}"


CUT = {"predictions": None, "min_iou": 0.5, "count": 0, "iou_threshold": 0.25, "size": 64}
CUT |= {"catalogs": ()}


def test_patches_are_cut_from_predictions_and_from_degraded_truth(tmp_path, records, capsys):
    name = annotations_of(records, tmp_path)
    given = {"predictions": write_coco(tmp_path, coco_entries())}
    files = [tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "c.npy"]
    for file, more in zip(files, (given, given | {"count": 3}, {}), strict=True):
        assert cut_patches.main(name=name, output=file, **CUT | more) == 0
    assert (
        "  segcore train small/bpr_hrnet18s.yaml DATASETS.TRAIN"
        f" '[\"maskrefine.patch_store:FORMAT={files[2]}\"]'\n"
    ) in capsys.readouterr().out
    matched = match_instances(read_predictions(given["predictions"]), records, METADATA)
    wanted = sum(len(part.images) for part in training_patches(matched, records))
    all_of_them, drawn, degraded = (len(open_patches(file)) for file in files)
    assert all_of_them == wanted > drawn > 0
    assert degraded > 0
    again = tmp_path / "again.npy"
    assert cut_patches.main(name=name, output=again, **CUT) == 0
    assert again.read_bytes() == files[2].read_bytes()


def test_cutting_mistakes_raise(tmp_path, records):
    name = annotations_of(records, tmp_path)
    with pytest.raises(DataError, match=r"expected a name that ends in \.npy"):
        cut_patches.main(name=name, output=tmp_path / "a.bin", **CUT)
    far = write_coco(tmp_path, [entry | {"category_id": 3} for entry in coco_entries()[4:]])
    with pytest.raises(DataError, match="no predicted instance overlaps an object enough"):
        cut_patches.main(name=name, output=tmp_path / "a.npy", **CUT | {"predictions": far})
