"""Where everything is computed."""

import logging

import pytest
import torch

from segcore.engine import device
from segcore.engine import launch as launch_module
from segcore.engine.device import choose_device
from segcore.engine.launch import launch
from segcore.errors import ConfigError


@pytest.fixture(autouse=True)
def _forgets():
    choose_device.cache_clear()
    yield
    choose_device.cache_clear()


@pytest.fixture
def gpus(monkeypatch):
    """As if there were two."""
    for module in (device, launch_module):
        monkeypatch.setattr(module, "gpu_count", lambda: 2)


@pytest.fixture
def no_gpus(monkeypatch):
    monkeypatch.setattr(device, "gpu_count", lambda: 0)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_names_of_devices_that_are_here(gpus, name):
    assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["auto", ""])
def test_auto_is_cuda_where_there_is_one(gpus, monkeypatch, name):
    assert choose_device(name) == torch.device("cuda")
    choose_device.cache_clear()
    monkeypatch.setattr(device, "gpu_count", lambda: 0)
    assert choose_device(name) == torch.device("cpu")


def test_the_cpu_takes_the_place_of_cuda_and_warns_once(no_gpus, caplog):
    with caplog.at_level(logging.WARNING, device.__name__):
        assert {choose_device("cuda:1") for _ in range(3)} == {torch.device("cpu")}
    assert caplog.text.count("MODEL.DEVICE is cuda:1 but there is no CUDA here") == 1


@pytest.mark.parametrize(
    "name", ["gpu", "cpu:x", "xpu:77", "meta", "CPU", "cuda7", "cuda:x", "mps0"]
)
def test_unknown_devices_raise_in_training_too(no_gpus, name):
    for choose in (choose_device, lambda name: launch(device=name)):
        with pytest.raises(ConfigError, match=f"MODEL.DEVICE '{name}' .*expected cpu, cuda"):
            choose(name)


def test_a_gpu_that_is_not_there_raises(gpus):
    with pytest.raises(ConfigError, match=r"'cuda:2' .*the GPUs here are 0 to 1"):
        choose_device("cuda:2")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a machine without it")
def test_mps_raises_where_there_is_none():
    with pytest.raises(ConfigError, match=r"'mps' .*has none"):
        choose_device("mps")


def test_one_gpu_by_number_has_one_process(gpus):
    for more in ({"num_gpus": 2}, {"num_machines": 2}):
        with pytest.raises(ConfigError, match=r"cuda:1 is one GPU, but several processes"):
            launch(device="cuda:1", **more)
    with pytest.raises(ConfigError, match="this machine has 2 GPUs"):
        launch(device="cuda", num_gpus=3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu_trains_on_the_second_gpu():
    fabric = launch(device="cuda:1")
    assert fabric.device == torch.device("cuda:1")
    assert torch.cuda.current_device() == 1
