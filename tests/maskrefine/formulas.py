"""Weights, images and masks by formula, as the golden numbers of the refiners were made."""

import json

import numpy as np
import torch

SEED, PHI = 9000, 0.4


def weights(shapes):
    """{name: shape} -> {name: tensor}; integer entries are left out."""
    state = {}
    for i, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            continue
        z = np.random.RandomState(SEED + i).standard_normal(int(np.prod(shape)))
        if name.endswith("running_var"):
            value = 1 + 0.5 * np.abs(z)
        elif name.endswith("running_mean"):
            value = 0.1 * z
        elif len(shape) > 1:
            value = z / np.sqrt(z.size / shape[0])
        elif name.endswith("weight"):
            value = 1 + 0.1 * z
        else:
            value = 0.05 * z
        state[name] = torch.from_numpy(value.astype(np.float32)).reshape(shape)
    return state


def picture(height, width, phi):
    """(3, H, W) float64 of whole numbers."""
    c, y, x = np.mgrid[:3, :height, :width].astype(np.float64)
    return np.floor(127.5 + 127.5 * np.sin(0.09 * y + 0.05 * x * (1 + 0.4 * c) + c + phi))


def bits(packed, height, width):
    """(n, H*W/8) uint8 -> (n, H, W) bool."""
    flat = np.unpackbits(packed, axis=1)[:, : height * width]
    return flat.reshape(len(packed), height, width).astype(bool)


def golden_file(folder, name):
    """(settings, arrays) of `name`.json and `name`.npz."""
    settings = json.loads((folder / f"{name}.json").read_text())
    return settings, np.load(folder / f"{name}.npz")


def key_shapes(folder, name):
    """{state-dict name: shape}."""
    return json.loads((folder / f"{name}.keys.json").read_text())
