"""Parameter groups, optimizers and schedules as published."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from segcore.errors import ConfigError

Schedule = Callable[[int], float]  # iteration -> factor of the base rate

CLIPPED = ("full_model", "value", "norm")
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


@dataclass(frozen=True, slots=True)
class Decay:
    """Weight decay of most parameters, of normalisation layers, of embeddings."""

    weight: float = 0.05
    norm: float = 0.0
    embed: float = 0.0


@dataclass(frozen=True, slots=True)
class Clipping:
    """What of the gradients is clipped before a step.

    Args:
        kind: "full_model": the norm of all together; "value": each number; "norm": the norm of each
            parameter's gradient.
        limit: 0: nothing is clipped.
        norm_type: which norm "norm" means; "full_model" is always the second.
    """

    kind: str = "full_model"
    limit: float = 0.01
    norm_type: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in CLIPPED:
            raise ConfigError(
                f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE {self.kind!r}: expected {', '.join(CLIPPED)}"
            )


def clip(fabric: Fabric, model: nn.Module, optimizer: Optimizer, clipping: Clipping) -> Tensor:
    """Clip the gradients; the norm of all before, 0 where nobody has measured it.

    Args:
        model, optimizer: as `fabric.setup` returned them.
    """
    limit = clipping.limit
    if limit > 0 and clipping.kind == "full_model":
        norm: Any = fabric.clip_gradients(
            model, optimizer, max_norm=limit, error_if_nonfinite=False
        )
        return norm
    if limit > 0 and clipping.kind == "value":
        fabric.clip_gradients(model, optimizer, clip_val=limit)
    elif limit > 0:
        fabric.clip_gradients(model, optimizer, clip_val=torch.inf)  # undoes fp16's scaling
        for parameter in model.parameters():
            clip_grad_norm_(parameter, limit, clipping.norm_type)
    return torch.zeros((), device=fabric.device)


def parameter_groups(
    model: nn.Module, rate: float, rates: Callable[[str], float], decay: Decay
) -> list[dict[str, object]]:
    """Groups by (learning rate, weight decay); biases decay, position tables do not.

    Args:
        rates: factor of `rate` by parameter name.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, value in module.named_parameters(recurse=False):
            if not value.requires_grad or id(value) in seen:
                continue
            seen.add(id(value))
            lr = rate * rates(f"{path}.{name}" if path else name)
            wd = decay.weight
            if "relative_position_bias_table" in name or "absolute_pos_embed" in name:
                wd = 0.0
            if isinstance(module, NORMS):
                wd = decay.norm
            if isinstance(module, nn.Embedding):
                wd = decay.embed
            groups.setdefault((lr, wd), []).append(value)
    return [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]


def make_optimizer(
    name: str, groups: list[dict[str, object]], momentum: float, fused: bool = False
) -> Optimizer:
    """ADAMW or SGD.

    Args:
        fused: one kernel for all; not with fp16's scaler, whose clipping it does not allow.
    """
    if name == "ADAMW":
        return torch.optim.AdamW(groups, fused=fused, foreach=not fused)
    if name == "SGD":
        return torch.optim.SGD(groups, lr=0.1, momentum=momentum, fused=fused, foreach=not fused)
    raise ConfigError(f"SOLVER.OPTIMIZER {name!r}: expected ADAMW or SGD")


def resumed_state(optimizer: Optimizer, stored: dict[str, Any]) -> dict[str, Any]:
    """The stored moments under the optimizer's own settings: a resume follows the config.

    Raises ValueError where they are of another optimizer or of other parameters; torch would take
    them, and fail or train nonsense later.
    """
    own = optimizer.state_dict()
    ours, theirs = (_kind(state["param_groups"]) for state in (own, stored))
    if ours != theirs:
        raise ValueError(f"it is of {theirs}, SOLVER.OPTIMIZER is {ours}")
    sizes = [[len(g["params"]) for g in state["param_groups"]] for state in (own, stored)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"its groups have {sizes[1]} parameters, the model's {sizes[0]}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, moments in stored["state"].items():
        shape = parameters[number].shape
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != shape:
                raise ValueError(
                    f"{name} of parameter {number} is {tuple(value.shape)}, the parameter"
                    f" {tuple(shape)}"
                )
    return {"state": stored["state"], "param_groups": own["param_groups"]}


def _kind(groups: list[dict[str, Any]]) -> str:
    return "ADAMW" if "betas" in groups[0] else "SGD"


def _warmup(iteration: int, iters: int, factor: float, method: str) -> float:
    if iteration >= iters:
        return 1.0
    if method == "constant":
        return factor
    if method == "linear":
        return factor + (1 - factor) * iteration / iters
    raise ConfigError(f"SOLVER.WARMUP_METHOD {method!r}: expected linear or constant")


def poly(
    *,
    max_iter: int,
    power: float,
    ending: float,
    warmup: tuple[int, float, str],
    lowest: float = 0.0,
) -> Schedule:
    """WarmupPolyLR: from 1 to `lowest` as (1 - iteration / max)^power.

    Args:
        ending: constant once below it.
    """

    def factor(iteration: int) -> float:
        scale = (1 - min(iteration, max_iter) / max_iter) ** power
        scale = lowest + (1 - lowest) * scale
        if ending > 0 and scale < ending:
            return ending
        return _warmup(iteration, *warmup) * scale

    return factor


def multistep(*, steps: list[int], gamma: float, warmup: tuple[int, float, str]) -> Schedule:
    """WarmupMultiStepLR: times gamma at every step."""

    def factor(iteration: int) -> float:
        return _warmup(iteration, *warmup) * gamma ** bisect.bisect_right(sorted(steps), iteration)

    return factor
