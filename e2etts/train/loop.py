"""The one training loop: every stage of every recipe runs through ``Trainer``."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from e2etts.config import fingerprint
from e2etts.data.batch import Batch
from e2etts.data.sampler import Cursor
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.seeds import mix
from e2etts.train.checkpoint import save_checkpoint
from e2etts.train.config import LossWeight, TrainConfig
from e2etts.train.evaluation import Evaluator
from e2etts.train.health import TripWires
from e2etts.train.identity import require_same_run, run_identity
from e2etts.train.logging import Means, RunLog
from e2etts.train.recovery import Recovery
from e2etts.train.signals import signals_noted
from e2etts.train.states import States, load_state
from e2etts.train.step import Outcome, Stepper
from e2etts.train.summary import run_summary
from e2etts.train.task import Task

MAX_SKIPPED_IN_A_ROW = 10
# Attributes of ``Trainer`` that are saved and restored as they are.
_COUNTERS = ("step", "cursor", "audio_seconds", "skipped", "skipped_in_a_row", "best_loss",
             "best_step", "validated_step", "warnings")


class Trainer:
    """Trains ``task`` and leaves best/, last/, state/, log.jsonl, tb/ and summary.json in folder.

    train: called with (cursor, rank, ranks), yields (batch, cursor after it) without end.
    dev: called for one pass over the dev set.
    weights: one for every term that the task returns.
    identity: nested mapping of everything that decides the result (besides ``config``); a run
        is only continued where it is the same. complete: adds to a stored identity the defaults of
    options that were added to the program since. model_config: stored in the checkpoints.
    """

    def __init__(
        self, task: Task, config: TrainConfig, *, folder: str | Path,
        train: Callable[[Cursor, int, int], Iterator[tuple[Batch, Cursor]]],
        dev: Callable[[], Iterable[Batch]], weights: dict[str, float | LossWeight],
        frame_rate_hz: float, seed: int = 0, identity: dict[str, Any] | None = None,
        complete: Callable[[dict], dict] = dict, model_config: dict[str, Any] | None = None,
        title: str = "train",
    ):
        self.task, self.config, self.folder, self.train_batches = task, config, Path(folder), train
        self.frame_rate_hz, self.seed, self.title = frame_rate_hz, seed, title
        self.model_config, self.complete = model_config or {}, complete
        self.identity = run_identity(config, weights, seed, identity or {})
        self.accelerator = Accelerator(
            mixed_precision="no", cpu=not torch.cuda.is_available(),  # autocast is the stepper's
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
        task.to(self.accelerator.device)
        self.stepper = Stepper(task, config, weights, self.accelerator, title)
        self.ema, self.ranks = self.stepper.ema, self.stepper.ranks
        self.evaluator = Evaluator(
            self.stepper, dev, seed=seed, sampled_utts=config.health.sampled_utts,
            given_up=lambda: self.stop_requested and self.ranks.count == 1)
        self.step, self.cursor = 0, (0, 0)
        self.seconds_before, self.started = 0.0, None
        self.audio_seconds, self.skipped, self.skipped_in_a_row = 0.0, 0, 0
        self.best_loss, self.best_step, self.validated_step = float("inf"), 0, -1
        self.last_metrics: dict[str, float] = {}
        self.states = States(self.folder / "state", task, self.stepper)
        self.recovery = Recovery(config.health.spike, task, self.stepper)
        self.wires, self.warnings = TripWires(config.health), []
        self.stateful = {"recovery": self.recovery, "wires": self.wires,
                         "evaluation": self.evaluator}
        self.stop_requested = self.resumed = False

    def run(self) -> dict[str, Any]:
        """Train to the end, from the stored state where there is one; returns the summary.

        Raises UserError when the stored state belongs to another configuration, when training
        jumps once more than it may recover from, or when a trip-wire of ``stop_on`` trips;
        KeyboardInterrupt, after saving, on SIGINT or SIGTERM.
        """
        self.resume()
        summary = self.folder / "summary.json"
        if self._progress() >= 1 and summary.is_file():
            self.accelerator.print(f"{self.title}: finished at step {self.step}, nothing to do")
            return json.loads(summary.read_text())
        main = self.accelerator.is_main_process
        self.log = RunLog(self.folder if main else None, self.title, self.step)
        self.started = self.window_started = time.perf_counter()
        self.first_progress = self._progress()
        try:
            with signals_noted(self._request_stop):
                self._train()
                return self._finish()
        except RuntimeError as e:
            if self.stop_requested:  # the request has ended a data worker too: nothing to save
                raise KeyboardInterrupt from e
            raise
        finally:
            self.log.close()

    def _train(self) -> None:
        means, window_audio = Means(), 0.0
        stream = self.train_batches(self.cursor, self.ranks.rank, self.ranks.count)
        self.task.train()
        self.stepper.prepare(self._progress())
        if self.step == 0:
            self._measure_start()
        self._validate_if_due()  # a stop may have cut it off
        while (progress := self._progress()) < 1:
            if self.recovery.due(self.step):
                self._save_state()
            batches = []
            for _ in range(self.config.accumulation):
                batch, self.cursor = next(stream)
                batches.append(batch)
            audio = sum(float(b.mel_lens.sum()) for b in batches) / self.frame_rate_hz
            torch.manual_seed(mix(self.seed, self.step, self.ranks.rank))
            outcome = self.stepper.step(
                [b.to(self.accelerator.device) for b in batches], self.step, progress,
                lr_scale=self.recovery.lr_scale,
                observe=self.step % self.config.health.observe_every == 0)
            trouble = self._trouble(outcome, batches)
            self.step += 1
            if trouble:
                self._recover(trouble)
            self.audio_seconds += audio * self.ranks.count
            window_audio += audio * self.ranks.count
            means.add(outcome.values)
            if self.step % self.config.log_every == 0:
                seconds = time.perf_counter() - self.window_started
                self._log_train(means, window_audio / seconds)
                self.window_started, window_audio = time.perf_counter(), 0.0
            pause = time.perf_counter()
            self._validate_if_due()
            if self.ranks.any(self.stop_requested):
                self._save()
                self.log.say(f"stopped at step {self.step}; run again to go on")
                raise KeyboardInterrupt
            if self.step % self.config.save_every == 0:
                self._save()
            if self.config.keep_every and self.step % self.config.keep_every == 0:
                self._save_weights(f"kept/{self.step}", {})
            self.window_started += time.perf_counter() - pause

    def _trouble(self, outcome: Outcome, batches: list[Batch]) -> str | None:
        """Reason why training cannot simply continue. A refused step is counted and logged."""
        if outcome.refused is None:
            self.skipped_in_a_row = 0
            return self.recovery.jump(outcome)
        phase, loss, norm = outcome.refused
        self.skipped += 1
        self.skipped_in_a_row += 1
        utts = [u for b in batches for u in b.utts]
        self.log.write(self.step, self._seconds(), "skipped",
                       {"loss": loss, "grad_norm": norm}, utts=utts)
        what = f"{phase} loss {loss:.4g}, gradient {norm:.4g}"
        self.log.say(f"step {self.step}: {what}: not finite, step skipped")
        if self.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW:
            return None
        return (f"{what}: {MAX_SKIPPED_IN_A_ROW} steps in a row were not finite, the last on "
                f"{' '.join(utts[:8])}: check these utterances")

    def _recover(self, trouble: str) -> None:
        """Back to where training was well, or a warning. Raises UserError at the last jump."""
        reason = f"step {self.step}: {trouble}"
        stuck = self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW
        if self.config.health.spike.action == "warn" and not stuck:
            self._warn("spike", reason)
            return
        snapshot = self.states.load(self.recovery.start(reason))
        done = self.recovery.finish(snapshot, self.step, self.cursor, reason)
        self.skipped_in_a_row = 0
        back_to, scale = done["back_to"], self.recovery.lr_scale
        self.log.write(self.step, self._seconds(), "recovered",
                       {"back_to": back_to, "lr_scale": scale}, reason=reason)
        self.log.say(f"{reason}: back to the weights of step {back_to}, on with later data at "
                     f"{scale:.3g} of the learning rate")

    def _check_wires(self, values: dict[str, float], dev: bool = False) -> None:
        """Warns, or saves and raises UserError, where a trip-wire has tripped."""
        for trip in self.wires.check(self.step, values, dev):
            message = f"step {self.step}: {trip.message}"
            self._warn(trip.wire, message)
            if trip.stop:
                self._save()
                raise UserError(f"{self.title}: {message}")

    def _warn(self, what: str, message: str) -> None:
        self.warnings.append({"step": self.step, "what": what, "message": message})
        self.log.write(self.step, self._seconds(), "warning", {}, what=what, message=message)
        self.log.say(f"warning: {message}")

    def _validate_if_due(self) -> None:
        if self.step == 0 or self.validated_step == self.step:
            return
        if self.step % self.config.validate_every == 0:
            self._validate()
        elif self.evaluator.due(self._progress(), self._seconds()):
            self._validate(part=True)

    def _validate(self, part: bool = False) -> None:
        """Losses on the dev set, or a part of it; the best weights so far are kept."""
        begin = time.perf_counter()
        found = self.evaluator.evaluate(self._progress(), self.audio_seconds, part=part)
        if found is None:
            return
        self.log.write(self.step, self._seconds(), found.split, found.values)
        if found.selection < self.best_loss:
            self.best_loss, self.best_step = found.selection, self.step
            self._save_weights("best", found.values)
        if part:
            self.evaluator.note_between(time.perf_counter() - begin)
        else:
            self.validated_step, self.last_metrics = self.step, found.values
            self._check_wires(found.values, dev=True)

    def _measure_start(self) -> None:
        """Metrics of samples before this stage changes the model, for comparison with later ones.
        Not where the LM joins later: it has not learned to generate speech."""
        if not self.task.has_lm(self.stepper.disabled):
            return
        values = self.evaluator.samples()
        self.log.write(self.step, self._seconds(), "dev", values)
        self._check_wires(values, dev=True)

    def _save_weights(self, name: str, metrics: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        with self.ema.applied():
            save_checkpoint(self.folder / name, self.task.state_to_save(), {
                "step": self.step, "seconds": round(self._seconds(), 1),
                "fingerprint": fingerprint(self.identity), "config": self.model_config,
                "metrics": metrics})

    def _save(self) -> None:
        """The state, and the averaged weights."""
        self._save_state()
        self._save_weights("last", self.last_metrics)

    def _save_state(self) -> None:
        """Everything needed to resume as if never interrupted, or to come back to after a spike."""
        if self.recovery.due(self.step, saving=True):
            self.recovery.keep(self.step)
        counters = {k: getattr(self, k) for k in _COUNTERS}
        self.recovery.note_writing(self.states.save(
            {**counters, **{k: v.state_dict() for k, v in self.stateful.items()}},
            {"step": self.step, "seconds": self._seconds(), "ranks": self.ranks.count,
             "identity": self.identity}, self.recovery.snapshots))

    def resume(self) -> None:
        """Go on from the stored state where there is one; ``run`` does it where nobody has.

        Raises UserError when it belongs to another configuration; nothing is written.
        """
        stored = None if self.resumed else load_state(self.states.folder)
        self.resumed = True
        if stored is None:
            return
        state, meta = stored
        require_same_run({**self.complete(meta["identity"]), "ranks": meta["ranks"]},
                         {**self.identity, "ranks": self.ranks.count}, str(self.folder))
        self.states.restore(state)
        for name in _COUNTERS:
            setattr(self, name, state[name])
        for name, part in self.stateful.items():
            part.load_state_dict(state.get(name, {}))  # earlier versions lack some
        self.seconds_before = meta["seconds"]
        self.accelerator.wait_for_everyone()  # the first one may remove the file soon
        if self._progress() < 1:
            self.accelerator.print(f"{self.title}: going on from step {self.step}")

    def _finish(self) -> dict[str, Any]:
        if self.validated_step != self.step:
            self._save()  # the last validation may be long, and cut off
            self._validate()
        self.recovery.end()  # a run that is over has no use for snapshots
        self._save()
        if self.ranks.any(self.stop_requested):
            raise KeyboardInterrupt
        summary = run_summary(self, self._seconds())
        if self.accelerator.is_main_process:
            write_text(self.folder / "summary.json", json.dumps(summary, indent=1) + "\n")
        self.accelerator.wait_for_everyone()
        return summary

    def _log_train(self, means: Means, speed: float) -> None:
        seconds, progress = self._seconds(), self._progress()
        values = self.ranks.take(means, self.task.summarise)
        if not values:  # every step since the last record was refused
            return
        values |= {"audio_seconds_per_second": speed, "skipped": self.skipped}
        self.log.write(self.step, seconds, "train", values)
        done = max(progress - self.first_progress, 1e-9)
        left = (time.perf_counter() - self.started) * max(0.0, 1 - progress) / done
        shown = {k: values[k] for k in ("loss", "grad_norm") if k in values}
        self.log.show(progress, self.step, shown, speed, left)
        self._check_wires(values)

    def _seconds(self) -> float:
        """Seconds of training so far, those of earlier runs included."""
        now = 0.0 if self.started is None else time.perf_counter() - self.started
        return self.seconds_before + now

    def _progress(self) -> float:
        """The same in every process, so that all leave the loop at the same step: that of the
        fastest clock."""
        return self.ranks.greatest(
            self.config.progress(self.step, self._seconds(), self.audio_seconds))

    def _request_stop(self) -> None:
        self.stop_requested = True
