"""Where everything is computed: the one place that chooses a device."""

from __future__ import annotations

import logging
from functools import cache

import torch

from segcore.errors import ConfigError

logger = logging.getLogger(__name__)

KINDS = ("cpu", "cuda", "mps")


def gpu_count() -> int:
    """GPUs that CUDA can use here."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@cache  # so that a warning comes once
def choose_device(name: str) -> torch.device:
    """The device that MODEL.DEVICE means; ConfigError where there is none of this name here.

    Args:
        name: "cpu", "cuda", "cuda:1" ..., "mps"; "auto" or "" for CUDA where there is one, else
            the CPU. Without any CUDA, the CPU takes the place of "cuda" too, with a warning.
    """
    if name in ("", "auto"):
        return torch.device("cuda" if gpu_count() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:  # no such word
        raise _refusal(name, error) from None
    if device.type == "cuda" and not gpu_count():
        logger.warning("MODEL.DEVICE is %s but there is no CUDA here: using the CPU", name)
        return torch.device("cpu")
    if device.type not in KINDS:
        raise _refusal(name, f"no model was ever tried on {device.type}")
    if device.type == "cuda" and (device.index or 0) >= gpu_count():
        raise _refusal(name, f"the GPUs here are 0 to {gpu_count() - 1}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise _refusal(name, "this machine or this build of PyTorch has none")
    return device


def _refusal(name: str, reason: object) -> ConfigError:
    return ConfigError(
        f"MODEL.DEVICE {name!r} cannot be used here ({str(reason).splitlines()[0]}); expected cpu,"
        " cuda, cuda:1 ..., mps, or auto for the best there is"
    )
