"""From backbone features to a pyramid and per-pixel embeddings, by deformable attention.

Mask2Former (Cheng et al., 2022), section 3.2.1. Levels run coarse to fine everywhere: 1/32, 1/16,
1/8. Legend of one-letter names: B images, C channels, L levels, P points, S tokens, Q queries (here
the tokens themselves), h w feature cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.nn.layers import ConvNorm, position_code, zero_bias
from segcore.nn.ms_deform_attn import deform_attn


class DeformableSelfAttention(nn.Module):
    """Each token reads a few points around itself in every level."""

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int = 4) -> None:
        super().__init__()
        self.shape = (num_heads, num_levels, num_points)
        self.attend = deform_attn  # or deform_attn_by_grid_sample, for other runtimes
        points = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(dim, points * 2)
        self.attention_weights = nn.Linear(dim, points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Head m looks in direction 2 pi m / heads, point k at k + 1 pixels."""
        heads, levels, points = self.shape
        angle = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
        way = torch.stack((angle.cos(), angle.sin()), -1)
        way = way / way.abs().amax(-1, keepdim=True)  # (heads, 2)
        steps = torch.arange(1, points + 1, dtype=torch.float32)[:, None]
        bias = (way[:, None, None] * steps).expand(heads, levels, points, 2)
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, tokens: Tensor, reference: Tensor, shapes: list[int]
    ) -> Tensor:
        """(B, S, C) with position, (B, S, C) without, (1, S, 1, 2) -> (B, S, C)."""
        heads, levels, points = self.shape
        value = self.value_proj(tokens).unflatten(-1, (heads, -1))
        offsets, logits = self._aim(query)
        offsets = offsets.unflatten(-1, (heads, levels, points, 2))
        logits = logits.unflatten(-1, (heads, levels * points))
        return self.output_proj(self.attend(value, shapes, reference, offsets, logits))

    def _aim(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, C) -> where to look, and the weights' logits, points side by side."""
        with torch.autocast(query.device.type, enabled=False):  # in bf16 points would move
            offsets = self.sampling_offsets(query.to(self.sampling_offsets.weight.dtype))
        return offsets, self.attention_weights(query)


class EncoderLayer(nn.Module):
    """Deformable self-attention and feed-forward, post-norm."""

    cached_tokens = 1024

    def __init__(
        self, dim: int, num_heads: int, num_levels: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attn = DeformableSelfAttention(dim, num_heads, num_levels)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, code: Tensor, reference: Tensor, shapes: list[int]) -> Tensor:
        read = self.self_attn(x + code, x, reference, shapes)
        if x.is_cuda or torch.is_grad_enabled() or torch.compiler.is_exporting():
            return self._settle(x, read)
        # no token looks at another here: so few at a time that a CPU's cache holds them; a graph
        # would keep their number, whatever the size of its images
        parts = (whole.split(self.cached_tokens, dim=1) for whole in (x, read))
        return torch.cat([self._settle(*part) for part in zip(*parts, strict=True)], dim=1)

    def _settle(self, x: Tensor, read: Tensor) -> Tensor:
        """Tokens and what they have read, both (B, S, C) -> (B, S, C)."""
        x = self.norm1(x + self.dropout(read))
        hidden = self.dropout(F.relu(self.linear1(x)))  # in place, autograd copies the view twice
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class Encoder(nn.Module):
    """A stack of layers; `layers` is also its name in checkpoints."""

    def __init__(self, layers: list[EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Transformer(nn.Module):
    """The encoder and the embedding that tells its levels apart."""

    def __init__(self, encoder: Encoder, dim: int, num_levels: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(num_levels, dim))
        self.encoder = encoder


class PixelDecoder(nn.Module):
    """MSDeformAttnPixelDecoder: encode res3..res5, then one FPN step up to res2.

    Args:
        channels: of res2..res5, fine to coarse.
        dim: width of the tokens (CONVS_DIM).
        mask_dim: width of the per-pixel embedding (MASK_DIM).
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        *,
        dim: int = 256,
        mask_dim: int = 256,
        num_heads: int = 8,
        num_layers: int = 6,
        ffn_dim: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        coarse = channels[:0:-1]  # res5, res4, res3
        projections = [nn.Conv2d(c, dim, 1) for c in coarse]
        for conv in projections:
            nn.init.xavier_uniform_(conv.weight)
            zero_bias(conv)
        self.input_proj = nn.ModuleList(
            nn.Sequential(conv, nn.GroupNorm(math.gcd(32, dim), dim)) for conv in projections
        )
        layers = [
            EncoderLayer(dim, num_heads, len(coarse), ffn_dim, dropout) for _ in range(num_layers)
        ]
        self.transformer = Transformer(Encoder(layers), dim, len(coarse))
        self.adapter_1 = ConvNorm(channels[0], dim, 1)
        self.layer_1 = ConvNorm(dim, dim, 3, relu=True)
        self.mask_features = nn.Conv2d(dim, mask_dim, 1)
        nn.init.kaiming_uniform_(self.mask_features.weight, a=1)
        zero_bias(self.mask_features)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """res2..res5 (B, C, h, w) -> pyramid coarse to fine, mask features (B, D, H/4, W/4)."""
        coarse = features[:0:-1]  # res5, res4, res3
        pyramid = self._encode(self._tokens(coarse), [(x.shape[-2], x.shape[-1]) for x in coarse])
        fine = self._step_up(features[0], pyramid[-1])
        return pyramid, self._project(self.layer_1(fine))

    def _project(self, fine: Tensor) -> Tensor:
        """(B, C, H/4, W/4) -> mask features (B, D, H/4, W/4)"""
        return self.mask_features(fine)

    def _tokens(self, coarse: list[Tensor]) -> Tensor:
        """res5, res4, res3 (B, C, h, w) -> (B, S, C)"""
        levels = [proj(x) for proj, x in zip(self.input_proj, coarse, strict=True)]
        return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)

    def _step_up(self, feature: Tensor, coarse: Tensor) -> Tensor:
        """res2 and the finest level of the pyramid -> (B, C, H/4, W/4)"""
        fine = self.adapter_1(feature)
        # bilinear, though a remark in the published code says nearest
        fine += F.interpolate(coarse.contiguous(), fine.shape[-2:], mode="bilinear")
        return fine

    def _encode(self, x: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Tokens (B, S, C) of levels of these sizes -> the levels (B, C, h, w)"""
        dim, device = x.shape[2], x.device
        shapes = [edge for size in sizes for edge in size]
        embed = self.transformer.level_embed
        code = torch.cat(
            [position_code(None, *s, dim, device) + e for s, e in zip(sizes, embed, strict=True)]
        )  # (S, C)
        reference = torch.cat([_centres(*size, device) for size in sizes])[None, :, None]
        for layer in self.transformer.encoder.layers:
            x = layer(x, code, reference, shapes)
        parts = x.transpose(1, 2).split([h * w for h, w in sizes], dim=2)
        return [p.unflatten(2, size) for p, size in zip(parts, sizes, strict=True)]


def _centres(h: int, w: int, device: torch.device) -> Tensor:
    """Cell centres of a level, x y in 0..1, row by row: (h*w, 2)."""
    y = (torch.arange(h, device=device) + 0.5) / h
    x = (torch.arange(w, device=device) + 0.5) / w
    return torch.stack((x.expand(h, w), y[:, None].expand(h, w)), -1).flatten(0, 1)
