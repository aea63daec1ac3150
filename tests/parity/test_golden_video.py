"""The published video model through the Python API: clip, tracks, and one window of a stream."""

import numpy as np
import pytest
import torch
from golden_weights import fill, golden_image

from mask2former.weights import to_official, to_ours
from segcore.build.task import prepared
from segcore.masks import area
from segcore.predict import Predictor

pytestmark = pytest.mark.slow  # 44 million drawn weights


@pytest.fixture(scope="module")
def predictor(root):
    opts = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "0", "TEST.PREPARE", "false"]
    config = root / "configs/youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml"
    predictor = Predictor(config, "", opts)
    model = predictor.task.model
    official = to_official(model.state_dict())
    model.load_state_dict(model.state_dict() | to_ours(fill(official.keys(), official.values())))
    predictor.task = prepared(predictor.task)  # as a checkpoint's weights are, once they are there
    return predictor


@pytest.fixture(scope="module")
def frames():
    return [golden_image(phi=phi).permute(1, 2, 0).numpy() for phi in (0.0, 0.3, 0.6)]


@pytest.fixture(scope="module")
def tracks(predictor, frames):
    return predictor.tracks(frames)


def test_tracks_are_the_published_ones(predictor, frames, tracks):
    assert len(tracks.masks) == 10 and {len(track) for track in tracks.masks} == {3}
    assert tracks.labels[:3].tolist() == [17, 17, 17]
    assert tracks.scores[:3].tolist() == pytest.approx([0.175987, 0.174194, 0.172940], rel=1e-4)
    outputs = predictor.clip(frames)
    assert outputs.layers[-1].logits.shape == (1, 100, 41)
    assert outputs.layers[-1].masks.shape == (1, 100, 3, 24, 32)
    assert len(outputs.layers) == 10


def test_one_window_of_a_stream_equals_the_tracks(predictor, frames, tracks):
    shown = list(predictor.video(frames, window=3, overlap=1))
    assert [frame.index for frame in shown] == [0, 1, 2]
    rows = [i for i, track in enumerate(tracks.masks) if area(track).any()]
    for t, frame in enumerate(shown):
        here = [(n, tracks.masks[i][t]) for n, i in enumerate(rows, 1)]
        here = [(n, rle) for n, rle in here if area([rle])[0]]
        assert [*zip(frame.ids.tolist(), frame.masks, strict=True)] == here
        places = torch.tensor(rows)[frame.ids - 1]
        assert torch.equal(frame.scores, tracks.scores[places])
        assert torch.equal(frame.labels, tracks.labels[places])


def test_a_video_of_one_frame_has_tracks(predictor, frames):
    tracks = predictor.tracks(frames[:1])
    assert len(tracks.masks) == 10 and {len(track) for track in tracks.masks} == {1}
    (frame,) = predictor.video(frames[:1])
    assert np.array_equal(frame.image, frames[0]) and len(frame.ids) <= 10
