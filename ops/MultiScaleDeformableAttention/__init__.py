"""Compiled kernels for `segcore::ms_deform_attn`; importing this makes the dispatcher use them."""

from pathlib import Path

import torch

torch.ops.load_library(str(Path(__file__).parent / "_C.abi3.so"))
