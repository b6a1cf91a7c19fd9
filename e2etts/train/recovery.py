"""Loss spike recovery: rolls back to a snapshot after a loss spike."""

import time
from typing import Any

import torch

from e2etts.data.sampler import Cursor
from e2etts.errors import UserError
from e2etts.train.config import SpikeConfig, weight_at
from e2etts.train.health import ENTROPY, SpikeDetector
from e2etts.train.step import Outcome, Stepper
from e2etts.train.task import Task


class Recovery:
    """Monitors every step for a loss spike and says which training states on disk are needed as
    snapshots: the last two. A rollback goes to the older one: a spike begins before it is detected,
    and the newer snapshot may already contain its beginning.

    snapshots: their steps. done: one record for each recovery so far.
    """

    def __init__(self, config: SpikeConfig, task: Task, stepper: Stepper):
        self.config, self.task, self.stepper = config, task, stepper
        weights = {k: weight_at(w) for k, w in stepper.weights.items()}
        self.detector = SpikeDetector(config, weights, task.selection)
        self.snapshots: list[int] = []
        self.done: list[dict[str, Any]] = []
        self.over = False
        self.written, self.write_seconds = time.perf_counter(), 0.0

    @property
    def lr_scale(self) -> float:
        """Multiplier of the learning rate after the recoveries so far."""
        return self.config.lr_ratio ** len(self.done)

    def due(self, step: int, saving: bool = False) -> bool:
        """Whether the state before ``step`` should be a snapshot, the same in every process.
        saving: the state is written in any case."""
        if self.config.action != "recover" or step in self.snapshots or self.over:
            return False
        if not self.snapshots:
            return True
        if step % self.config.snapshot_every:
            return False
        return saving or self.stepper.ranks.all(self._affordable())

    def keep(self, step: int) -> None:
        """The state before ``step`` is a snapshot."""
        self.snapshots = [*self.snapshots, step][-2:]

    def end(self) -> None:
        """No snapshots from now on."""
        self.snapshots, self.over = [], True

    def note_writing(self, seconds: float) -> None:
        """A state has been written just now, and took so long."""
        self.written, self.write_seconds = time.perf_counter(), seconds

    def _affordable(self) -> bool:
        share = self.config.snapshot_share
        return share >= 1 or share * (time.perf_counter() - self.written) >= self.write_seconds

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

    def start(self, reason: str) -> int:
        """The step whose state to go back to; the newer snapshot is forgotten. Raises UserError
        after the maximum number of recoveries."""
        if self.config.action != "recover" or len(self.done) >= self.config.recoveries:
            raise UserError(
                f"{self.stepper.title}: {reason}. Stopped after {len(self.done)} recoveries: lower "
                "train.lr, check in log.jsonl which loss rose first, or allow more "
                "(train.health.spike.recoveries)")
        del self.snapshots[1:]
        return self.snapshots[0]

    def finish(self, snapshot: dict[str, Any], step: int, cursor: Cursor, reason: str
               ) -> dict[str, Any]:
        """Record that ``snapshot`` has been restored: the data read since then are skipped."""
        self.detector.history = snapshot["recovery"]["history"]
        self.done.append({"step": step, "back_to": snapshot["step"], "reason": reason,
                          "data_left_out": [list(snapshot["cursor"]), list(cursor)]})
        return self.done[-1]

    def state_dict(self) -> dict[str, Any]:
        return {"snapshots": self.snapshots, "done": self.done, "history": self.detector.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Earlier versions kept the snapshots themselves: such a run begins with new ones.
        self.snapshots, self.done = state.get("snapshots", []), state["done"]
        self.detector.history = state["history"]
