"""Loss spike recovery: rolls back to a snapshot after a loss spike."""

from typing import Any

import torch
from torch import Tensor

from e2etts.data.sampler import Cursor
from e2etts.errors import UserError
from e2etts.train.checkpoint import restore
from e2etts.train.config import SpikeConfig, weight_at
from e2etts.train.health import ENTROPY, SpikeDetector
from e2etts.train.step import Outcome, Stepper
from e2etts.train.task import Task


class Recovery:
    """Monitors every step for a loss spike and keeps the last two snapshots of the training state.
    A rollback restores the older one: a spike begins before it is detected, and the newer snapshot
    may already contain its beginning.

    done: one record for each recovery so far.
    """

    def __init__(self, config: SpikeConfig, task: Task, stepper: Stepper):
        self.config, self.task, self.stepper = config, task, stepper
        weights = {k: weight_at(w) for k, w in stepper.weights.items()}
        self.detector = SpikeDetector(config, weights, task.selection)
        self.copies: list[dict[str, Any]] = []
        self.done: list[dict[str, Any]] = []

    @property
    def lr_scale(self) -> float:
        """Multiplier of the learning rate after the recoveries so far."""
        return self.config.lr_ratio ** len(self.done)

    def keep(self, step: int, cursor: Cursor) -> None:
        """Called before every step; takes a snapshot if one is due or there is none."""
        due = step % self.config.snapshot_every == 0 or not self.copies
        if self.config.action == "recover" and due:
            state = {"model": self.task.state_dict(), **self.stepper.state_dict(),
                     "history": self.detector.history, "step": step, "cursor": cursor}
            self.copies = [*self.copies, _copied(state)][-2:]

    def jump(self, outcome: Outcome) -> str | None:
        """Description of a loss spike at this step, or None. Losses are summed over processes, so
        that all decide alike; a loss may be absent in some of them."""
        if self.config.action == "off":
            return None
        seen = {ENTROPY: self.task.summarise(outcome.values).get(ENTROPY), **outcome.terms}
        seen = {k: v for k, v in seen.items() if v is not None}
        names = [ENTROPY, *(k for k, weight in self.detector.weights.items() if weight)]
        zero = torch.zeros((), dtype=torch.float64, device=self.stepper.accelerator.device)
        table = torch.stack([torch.stack([seen.get(k, zero) for k in names]),
                             torch.stack([zero + (k in seen) for k in names])])
        sums, counts = self.stepper.ranks.sum(table).tolist()
        values = {k: s / n for k, s, n in zip(names, sums, counts, strict=True) if n}
        jump = self.detector.add(values)
        return str(jump) if jump else None

    def go_back(self, step: int, cursor: Cursor, reason: str) -> dict[str, Any]:
        """Restore the older snapshot and return a record of it. The data read since then are
        skipped. Raises UserError after the maximum number of recoveries."""
        if self.config.action != "recover" or len(self.done) >= self.config.recoveries:
            raise UserError(
                f"{self.stepper.title}: {reason}. Stopped after {len(self.done)} recoveries: lower "
                "train.lr, check in log.jsonl which loss rose first, or allow more "
                "(train.health.spike.recoveries)")
        del self.copies[1:]
        state = _copied(self.copies[0])
        restore(self.task, state["model"], "snapshot in memory")
        self.stepper.load_state_dict(state)
        self.detector.history = state["history"]
        self.done.append({"step": step, "back_to": state["step"], "reason": reason,
                          "data_left_out": [list(state["cursor"]), list(cursor)]})
        return self.done[-1]

    def state_dict(self) -> dict[str, Any]:
        return {"copies": self.copies, "done": self.done, "history": self.detector.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.copies, self.done = state["copies"], state["done"]
        self.detector.history = state["history"]


def _copied(state: Any) -> Any:
    """A deep copy of a nested state with tensors in CPU memory."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {k: _copied(v) for k, v in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_copied(v) for v in state)
    return state
