"""What takes the place of Mask2Former's modules for inference on a CPU; see segcore.nn.prepared.

Legend of one-letter names: B samples, T views, Q queries, C channels, D mask channels, S tokens,
h w feature cells.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.decoder import DecoderLayer, MaskedDecoder
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import DeformableSelfAttention, EncoderLayer, PixelDecoder
from segcore.nn.group_norm import group_norm_
from segcore.nn.layers import stack_or_view, watched
from segcore.nn.packed import CACHED_TOKENS, Around, PackedLinear, product
from segcore.nn.prepared import PackedConvNorm, Preparation, as_class, stays


class _DecoderLayer(DecoderLayer):
    """Feed-forward with its ReLU and its sum inside the products."""

    def _feed(self, queries: Tensor) -> Tensor:
        return self.linear2(self.linear1(queries), queries)


def _layer(layer: DecoderLayer, kind: torch.dtype) -> nn.Module:
    layer.linear1, layer.linear2 = _feed(layer, kind)  # type: ignore[assignment]
    return as_class(layer, _DecoderLayer)


def _feed(layer: Any, kind: torch.dtype) -> tuple[PackedLinear, PackedLinear]:
    first, second = layer.linear1, layer.linear2
    return (
        PackedLinear(first.weight, first.bias, kind, "relu"),
        PackedLinear(second.weight, second.bias, kind),
    )


class _EncoderLayer(nn.Module):
    """All but the values and the sampling a few tokens at a time, held by a CPU's cache."""

    def __init__(self, plain: EncoderLayer, kind: torch.dtype) -> None:
        super().__init__()
        attn = plain.self_attn
        self.shape, self.attend = attn.shape, attn.attend
        self.value, self.output = (
            PackedLinear(x.weight, x.bias, kind) for x in (attn.value_proj, attn.output_proj)
        )
        aims = (attn.sampling_offsets, attn.attention_weights)
        if kind == torch.float32:
            weight, bias = (torch.cat([getattr(x, n) for x in aims]) for n in ("weight", "bias"))
            self.aims = nn.ModuleList([PackedLinear(weight, bias, kind)])
        else:  # points in bf16 would move
            kinds = (torch.float32, kind)
            layers = zip(aims, kinds, strict=True)
            self.aims = nn.ModuleList(PackedLinear(x.weight, x.bias, k) for x, k in layers)
        self.norm1, self.norm2 = plain.norm1, plain.norm2
        self.linear1, self.linear2 = _feed(plain, kind)

    def forward(self, x: Tensor, code: Tensor, reference: Tensor, shapes: list[int]) -> Tensor:
        """(B, S, C), (S, C), (1, S, 1, 2) -> (B, S, C), in the memory of x."""
        heads, levels, points = self.shape
        value = self.value(x).unflatten(-1, (heads, -1))
        count = heads * levels * points
        offsets = x.new_empty(*x.shape[:2], 2 * count, dtype=torch.float32)
        logits = x.new_empty(*x.shape[:2], count, dtype=torch.float32)
        for part in _pieces(x.shape[1]):
            query = x[:, part] + code[part]
            aimed = [aim(query) for aim in self.aims]
            if len(aimed) == 1:
                aimed = aimed[0].split((2 * count, count), -1)
            offsets[:, part], logits[:, part] = aimed
        offsets = offsets.unflatten(-1, (heads, levels, points, 2))
        logits = logits.unflatten(-1, (heads, levels * points))
        read = self.attend(value, shapes, reference, offsets, logits)
        for part in _pieces(x.shape[1]):  # nobody looks at a part of x once it is settled
            x[:, part] = self._settle(x[:, part], read[:, part])
        return x

    def _settle(self, x: Tensor, read: Tensor) -> Tensor:
        x = self.norm1(self.output(read, x))
        return self.norm2(self.linear2(self.linear1(x), x))


def _pieces(tokens: int) -> list[slice]:
    return [slice(i, i + CACHED_TOKENS) for i in range(0, tokens, CACHED_TOKENS)]


class _PixelDecoder(PixelDecoder):
    """Norms where the convolutions have left their maps, the finest one's with its sum."""

    def _tokens(self, coarse: list[Tensor]) -> Tensor:
        projections: Any = self.input_proj
        maps = [conv(x) for (conv, _), x in zip(projections, coarse, strict=True)]
        counts = [x.shape[2:].numel() for x in maps]
        shape = (len(maps[0]), sum(counts), maps[0].shape[1])
        x = maps[0].new_empty(shape, dtype=torch.float32)  # (B, S, C), as a norm's result is
        parts = zip(projections, maps, x.split(counts, dim=1), strict=True)
        for (_, norm), level, part in parts:
            group_norm_(level, norm, out=part.unflatten(1, level.shape[2:]).permute(0, 3, 1, 2))
        return x

    def _step_up(self, feature: Tensor, coarse: Tensor) -> Tensor:
        return cast(PackedConvNorm, self.adapter_1).plus(feature, coarse)


def _pixel_decoder(plain: PixelDecoder, kind: torch.dtype) -> nn.Module:
    return as_class(plain, _PixelDecoder)


class _MaskedDecoder(MaskedDecoder):
    """Its mask features lack the pixel decoder's last convolution: the queries bring it along."""

    mask_weight: Tensor  # (D, C)
    mask_bias: Tensor  # (D,)

    def _masks(self, states: Tensor, mask_features: Tensor) -> Tensor:
        """(B, Q, C), (B, T, C, h, w) -> (B, Q, T, h, w)"""
        embedding = self.mask_embed(states).to(self.mask_weight.dtype)[:, None]  # (B, 1, Q, D)
        with torch.autocast("cpu", enabled=False):  # a product of few rows
            weights, offset = embedding @ self.mask_weight, embedding @ self.mask_bias
        masks = _products(weights, mask_features.flatten(3))  # (B, T, Q, h*w)
        masks += offset[..., None].to(masks.dtype)
        return masks.unflatten(3, mask_features.shape[-2:]).transpose(1, 2)


def _products(weights: Tensor, cells: Tensor) -> Tensor:
    """(B, 1, Q, C), (B, T, C, S) -> (B, T, Q, S), a view at a time.

    In float32 by oneDNN in half of the time; in bfloat16 a product of several would first lay out
    the cells anew.
    """
    exact = not torch.is_autocast_enabled("cpu") and weights.dtype == cells.dtype == torch.float32
    multiply = product if exact else F.linear
    pairs = zip(weights[:, 0], cells.mT, strict=True)  # of a sample (Q, C) and (T, S, C)
    each = [multiply(queries, view) for queries, views in pairs for view in views]
    return stack_or_view(each).unflatten(0, cells.shape[:2])


def move_mask_convolution(pixel_decoder: nn.Module, decoder: nn.Module) -> None:
    """The 1x1 convolution of all cells, which only queries look at, becomes one of the queries.

    A user's own decoders stay as they are.
    """
    if type(pixel_decoder) is not PixelDecoder or type(decoder) is not MaskedDecoder:
        return
    conv = pixel_decoder.mask_features
    if watched(conv):
        return
    moved = as_class(decoder, _MaskedDecoder)
    moved.register_buffer("mask_weight", conv.weight.detach()[:, :, 0, 0].clone())
    moved.register_buffer("mask_bias", conv.bias.detach().clone())  # type: ignore[union-attr]
    pixel_decoder.mask_features = nn.Identity()  # type: ignore[assignment]


def _mask2former(model: Mask2Former, kind: torch.dtype) -> nn.Module:
    move_mask_convolution(model.pixel_decoder, model.decoder)
    return model


PREPARED: dict[type[nn.Module], Preparation] = {
    DecoderLayer: _layer,
    DeformableSelfAttention: stays,  # of a layer that stays: its points in bf16 would move
    EncoderLayer: _EncoderLayer,
    PixelDecoder: _pixel_decoder,
    Mask2Former: Around(_mask2former),
}
