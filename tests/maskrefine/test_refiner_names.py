"""A refiner's weights inside a detector: official names and ours, both ways."""

import pytest
import torch

from maskrefine import refinemask, transfiner
from maskrefine.official_names import inside_detector
from maskrefine.weights import to_official, to_ours

CASES = {
    "transfiner": (
        lambda: transfiner.TransfinerHead(num_classes=3, dim=32),
        transfiner.OFFICIAL,
        ("detectron2", "roi_heads."),
        "roi_heads.mask_pooler.conv_norm_relus_semantic.6.bias",
    ),
    "refinemask": (
        lambda: refinemask.RefineMaskHead(num_classes=3, dim=32),
        refinemask.OFFICIAL,
        ("mmdet", "roi_head.mask_head."),
        "roi_head.mask_head.stages.1.fuse_conv.1.dilation_conv_3.conv.weight",
    ),
    "refinemask_simple": (
        lambda: refinemask.RefineMaskHead(num_classes=3, dim=32, simple=True),
        refinemask.OFFICIAL_SIMPLE,
        ("mmdet", "roi_head.mask_head."),
        "roi_head.mask_head.stage_instance_logits.3.weight",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_names_inside_a_detector_convert_both_ways(name):
    make, table, (style, theirs), known = CASES[name]
    head = make()
    names = {style: inside_detector(table, theirs)}
    own = {f"mask_head.{k}": v for k, v in head.state_dict().items()}
    official = to_official(own, style, names)
    assert known in official
    assert official.keys() == {theirs + k for k in head.official_state()}
    back = to_ours(official, names)
    assert back.keys() == own.keys()
    assert all(torch.equal(back[k], own[k]) for k in own)
