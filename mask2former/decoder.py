"""Masked-attention transformer decoder: learned queries read a feature pyramid and predict masks.

Legend: B samples, T views or frames of a sample, Q queries, C channels, D mask channels,
K classes, S = T*h*w tokens, H W input pixels, h w feature cells.
A still image is T = 1. All T views of a sample share one set of queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.nn.layers import Attention, Perceptron, position_code
from segcore.query_rows import noise_of_copies, tile_rows
from segcore.structures import Prediction


class DecoderLayer(nn.Module):
    """Cross-attention to the memory, self-attention among the queries, feed-forward; post-norm."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.cross_attn = Attention(dim, num_heads)
        self.cross_norm = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, num_heads)
        self.self_norm = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self,
        queries: Tensor,
        query_code: Tensor,
        memory: Tensor,
        coded_memory: Tensor,
        readable: Tensor | None = None,
        self_code: bool = True,
    ) -> Tensor:
        """(B, Q, C) queries that have read a memory (B, S, C) and each other: (B, Q, C).

        Args:
            query_code: (Q, C) what tells the queries apart.
            coded_memory: the memory with its position code added, (B, S, C).
            readable: (B, Q, S) bool; None: every query reads everything.
            self_code: whether self-attention sees the query code too.
        """
        read = self.cross_attn(queries + query_code, coded_memory, memory, readable)
        queries = self.cross_norm(queries + read)
        coded = queries + query_code if self_code else queries
        queries = self.self_norm(queries + self.self_attn(coded, coded, queries))
        return self.ffn_norm(self._feed(queries))

    def _feed(self, queries: Tensor) -> Tensor:
        return queries + self.linear2(F.relu(self.linear1(queries)))


class MaskedDecoder(nn.Module):
    """Predicts from the queries before the first layer and after each one.

    Args:
        num_queries: learned ones.
        test_queries: outside of training, the first of the learned ones or copies of them in turn
            (`tile_rows`); 0: as many as are learned.
    """

    test_noise: Tensor  # (Q, C); no rows: the learned queries

    def __init__(
        self,
        *,
        num_classes: int,
        num_queries: int = 100,
        test_queries: int = 0,
        dim: int = 256,
        mask_dim: int = 256,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        num_layers: int = 9,
        num_levels: int = 3,
    ) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.query_feat = nn.Embedding(num_queries, dim)
        self.query_embed = nn.Embedding(num_queries, dim)
        noise = noise_of_copies(num_queries, test_queries, dim)
        self.register_buffer("test_noise", noise, persistent=False)
        self.level_embed = nn.Embedding(num_levels, dim)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, ffn_dim) for _ in range(num_layers)
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = Perceptron(dim, dim, dim, mask_dim)

    def forward(
        self,
        pyramid: list[Tensor],
        mask_features: Tensor,
        views: int | None = None,
        queries: Tensor | None = None,
        aux: bool = True,
    ) -> tuple[list[Prediction], Tensor]:
        """What each layer says; the last prediction is the answer. Also the last queries (B, Q, C).

        Args:
            pyramid: L levels (B*T, C, h, w), coarse to fine, read in turn.
            mask_features: (B*T, D, H/4, W/4), multiplied with the queries' mask embeddings.
            views: None: every image stands alone. T: each T consecutive images share one set of
                queries, and the position code tells them apart (even if T is 1).
            queries: (B, Q, C) to start from; the learned ones by default.
            aux: False: only the last prediction is returned.
        """
        T = views or 1
        memory = [self._tokens(x, level, T) for level, x in enumerate(pyramid)]
        coded = [
            tokens + position_code(views, x.shape[-2], x.shape[-1], x.shape[1], x.device)
            for tokens, x in zip(memory, pyramid, strict=True)
        ]
        mask_features = mask_features.unflatten(0, (-1, T))  # (B, T, D, H/4, W/4)
        # resizing is linear: small features give the small masks that steer the attention
        small = [_resize(mask_features.detach(), x.shape[-2:]) for x in pyramid]
        features, code = self.learned()
        start = features.expand(mask_features.shape[0], -1, -1)
        current: Tensor = start if queries is None else queries

        states: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            level = i % self.num_levels
            states.append(self.decoder_norm(current))
            readable = self._readable(states[-1], small[level])
            current = layer(current, code, memory[level], coded[level], readable)
        states.append(self.decoder_norm(current))
        return self._predict(states if aux else states[-1:], mask_features), current

    def learned(self) -> tuple[Tensor, Tensor]:
        """(Q, C) what the queries start from, and (Q, C) what tells them apart."""
        features, code = self.query_feat.weight, self.query_embed.weight
        if self.training or not len(self.test_noise):
            return features, code
        return tile_rows(features, self.test_noise), tile_rows(code, self.test_noise)

    def _tokens(self, x: Tensor, level: int, T: int) -> Tensor:
        """(B*T, C, h, w) -> (B, T*h*w, C)"""
        tokens = x.flatten(2).transpose(1, 2) + self.level_embed.weight[level]
        return tokens.unflatten(0, (-1, T)).flatten(1, 2)

    def _predict(self, states: list[Tensor], mask_features: Tensor) -> list[Prediction]:
        """One prediction a state (B, Q, C); all in one product, which is faster than one by one."""
        together = torch.cat(states, dim=1)
        counts = [x.shape[1] for x in states]
        logits = self.class_embed(together).split(counts, dim=1)
        masks = self._masks(together, mask_features).split(counts, dim=1)
        return [Prediction(*pair) for pair in zip(logits, masks, strict=True)]

    def _masks(self, states: Tensor, mask_features: Tensor) -> Tensor:
        """(B, Q, C), (B, T, D, h, w) -> (B, Q, T, h, w)"""
        embedding = self.mask_embed(states)[:, None]  # (B, 1, Q, D)
        masks = embedding @ mask_features.flatten(3)  # (B, T, Q, h*w)
        return masks.unflatten(3, mask_features.shape[-2:]).transpose(1, 2)

    @torch.no_grad()
    def _readable(self, states: Tensor, mask_features: Tensor) -> Tensor:
        """Tokens inside each query's own mask: (B, Q, C), (B, T, D, h, w) -> (B, Q, T*h*w) bool."""
        inside = self._masks(states, mask_features).flatten(2) >= 0
        return inside | ~inside.any(-1, keepdim=True)  # an empty mask reads everything


def _resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, X, Y, h, w) -> the same with another h, w."""
    small = F.interpolate(maps.flatten(0, 1), size, mode="bilinear")
    return small.unflatten(0, maps.shape[:2])
