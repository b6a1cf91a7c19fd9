"""Training logs: ``log.jsonl``, TensorBoard and a progress bar."""

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
    """Weighted means of named scalars or vectors, kept on the device to avoid synchronisation."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Reset all means."""
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        self.weights: dict[str, float] = defaultdict(float)

    def add(self, values: dict[str, Tensor | float], weight: float = 1.0) -> None:
        for name, value in values.items():
            value = torch.as_tensor(value).detach().double()
            self.sums[name] = self.sums[name].to(value.device) + weight * value
            self.weights[name] += weight

    def take(self, summarise: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
             ) -> dict[str, float]:
        """Return the means, reduced to scalars by ``summarise``, and reset."""
        out = {name: float(value) for name, value in summarise(self.tensors()).items()}
        self.clear()
        return out

    def tensors(self) -> dict[str, Tensor]:
        """The current means, as tensors on their device."""
        return {k: v / self.weights[k] for k, v in self.sums.items() if self.weights[k]}

    def plain(self) -> tuple[dict[str, float | list[float]], dict[str, float]]:
        """Sums and weights as plain numbers, to send to other processes."""
        return {k: v.tolist() for k, v in self.sums.items()}, dict(self.weights)

    @classmethod
    def joined(cls, parts: list[tuple[dict, dict[str, float]]]) -> "Means":
        """Merge the means of several processes."""
        out = cls()
        for sums, weights in parts:
            for name, weight in weights.items():
                out.add({name: torch.tensor(sums[name], dtype=torch.float64) / weight}, weight)
        return out


class RunLog:
    """Writes records to ``log.jsonl`` and TensorBoard and shows the progress bar.

    folder: folder of the stage; None disables logging (processes other than the first). Records
    after ``step`` are removed first: an interrupted run wrote them and resumes at ``step``.
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
        # Redraw rarely in log files. miniters: otherwise tqdm waits for another increment as large
        # as the first, which in a resumed run is all earlier progress.
        every = 0.5 if sys.stderr.isatty() else 30.0
        self.title = title
        self.bar = tqdm(total=1.0, desc=title, mininterval=every, miniters=0, dynamic_ncols=True,
                        bar_format="{percentage:3.0f}%|{bar:20}| {desc}")

    def write(self, step: int, seconds: float, split: str, values: dict[str, float],
              **notes: str | list[str]) -> None:
        """Write one record; non-finite values are written as null."""
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
        """Update the bar: step, losses, seconds of audio per second, time left."""
        if self.bar is None:
            return
        numbers = " ".join(f"{k} {v:.3f}" for k, v in shown.items())
        minutes, seconds = divmod(int(seconds_left), 60)
        self.bar.n = min(1.0, progress)
        self.bar.set_description_str(f"{self.title} step {step} {numbers} {speed:.0f} s/s left "
                                     f"{minutes:d}:{seconds:02d}", refresh=False)
        self.bar.update(0)

    def say(self, text: str) -> None:
        """Print a message above the progress bar, prefixed with the title."""
        if self.bar is not None:
            self.bar.write(f"{self.title}: {text}", file=sys.stderr)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.board.close()
            self.bar.refresh()
            self.bar.close()


def _lines(path: Path) -> list[str]:
    """Complete lines only: a killed run may leave a partial line."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
