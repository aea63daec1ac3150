"""Which frames stand in which window."""

import numpy as np
import pytest

from segcore.errors import ConfigError
from segcore.structures import VideoFrame
from segcore.video.windows import windows

PICTURE = np.zeros((2, 2, 3), np.uint8)


def stream(count, start=0):
    return (VideoFrame(i, str(i), PICTURE) for i in range(start, count))


def listed(parts):
    return [([frame.index for frame in part.frames], part.new) for part in parts]


def test_windows_overlap_and_the_last_one_is_whole():
    assert listed(windows(stream(10), 4, 1)) == [
        ([0, 1, 2, 3], 4), ([3, 4, 5, 6], 3), ([6, 7, 8, 9], 3)
    ]  # fmt: skip
    assert listed(windows(stream(9), 4, 1))[-1] == ([5, 6, 7, 8], 2)
    assert listed(windows(stream(3), 1, 0)) == [([0], 1), ([1], 1), ([2], 1)]


def test_a_short_video_is_one_window():
    assert listed(windows(stream(3), 4, 1)) == [([0, 1, 2], 3)]
    assert listed(windows(stream(4), 4, 1)) == [([0, 1, 2, 3], 4)]
    assert listed(windows(stream(0), 4, 1)) == []


@pytest.mark.parametrize("count", [9, 10, 11, 12, 13])
def test_windows_go_on_where_they_were(count):
    whole = listed(windows(stream(count), 4, 2))
    for number in range(1, len(whole)):
        done = whole[number - 1][0][-1]
        rest = windows(stream(count, start=max(0, done + 1 - 4)), 4, 2, done)
        assert listed(rest) == whole[number:]


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_windows_that_cannot_be_raise(length, overlap):
    with pytest.raises(ConfigError, match="overlap by"):
        next(windows(stream(9), length, overlap))
