"""Run one of the preparation scripts that come along in datasets/."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from segcore.errors import ConfigError
from segcore.shipped import shipped


def main(*, name: str, flags: Sequence[str]) -> int:
    """The status of datasets/prepare_<name>.py, run with these flags."""
    files = sorted(shipped("datasets").glob("prepare_*.py"))
    scripts = {file.stem.removeprefix("prepare_"): file for file in files}
    if name not in scripts:
        raise ConfigError(f"nothing is known of preparing {name!r}; there are {', '.join(scripts)}")
    return subprocess.run([sys.executable, scripts[name], *flags], check=False).returncode
