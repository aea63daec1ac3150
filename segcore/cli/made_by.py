"""With what results were made, so that those of another model are not taken for one's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from segcore.config import Config, to_dict
from segcore.engine.locate import INDEX, locate, read_index

MadeBy = dict[str, Any]  # weights, refiner, settings: digests; confidence_threshold
FIRST = '{"made_by": '  # how the JSON files begin: many can be looked through quickly
START = 4096  # bytes that hold it
NOTHING = {
    "OUTPUT_DIR",
    "SEED",
    "VERSION",
    "SOLVER",
    "DATALOADER",
    "LOGGERS",
}  # of a config, to results
LITTLE = {  # keys of sections
    "MODEL": ("WEIGHTS", "DEVICE"),
    "TEST": ("EVAL_PERIOD", "BATCH_SIZE"),
    "DATASETS": ("TEST",),
}


def made_by(cfg: Config, weights: str, refiner: str, threshold: float) -> MadeBy:
    """All that results depend on, beside the image; another device or batch changes roundings only.

    Args:
        weights, refiner: whatever MODEL.WEIGHTS takes; "": none.
        threshold: of confidence.
    """
    settings = {k: v for k, v in to_dict(cfg).items() if k not in NOTHING}
    for section, names in LITTLE.items():
        settings[section] = {k: v for k, v in settings[section].items() if k not in names}
    text = json.dumps(settings, sort_keys=True)
    return {
        "weights": _digest(weights),
        "refiner": _digest(refiner),
        "settings": hashlib.sha256(text.encode()).hexdigest()[:16],
        "confidence_threshold": threshold,
    }


def differing(noted: object, now: MadeBy) -> list[str]:
    """Which of them are others; all where nothing was noted."""
    known = noted if isinstance(noted, dict) else {}
    return [key.replace("_", " ") for key, value in now.items() if known.get(key) != value]


def noted_in(file: Path) -> MadeBy | None:
    """What a JSON file of results was made by; None where it is none, or says nothing."""
    with file.open("rb") as stream:
        start = stream.read(START).decode(errors="replace")
    if not start.startswith(FIRST):
        return None
    try:
        noted, _ = json.JSONDecoder().raw_decode(start, len(FIRST))
    except ValueError:
        return None
    return noted if isinstance(noted, dict) else None


def _digest(weights: str) -> str:
    """Of the content: a file may be moved, or others be written in its place."""
    if not weights:
        return ""
    file, total = locate(weights), hashlib.sha256()
    parts = sorted(set(read_index(file).values())) if file.name.endswith(INDEX) else []
    parts += [file.with_suffix(".bin").name] if file.suffix == ".xml" else []  # OpenVINO's two
    for part in (file, *(file.with_name(name) for name in parts)):
        with part.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]
