"""How large a plan shows images, and how many objects it expects in one."""

import pytest
from drawn_facts import CPU, GPU, facts

from segcore.plan.capacity import capacity
from segcore.plan.choices import QUERIES, TWO_STAGE
from segcore.plan.views import edge_of_tests, mirroring, offered, sizes

BASE = {
    "INPUT.MIN_SIZE_TEST": 320,
    "INPUT.MAX_SIZE_TRAIN": 640,
    "INPUT.MAX_SIZE_TEST": 640,
    "INPUT.CROP.SIZE": [256, 256],
    "TEST.DETECTIONS_PER_IMAGE": 100,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 100,
    **{
        f"MODEL.RPN.{when}_NMS_TOPK_{mode}": 500
        for when in ("PRE", "POST")
        for mode in ("TRAIN", "TEST")
    },
}


def values(decisions):
    return {decision.key: decision.value for decision in decisions}


def edge_of(machine=CPU, **shape):
    return edge_of_tests(facts(**shape), machine, 320)[0]


def test_small_objects_are_enlarged_as_far_as_it_helps():
    # one object in ten is smaller than 0.57 of its side of 14 pixels: 8; 12 pixels are three cells
    assert edge_of(size=(256, 256), side=14) == 384
    assert edge_of(size=(256, 256), side=4) == 512  # twice the file, and no more on a CPU
    assert edge_of(size=(600, 600), side=4) == 0  # as it is: larger shows nothing
    assert edge_of(GPU, size=(600, 600), side=4) == 1024


def test_large_objects_are_made_smaller_down_to_the_base():
    assert edge_of(size=(1000, 1000), side=300) == 320
    assert edge_of(size=(200, 200), side=100) == 192  # never enlarged for nothing


def test_thin_regions_of_label_images_count():
    strokes = {"road": 0.3, "pole": 0.011, "sign": 0.011, "sky": 0.4, "car": 0.1}
    data = facts(size=(360, 480), objects=0, strokes=strokes)
    edge, why = edge_of_tests(data, CPU, 448)
    assert edge == 448
    assert "pole" in why


def test_large_photographs_of_small_objects_are_cropped_as_they_are():
    data = facts(4, size=(2000, 1800), objects=500, side=20)
    found = values(sizes(data, CPU, TWO_STAGE, BASE))
    assert found["INPUT.MIN_SIZE_TEST"] == 0
    assert found["INPUT.CROP.SIZE"] == [512, 512]
    assert min(found["INPUT.MIN_SIZE_TRAIN"]) > 1400
    assert found["INPUT.MAX_SIZE_TRAIN"] >= max(found["INPUT.MIN_SIZE_TRAIN"]) * 2000 / 1800


def test_crops_for_queries_are_padded_to_their_side():
    found = values(sizes(facts(), CPU, QUERIES, BASE))
    assert found["INPUT.CROP.SIZE"] == [256, 256]
    assert found["INPUT.SIZE_DIVISIBILITY"] == 256


def test_small_images_are_not_cropped_for_a_detector():
    assert "INPUT.CROP.SIZE" not in values(sizes(facts(), CPU, TWO_STAGE, BASE))


def test_panoramas_keep_their_scale():
    found = values(sizes(facts(size=(400, 2000)), CPU, TWO_STAGE, BASE))
    assert found["INPUT.MAX_SIZE_TEST"] >= 5 * found["INPUT.MIN_SIZE_TEST"]


@pytest.mark.parametrize(("objects", "expected"), [(3, 100), (130, 150), (1000, 1100)])
def test_queries_and_detections_follow_the_objects(objects, expected):
    data = facts(10, objects=objects)
    found = values(capacity(data, "panoptic", QUERIES, BASE, 320))
    assert found["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"] == expected
    assert found["TEST.DETECTIONS_PER_IMAGE"] == expected
    assert found.get("TEST.AP_DETECTIONS", 100) == expected  # COCO's number where that will do


def test_thousand_objects_have_proposals_within_bounds():
    found = values(capacity(facts(3, objects=1000), "instance", TWO_STAGE, BASE, 320))
    assert found["MODEL.RPN.POST_NMS_TOPK_TEST"] == 2000
    assert "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES" not in found


def test_semantic_queries_follow_the_classes():
    base = BASE | {"MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 32}
    for count, expected in ((1, 32), (11, 32), (30, 64), (400, 128)):
        data = facts(objects=0, classes=tuple(map(str, range(count))))
        found = values(capacity(data, "semantic", QUERIES, base, 448))
        assert found == {"MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": expected}


def test_anchors_span_the_objects():
    small = values(capacity(facts(side=14, size=(256, 256)), "instance", TWO_STAGE, BASE, 384))
    assert small["MODEL.ANCHOR_GENERATOR.SIZES"] == [[12], [24], [48], [96], [192]]
    wide = facts(4, size=(2000, 1800), objects=500, side=100)
    anchors = values(capacity(wide, "entity", TWO_STAGE, BASE, 0))["MODEL.ANCHOR_GENERATOR.SIZES"]
    assert [len(row) for row in anchors] == [1] * 5
    assert anchors[0] == [32]


def test_mirroring_swaps_classes_of_both_sides_and_is_off_for_one_alone():
    names = ("front_bumper", "back_right_light", "back_left_light")
    cars = facts(classes=names)
    (decision,) = mirroring(cars, "instance")
    swap = [["back_left_light", "back_right_light"]]
    assert (decision.key, decision.value) == ("INPUT.MIRROR_SWAP", swap)
    assert "back_left_light" in decision.reason
    (decision,) = mirroring(facts(classes=(*names, "left_mirror")), "instance")
    assert (decision.key, decision.value) == ("INPUT.RANDOM_FLIP", "none")
    assert "that of left_mirror is no class" in decision.reason
    assert not mirroring(cars, "entity")  # which have no names
    assert not mirroring(facts(), "instance")


def test_augmentations_are_offered_for_few_images_alone():
    assert offered(facts(images=200), "instance") == []
    few = offered(facts(images=199), "instance")
    assert [d.key for d in few] == ["INPUT.VERTICAL_FLIP", "INPUT.COPY_PASTE"]
    assert all(d.offered for d in few)
    assert [d.key for d in offered(facts(images=4), "semantic")] == ["INPUT.VERTICAL_FLIP"]
