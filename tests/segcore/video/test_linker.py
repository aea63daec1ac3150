"""Which tracks of two windows are one."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from segcore import masks
from segcore.structures import Tracks
from segcore.video.linker import PATIENCE, Linker, cosines, track_ious

SIZE = (40, 60)


def box(y, x, side=10):
    picture = np.zeros((1, *SIZE), bool)
    picture[0, y : y + side, x : x + side] = True
    return masks.encode(picture)[0]


EMPTY = masks.encode(np.zeros((1, *SIZE), bool))[0]


def window(*tracks, scores=None, labels=None, embeddings=None):
    count = len(tracks)
    vectors = None if embeddings is None else torch.tensor(embeddings, dtype=torch.float32)
    return Tracks(
        torch.tensor(scores or [0.9] * count),
        torch.tensor(labels or [0] * count, dtype=torch.int64),
        [list(track) for track in tracks],
        vectors,
    )


def ids(identities):
    return [one and one.id for one in identities]


def test_iou_of_tracks_counts_all_common_frames():
    known = [{4: box(0, 0), 5: box(0, 0)}, {4: box(20, 20), 5: EMPTY}, {1: box(0, 5)}]
    tracks = [[box(0, 5), box(0, 0), box(9, 9)], [EMPTY, EMPTY, box(0, 5)]]
    iou, compared = track_ious(known, tracks, [4, 5, 6])
    assert iou[0, 0] == pytest.approx((50 + 100) / (150 + 100))
    assert iou[1].tolist() == [0, 0]
    assert compared.tolist() == [[True, True], [True, True], [False, False]]
    assert iou[2].tolist() == [1, 1]  # its last mask with their first one
    assert iou[0, 1] == 0  # one shows in common frames, the other does not


def test_a_window_goes_on_with_the_tracks_before_it():
    linker = Linker()
    first = window([box(0, 0), box(0, 2)], [box(20, 20), box(20, 22)])
    assert ids(linker.link(first, [0, 1])) == [1, 2]
    second = window([box(20, 23), box(20, 24)], [box(0, 40), EMPTY], [box(0, 2), box(0, 4)])
    assert ids(linker.link(second, [1, 2])) == [2, 3, 1]


def test_one_assignment_decides_for_all():
    """The better single pair would leave the other two without a partner."""
    linker = Linker()
    linker.link(window([box(0, 10)], [box(0, 17)]), [0])
    assert ids(linker.link(window([box(0, 13)], [box(0, 6)]), [0])) == [2, 1]


def test_queries_tell_apart_what_lies_on_each_other():
    linker = Linker()
    vectors = [[1.0, 0.0], [0.0, 1.0]]
    linker.link(window([box(0, 0)], [box(0, 0)], embeddings=vectors), [0])
    turned = window([box(0, 0)], [box(0, 0)], embeddings=vectors[::-1])
    assert ids(linker.link(turned, [0])) == [2, 1]
    assert cosines(np.eye(2), np.array([[3.0, 4.0]]))[:, 0] == pytest.approx([0.6, 0.8])


def test_queries_alone_find_what_was_hidden():
    for vector, expected in ([1.0, 0.1], 1), ([0.1, 1.0], 2):
        linker = Linker()
        linker.link(window([box(0, 0)], embeddings=[[1.0, 0.0]]), [0])
        assert ids(linker.link(window([box(25, 40)], embeddings=[vector]), [3])) == [expected]


def test_other_classes_need_more_overlap():
    for place, expected in ((2, 1), (6, 2)):
        linker = Linker()
        linker.link(window([box(0, 0)]), [0])
        assert ids(linker.link(window([box(0, place)], labels=[1]), [1])) == [expected]


def test_class_and_score_are_those_of_all_windows():
    linker = Linker()
    linker.link(window([box(0, 0)], scores=[0.5], labels=[3]), [0])
    (one,) = linker.link(window([box(0, 1)], scores=[0.75], labels=[2]), [1])
    assert (one.label, one.score) == (2, 0.625)
    (one,) = linker.link(window([box(0, 1)], scores=[0.5], labels=[3]), [2])
    assert one.label == 3


def test_unsure_segments_go_on_but_do_not_begin():
    linker = Linker(threshold=0.5)
    assert ids(linker.link(window([box(0, 0)], [box(20, 0)], scores=[0.6, 0.4]), [0])) == [1, None]
    assert ids(linker.link(window([box(0, 0)], [box(20, 0)], scores=[0.3, 0.6]), [1])) == [1, 2]
    assert ids(linker.link(window([box(0, 0)], [box(20, 0)], scores=[0.2, 0.6]), [2])) == [None, 2]


def test_what_is_gone_is_waited_for_and_then_forgotten():
    linker = Linker()
    linker.link(window([box(0, 0)]), [0])
    linker.link(window([box(20, 20)], [EMPTY]), [PATIENCE])
    assert [k.id for k in linker.known] == [1, 2]
    linker.link(window([box(20, 20)]), [PATIENCE + 1])
    assert [k.id for k in linker.known] == [2]
    assert ids(linker.link(window([box(0, 0)]), [PATIENCE + 2])) == [3]


def test_its_state_goes_through_json():
    linker = Linker(threshold=0.3)
    linker.link(window([box(0, 0), box(0, 1)], [EMPTY, box(20, 20)], embeddings=np.eye(2)), [0, 1])
    again = Linker.from_state(json.loads(json.dumps(linker.state())))
    assert again.state() == linker.state()
    following = window([box(20, 21)], [box(0, 2)], [box(5, 40)], embeddings=np.eye(3)[:, :2])
    assert ids(again.link(following, [2])) == ids(linker.link(following, [2])) == [2, 1, 3]


@pytest.mark.parametrize("part", ["train", "val"])
def test_real_motion_at_six_frames_a_second_is_followed(shared_data, part):
    """Two clips at a time, as one video; their objects come in changing order."""
    content = json.loads((shared_data / f"davis16_clips/{part}/instances.json").read_text())
    tracks = [
        [masks.from_text(rle) for rle in a["segmentations"]]
        for video, a in zip(content["videos"], content["annotations"], strict=True)
        if "drift-chicane" not in video["file_names"][0]  # moves by more than its own size
    ]
    for one, other in pairwise(tracks):
        linker = Linker()
        for t, pair in enumerate(zip(one, other, strict=True)):
            order = (0, 1) if t % 3 else (1, 0)
            identities = linker.link(window(*([pair[i]] for i in order), labels=[*order]), [t])
            assert [i for _, i in sorted(zip(order, ids(identities), strict=True))] == [2, 1]
