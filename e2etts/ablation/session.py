"""Runs an experiment. It may be killed at any moment, and resumes where it was."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from e2etts.ablation.experiment import Experiment, StageRun, SystemRun
from e2etts.ablation.store import Results, Store, read_record
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.tasks.build import build_task

INTERRUPTED = 130  # status of a command that was stopped


class Call(Protocol):
    """Runs ``e2etts ARGUMENTS``, stops it after ``seconds``, and returns its status."""

    def __call__(self, arguments: list[str], seconds: float | None) -> int: ...


class TimeIsUp(Exception):
    """The hours of this session are over."""


def check_buildable(experiment: Experiment) -> None:
    """Build every stage once, so that a mistake in the last system shows at once.

    Raises UserError for options, losses or parts that a stage does not have."""
    seen = set()
    for run in experiment.runs:
        for unit in run.units:
            if unit.kind not in seen:
                seen.add(unit.kind)
                try:
                    build_task(run.recipe, unit.stage, Vocab.load(run.recipe.corpus.dump_dir))
                except UserError as e:
                    raise UserError(f"system '{run.system}': {e}") from e


def check_prepared(experiment: Experiment) -> None:
    """Raises UserError for a set of any system that is not prepared."""
    for recipe in {id(run.recipe): run.recipe for run in experiment.runs}.values():
        corpus = recipe.corpus
        for name in (corpus.train, corpus.dev, *corpus.tests, *corpus.zero_shot,
                     *corpus.sentences):
            if not (recipe.dump(name) / "text_ids").is_file():
                raise UserError(f"{recipe.dump(name)}: not prepared: run stages 1 and 2 first")


class Session:
    """Trains and measures the runs that are not done yet.

    hours: begin nothing after this time, and interrupt a training at a checkpoint then; None is
    no limit. call: how commands are run. publish: called after every measured run.
    """

    def __init__(self, experiment: Experiment, store: Store, results: Results, *, call: Call,
                 publish: Callable[[], None], hours: float | None = None,
                 say: Callable[[str], None] = print):
        self.experiment, self.store, self.results = experiment, store, results
        self.call, self.publish, self.say = call, publish, say
        self.end = None if hours is None else time.monotonic() + 3600 * hours
        self.failed_runs: list[str] = []
        self.failed_units: set[str] = set()

    def go(self) -> None:
        """Raises TimeIsUp at the end of ``hours``, KeyboardInterrupt when interrupted, and, after
        all other runs, UserError if commands have failed."""
        for run in self.experiment.runs:
            if self.results.of(run) is not None:
                continue
            try:
                self._one(run)
            except UserError as e:
                self.failed_runs.append(run.name)
                self.say(f"ablate: {run.name} given up: {e}")
        if self.failed_runs:
            raise UserError(f"{len(self.failed_runs)} runs have failed: "
                            f"{', '.join(self.failed_runs)}: see above; the same command tries "
                            "them again")

    def _one(self, run: SystemRun) -> None:
        folder = self.store.open(run)
        for unit in run.units:
            if unit.name in self.failed_units:
                raise UserError(f"its stage {unit.name} has failed before")
            if not self.store.finished(unit):
                self._train(run, unit)
            # Later stages start from best/; training states are several times its size.
            for name in ("state", "last"):
                shutil.rmtree(self.store.unit(unit) / name, ignore_errors=True)
        self.store.gather(run)
        self._measure(run, folder)

    def _train(self, run: SystemRun, unit: StageRun) -> None:
        self.say(f"ablate: {run.name}: train {unit.name}")
        try:
            self._command(run, f"stages/{unit.name}", "train", unit.stage, f"seed={unit.seed}",
                          *self.store.sources(run, unit), may_stop=True)
        except UserError:
            self.failed_units.add(unit.name)
            raise

    def _measure(self, run: SystemRun, folder: Path) -> None:
        self.say(f"ablate: {run.name}: synthesize and score")
        units = {unit.stage: str(self.store.unit(unit)) for unit in run.units}
        self._once(run, folder, "synthesize", "--system", units[run.speaks],
                   "--vocoder", units["vocoder"])
        self._once(run, folder, "probe", units[run.speaks])
        # Recordings, and equal clips of several systems, are scored once.
        shared, own = (place / "score_cache.json" for place in (self.store.root, folder))
        if shared.is_file() and not own.is_file():
            shutil.copyfile(shared, own)
        self._once(run, folder, "score")
        shutil.copyfile(own, shared.with_suffix(".part"))
        shared.with_suffix(".part").replace(shared)
        record, facts = read_record(run, self.store)
        if not self.results.same_judge(facts):
            (folder / "score.done").unlink()
            raise UserError(f"scored by another recogniser ({facts['recognizer']}) than the runs "
                            f"in {self.results.path}: use the same one, or another --tag")
        self.results.add(run, record, facts)
        self.publish()

    def _once(self, run: SystemRun, folder: Path, verb: str, *arguments: str) -> None:
        """Run a command unless the run's folder, which other settings empty, notes its end."""
        done = folder / f"{verb}.done"
        if not done.exists():
            self._command(run, f"runs/{run.name}", verb, *arguments)
            done.touch()

    def _command(self, run: SystemRun, place: str, *command: str, may_stop: bool = False) -> None:
        """Run a command whose results go to the folder ``place`` of the experiment."""
        left = None if self.end is None else self.end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeIsUp
        words = [*command, "--config", str(self.store.run(run) / "config.yaml"),
                 "--tag", f"{self.store.tag}/{place}"]
        status = self.call(words, left if may_stop else None)
        if status == INTERRUPTED:
            if self.end is not None and time.monotonic() >= self.end:
                raise TimeIsUp
            raise KeyboardInterrupt
        if status:
            raise UserError(f"e2etts {' '.join(words)} ended with status {status}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Holds ``folder/lock`` and yields its descriptor; the last process that has it releases it.

    Raises UserError where another process holds it: two would train the same stage."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            file.seek(0)
            raise UserError(f"{path}: an experiment, or a command that it left behind, is working "
                            f"here (processes {file.read().strip() or '?'}): wait for it, or end "
                            "it") from e
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def in_process_of_its_own(lock: int) -> Call:
    """Commands as processes that inherit the lock, so that one that outlives us still holds it."""
    def call(arguments: list[str], seconds: float | None) -> int:
        child = subprocess.Popen([sys.executable, "-m", "e2etts.bin.main", *arguments],
                                 pass_fds=(lock,))
        os.write(lock, f"{child.pid}\n".encode())
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.terminate()
            child.wait()
            return INTERRUPTED
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            raise

    return call
