"""Processes, devices and precision: the door to Lightning Fabric."""

from __future__ import annotations

import logging

import torch
from lightning_fabric import Fabric

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def launch(
    *, num_gpus: int = 1, num_machines: int = 1, device: str = "auto", precision: str = "fp32"
) -> Fabric:
    """A launched Fabric: one process a GPU, or `num_gpus` processes on the CPU.

    Args:
        device: "auto", "cpu" or "cuda".
        precision: "fp32", "bf16", "fp16", or "" for the best mixed one that the device has.
    """
    cuda = torch.cuda.is_available() and device != "cpu"
    if device.startswith("cuda") and not cuda:
        logger.warning("MODEL.DEVICE is %s but there is no CUDA here: using the CPU", device)
    if not precision:
        half = "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp16"
        precision = half if cuda else "fp32"
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=num_gpus,
        num_nodes=num_machines,
        strategy="ddp" if num_gpus * num_machines > 1 else "auto",
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric
