"""Tensors on their way to a GPU and back: no wait of the host there, a single one back."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The host's tensor on a device; to a GPU from pinned memory, behind the work given to it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def download(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one device on the host, which waits once for all of them."""
    copies = [x.to("cpu", non_blocking=x.is_cuda) for x in tensors]
    if any(x.is_cuda for x in tensors):
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return copies
