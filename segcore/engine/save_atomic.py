"""Files of torch's, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from segcore.whole_file import whole_file


def save_atomic(content: dict[str, Any], path: Path) -> None:
    """Write the whole file or none: an interrupted or failed save leaves the old one as it was."""
    try:
        with whole_file(path) as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError) as error:  # torch's writer has RuntimeError for a full disk
        raise OSError(
            f"{path}: could not be written ({error}); free some disk space or choose another"
            " OUTPUT_DIR; earlier checkpoints are untouched"
        ) from error
