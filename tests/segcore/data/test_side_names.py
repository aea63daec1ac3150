"""Class names that say left and right."""

import pytest

from segcore.data.side_names import sided_classes


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
    assert sided_classes(names) == []
