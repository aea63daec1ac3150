"""Mask logits to run lengths, boxes and mean probabilities at the output size.

On a CPU one compiled pass, where `pip install ./ops` has it; the same in PyTorch is the fallback
and the tests' oracle. Both add the same products in the same order, but a matrix product may be
split otherwise by another library or machine: a pixel whose logit is zero but for rounding may
then differ.

Legend of one-letter names: N masks, A axes (N, or 1 for all masks), H W output pixels, h w cells.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segcore import masks as mask_io
from segcore.nn import ms_deform_attn  # its compiled kernels come with these
from segcore.nn.resize import AxisResize, Upsampler
from segcore.pinned import download
from segcore.structures import Rle


@dataclass(frozen=True, slots=True)
class EncodedMasks:
    """Masks at the output size, on the host."""

    rles: list[Rle]
    quality: Tensor  # (N,) float32, mean probability inside
    boxes: Tensor  # (N, 4) float32 x0 y0 x1 y1, ends exclusive; zeros where empty


@dataclass(frozen=True, slots=True)
class Taps:
    """One axis: output i is the sum over k of weights[k, i] * cells[first[i] + k]."""

    first: Tensor  # (A, length) int32
    weights: Tensor  # (A, taps, length) float32


def encode(masks: Tensor, up: Upsampler) -> EncodedMasks:
    """Logits (N, h, w) above zero at the output size, in PyTorch if `up` asks for its pieces."""
    if up.pieces or not has_compiled(masks):
        return _reference(masks, up)
    h, w = masks.shape[-2:]
    down = _taps(h, up.canvas[0], up.inside[0], up.size[0])
    across = _taps(w, up.canvas[1], up.inside[1], up.size[1])
    rles, facts = encode_compiled(masks, down, across, 0.0, score=True)
    area, total = facts[:, 0], facts[:, 1]
    return EncodedMasks(rles, (total / (area + 1e-6)).float(), facts[:, 2:].float())


def has_compiled(masks: Tensor, name: str = "encode_masks") -> bool:
    """Whether a compiled pass can take them: an older build of the kernels has no such."""
    kernels = ms_deform_attn.compiled and hasattr(torch.ops.msda, name)
    return bool(kernels) and masks.device.type == "cpu"


def encode_compiled(
    masks: Tensor, down: Taps, across: Taps, threshold: float, *, score: bool
) -> tuple[list[Rle], Tensor]:
    """Run lengths of what is above a threshold.

    Args:
        masks: (N, h, w) on the host; no pixel exceeds the largest cell that it reads.
        down: rows of cells to H rows of pixels.
        across: columns of cells to W columns of pixels.
        threshold: 0 or more.
        score: masks are logits, and the sum of their probabilities is wanted.

    Returns: N RLEs; (N, 6) float64 area, sum of probabilities, box x0 y0 x1 y1.
    """
    text, lengths, facts = torch.ops.msda.encode_masks(
        masks.float(), down.first, down.weights, across.first, across.weights, threshold, score
    )
    size = [down.first.shape[1], across.first.shape[1]]
    whole, ends = text.numpy().tobytes(), lengths.cumsum(0).tolist()
    counts = [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    return [{"size": size.copy(), "counts": one} for one in counts], facts


@functools.lru_cache(maxsize=64)
def _taps(cells: int, canvas: int, inside: int, length: int) -> Taps:
    return stack_taps([AxisResize.of(cells, canvas, inside, length, torch.device("cpu"))])


def stack_taps(axes: Sequence[AxisResize]) -> Taps:
    """Of axes with one number of cells; the shorter ones end with zeros."""
    firsts, lasts = zip(*((torch.tensor(a.first), torch.tensor(a.last)) for a in axes), strict=True)
    count = max(int((b - a).max()) + 1 for a, b in zip(firsts, lasts, strict=True))
    length = max(len(x) for x in firsts)
    first = torch.zeros(len(axes), length, dtype=torch.int32)
    weights = torch.zeros(len(axes), count, length)
    for i, (axis, at) in enumerate(zip(axes, firsts, strict=True)):
        begin = at.clamp(max=len(axis.weights) - count)
        first[i, : len(at)] = begin
        weights[i, :, : len(at)] = axis.weights.gather(0, begin + torch.arange(count)[:, None])
    return Taps(first, weights)


def _reference(masks: Tensor, up: Upsampler) -> EncodedMasks:
    """The definition; any device."""
    H, W = up.size
    rles: list[Rle] = []
    totals: list[Tensor] = []
    made: list[tuple[Tensor, Tensor]] = []  # pixels and sums of parts that are not encoded yet
    pieces = up.pieces_on(masks.device)
    together = 1 if pieces.alone else max(1, pieces.values // (H * W))
    for columns in up.parts(masks / 2, together, positive=True):
        count, rows = len(columns.tall), slice(*columns.rows)
        inside = torch.zeros(count, W, H, dtype=torch.bool, device=masks.device)
        total = torch.zeros(count, dtype=torch.float64, device=masks.device)
        for low, high in columns.bands():
            half = columns(low, high)  # (n, columns, rows) half the logits
            inside[:, low:high, rows] = half > 0
            # sigmoid(x) = (1 + tanh(x / 2)) / 2, and outside tanh is cut to 0
            total += half.clamp_(min=0).tanh_().sum((1, 2))
        made.append((inside, total))
        if sum(x.numel() for x, _ in made) > pieces.waiting:
            _encode(made, rles, totals)
            made = []
    _encode(made, rles, totals)
    area = torch.from_numpy(mask_io.area(rles)).double()
    quality = (area + torch.cat(totals)) / 2 / (area + 1e-6)
    return EncodedMasks(rles, quality.float(), torch.from_numpy(mask_io.boxes(rles)).float())


def _encode(made: list[tuple[Tensor, Tensor]], rles: list[Rle], totals: list[Tensor]) -> None:
    """Of pixels (n, W, H) and sums (n,): the host waits for all of them together."""
    here = download(*(x for pair in made for x in pair))
    for inside in here[::2]:
        # transposed twice: the layout that RLE wants, without a copy
        rles += mask_io.encode(inside.numpy().transpose(0, 2, 1))
    totals += here[1::2]
