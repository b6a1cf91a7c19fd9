"""Where a run reports: ``log.jsonl``, TensorBoard, and one progress line."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class Means:
    """Weighted means of named scalars or vectors, kept as tensors so that nothing waits for the
    device."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what was added."""
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        self.weights: dict[str, float] = defaultdict(float)

    def add(self, values: dict[str, Tensor | float], weight: float = 1.0) -> None:
        for name, value in values.items():
            value = torch.as_tensor(value).detach().double()
            self.sums[name] = self.sums[name].to(value.device) + weight * value
            self.weights[name] += weight

    def take(self, summarise: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
             ) -> dict[str, float]:
        """The means so far, ``summarise`` making scalars of them; starts anew."""
        out = {name: float(value) for name, value in summarise(self.tensors()).items()}
        self.clear()
        return out

    def tensors(self) -> dict[str, Tensor]:
        """The means so far, still on their device."""
        return {k: v / self.weights[k] for k, v in self.sums.items() if self.weights[k]}

    def plain(self) -> tuple[dict[str, float | list[float]], dict[str, float]]:
        """Sums and weights as numbers, to be sent to other processes."""
        return {k: v.tolist() for k, v in self.sums.items()}, dict(self.weights)

    @classmethod
    def joined(cls, parts: list[tuple[dict, dict[str, float]]]) -> "Means":
        """The means over everything that was added in any of ``parts``."""
        out = cls()
        for sums, weights in parts:
            for name, weight in weights.items():
                out.add({name: torch.tensor(sums[name], dtype=torch.float64) / weight}, weight)
        return out


class RunLog:
    """Appends records to ``log.jsonl`` and TensorBoard and draws the progress bar.

    folder: the stage's folder, or None for the processes that stay silent. Records after
    ``step`` are dropped first: they belong to a run that was cut off and is being repeated.
    """

    def __init__(self, folder: Path | None, title: str, step: int = 0):
        self.file = self.board = self.bar = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        keep = [line for line in _lines(path) if step and json.loads(line)["step"] <= step]
        part = path.with_name(path.name + ".part")
        part.write_text("".join(keep))
        part.rename(path)
        self.file = path.open("a")
        self.board = SummaryWriter(str(folder / "tb"), purge_step=step + 1 if step else None)
        # A log file is not flooded with redrawn bars. miniters: tqdm would else wait for another
        # step as large as the first, which in a resumed run is all that was done before.
        every = 0.5 if sys.stderr.isatty() else 30.0
        self.title = title
        self.bar = tqdm(total=1.0, desc=title, mininterval=every, miniters=0, dynamic_ncols=True,
                        bar_format="{percentage:3.0f}%|{bar:20}| {desc}")

    def write(self, step: int, seconds: float, split: str, values: dict[str, float],
              **notes: str | list[str]) -> None:
        """One record; values that are not finite are written as null."""
        if self.file is None:
            return
        clean = {k: round(v, 6) if abs(v) < 1e30 else None for k, v in values.items()}
        record = {"step": step, "seconds": round(seconds, 3), "split": split, **clean, **notes}
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(f"{split}/{name}", value, step)

    def show(self, progress: float, step: int, shown: dict[str, float], speed: float,
             seconds_left: float) -> None:
        """Redraw the bar: step, losses, seconds of audio a second, time left."""
        if self.bar is None:
            return
        numbers = " ".join(f"{k} {v:.3f}" for k, v in shown.items())
        minutes, seconds = divmod(int(seconds_left), 60)
        self.bar.n = min(1.0, progress)
        self.bar.set_description_str(f"{self.title} step {step} {numbers} {speed:.0f} s/s left "
                                     f"{minutes:d}:{seconds:02d}", refresh=False)
        self.bar.update(0)

    def say(self, text: str) -> None:
        """A line that stays on the terminal, after the title."""
        if self.bar is not None:
            self.bar.write(f"{self.title}: {text}", file=sys.stderr)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.board.close()
            self.bar.refresh()
            self.bar.close()


def _lines(path: Path) -> list[str]:
    """Whole lines only: a run that was killed may leave half of one."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
