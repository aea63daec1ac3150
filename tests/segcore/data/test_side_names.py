"""Class names that say left and right."""

import pytest

from segcore.data.side_names import mirrored_classes, side_pairs, sided_classes


@pytest.mark.parametrize(
    "names",
    [
        ("back_left_light", "back_right_light"),
        ("Left lung", "right-lung"),
        ("leftHand", "RightHand"),
        ("hand_l", "hand_r"),
        ("l_kidney", "r_kidney"),
        ("Arm.L", "Arm.R"),
        ("hand L", "hand R"),
    ],
)
def test_both_sides_are_named(names):
    assert sided_classes(("wheel", *names)) == list(names)
    assert side_pairs((names[1], "wheel", names[0])) == [names]  # the left one first
    assert mirrored_classes([names], ("wheel", *names, "hood")) == (0, 2, 1, 3)


def test_one_side_alone_counts_where_it_is_spelt_out():
    assert sided_classes(("left_door", "hood")) == ["left_door"]


@pytest.mark.parametrize(
    "names",
    [
        ("copyright", "bright", "upright piano", "leftover", "outright"),
        ("hand_l", "foot_r"),
        ("l", "r"),
        ("size_l", "size_m"),
        ("person", "car"),
        (),
    ],
)
def test_other_names_are_left_alone(names):
    assert sided_classes(names) == side_pairs(names) == []


@pytest.mark.parametrize(
    "names",
    [
        ("left_door", "hood"),
        ("left_door", "right_door", "Right door"),
        ("left_door", "right_door", "left_door"),
        ("left or right", "hood"),
    ],
)
def test_classes_without_one_of_the_other_side_are_no_pair(names):
    assert sided_classes(names)
    assert side_pairs(names) == []
