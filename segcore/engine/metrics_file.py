"""OUTPUT_DIR/metrics.json read back: what a run wrote down of its steps and of its evaluations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

METRICS = "metrics.json"
Entry = dict[str, float]


@dataclass(frozen=True, slots=True)
class History:
    """Entries in the order of their iterations."""

    steps: list[Entry] = field(default_factory=list[Entry])  # losses, lr, time ...
    evaluations: list[Entry] = field(default_factory=list[Entry])  # iteration, and metrics


def read_history(folder: Path) -> History:
    """What counts of the lines in a folder: a run that goes on from an earlier iteration, or a new
    one, takes the place of what was written from there on. Half a line is passed over."""
    history, file = History(), folder / METRICS
    if not file.is_file():
        return history
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            now = entry["iteration"]
        except (ValueError, TypeError, KeyError):  # half a line, of a run that was killed
            continue
        mine = history.steps if "total_loss" in entry else history.evaluations
        for entries in (history.steps, history.evaluations):
            entries[:] = [e for e in entries if e["iteration"] < now + (entries is not mine)]
        mine.append({k: v for k, v in entry.items() if isinstance(v, int | float)})
    return history
