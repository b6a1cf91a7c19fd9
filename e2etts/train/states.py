"""Training states on disk: what a run resumes from, and what it goes back to after a loss spike.

``state/`` has one file a state, STEP.pt, and meta.json, which names the newest one. A file is
complete before meta.json names it, and is removed only when no state needs it any more, so that an
interrupted write does no harm.
"""

import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.train.checkpoint import restore
from e2etts.train.step import Stepper
from e2etts.train.task import Task

FORMAT = 4
OLD_FORMAT = 3  # a single state.pt with all weights, and with the snapshots of recovery


def save_state(folder: Path, state: dict[str, Any], meta: dict[str, Any],
               needed: Collection[int] = ()) -> None:
    """Write the state of meta["step"], and remove those of steps that are not ``needed``.

    Raises UserError when the disk refuses; what was there is then as before."""
    path = folder / f"{meta['step']}.pt"
    part = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        part.replace(path)
    except (OSError, RuntimeError) as e:  # torch's writer reports a full disk as RuntimeError
        part.unlink(missing_ok=True)
        reason = " ".join(str(e).split())[:200]
        raise UserError(f"{path}: cannot write: {reason}: free space or choose another folder, "
                        "then run again") from e
    write_text(folder / "meta.json", json.dumps({"format": FORMAT, **meta}, indent=1) + "\n")
    kept = {f"{step}.pt" for step in (meta["step"], *needed)}
    for other in (*folder.glob("*.pt"), *folder.glob("*.part")):
        if other.name not in kept:
            other.unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The newest state and its meta, or None where there is nothing to resume. Raises UserError
    for one that is damaged or of another format."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["format"] not in (OLD_FORMAT, FORMAT):
            raise ValueError(f"format {meta['format']}, this program reads {FORMAT}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as e:
        raise _broken(folder, e) from e
    name = "state" if meta["format"] == OLD_FORMAT else meta["step"]
    return _load(folder / f"{name}.pt"), meta


def load_snapshot(folder: Path, step: int) -> dict[str, Any]:
    """The state of an earlier step that ``save_state`` has kept."""
    return _load(folder / f"{step}.pt")


def _load(path: Path) -> dict[str, Any]:
    try:
        # On a GPU all is copied there: a mapped file takes no memory for it in any process. On the
        # CPU the optimiser adopts the tensors that it is given.
        return torch.load(path, map_location="cpu", weights_only=True,
                          mmap=torch.cuda.is_available())
    except Exception as e:  # torch.load raises many kinds for a damaged file
        raise _broken(path.parent, e) from e


def _broken(folder: Path, e: Exception) -> UserError:
    return UserError(f"{folder}: cannot resume ({' '.join(str(e).split())[:200]}): delete this "
                     "folder to start the stage anew")


class States:
    """The states of a run in a folder. They hold what training changes: weights, optimisers and
    average, and what the loop adds. Frozen weights come from what the stage starts from. All
    processes have the same state: the first one writes it, every one reads it."""

    def __init__(self, folder: Path, task: Task, stepper: Stepper):
        self.folder, self.task, self.stepper = folder, task, stepper
        learning = {id(p) for p in stepper.trainable}
        self.frozen = {n for n, p in task.named_parameters() if id(p) not in learning}

    def save(self, more: dict[str, Any], meta: dict[str, Any], needed: Collection[int]) -> float:
        """``save_state`` of the present state with ``more``; returns the seconds that it took."""
        begin = time.perf_counter()
        if self.stepper.accelerator.is_main_process:
            weights = self._changing(self.task.state_dict())
            save_state(self.folder, {"model": weights, **self.stepper.state_dict(), **more}, meta,
                       needed)
        return time.perf_counter() - begin

    def load(self, step: int) -> dict[str, Any]:
        """Go to the state of an earlier step, which it returns."""
        state = load_snapshot(self.folder, step)
        self.restore(state)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Raises UserError for weights that do not fit."""
        restore(self.task, self._changing(state["model"]), str(self.folder), absent=self.frozen)
        self.stepper.load_state_dict(state)

    def _changing(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: v for k, v in tensors.items() if k not in self.frozen}
