"""Optimizer, schedule, clipping and precision."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch.optim import Optimizer

from segcore.config import Config
from segcore.contracts import Task
from segcore.engine.ema import Ema
from segcore.engine.launch import choose_precision
from segcore.engine.optim import (
    Clipping,
    Decay,
    Schedule,
    make_optimizer,
    multistep,
    parameter_groups,
    poly,
)
from segcore.engine.parameter_rules import freeze, rate_table, rates_by_name

logger = logging.getLogger(__name__)


def backbone_rate(cfg: Config) -> Callable[[str], float]:
    """Factor of the learning rate by parameter name: SOLVER.BACKBONE_MULTIPLIER for backbones."""
    factor = cfg.SOLVER.BACKBONE_MULTIPLIER
    return lambda name: factor if "backbone" in name else 1.0


def build_optimizer(cfg: Config, task: Task) -> tuple[Optimizer, Schedule]:
    """Optimizer and the factor of its rates by iteration; MODEL.FREEZE is done before."""
    solver = cfg.SOLVER
    freeze(task.model, cfg.MODEL.FREEZE)
    decay = Decay(solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM, solver.WEIGHT_DECAY_EMBED)
    patterns = [(pattern, factor) for pattern, factor in solver.RATES]
    rates = rates_by_name(task.model, task.rates, patterns, solver.LAYER_DECAY)
    logger.info("parameters:\n%s", rate_table(task.model, rates, solver.BASE_LR))
    groups = parameter_groups(task.model, solver.BASE_LR, rates.__getitem__, decay)
    fused = choose_precision(precision(cfg), cfg.MODEL.DEVICE) != "fp16"
    optimizer = make_optimizer(solver.OPTIMIZER, groups, solver.MOMENTUM, fused)
    warmup = (solver.WARMUP_ITERS, solver.WARMUP_FACTOR, solver.WARMUP_METHOD)
    if solver.LR_SCHEDULER_NAME == "WarmupPolyLR":
        schedule = poly(
            max_iter=solver.MAX_ITER,
            power=solver.POLY_LR_POWER,
            ending=solver.POLY_LR_CONSTANT_ENDING,
            lowest=solver.BASE_LR_END / solver.BASE_LR if solver.BASE_LR else 0.0,
            warmup=warmup,
        )
        return optimizer, schedule
    return optimizer, multistep(steps=solver.STEPS, gamma=solver.GAMMA, warmup=warmup)


def build_ema(cfg: Config, task: Task, optimizer: Optimizer) -> Ema | None:
    """The moving average of the weights; None where SOLVER.EMA.DECAY is 0."""
    decay = cfg.SOLVER.EMA.DECAY
    return Ema(task.model, optimizer, decay) if decay else None


def clipping(cfg: Config) -> Clipping:
    """What of the gradients the trainer clips."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    return Clipping(clip.CLIP_TYPE, clip.CLIP_VALUE if clip.ENABLED else 0.0, clip.NORM_TYPE)


def precision(cfg: Config) -> str:
    """What `launch` wants: "" for the best mixed precision, or a name."""
    return cfg.SOLVER.AMP.PRECISION if cfg.SOLVER.AMP.ENABLED else "fp32"
