"""One process a GPU (or several on the CPU), and the precision they compute in."""

from __future__ import annotations

import atexit
import inspect
import os
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segcore.engine.children import Children
from segcore.engine.device import choose_device, gpu_count
from segcore.engine.memory import keep_freed_memory
from segcore.engine.precision import LeanMixedPrecision
from segcore.errors import ConfigError

MIXED: dict[str, Literal["bf16-mixed", "16-mixed"]] = {"bf16": "bf16-mixed", "fp16": "16-mixed"}
BACKENDS = {"cuda": "cpu:gloo,cuda:nccl"}  # of other devices as Fabric knows them
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

__all__ = ["DTYPES", "Fabric", "choose_precision", "launch", "rescue_by"]


def choose_precision(name: str, device: str = "auto", key: str = "SOLVER.AMP.PRECISION") -> str:
    """ "fp32", "bf16" or "fp16"; "" means the best mixed one that the device has.

    Args:
        key: of the config, for errors.
    """
    if name not in ("", *DTYPES):
        raise ConfigError(
            f"{key} {name!r}: expected fp32, bf16, fp16, or '' for the best that the device has"
        )
    if choose_device(device).type != "cuda":
        if name == "fp16":
            raise ConfigError(f"{key} fp16 needs a GPU with CUDA; use fp32 or bf16 here")
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

    Under torchrun its processes are the ranks, and the first four may be left out.

    Args:
        dist_url: tcp://host:port of machine 0; needed with several machines.
        device: see `choose_device`; "cuda:1" is for one process alone.
        precision: see `choose_precision`.
    """
    chosen = choose_device(device)
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if torchrun:
        num_gpus, num_machines = _torchruns_world(num_gpus, num_machines, dist_url)
    single = num_gpus * num_machines == 1
    _check_count(num_gpus, chosen, single=single)
    if not torchrun:
        _meeting_point(num_machines, machine_rank, dist_url)
    starts = not torchrun and num_gpus > 1 and "LOCAL_RANK" not in os.environ
    children = _start_others(num_gpus) if starts else None
    if chosen.type == "cpu":
        keep_freed_memory()
    # inside a batch system too we start our own processes, as the flags say
    plugins: list[Any] = [] if torchrun else [LightningEnvironment()]
    if mixed := MIXED.get(choose_precision(precision, device)):
        plugins.append(LeanMixedPrecision(mixed, chosen.type))
    fabric = Fabric(
        accelerator=chosen.type,
        devices=num_gpus if chosen.type == "cpu" or chosen.index is None else [chosen.index],
        num_nodes=num_machines,
        strategy="auto" if single else _Ranks(children, chosen),
        plugins=plugins,
    )
    fabric.launch()
    if fabric.world_size > 1:
        # Fabric does so for NCCL alone; gloo's threads abort a process that ends before them
        atexit.register(dist.destroy_process_group)
    return fabric


class _Ranks(DDPStrategy):
    """Averages gradients over the ranks; what the model is called with stays where it is."""

    def __init__(self, children: Children | None, device: torch.device) -> None:
        # what is on the host travels from host to host, and does not queue on a GPU
        super().__init__(process_group_backend=BACKENDS.get(device.type))
        self.children = children

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        """Without Fabric's `device_ids` and stream.

        The first would send the image sizes to the GPU, the second would be another one than that
        of the steps, which every backward pass would have to wait for.
        """
        # buffers that a step changes (BatchNorm's) stay each rank's own, as in detectron2
        known = inspect.signature(DistributedDataParallel).parameters
        sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {sync: False}
        return DistributedDataParallel(module, gradient_as_bucket_view=True, **options)


def rescue_by(save: Callable[[], None], fabric: Fabric) -> None:
    """Where a process of this machine is lost and the first one cannot go on, it calls `save`."""
    if isinstance(fabric.strategy, _Ranks) and fabric.strategy.children:
        fabric.strategy.children.rescue = save


def _start_others(num_gpus: int) -> Children:
    """The machine's other processes; Fabric, which could start them too, kills all when one dies.

    It takes them for started elsewhere where there is a LOCAL_RANK.
    """
    environment = LightningEnvironment()
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    os.environ["LOCAL_RANK"] = "0"
    return Children(num_gpus)


def _torchruns_world(num_gpus: int, num_machines: int, dist_url: str) -> tuple[int, int]:
    """Processes a machine and machines, as torchrun started them."""
    here, everywhere = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    machines, uneven = divmod(everywhere, here)
    if uneven:
        raise ConfigError(
            f"torchrun started {here} processes here and {everywhere} in all: expected as many on"
            " every machine (--nproc-per-node)"
        )
    for flag, given, started in (
        ("--num-gpus", num_gpus, here),
        ("--num-machines", num_machines, machines),
    ):
        if given not in (1, started):
            raise ConfigError(
                f"{flag} {given}, but torchrun started {started}: leave it out, or start the"
                " program without torchrun"
            )
    if dist_url not in ("", "auto"):
        raise ConfigError(
            f"--dist-url {dist_url}: under torchrun ranks meet where its --rdzv-endpoint says;"
            " leave it out"
        )
    return here, machines


def _check_count(num_gpus: int, device: torch.device, *, single: bool) -> None:
    """ConfigError where there are not as many devices as processes."""
    there = gpu_count() if device.type == "cuda" else 1
    if num_gpus < 1 or (device.type != "cpu" and num_gpus > there):
        raise ConfigError(
            f"--num-gpus {num_gpus}: this machine has {gpu_count()} GPUs; ask for at"
            " least 1 and no more than there are (without a GPU: CPU processes)"
        )
    if device.type == "cuda" and device.index is not None and not single:
        raise ConfigError(
            f"MODEL.DEVICE {device} is one GPU, but several processes are asked for; say cuda, and"
            " choose GPUs with CUDA_VISIBLE_DEVICES"
        )


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
