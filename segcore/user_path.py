"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(text: str | Path) -> Path:
    """A path whose "~" is the user's home, as a shell would have it; no shell sees most paths.

    A name that only begins with the sign (~backup.png, where nobody is called so) stays.
    """
    return Path(os.path.expanduser(text))
