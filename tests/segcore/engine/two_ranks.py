"""Programs of two processes on the CPU, for tests."""

import subprocess
import sys
from pathlib import Path

HEAD = """
import sys, torch
sys.path[:0] = [{engine!r}]
from functools import partial
from pathlib import Path
from fake_task import batch, make_task
from segcore.engine.checkpoint import Checkpoints
from segcore.engine.launch import launch
from segcore.engine.optim import Clipping, poly
from segcore.engine.run import Run
from segcore.engine.trainer import Trainer
from segcore.errors import DataError, NonFiniteError, WeightsError

out = Path({out!r})
fabric = launch(num_gpus={ranks}, device="cpu")
rank = fabric.global_rank
schedule = poly(max_iter=100, power=0.0, ending=0.0, warmup=(0, 1.0, "linear"))
def make_trainer(**options):
    task = make_task(**options)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=0.1)
    return Trainer(task, optimizer, schedule, fabric, clipping=Clipping())
def make_run(folder, **options):
    trainer = make_trainer(**options)
    return Run(trainer.task, trainer, fabric, Checkpoints(folder), {{"config": {{"SEED": 1}}}})
def say(*words):
    with open(out / f"rank{{rank}}", "a") as stream:
        print(*words, file=stream)
"""
TAIL = """
fabric.barrier()  # the test reads both files when the first process ends
"""


def run_ranks(code: str, out: Path, ranks: int = 2) -> list[str]:
    """What each process `say`s; the first starts the others."""
    script = out / "ranks.py"
    head = HEAD.format(engine=str(Path(__file__).parent), out=str(out), ranks=ranks)
    script.write_text(head + code + TAIL)
    for rank in range(ranks):
        (out / f"rank{rank}").write_text("")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [(out / f"rank{rank}").read_text() for rank in range(ranks)]
