"""Weights and images by formula, as the specification's golden numbers were made (section 13)."""

import numpy as np
import torch


def fill(names, shapes):
    """Official state dict with values drawn by rank of the sorted key: {name: tensor}."""
    state = {}
    for i, (name, tensor) in enumerate(sorted(zip(names, shapes, strict=True), key=lambda p: p[0])):
        if not tensor.dtype.is_floating_point or name.endswith("empty_weight"):
            continue
        z = np.random.RandomState(i).standard_normal(tensor.numel())
        if name.endswith("running_var"):
            value = 1 + 0.5 * np.abs(z)
        elif name.endswith("running_mean"):
            value = 0.1 * z
        elif "sampling_offsets.bias" in name:
            value = 2 * z
        elif "query" in name or "level_embed" in name:
            value = z
        elif "relative_position_bias_table" in name:
            value = 0.5 * z
        elif tensor.dim() > 1:
            value = z / np.sqrt(tensor.numel() / tensor.shape[0])
        elif name.endswith("weight"):
            value = 1 + 0.1 * z
        else:
            value = 0.05 * z
        state[name] = torch.from_numpy(value.astype(np.float32)).reshape(tensor.shape)
    return state


def golden_image(height=90, width=120, phi=0.0):
    """(3, H, W) uint8."""
    c, y, x = np.mgrid[:3, :height, :width].astype(np.float64)
    angle = 0.11 * y + 0.07 * x * (1 + 0.3 * c) + c + phi
    return torch.from_numpy(np.floor(127.5 + 127.5 * np.sin(angle)).astype(np.uint8))
