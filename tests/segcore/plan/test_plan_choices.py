"""Which task, network and time a plan chooses."""

import pytest
from drawn_facts import CPU, GPU, facts

from segcore.errors import ConfigError
from segcore.plan.choices import BASES, minutes_of, network_of, task_of
from segcore.shipped import config_file


def test_task_is_what_the_data_hold():
    assert task_of(facts())[0] == "instance"
    assert task_of(facts(classes=("cat", "sky"), stuff=1))[0] == "panoptic"
    assert task_of(facts(objects=0))[0] == "semantic"
    assert task_of(facts(classes=("nucleus",)))[0] == "instance"
    assert task_of(facts(), "entity") == ("entity", "as --task says")


@pytest.mark.parametrize("wanted", ["instance", "panoptic", "entity"])
def test_label_images_refuse_tasks_of_objects(wanted):
    with pytest.raises(ConfigError, match="label images, which do not keep objects apart"):
        task_of(facts(objects=0), wanted)


def test_masks_of_objects_refuse_semantic():
    with pytest.raises(ConfigError, match="leave the other pixels"):
        task_of(facts(), "semantic")


def test_videos_are_refused_with_their_config():
    with pytest.raises(ConfigError, match="video_lite0"):
        task_of(facts(clips=True))


def test_detector_is_for_objects_on_a_cpu_in_little_time():
    name, why = network_of("instance", facts(), CPU, 22)
    assert name == "maskrcnn"
    assert "AP50 26.6" in why
    assert network_of("entity", facts(stuff=1), CPU, 22)[0] == "maskrcnn"
    assert network_of("instance", facts(), GPU, 22)[0] == "mask2former"
    assert network_of("instance", facts(), CPU, 1000)[0] == "mask2former"
    assert network_of("panoptic", facts(stuff=1), CPU, 22)[0] == "mask2former"
    assert network_of("instance", facts(stuff=1), CPU, 22)[0] == "mask2former"
    assert network_of("instance", facts(), CPU, 22, "mask2former")[0] == "mask2former"


def test_detector_for_pixels_is_refused():
    for task in ("semantic", "panoptic", "instance"):
        with pytest.raises(ConfigError, match="expected mask2former"):
            network_of(task, facts(stuff=1), CPU, 22, "maskrcnn")


def test_minutes_grow_with_the_images_up_to_an_afternoon():
    assert [minutes_of(facts(n))[0] for n in (3, 100, 500, 5000)] == [20, 24, 120, 240]


@pytest.mark.parametrize("name", sorted(set(BASES.values())))
def test_bases_come_along(name):
    assert config_file(name).is_file()
