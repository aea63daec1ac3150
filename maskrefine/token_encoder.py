"""Transformer encoder over token sequences of many boxes at once (Mask Transfiner, section 3.3).

Legend of one-letter names: R boxes, S tokens of all boxes together, C channels, l tokens of the
longest sequence in a group.

Everything but attention treats tokens one by one, so they lie packed as rows (S, C): no row is
padding. Attention alone needs sequences; boxes of similar length share one padded product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AT_ONCE = 1024  # rows


@dataclass(frozen=True, slots=True)
class Group:
    """Boxes whose sequences are padded to one length."""

    rows: Tensor  # (r, l) int64 row of each token; padding repeats row 0
    valid: Tensor | None  # (r, l) bool: no padding; None: there is none


def group_by_length(box: Tensor, count: int, fill: float = 0.75) -> list[Group]:
    """Sequences of the tokens of each box, in groups of similar length.

    Args:
        box: (S,) which box each row belongs to, in any order; rows keep it within a sequence.
        count: R.
        fill: how long the shortest of a group must be, as a part of the longest: less padding
            for more products. 0: one group.
    """
    lengths = torch.bincount(box, minlength=count)
    ends = lengths.cumsum(0)
    order = box.argsort(stable=True)  # rows, box after box
    known = lengths.tolist()  # shapes depend on it: the one wait for the device
    longest_first = sorted((r for r in range(count) if known[r]), key=lambda r: -known[r])
    groups: list[Group] = []
    while longest_first:
        most = known[longest_first[0]]
        members = [r for r in longest_first if known[r] >= fill * most]
        longest_first = longest_first[len(members) :]
        member = torch.tensor(members, device=box.device)
        place = torch.arange(most, device=box.device)[None]
        valid = place < lengths[member, None]  # (r, l)
        first = (ends - lengths)[member, None]
        rows = order[torch.where(valid, first + place, 0)]
        padded = known[members[-1]] < most
        groups.append(Group(rows, valid if padded else None))
    return groups


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, post-norm; positions are added in every layer."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, num_heads)  # holds the weights, as named
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = dropout

    def forward(self, tokens: Tensor, code: Tensor, groups: list[Group]) -> Tensor:
        """(S, C) tokens and their position codes -> (S, C)."""
        tokens = self.norm1(tokens + self._drop(self._attend(tokens, code, groups)))
        # a part at a time, for the wide layer to fit into a CPU's cache; one draw in training
        at_once = max(len(tokens), 1) if self.training else AT_ONCE
        fed = torch.cat([self._feed(some) for some in tokens.split(at_once)])
        return self.norm2(tokens + self._drop(fed))

    def _feed(self, tokens: Tensor) -> Tensor:
        return self.linear2(self._drop(self.linear1(tokens).relu_()))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def _attend(self, tokens: Tensor, code: Tensor, groups: list[Group]) -> Tensor:
        C, heads = tokens.shape[1], self.self_attn.num_heads
        weight, bias = self.self_attn.in_proj_weight, self.self_attn.in_proj_bias
        both = F.linear(tokens + code, weight[: 2 * C], bias[: 2 * C])  # queries and keys
        qkv = torch.cat((both, F.linear(tokens, weight[2 * C :], bias[2 * C :])), dim=1)
        # without any box the weights still take part: parallel training waits for their gradients
        out = torch.zeros_like(qkv[:, :C]) if groups else qkv[:, :C]
        for group in groups:  # few: of similar length, not box by box
            padded = qkv[group.rows].unflatten(2, (3, heads, -1))  # (r, l, 3, heads, C/heads)
            q, k, v = padded.permute(2, 0, 3, 1, 4)
            allowed = None if group.valid is None else group.valid[:, None, None]
            drop = self.dropout if self.training else 0.0
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=drop)
            read = read.transpose(1, 2).flatten(2)  # (r, l, C)
            rows, values = group.rows.flatten(), read.flatten(0, 1)
            if group.valid is not None:
                rows, values = rows[group.valid.flatten()], values[group.valid.flatten()]
            out = out.index_copy(0, rows, values)
        return self.self_attn.out_proj(out)


class TokenEncoder(nn.Module):
    """From a feature and a coarse probability to a better probability, for every token."""

    def __init__(
        self,
        *,
        dim: int = 256,
        num_heads: int = 4,
        ffn_dim: int = 2048,
        num_layers: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(dim, num_heads, ffn_dim, dropout) for _ in range(num_layers)
        )
        # 1x1 convolutions in the published weights, applied to rows here
        self.fuse = nn.Conv2d(dim + 1, dim, 1)
        self.answer = nn.ModuleList((nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, 1, 1)))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, features: Tensor, coarse: Tensor, code: Tensor, box: Tensor, count: int
    ) -> Tensor:
        """Probability (float32) that each token is foreground: (S,).

        A token attends to those of its own box. Dropout draws in the order of the rows; with
        rows token by token and box by box within, as in training, this is the published order.

        Args:
            features: (S, C).
            coarse: (S,) probability of the coarse mask there.
            code: (S, C) position code.
            box: (S,) 0..R-1.
            count: R.
        """
        groups = group_by_length(box, count)
        tokens = _linear(torch.cat((features, coarse[:, None]), dim=1), self.fuse)
        for layer in self.layers:
            tokens = layer(tokens, code, groups)
        hidden, last = self.answer
        return _linear(F.relu(_linear(tokens, hidden)), last)[:, 0].float().sigmoid()


def _linear(x: Tensor, conv: nn.Module) -> Tensor:
    """A 1x1 convolution on rows (S, C)."""
    assert isinstance(conv, nn.Conv2d)
    return F.linear(x, conv.weight.flatten(1), conv.bias)
