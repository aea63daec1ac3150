"""The best of a run's evaluations, and when there have been enough of them."""

from __future__ import annotations

import difflib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)

AUTO = "auto"
BY_TASK = ("APe", "PQ", "AP", "mIoU")  # of entities, panoptic; instances and tracks; semantic
WEIGHTS, FILE = "model_best", "best.json"

# {"iteration": 500, "metric": "PQ", "value": 41.3, "saved": True}; value None where it is no
# number, saved where its weights became the best ones on the disk
Evaluation = dict[str, Any]


class Best:
    """All evaluations of a run by one metric, of which more is better; alike on all ranks.

    Args:
        metric: its name; "auto": what the task is known by; "": none, nothing is called best.
        sets: test sets in order. With several, metrics are called "<set>/<metric>": the first one
            that has the metric counts, or the one that `metric` names that way.
        patience: evaluations in a row without improvement that end a training; 0: it never ends.
        min_delta: what a value must be above the last improvement to be one, in percent.
    """

    def __init__(
        self,
        metric: str = AUTO,
        sets: Sequence[str] = (),
        *,
        patience: int = 0,
        min_delta: float = 0.0,
    ) -> None:
        self.metric, self.sets = metric, tuple(sets)
        self.patience, self.min_delta = patience, min_delta
        self.evaluations: list[Evaluation] = []

    def add(self, metrics: Mapping[str, float], iteration: int) -> bool:
        """Note an evaluation; whether its weights are better than the best ones on the disk.

        `saved` is for the caller to call when they are there.
        """
        name = self._name_in(metrics)
        # done again after a resume, or by another metric than the one that counts now
        self.evaluations = [
            e for e in self.evaluations if e["iteration"] < iteration and e["metric"] == name
        ]
        value = metrics.get(name, math.nan)
        number = value if math.isfinite(value) else None
        before = self.best
        better = number is not None and (before is None or number > before["value"])
        self.evaluations.append(
            {"iteration": iteration, "metric": name, "value": number, "saved": False}
        )
        return better

    def saved(self) -> None:
        """The last evaluation's weights are on the disk."""
        self.evaluations[-1]["saved"] = True

    @property
    def best(self) -> Evaluation | None:
        """Whose weights are on the disk."""
        return next((e for e in reversed(self.evaluations) if e["saved"]), None)

    def waited(self) -> int:
        """Evaluations since the last improvement."""
        reference, count = -math.inf, 0
        for evaluation in self.evaluations:
            value = evaluation["value"]
            if value is not None and value > reference + self.min_delta:
                reference, count = value, 0
            else:
                count += 1
        return count

    def enough(self) -> str:
        """Why training should end now; "" where it should not."""
        if not self.patience or (waited := self.waited()) < self.patience:
            return ""
        name = self.evaluations[-1]["metric"] or "the metric"
        margin = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return (
            f"{name} has not improved{margin} in {waited} evaluations"
            " (SOLVER.EARLY_STOPPING.PATIENCE)"
        )

    def may_end(self) -> bool:
        """Whether training ends now if the next evaluation is no better."""
        return bool(self.patience) and self.waited() + 1 >= self.patience

    def has(self, iteration: int) -> bool:
        """Whether an iteration was evaluated."""
        return any(e["iteration"] == iteration for e in self.evaluations)

    def line(self) -> str:
        """The last evaluation and the best one, in words."""
        last, best = self.evaluations[-1], self.best
        value = "no number" if last["value"] is None else f"{last['value']:.2f}"
        start = f"{last['metric']} {value} at iteration {last['iteration']}"
        if last["saved"]:
            return f"{start}: the best so far, {WEIGHTS}.pth"
        if best is None:
            return f"{start}; no best yet"
        waits = f"; {self.waited()} without improvement" + (
            f", {self.patience} end the training" if self.patience else ""
        )
        return f"{start}; the best is {best['value']:.2f} at iteration {best['iteration']}{waits}"

    def write(self, folder: Path) -> None:
        """best.json: the best one and all of them; a full disk is logged."""
        best = {k: v for k, v in (self.best or {}).items() if k != "saved"}
        content = best | {"weights": f"{WEIGHTS}.pth"} if best else {}
        try:
            with whole_file(folder / FILE, "w") as stream:
                json.dump(content | {"evaluations": self.evaluations}, stream, indent=1)
        except OSError as error:
            logger.error("%s: could not be written (%s); training goes on", folder / FILE, error)

    def _name_in(self, metrics: Mapping[str, float]) -> str:
        """What the metric is called among these; "" where it is not there."""
        wanted = BY_TASK if self.metric == AUTO else (self.metric,)
        for start in ("", *(f"{name}/" for name in self.sets)):
            if name := next((start + m for m in wanted if start + m in metrics), ""):
                return name
        if not self.evaluations and self.metric:
            near = difflib.get_close_matches(self.metric, metrics, n=5, cutoff=0.3)
            logger.error(
                "TEST.BEST_METRIC %s: no such metric here; expected one of those above, like %s;"
                " training goes on, and nothing is called best",
                self.metric, ", ".join(near or list(metrics)[:5]),
            )  # fmt: skip
        return ""


def best_of(folder: Path) -> dict[str, Any]:
    """The best evaluation of a run, with `weights`, the name of its file; {} where there is none.

    Args:
        folder: OUTPUT_DIR.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content if "weights" in content else {}


def joined(stored: Sequence[Evaluation], folder: Path, iteration: int) -> list[Evaluation]:
    """A checkpoint's evaluations, and those up to its iteration that only best.json has.

    A checkpoint is written before the evaluation of its iteration.
    """
    known = {e["iteration"] for e in stored}
    try:
        written = json.loads((folder / FILE).read_text(encoding="utf-8"))["evaluations"]
        more = [
            {k: e[k] for k in ("iteration", "metric", "value", "saved")}
            for e in written
            if max(known, default=-1) < e["iteration"] <= iteration
        ]
    except (OSError, ValueError, KeyError, TypeError):  # none there, or not by a run of ours
        return [*stored]
    return [*stored, *more]
