"""Weights into a model, with a report of what became of every tensor."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segcore.contracts import ClassRows, Task
from segcore.engine.backbone_names import backbone_state
from segcore.engine.checkpoint_reader import read_checkpoint, tensors, trained_weights
from segcore.engine.fit_tensors import COMPUTED, Rows, fit_tensor
from segcore.engine.wrapped_names import best_reading
from segcore.errors import WeightsError

__all__ = ["Report", "load_into_task", "load_weights", "read_checkpoint"]

logger = logging.getLogger(__name__)

CLASSIFIER = re.compile(r"^(stem\.)?(fc|head|classifier|norm|conv_head|bn2)\.|(^|\.)attn_mask$")


@dataclass(slots=True)
class Report:
    """What became of a checkpoint's tensors, by our names (unused: by theirs)."""

    loaded: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)  # name: how
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
        lost = [n for n in self.unused if not (CLASSIFIER.search(n) or COMPUTED.search(n))]
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


def load_into_task(
    task: Task, source: str | Path | Mapping[str, Any], *, complete: bool = False
) -> Report:
    """`load_weights`, with all that the task says of its parameters."""
    return load_weights(
        task.model,
        source,
        task.renames,
        class_rows=task.class_rows,
        query_rows=task.query_rows,
        classes=task.metadata.classes,
        ids=task.metadata.dataset_ids,
        training_only=task.training_only,
        complete=complete,
    )


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    renames: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    class_rows: Sequence[ClassRows] = (),
    query_rows: Sequence[str] = (),
    classes: Sequence[str] = (),
    ids: Sequence[int] = (),
    training_only: Sequence[str] = (),
    complete: bool = False,
) -> Report:
    """Load what fits, by name, and say what became of everything.

    Of a run of ours the averages (EMA), where there are any. Wrappers around names are seen by
    content. Other classes than the checkpoint's have their rows by name where both sides are known,
    or fresh ones; another number of queries cuts or repeats; bias tables are resized.
    Raises WeightsError for any other difference of shape, and where nothing fits.

    Args:
        source: a path, what `read_checkpoint` returned, or a plain state dict.
        renames: official names -> the model's.
        class_rows, query_rows, training_only: names of parameters, as in a Task.
        classes: names of the model's classes, in order.
        ids: of these in the files, which tell classes of one name apart.
        complete: the model is to be used as it is: WeightsError where a tensor would stay random
            that is not for training only.
    """
    where = "" if isinstance(source, Mapping) else f"{source}: "
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    nested = isinstance(content.get("model"), Mapping)
    given = tensors(trained_weights(content) if nested else content)
    known = (content.get("metadata") or {}) if nested else {}
    rows = Rows(
        classes=class_rows,
        queries=query_rows,
        theirs=known.get("classes", ()),
        ours=classes,
        their_ids=known.get("dataset_ids", ()),
        our_ids=ids,
    )
    own = model.state_dict()
    wanted = [name for name in own if not COMPUTED.search(name)]
    renamed = best_reading(given, (renames, partial(backbone_state, own)), wanted)
    report, fitting = _match(renamed, own, rows)
    report.renamed = sorted((set(renamed) - set(given)) & set(own))
    if not fitting:
        some = ", ".join(list(given)[:3]) or "no tensor"
        raise WeightsError(
            f"{where}no tensor of this checkpoint fits the model; it holds {some} ...; is it of"
            " another architecture than the config's?"
        )
    if complete:
        _check_complete(report, where, tuple(training_only))
    model.load_state_dict(fitting, strict=False)
    logger.info("weights:\n%s", report)
    if trouble := report.suspicious():
        logger.warning("weights: %s; is this the checkpoint of another model?", trouble)
    return report


def _match(
    renamed: Mapping[str, Tensor], own: Mapping[str, Tensor], rows: Rows
) -> tuple[Report, dict[str, Tensor]]:
    """What becomes of each tensor, and those that fit."""
    report, fitting = Report(), {}
    for name, value in renamed.items():
        if name not in own:
            report.unused.append(name)
            continue
        fitted, change = fit_tensor(name, value, own[name], rows)
        if fitted is not None:
            fitting[name] = fitted
        if change:
            (report.reinitialised if fitted is None else report.resized)[name] = change
    for name in own:
        if name not in fitting and not COMPUTED.search(name):
            report.reinitialised.setdefault(name, "")
    report.loaded = sorted(fitting)
    return report, fitting


def _check_complete(report: Report, where: str, training_only: tuple[str, ...]) -> None:
    """Buffers that the model computes itself are not listed in the report, so may be missing."""
    left = {k: why for k, why in report.reinitialised.items() if not k.startswith(training_only)}
    if missing := reasons(left):
        raise WeightsError(
            f"{where}these are weights to start a training from, not a trained model; missing:"
            f" {_summary(missing)}; give MODEL.WEIGHTS a checkpoint of a"
            " finished training, or the config that this one was trained with"
        )
    if report.resized:
        logger.warning(
            "%sthe checkpoint is of another config: %s changed to fit; expect worse results",
            where, _summary(reasons(report.resized)),
        )  # fmt: skip
