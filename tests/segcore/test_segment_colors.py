"""A prediction looks like the truth that it matches."""

import numpy as np
import torch

from segcore import masks
from segcore.segment_colors import matched, matched_colors, own_colors, regions
from segcore.structures import Instances, Metadata, Panoptic, PanopticSegment, Result
from segcore.visualize import draw

METADATA = Metadata(
    "a", ("cat", "dog", "sky", "sea"), (1, 2, 3, 4), (True, True, False, False),
    ((1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)),
)  # fmt: skip
CAT, DOG, SKY, SEA = range(4)


def strip(x0, x1):
    mask = np.zeros((60, 40), bool)
    mask[:, x0:x1] = True
    return masks.encode(mask[None])[0]


def test_each_mask_has_the_closest_truth_and_each_truth_one_mask():
    truths = [strip(0, 10), strip(20, 30)]
    rles = [strip(20, 26), strip(20, 29), strip(5, 15), strip(0, 5)]
    assert matched(rles, truths) == [-1, 1, -1, 0]  # 5 to 15: a third; 0 to 5: half of it
    assert matched([], truths) == [] and matched(rles, []) == [-1] * 4


def test_matched_segments_share_colours_and_others_have_new_ones():
    truth = [(CAT, strip(0, 10)), (DOG, strip(20, 30)), (SKY, strip(30, 40))]
    predicted = [
        (CAT, strip(21, 30)), (SKY, strip(30, 40)), (CAT, strip(12, 18)), (DOG, strip(0, 9)),
    ]  # fmt: skip
    of_truth = own_colors([CAT, DOG, SKY], METADATA)
    colors = matched_colors(predicted, truth, METADATA)
    assert colors[0] == of_truth[1] and colors[3] == of_truth[0]  # whatever the class
    assert colors[1] == of_truth[2] == METADATA.colors[SKY]
    assert colors[2] not in of_truth and len({*colors}) == 4


def test_stuff_keeps_the_colour_of_its_class_on_other_stuff():
    truth, predicted = [(SKY, strip(0, 10))], [(SEA, strip(0, 10))]
    assert matched_colors(predicted, truth, METADATA) == [METADATA.colors[SEA]]
    assert matched_colors([(CAT, strip(0, 10))], truth, METADATA) == [METADATA.colors[SKY]]


def panoptic(*rows):
    ids = np.zeros((60, 40), np.int32)
    segments = []
    for number, (k, x0, x1) in enumerate(rows, 1):
        ids[:, x0:x1] = number
        segments.append(PanopticSegment(number, k, METADATA.is_thing[k], 1.0, 60 * (x1 - x0)))
    return Result(panoptic=Panoptic(torch.from_numpy(ids), segments))


def test_pictures_of_results_take_the_colours_of_the_truth():
    image = np.zeros((60, 40, 3), np.uint8)
    truth = panoptic((CAT, 0, 10), (CAT, 20, 30))
    other = panoptic((CAT, 20, 30), (CAT, 0, 10))
    assert [k for k, _ in regions(truth)] == [CAT, CAT]
    named = Metadata("a", ("cat",), (1,), (True,), ((1, 1, 1),))  # no text over the colours
    drawn = draw(image, truth, named)
    assert (draw(image, other, named) != drawn).any()
    assert (draw(image, other, named, truth=truth) == drawn).all()
    scores, labels = torch.tensor([0.9, 0.2]), torch.tensor([0, 0])
    instances = Instances(scores, labels, [strip(20, 30), strip(0, 10)], torch.zeros(2, 4))
    picture = draw(image, Result(instances=instances), METADATA, truth=truth)
    assert (picture[0, 21] == drawn[0, 21]).all()  # where no label lies
    assert not picture[0, 5].any()  # below the threshold
