"""What of an experiment is done, what is left, and how long that may take."""

import math
from pathlib import Path
from statistics import mean

from e2etts.ablation.plan import Plan, Unit
from e2etts.ablation.record import Results
from e2etts.ablation.run import Store
from e2etts.files import read_json
from e2etts.report.formats import clock


class Estimates:
    """Seconds that units and measuring take, from those that are done, else from a scored run."""

    def __init__(self, plan: Plan, store: Store, results: Results, scored: Path | None):
        found = read_json(scored) if scored is not None else None
        told = found["training"] if found else {}
        self.stages = {name: [s["audio_seconds"] / s["seconds"]] for name, s in told.items()}
        self.clips = None
        if found:
            spent = {row["name"]: row["seconds"] for row in found["stages"]}
            self.clips = (spent["synthesize"] + spent["score"]) / found["expected"]
        self.kinds: dict[str, list[float]] = {}
        measured: dict[str, list[float]] = {}
        for unit in plan.units.values():
            summary = read_json(store.unit(unit) / "summary.json")
            if summary:
                speed = summary["audio_seconds"] / summary["seconds"]
                self.kinds.setdefault(unit.kind, []).append(speed)
                measured.setdefault(unit.stage, []).append(speed)
        self.stages |= measured

    def training(self, unit: Unit) -> float | None:
        """Seconds from start to end; None where nothing like it is known."""
        minutes = unit.config.train.max_minutes or math.inf
        speeds = self.kinds.get(unit.kind) or self.stages.get(unit.stage)
        seconds = unit.audio_seconds / mean(speeds) if speeds else math.inf
        seconds = min(60 * minutes, seconds)
        return seconds if math.isfinite(seconds) else None


def status(plan: Plan, store: Store, results: Results, scored: Path | None) -> str:
    """The text of ``e2etts ablate --status``."""
    guess = Estimates(plan, store, results, scored)
    open_runs = [run for run in plan.runs if results.of(run) is None]
    needed = {u.name for run in open_runs for u in run.units}
    lines = [f"{'stage of training':34} {'seed':>4}  {'state':28}  systems"]
    left, unknown = 0.0, 0
    for name, unit in plan.units.items():
        whole = guess.training(unit)
        if store.finished(unit):
            summary = read_json(store.unit(unit) / "summary.json")
            state = f"done in {clock(summary['seconds'])}"
        elif name not in needed:
            state = "not needed: its runs are measured"
        else:
            meta = read_json(store.unit(unit) / "state" / "meta.json") or {}
            rest = None if whole is None else max(0.0, whole - meta.get("seconds", 0.0))
            left, unknown = left + (rest or 0.0), unknown + (rest is None)
            state = (f"at step {meta['step']}, " if meta else "") + \
                ("left, time unknown" if rest is None else f"about {clock(rest)} left")
        users = list(dict.fromkeys(r.system for r in plan.runs if unit in r.units))
        whose = "all" if len(users) == len(plan.config.systems) else ", ".join(users)
        lines.append(f"{name:34} {unit.seed:4d}  {state:28}  {whose}")
    lines += ["", f"{'run':34} {'seed':>4}  state"]
    outdated = set(results.outdated(plan))
    for run in plan.runs:
        state = "measured" if results.of(run) else "to be measured"
        if run.name in outdated:
            state += ": what is stored is of other settings or data"
        lines.append(f"{run.system:34} {run.seed:4d}  {state}")
    clips = _clips(plan)
    if guess.clips is not None and clips:
        left += guess.clips * clips * len(open_runs)
    else:
        unknown += len(open_runs)
    done = len(plan.runs) - len(open_runs)
    lines += ["", f"{done} of {len(plan.runs)} runs measured; about {clock(left)} left"
              + (f", and {unknown} parts of unknown length" if unknown else "")]
    return "\n".join(lines)


def _clips(plan: Plan) -> int:
    """Clips that a run speaks: copies and readings of tests, readings of sentences."""
    recipe, count = plan.runs[0].recipe, 0
    for times, names in ((2, recipe.corpus.tests), (1, recipe.corpus.sentences)):
        for name in names:
            path = recipe.dump(name) / "text"
            count += times * (len(path.read_text("utf-8").splitlines()) if path.is_file() else 0)
    return count
