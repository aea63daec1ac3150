"""Which parameters learn, and how fast, by patterns over their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from segcore.errors import ConfigError

# a block of any backbone here: layers.0.blocks.1, stages.2.7, stages_1.blocks.0, res3.0 ...
BLOCK = re.compile(r"(?<![A-Za-z_])((?:layers?|stages?|res)[._]?\d+(?:\.blocks)?\.\d+|blocks\.\d+)")
BEFORE = re.compile(r"(?<![A-Za-z_])downsample_layers\.(\d+)\.")  # of the stage of that number


def matching(names: Iterable[str], pattern: str, key: str) -> list[str]:
    """The names that a pattern of the shell's kind matches; "*" takes dots too.

    Args:
        key: of the config, for the ConfigError where there is none.
    """
    names = list(names)
    if found := [name for name in names if fnmatchcase(name, pattern)]:
        return found
    parts = {f"{name.rsplit('.', k)[0]}.*": None for name in names for k in range(1, 5)}
    near = difflib.get_close_matches(pattern, [*parts, *names], n=4, cutoff=0.4)
    tops = dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names)
    raise ConfigError(
        f"{key} {pattern!r}: no parameter has such a name; near ones:"
        f" {', '.join(near or tops)} (shell patterns over the names of the model's parameters)"
    )


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Parameters of these names learn nothing; ConfigError for a pattern that matches none."""
    named = dict(model.named_parameters())
    for pattern in patterns:
        for name in matching(named, pattern, "MODEL.FREEZE"):
            named[name].requires_grad_(False)
    if patterns and not any(p.requires_grad for p in named.values()):
        raise ConfigError(
            f"MODEL.FREEZE {list(patterns)}: nothing is left that learns; leave out some of them"
        )


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Batch norms of which every parameter is frozen: in eval mode their statistics are too."""
    norms = [m for m in model.modules() if isinstance(m, _NormBase) and m.affine]
    return [m for m in norms if not any(p.requires_grad for p in m.parameters())]


def rates_by_name(
    model: nn.Module,
    rates: Callable[[str], float],
    patterns: Sequence[tuple[str, float]] = (),
    layer_decay: float = 1.0,
) -> dict[str, float]:
    """Factor of the base learning rate, by parameter name.

    Args:
        rates: the architecture's.
        patterns: what holds instead for parameters of these names; the last one that matches.
        layer_decay: what the factors of a backbone's blocks are multiplied by, as of
            `layer_factors`.
    """
    names = [name for name, _ in model.named_parameters()]
    factors = {name: rates(name) for name in names}
    for name, factor in layer_factors(names, layer_decay).items():
        factors[name] *= factor
    for pattern, factor in patterns:
        factors |= dict.fromkeys(matching(names, pattern, "SOLVER.RATES"), float(factor))
    return factors


def layer_factors(names: Sequence[str], decay: float) -> dict[str, float]:
    """decay^1 for a backbone's last block, decay^2 for the one before ..., most for the stem.

    As BEiT and ConvNeXt are fine-tuned (Bao et al., 2022). What lies between two blocks counts with
    the block before it, or in HorNet's layout (all of it first) with the one behind it.
    """
    if decay == 1:
        return {}
    inside = [name for name in names if "backbone" in name]
    blocks: dict[str, int] = {}
    for name in inside:
        if block := BLOCK.search(name):
            blocks.setdefault(block[1], len(blocks) + 1)
    if not blocks:
        raise ConfigError(
            f"SOLVER.LAYER_DECAY {decay}: no blocks are known in this backbone's parameters"
            f" ({', '.join(inside[:3]) or 'it has none'}); set it to 1, and SOLVER.RATES instead"
        )
    factors, depth = {}, 0  # the stem's
    for name in inside:
        if block := BLOCK.search(name):
            depth = blocks[block[1]]
        elif (stage := BEFORE.search(name)) and stage[1] != "0":
            depth = blocks.get(f"stages.{stage[1]}.0", depth)
        factors[name] = decay ** (len(blocks) + 1 - depth)
    return factors


def rate_table(model: nn.Module, factors: dict[str, float], rate: float) -> str:
    """Tensors and numbers that learn at each rate, and those that do not, in lines."""
    rows: dict[float, list[tuple[str, int]]] = {}
    for name, parameter in model.named_parameters():
        learns = parameter.requires_grad
        rows.setdefault(factors[name] * rate if learns else -1.0, []).append(
            (name, parameter.numel())
        )
    lines = [f"{'rate':>10s} {'tensors':>8s} {'numbers':>12s}"]
    for value, members in sorted(rows.items(), reverse=True):
        parts = dict.fromkeys(".".join(name.split(".")[:2]) for name, _ in members)
        shown = ", ".join([*parts][:4]) + (", ..." if len(parts) > 4 else "")
        word = "frozen" if value < 0 else f"{value:.2e}"
        count = sum(numel for _, numel in members)
        lines.append(f"{word:>10s} {len(members):8d} {count:12,d}  {shown}")
    return "\n".join(lines)
