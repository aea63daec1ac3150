"""Small tensors on their way to a GPU, for which the host does not wait."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The host's tensor on a device; to a GPU from pinned memory, behind the work given to it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
