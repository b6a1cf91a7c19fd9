"""Figures of an experiment, as SVG."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2etts.ablation.cells import METRICS, Record, cell, records, spoken
from e2etts.ablation.plan import Plan
from e2etts.ablation.record import Results
from e2etts.score.compare import Estimate


def draw(plan: Plan, results: Results, folder: Path) -> list[Path]:
    """Write every figure below ``folder`` and return their paths; none without a measured run."""
    runs = records(plan, results)
    runs = {name: runs[name] for name in plan.config.systems if name in runs}
    folder, recipe = folder / "figures", plan.runs[0].recipe
    sets = (*recipe.corpus.tests, *recipe.corpus.sentences)
    out = []
    if any(cell(some, spoken("tts", sets), METRICS["wer"]) for some in runs.values()):
        out += [_save(_wer_against_time(runs, sets), folder / "wer_against_training_time.svg"),
                _save(_bars(runs, sets), folder / "wer_by_system.svg")]
    if runs:
        out.append(_save(_usage(runs), folder / "token_usage.svg"))
    return out


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with rc_context({"svg.hashsalt": "e2etts"}):  # the same data draw the same file
        figure.savefig(part, format="svg", bbox_inches="tight", metadata={"Date": None})
    part.replace(path)
    return path


def _axes(width: float, x_name: str, y_name: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 3.6))
    axes = figure.subplots()
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.grid(alpha=0.3)
    return figure, axes


def _half_widths(e: Estimate) -> list[list[float]] | None:
    """Error bars in per cent, as matplotlib takes them."""
    if e.low is None:
        return None
    return [[100 * (e.value - max(0.0, e.low))], [100 * (e.high - e.value)]]


def _wer_against_time(runs: dict[str, list[Record]], sets: tuple[str, ...]) -> Figure:
    """One mark a system, with its interval, and a small one for each run."""
    figure, axes = _axes(6.4, "seconds of training", "text-to-speech WER, %")
    for number, (name, some) in enumerate(runs.items()):
        color, e = f"C{number}", cell(some, spoken("tts", sets), METRICS["wer"])
        if e is None:
            continue
        axes.errorbar([np.mean([r["train_seconds"] for r in some])], [100 * e.value],
                      yerr=_half_widths(e), fmt="o", color=color, capsize=3, label=name)
        for record in some:
            one = cell([record], spoken("tts", sets), METRICS["wer"])
            axes.plot(record["train_seconds"], 100 * one.value, ".", color=color, alpha=0.5)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    return figure


def _bars(runs: dict[str, list[Record]], sets: tuple[str, ...]) -> Figure:
    """WER of every system on every set."""
    figure, axes = _axes(max(6.4, 1.1 * len(runs)), "", "text-to-speech WER, %")
    width = 0.8 / len(sets)
    for place, name in enumerate(sets):
        for x, some in enumerate(runs.values()):
            e = cell(some, spoken("tts", (name,)), METRICS["wer"])
            if e is not None:
                axes.bar(x + width * place, 100 * e.value, width, yerr=_half_widths(e),
                         color=f"C{place}", capsize=2, label=name if x == 0 else None)
    axes.set_xticks(np.arange(len(runs)) + width * (len(sets) - 1) / 2, list(runs), rotation=20,
                    ha="right")
    axes.legend(fontsize="small")
    return figure


def _usage(runs: dict[str, list[Record]]) -> Figure:
    """Share of all tokens that the most used codes make up; systems of one tokenizer are one."""
    figure, axes = _axes(6.4, "most used codes, % of all", "share of tokens, %")
    drawn: dict[str, list[str]] = {}
    curves = {}
    for name, some in runs.items():
        tokenizer = next(u["key"] for u in some[0]["units"] if u["stage"] != "vocoder")
        drawn.setdefault(tokenizer, []).append(name)
        curves[tokenizer] = np.mean([r["tokens"]["coverage"] for r in some], axis=0)
    for key, names in drawn.items():
        y = 100 * np.concatenate([[0], curves[key]])
        axes.plot(np.linspace(0, 100, len(y)), y, label=", ".join(names))
    axes.plot([0, 100], [0, 100], "--", color="grey", linewidth=1, label="even use")
    axes.legend(fontsize="small")
    return figure


def curve(rows: list[dict], path: Path) -> None:
    """WER against minutes of training, a line for each set; rows as of ``e2etts curve``."""
    figure, axes = _axes(6.4, "minutes of training", "WER, %")
    for system, style in (("tts", "o-"), ("copy", "s--")):
        for number, name in enumerate(dict.fromkeys(s for r in rows for s in r[system])):
            points = [(r["seconds"] / 60, r[system][name]) for r in rows if name in r[system]]
            values = np.array([c["wer"] for _, c in points])
            ends = np.array([c["wer_ci"] for _, c in points]).T
            axes.errorbar([x for x, _ in points], 100 * values,
                          yerr=100 * np.abs(ends - values), fmt=style, color=f"C{number}",
                          markersize=3, capsize=2, label=f"{system} {name}")
    axes.set_ylim(0, min(axes.get_ylim()[1], 110))
    axes.legend(fontsize="small")
    _save(figure, path)
