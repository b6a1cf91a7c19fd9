"""Figures of an experiment, as SVG."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from e2etts.ablation.cells import METRICS, Record, cell, records, spoken, training_seconds
from e2etts.ablation.experiment import Experiment, SystemRun
from e2etts.ablation.store import Results
from e2etts.score.compare import Estimate

_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}  # legend outside the axes


def draw_figures(experiment: Experiment, results: Results, folder: Path) -> list[Path]:
    """Write every figure below ``folder`` and return their paths; none without a measured run."""
    runs = records(experiment, results)
    folder, recipe = folder / "figures", experiment.runs[0].recipe
    sets = (*recipe.corpus.tests, *recipe.corpus.sentences)
    seeds = {name: len(experiment.config.seeds_of(name)) for name in runs}
    out = []
    if any(cell(some, spoken("tts", sets), METRICS["wer"]) for some in runs.values()):
        out += [_save(_wer_against_time(runs, sets, seeds),
                      folder / "wer_against_training_time.svg"),
                _save(_bars(runs, sets, seeds), folder / "wer_by_system.svg")]
    if any(runs.values()):
        out.append(_save(_usage(experiment, results), folder / "token_usage.svg"))
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
    axes.set_axisbelow(True)
    return figure, axes


def _name(system: str, some: list[Record], wanted: int) -> str:
    """With the number of its seeds, where these are not all."""
    if len(some) == wanted:
        return system
    return f"{system} ({len(some)} of {wanted} seeds)" if some else f"{system} (not run)"


def _frame(axes: Axes, runs: dict[str, list[Record]], highest: float) -> None:
    """From 0 to well above the highest value: the wide intervals of two seeds are cut."""
    axes.set_ylim(0, 1.6 * highest or 1.0)
    alone = "; of one seed: over utterances alone" if any(
        len(some) == 1 for some in runs.values()) else ""
    axes.set_title(f"95 % intervals{alone}", fontsize="small")


def _half_widths(e: Estimate) -> list[list[float]] | None:
    """Error bars in per cent, as matplotlib takes them."""
    if e.low is None:
        return None
    return [[100 * (e.value - max(0.0, e.low))], [100 * (e.high - e.value)]]


def _wer_against_time(runs: dict[str, list[Record]], sets: tuple[str, ...],
                      seeds: dict[str, int]) -> Figure:
    """One mark a system, with its interval, and a small one for each run, at their median time."""
    figure, axes = _axes(6.4, "seconds of training (median of seeds)", "text-to-speech WER, %")
    highest = 0.0
    for number, (name, some) in enumerate(runs.items()):
        color, e = f"C{number}", cell(some, spoken("tts", sets), METRICS["wer"])
        if e is None:
            continue
        seconds = training_seconds(some)
        axes.errorbar([seconds], [100 * e.value], yerr=_half_widths(e), fmt="o",
                      color=color, capsize=3, label=_name(name, some, seeds[name]))
        for record in some:
            one = 100 * cell([record], spoken("tts", sets), METRICS["wer"]).value
            highest = max(highest, one)
            axes.plot(seconds, one, ".", color=color, alpha=0.5)
    _frame(axes, runs, highest)
    axes.legend(fontsize="small", **_BESIDE)
    return figure


def _bars(runs: dict[str, list[Record]], sets: tuple[str, ...], seeds: dict[str, int]) -> Figure:
    """WER of every system on every set; a gap for a system that has not run."""
    figure, axes = _axes(max(6.4, 1.1 * len(runs)), "", "text-to-speech WER, %")
    width, highest = 0.8 / len(sets), 0.0
    for place, name in enumerate(sets):
        found = {x: cell(some, spoken("tts", (name,)), METRICS["wer"])
                 for x, some in enumerate(runs.values())}
        found = {x: e for x, e in found.items() if e is not None}
        bars = [x + width * place for x in found], [100 * e.value for e in found.values()]
        axes.bar(*bars, width, color=f"C{place}", label=name)
        for x, y, e in zip(*bars, found.values(), strict=True):
            highest = max(highest, y)
            axes.errorbar([x], [y], yerr=_half_widths(e), fmt="none", ecolor="black", capsize=2)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.2 - width / 2, len(runs) - width / 2)
    axes.set_xticks(np.arange(len(runs)) + width * (len(sets) - 1) / 2,
                    [_name(name, some, seeds[name]) for name, some in runs.items()], rotation=25,
                    ha="right", fontsize="small")
    _frame(axes, runs, highest)
    axes.legend(fontsize="small", **_BESIDE)
    return figure


def _usage(experiment: Experiment, results: Results) -> Figure:
    """Share of all tokens that the most used codes cover: a line for each tokenizer, the mean over
    its seeds, labelled with the systems that have it."""
    figure, axes = _axes(6.4, "most used codes, % of all", "share of tokens, %")
    lines: dict[str, dict[str, list[float]]] = {}
    names: dict[str, dict[str, None]] = {}
    for run in experiment.runs:
        record = results.of(run)
        if record is not None:
            kind, key = _tokenizer(run)
            lines.setdefault(kind, {})[key] = record["tokens"]["coverage"]
            names.setdefault(kind, {})[run.system] = None
    for kind, by_seed in lines.items():
        y = 100 * np.concatenate([[0], np.mean(list(by_seed.values()), axis=0)])
        axes.plot(np.linspace(0, 100, len(y)), y, label="\n".join(
            textwrap.wrap(", ".join(names[kind]), 40)))
    axes.plot([0, 100], [0, 100], "--", color="grey", linewidth=1, label="even use")
    axes.legend(fontsize="small", loc="lower right")
    return figure


def _tokenizer(run: SystemRun) -> tuple[str, str]:
    """(kind, key) of the last stage that trains the tokenizer; empty where it is that of the system
    which the recipe extends."""
    unit = next((u for u in reversed(run.units) if "tokenizer" in u.config.trainable), None)
    return ("", "") if unit is None else (unit.kind, unit.key)


def draw_wer_curve(rows: list[dict], path: Path) -> None:
    """WER, on a log scale, against minutes of training: a line for each set, and the end of
    each stage. rows: those of ``e2etts curve``."""
    figure, axes = _axes(6.4, "minutes of training", "WER, %")
    values = []
    for system, style in (("tts", "o-"), ("copy", "s--")):
        for number, name in enumerate(dict.fromkeys(s for r in rows for s in r[system])):
            points = [(r["seconds"] / 60, r[system][name]) for r in rows if name in r[system]]
            wer = np.array([c["wer"] for _, c in points])
            ends = np.array([c["wer_ci"] for _, c in points]).T
            axes.errorbar([x for x, _ in points], 100 * wer, yerr=100 * np.abs(ends - wer),
                          fmt=style, color=f"C{number}", markersize=3, capsize=2,
                          label=f"{system} {name}")
            values.extend(wer)
    # On a linear scale the speech of an untrained LM would leave no room for later points.
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(max(1.0, 60 * min(values)), max(120.0, 120 * max(values)))
    ticks = FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500])
    axes.yaxis.set(major_locator=ticks, major_formatter=ScalarFormatter(),
                   minor_locator=NullLocator())
    for stage, seconds in {r["checkpoint"].split("/")[0]: r["seconds"] for r in rows}.items():
        axes.axvline(seconds / 60, color="grey", linewidth=0.8, linestyle=":")
        axes.annotate(stage, (seconds / 60, 1.0), (-2, 2), xycoords=("data", "axes fraction"),
                      textcoords="offset points", ha="right", fontsize="small", color="grey")
    axes.legend(fontsize="small", **_BESIDE)
    _save(figure, path)
