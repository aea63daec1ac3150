"""A training run and its folder: what is saved, when, and how it is taken up again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric

from segcore.contracts import Task
from segcore.engine.best import Best, joined
from segcore.engine.checkpoint import Checkpoints, restore_rng, rng_state
from segcore.engine.fit_tensors import plain_names
from segcore.engine.launch import rescue_by
from segcore.engine.ranks import from_first_rank, of_all_ranks, share_buffers
from segcore.engine.trainer import Trainer
from segcore.engine.weights import load_into_task, reasons
from segcore.errors import WeightsError

logger = logging.getLogger(__name__)

SHOWN = 20  # classes of a list in an error
WRITES = 600.0  # seconds that a checkpoint may take
VERSION = 2  # of what a checkpoint holds; `restore_rng` reads 1 too


class Run:
    """Saves and resumes a trainer.

    Args:
        about: what else a checkpoint carries, as plain values: config, metadata.
        best: of its evaluations; None: they are not compared.
    """

    def __init__(
        self,
        task: Task,
        trainer: Trainer,
        fabric: Fabric,
        checkpoints: Checkpoints,
        about: dict[str, Any],
        best: Best | None = None,
    ) -> None:
        self.task, self.trainer, self.fabric = task, trainer, fabric
        self.checkpoints, self.about = checkpoints, about
        self.best = best or Best("")
        self.saved = 0  # iteration of the last checkpoint, written or tried: alike on all ranks
        self._writing = threading.Lock()
        rescue_by(partial(self.save_alone, stuck=True), fabric)

    def begin(self) -> None:
        """The first of this folder: what an earlier run left is set aside."""
        if self.fabric.is_global_zero:
            self.checkpoints.set_aside()
        self.fabric.barrier()

    def save(self, iteration: int) -> None:
        """A checkpoint between two steps, if there is none of this one yet.

        A full disk is logged, and training goes on.
        """
        if iteration == self.saved:
            return
        try:
            self.save_as(f"model_{iteration - 1:07d}")
        except OSError as error:
            logger.error("%s; training goes on without it", error)

    def save_as(self, name: str) -> None:
        """A checkpoint under official names, with all that an exact resume needs.

        Raises OSError on rank 0 if it could not be written.
        """
        states = of_all_ranks(rng_state(), self.fabric)
        problem: OSError | None = None
        if self.fabric.is_global_zero:
            try:
                with self._writing:
                    self._write(self.trainer.state(), states, name)
            except OSError as error:
                problem = error
        self.saved = self.trainer.iteration
        self.fabric.barrier()
        if problem:
            raise problem

    def record(self, metrics: Mapping[str, float]) -> None:
        """What an evaluation of this iteration says; the weights in the model, if they are best.

        A full disk is logged, and the old best stays. Training ends where there has been enough.

        Args:
            metrics: on rank 0; {}: it was left, or nothing was measured.
        """
        best = self.best
        if self.fabric.is_global_zero and metrics and best.metric:
            if best.add(metrics, self.trainer.iteration):
                self._save_best()
            logger.info("%s", best.line())
            best.write(self.checkpoints.folder)
        best.evaluations = of_all_ranks(best.evaluations, self.fabric)[0]
        self.trainer.ended = best.enough()

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """The model as it is evaluated inside: with averaged weights, where there are any.

        All ranks have rank 0's buffers there: its checkpoints hold them, so the metric is theirs.
        """
        ema = self.trainer.ema
        with ema.applied() if ema else nullcontext():
            share_buffers(self.task.model, self.fabric)
            yield

    def missed_evaluation(self, period: int) -> bool:
        """Whether the run was killed while this iteration, one of every `period`, was evaluated."""
        due = bool(period) and self.trainer.iteration % period == 0
        return due and bool(self.best.metric) and not self.best.has(self.trainer.iteration)

    def _save_best(self) -> None:
        evaluation = {k: v for k, v in self.best.evaluations[-1].items() if k != "saved"}
        content = {
            "model": self.task.official(self.task.model.state_dict()),
            "iteration": self.trainer.iteration,
            "evaluation": evaluation,
            "version": VERSION,
        }
        try:
            self.checkpoints.save_best(content | self.about)
        except OSError as error:
            logger.error("%s; training goes on, and the old best stays", error)
        else:
            self.best.saved()

    def save_alone(self, *, stuck: bool = False) -> None:
        """On rank 0, of the steps that are done, where other ranks are lost or wait for this one.

        A resume goes on from it, but not bit for bit: the others' random numbers are lost too.

        Args:
            stuck: the GPU waits for a lost rank, and the main thread for the GPU: called from
                another thread, it reads the weights past that.
        """
        if not self.fabric.is_global_zero or self.trainer.failed:
            return
        if not self._writing.acquire(timeout=WRITES):  # the main thread will never come back
            return
        past = stuck and self.fabric.device.type == "cuda"
        with torch.cuda.stream(torch.cuda.Stream(self.fabric.device)) if past else nullcontext():
            state = self.trainer.state()
            state["iteration"] = done = self.trainer.steps_done()
            try:
                if done != self.saved:
                    self._write(state, [], f"model_{done - 1:07d}")
                    self.saved = done
                    logger.warning("saved iteration %d, without the other processes", done)
            except (OSError, RuntimeError) as error:  # the GPU may be what was lost
                logger.error("%s; the last checkpoint is the one before", error)
        self._writing.release()

    def _write(self, state: dict[str, Any], rng: list[dict[str, Any]], name: str) -> None:
        content = {
            "model": self.task.official(self.task.model.state_dict()),
            "trainer": state,
            "iteration": state["iteration"],
            "rng": rng,
            "device": self.fabric.device.type,
            "version": VERSION,
        }
        if self.best.evaluations:
            content["evaluations"] = self.best.evaluations
        if (ema := self.trainer.ema) and ema.begun:
            averaged = {"model_ema": self.task.official(ema.state_dict())}
            content |= averaged | {"ema_updates": ema.updates}
        self.checkpoints.save(content | self.about, name)

    def resume(self) -> dict[str, Any] | None:
        """Take up the last checkpoint; its iteration and config, None where there is none.

        Rank 0's disk decides: other machines need not have the folder.
        """
        content = from_first_rank(self._last, self.fabric)
        if content is None:
            logger.info("%s has no checkpoint to resume from", self.checkpoints.folder)
            return None
        self._check_classes(content.get("metadata") or {})
        self._restore_ema(content)
        report = load_into_task(self.task, content["model"])
        if changed := reasons(report.resized | report.reinitialised):
            raise WeightsError(
                f"{self.checkpoints.folder}: the last checkpoint is of another model:"
                f" {', '.join(changed[:4])}; resume with the config that the run was started with,"
                " or start anew from its weights with MODEL.WEIGHTS and another OUTPUT_DIR"
            )
        self.trainer.restore(content["trainer"])
        self._restore_rng(content["rng"], content.get("device", self.fabric.device.type))
        self.saved = self.trainer.iteration
        self.best.evaluations = content["evaluations"]
        self.trainer.ended = self.best.enough()
        logger.info("resumed at iteration %d", self.trainer.iteration)
        return {"iteration": self.saved, "config": content.get("config") or {}}

    def _restore_ema(self, content: Mapping[str, Any]) -> None:
        """Averages as the checkpoint has them; the model's weights are to follow."""
        ema, there = self.trainer.ema, "ema_updates" in content
        if ema and there:
            load_into_task(self.task, content["model_ema"])
            ema.begin(content["ema_updates"])
        elif ema:
            logger.warning("the checkpoint has no averaged weights: they start from its weights")
        elif there:
            logger.warning("SOLVER.EMA.DECAY is 0: the checkpoint's averaged weights are dropped")

    def _check_classes(self, stored: Mapping[str, Any]) -> None:
        """Refuse other classes than the run had, or another order: rows would change owners.

        Args:
            stored: metadata of the checkpoint; old ones have none. A model without a row a class,
                as one of entities, does not ask what its data calls them.
        """
        data = self.about.get("metadata") or {}
        theirs, ours = (tuple(m.get("classes", ())) for m in (stored, data))
        if not theirs or not ours or not self.task.class_rows or "entity" in self.task.makes:
            return
        ids = [list(m.get("dataset_ids", ())) for m in (stored, data)]
        twice = len(set(ours)) < len(ours)  # then ids alone say which is which
        if plain_names(theirs) == plain_names(ours) and not (twice and ids[0] != ids[1]):
            return
        raise WeightsError(
            f"{self.checkpoints.folder}: the run had {len(theirs)} classes, {_listed(theirs)};"
            f" DATASETS.TRAIN has {len(ours)}, {_listed(ours)}: a resume wants the same in the same"
            " order (it is the order of their ids); resume with the data that the run was started"
            " with, or start anew with MODEL.WEIGHTS and another OUTPUT_DIR, which finds the"
            " classes by name"
        )

    def _last(self) -> dict[str, Any] | None:
        content = self.checkpoints.last()
        if content and (missing := {"model", "trainer", "rng"} - content.keys()):
            raise WeightsError(
                f"{self.checkpoints.folder}: the last checkpoint lacks {sorted(missing)}: it cannot"
                " be resumed; start from its weights with MODEL.WEIGHTS instead"
            )
        if content:
            stored = content.get("evaluations", [])
            content["evaluations"] = joined(stored, self.checkpoints.folder, content["iteration"])
        return content

    def _restore_rng(self, states: list[dict[str, Any]], kind: str) -> None:
        """Every rank's own random state; where there are more or fewer ranks now, none of them.

        Args:
            kind: of the device that the run was on.
        """
        world, now = self.fabric.world_size, self.fabric.device.type
        if len(states) == world:
            restore_rng(states[self.fabric.global_rank])
        elif not states:
            logger.warning(
                "the checkpoint was saved without all processes: the random numbers are others, so"
                " it goes on, but not bit for bit"
            )
        else:
            logger.warning(
                "the run had %d processes, now there are %d: weights, optimizer, schedule and the"
                " place in the stream of images go on; the processes share the images out anew and"
                " draw other random numbers, so it goes on, but not bit for bit",
                len(states),
                world,
            )
        if kind != now:
            logger.warning(
                "the run was on %s, now it is on %s: so it goes on, but not bit for bit", kind, now
            )


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") + "]"
