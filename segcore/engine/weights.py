"""Weights into a model, with a report of what became of every tensor."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.engine.backbone_names import backbone_state
from segcore.engine.checkpoint_reader import read_checkpoint, tensors
from segcore.errors import WeightsError

__all__ = ["Report", "load_weights", "read_checkpoint"]

logger = logging.getLogger(__name__)

QUERIES = ("decoder.query_feat.weight", "decoder.query_embed.weight")
CLASS_HEAD = ("decoder.class_embed.weight", "decoder.class_embed.bias")
OPTIONAL = re.compile(r"(num_batches_tracked|relative_position_index|class_weight)$")
CLASSIFIER = re.compile(r"^(stem\.)?(fc|head|classifier|norm|conv_head|bn2)\.|(^|\.)attn_mask$")


@dataclass(slots=True)
class Report:
    """What became of a checkpoint's tensors, by our names (unused: by theirs)."""

    loaded: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)  # name: how, or ""
    reinitialised: dict[str, str] = field(default_factory=dict)  # left as it was; name: why, or ""
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = {"resized": reasons(self.resized), "reinitialised": reasons(self.reinitialised)}
        shown["unused"] = self.unused
        rows = []
        for kind in ("loaded", "renamed", "resized", "reinitialised", "unused"):
            count, names = len(getattr(self, kind)), _summary(shown.get(kind, ()))
            rows.append(f"  {kind:14s}{count:5d}  {names}".rstrip())
        return "\n".join(rows)

    def suspicious(self) -> str:
        """What the user should know; empty if all went as it should."""
        lost = [n for n in self.unused if not (CLASSIFIER.search(n) or OPTIONAL.search(n))]
        random = [n for n in self.reinitialised if re.match(r"backbone\.(?!norm\d\.)", n)]
        if random:
            return f"{len(random)} tensors of the backbone stay random ({_summary(random)})"
        if 10 * len(lost) > len(self.loaded):
            return f"{len(lost)} tensors have no place in this model ({_summary(lost)})"
        return ""


def reasons(entries: Mapping[str, str]) -> list[str]:
    """{name: reason} of a Report as texts: "name (reason)", or the name alone."""
    return [f"{name} ({reason})" if reason else name for name, reason in entries.items()]


def _summary(names: Sequence[str]) -> str:
    """Names of a few, or their first parts and how many there are."""
    if len(names) <= 6:
        return ", ".join(names)
    parts: dict[str, int] = {}
    for name in names:
        part = ".".join(name.split(".")[:2])
        parts[part] = parts.get(part, 0) + 1
    shown = [f"{part}.* ({count})" for part, count in list(parts.items())[:6]]
    return ", ".join(shown) + (", ..." if len(parts) > 6 else "")


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    renames: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    classes: Sequence[str] = (),
    complete: bool = False,
) -> Report:
    """Load what fits, by name, and say what became of everything.

    Another number of classes re-initialises the class head, or copies its rows by class names
    where both sides are known; another number of queries cuts them or repeats them; bias tables
    of another window are resized. Raises WeightsError for any other difference of shape, and
    where nothing fits at all.

    Args:
        source: a path, what `read_checkpoint` returned, or a plain state dict.
        renames: official names -> the model's.
        classes: names of the model's classes, in order.
        complete: the model is to be used as it is: WeightsError where a tensor would stay random.
    """
    where = "" if isinstance(source, Mapping) else f"{source}: "
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    nested = isinstance(content.get("model"), Mapping)
    given = tensors(content["model"] if nested else content)
    known = (content.get("metadata") or {}).get("classes", ()) if nested else ()
    own = model.state_dict()
    renamed = renames(dict(given))
    if not set(renamed) & set(own):
        renamed = backbone_state(own, given)
    report, fitting = _match(renamed, own, _plain(known), _plain(classes))
    report.renamed = sorted((set(renamed) - set(given)) & set(own))
    if not fitting:
        some = ", ".join(list(given)[:3]) or "no tensor"
        raise WeightsError(
            f"{where}no tensor of this checkpoint fits the model; it holds {some} ...; is it of"
            " another architecture than the config's?"
        )
    if complete:
        _check_complete(report, where)
    model.load_state_dict(fitting, strict=False)
    logger.info("weights:\n%s", report)
    if trouble := report.suspicious():
        logger.warning("weights: %s; is this the checkpoint of another model?", trouble)
    return report


def _match(
    renamed: Mapping[str, Tensor], own: Mapping[str, Tensor], known: list[str], wanted: list[str]
) -> tuple[Report, dict[str, Tensor]]:
    """What becomes of each tensor, and those that fit; `known`, `wanted`: classes of the two."""
    report, fitting = Report(), {}
    by_name = known and wanted and known != wanted
    for name, value in renamed.items():
        if name not in own:
            report.unused.append(name)
        elif name.endswith(CLASS_HEAD) and by_name:
            _copy_rows(name, value, own[name], known, wanted, fitting, report)
        elif value.shape == own[name].shape:
            fitting[name] = value
        else:
            _fit(name, value, own[name], fitting, report)
    for name in own:
        if name not in fitting and not OPTIONAL.search(name):
            report.reinitialised.setdefault(name, "")
    report.loaded = sorted(fitting)
    return report, fitting


def _check_complete(report: Report, where: str) -> None:
    """Buffers that the model computes itself are not listed in the report, so may be missing."""
    if missing := reasons(report.reinitialised):
        raise WeightsError(
            f"{where}these are weights to start a training from, not a trained model; missing:"
            f" {_summary(missing)}; give a checkpoint of a finished training, or the"
            " config that this one was trained with"
        )
    if report.resized:
        logger.warning(
            "%sthe checkpoint is of another config: %s changed to fit; expect worse results",
            where, _summary(reasons(report.resized)),
        )  # fmt: skip


def _plain(names: Sequence[str]) -> list[str]:
    return [re.sub(r"[\s_-]+", " ", str(name)).casefold() for name in names]


def _copy_rows(
    name: str,
    value: Tensor,
    own: Tensor,
    known: list[str],
    wanted: list[str],
    fitting: dict[str, Tensor],
    report: Report,
) -> None:
    """Rows of classes that both sides have; the last row ("no object") is everybody's."""
    shared = [(i, known.index(c)) for i, c in enumerate(wanted) if c in known]
    if not shared or len(value) != len(known) + 1 or value.shape[1:] != own.shape[1:]:
        report.reinitialised[name] = f"none of {len(known)} classes is wanted"
        return
    rows = own.clone()
    for mine, theirs in [*shared, (-1, -1)]:
        rows[mine] = value[theirs].to(rows)
    fitting[name] = rows
    report.resized[name] = f"{len(shared)} of {len(wanted)} classes by name"


def _fit(name: str, value: Tensor, own: Tensor, fitting: dict[str, Tensor], report: Report) -> None:
    """A tensor of another shape: changed to fit, left out with a word, or an error."""
    if name.endswith(CLASS_HEAD):
        report.reinitialised[name] = f"{len(value)} -> {len(own)} classes"
    elif name.endswith(QUERIES) and value.shape[1:] == own.shape[1:]:
        more = -(-len(own) // len(value))
        same = torch.Generator().manual_seed(0)  # on every rank: their models must be one
        jitter = 0.01 * torch.randn(own.shape, generator=same)
        jitter[: len(value)] = 0
        fitting[name] = value.repeat(more, 1)[: len(own)].to(own) + jitter.to(own)
        report.resized[name] = f"{len(value)} -> {len(own)} queries"
    elif name.endswith("relative_position_bias_table") and value.shape[1] == own.shape[1]:
        old, new = (round(len(t) ** 0.5) for t in (value, own))
        square = value.T.reshape(1, -1, old, old).float()
        table = F.interpolate(square, (new, new), mode="bicubic")
        fitting[name] = table.reshape(value.shape[1], -1).T.to(own)
        report.resized[name] = ""
    elif OPTIONAL.search(name):
        return
    else:
        raise WeightsError(
            f"{name}: the checkpoint has {tuple(value.shape)}, the model {tuple(own.shape)};"
            " is this the config that the checkpoint was trained with?"
        )
