"""What the contenders of `segcore bench` get to do, and where."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from segcore.config import Config, load_config
from segcore.engine.device import choose_device
from segcore.shipped import config_file
from segcore.structures import Size

CONFIG = config_file("coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml")
FILES = {"ONNX Runtime": ("onnx", "model.onnx"), "OpenVINO": ("openvino", "model.xml")}
Run = tuple[float, float]  # seconds, and CPU seconds of all threads


@dataclass(frozen=True, slots=True)
class Job:
    """What everybody runs.

    Args:
        size: height and width of the image.
        side: of the training step's image.
        threads: of each process.
    """

    config: str | Path
    opts: tuple[str, ...] = ()
    size: Size = (800, 1216)
    side: int = 512
    threads: int = 0

    def cfg(self, *more: str) -> Config:
        """The config; without weights, unless the options name some."""
        return load_config(self.config, self.options(*more))

    def options(self, *more: str) -> list[str]:
        """KEY VALUE ... over the file."""
        return ["MODEL.WEIGHTS", "", *self.opts, "MODEL.DEVICE", device().type, *more]

    def exported_to(self, name: str, folder: str) -> Path | None:
        """The file that this contender runs, where that is not there yet; None: it needs none."""
        path = exported_file(name, folder)
        return None if path is None or path.exists() else path


def exported_file(name: str, folder: str) -> Path | None:
    """Where the model of this contender is exported to; None: it runs in torch."""
    runtime = name.rpartition(": ")[2].partition(",")[0]
    return Path(folder) / FILES[runtime][1] if runtime in FILES else None


def device() -> torch.device:
    """Everybody's."""
    return choose_device("auto")


def in_own_process(function: str, *given: Any) -> None:
    """Call one of `bench_contenders`, which only the contenders' processes import."""
    getattr(import_module("segcore.cli.bench_contenders"), function)(*given)
