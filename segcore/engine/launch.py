"""One process a GPU (or several on the CPU), and the precision they compute in."""

from __future__ import annotations

import atexit
import logging
import os

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from segcore.engine.memory import keep_freed_memory
from segcore.errors import ConfigError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

__all__ = ["DTYPES", "Fabric", "choose_precision", "launch"]


def choose_precision(name: str, device: str = "auto", key: str = "SOLVER.AMP.PRECISION") -> str:
    """ "fp32", "bf16" or "fp16"; "" means the best mixed one that the device has.

    Args:
        key: of the config, for errors.
    """
    if name not in ("", *PRECISIONS):
        raise ConfigError(
            f"{key} {name!r}: expected fp32, bf16, fp16, or '' for the best that the device has"
        )
    if not _cuda(device):
        if name == "fp16":
            raise ConfigError(f"{key} fp16 needs a GPU; use fp32 or bf16 on the CPU")
        return name or "fp32"
    return name or ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")


def launch(
    *,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "",
    device: str = "auto",
    precision: str = "fp32",
) -> Fabric:
    """A launched Fabric: one process a GPU, or `num_gpus` processes on the CPU.

    Args:
        dist_url: tcp://host:port of machine 0; needed with several machines.
        device: "auto", "cpu" or "cuda".
        precision: see `choose_precision`.
    """
    cuda = _cuda(device)
    if device.startswith("cuda") and not cuda:
        logger.warning("MODEL.DEVICE is %s but there is no CUDA here: using the CPU", device)
    if num_gpus < 1 or (cuda and num_gpus > torch.cuda.device_count()):
        raise ConfigError(
            f"--num-gpus {num_gpus}: this machine has {torch.cuda.device_count()} GPUs; ask for at"
            " least 1 and no more than there are (without a GPU: CPU processes)"
        )
    _meeting_point(num_machines, machine_rank, dist_url)
    if not cuda:
        keep_freed_memory()
    single = num_gpus * num_machines == 1
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=num_gpus,
        num_nodes=num_machines,
        # buffers that a step changes (BatchNorm's) stay each rank's own, as in detectron2
        strategy="auto" if single else DDPStrategy(broadcast_buffers=False),
        precision=PRECISIONS[choose_precision(precision, device)],  # type: ignore[arg-type]
        # inside a batch system too we start our own processes, as the flags say
        plugins=None if torchrun else [LightningEnvironment()],
    )
    fabric.launch()
    if fabric.world_size > 1 and dist.get_backend() == "gloo":
        # Fabric does so for NCCL alone; gloo's threads abort a process that ends before them
        atexit.register(dist.destroy_process_group)
    return fabric


def _cuda(device: str) -> bool:
    return torch.cuda.is_available() and device != "cpu"


def _meeting_point(num_machines: int, machine_rank: int, dist_url: str) -> None:
    """Tell torch.distributed where the ranks meet."""
    if dist_url and dist_url != "auto":
        host, colon, port = dist_url.removeprefix("tcp://").rpartition(":")
        if not (dist_url.startswith("tcp://") and colon and port.isdigit()):
            raise ConfigError(f"--dist-url {dist_url!r}: expected tcp://host:port of machine 0")
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    elif num_machines > 1 and "MASTER_ADDR" not in os.environ:
        raise ConfigError("--num-machines needs --dist-url tcp://host:port of machine 0")
    if not 0 <= machine_rank < num_machines:
        raise ConfigError(f"--machine-rank {machine_rank}: expected 0 to {num_machines - 1}")
    os.environ.setdefault("NODE_RANK", str(machine_rank))
