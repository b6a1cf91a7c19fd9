"""An experiment on disk: its folder, ``ablation.json``, what is done and what is left."""

import json
import math
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from e2etts.ablation.experiment import Experiment, StageRun, SystemRun
from e2etts.errors import UserError
from e2etts.files import read_json, write_text
from e2etts.recipe import resolved
from e2etts.report.formats import clock

FORMAT = 1
KINDS = ("copy", "tts")


class Store:
    """The experiment's folder below exp/: stages/<unit>/<stage>, where a unit is trained, and
    runs/<run>, with the speech and scores of a run."""

    def __init__(self, tag: str):
        self.tag, self.root = tag, Path("exp") / tag

    def unit(self, unit: StageRun) -> Path:
        return self.root / "stages" / unit.name / unit.stage

    def run(self, run: SystemRun) -> Path:
        return self.root / "runs" / run.name

    def finished(self, unit: StageRun) -> bool:
        return (self.unit(unit) / "summary.json").is_file()

    def sources(self, run: SystemRun, unit: StageRun) -> list[str]:
        """Overrides by which a unit starts from the folders of the run's other units."""
        init, folders = unit.config.init, {u.stage: self.unit(u) for u in run.units}
        named = {f"init.{part}": source for part, source in init.items()} \
            if isinstance(init, dict) else {"init": init}
        return [f"stages.{unit.stage}.{key}={folders[source]}"
                for key, source in (*named.items(), ("judge", unit.config.judge))
                if source in folders]

    def open(self, run: SystemRun) -> Path:
        """The run's folder, with its configuration; speech that was synthesized with other
        settings is removed."""
        folder, key = self.run(run), self.run(run) / "key"
        if folder.exists() and (not key.is_file() or key.read_text() != run.key):
            shutil.rmtree(folder)
        write_text(folder / "config.yaml", yaml.safe_dump(resolved(run.recipe), sort_keys=False,
                                                          allow_unicode=True))
        write_text(key, run.key)
        return folder

    def gather(self, run: SystemRun) -> None:
        """Copy summaries and logs of the run's units into its folder, for score and report."""
        for unit in run.units:
            folder = self.run(run) / unit.stage
            folder.mkdir(exist_ok=True)
            for name in ("summary.json", "log.jsonl"):
                if (self.unit(unit) / name).is_file():
                    shutil.copyfile(self.unit(unit) / name, folder / name)


class Results:
    """``ablation.json``: records of runs by name, of recordings by set, and the recogniser."""

    def __init__(self, path: Path):
        """Raises UserError for a file that is not what ``save`` writes."""
        self.path = path
        self.runs: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        if not path.exists():
            return
        stored = read_json(path)
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise UserError(f"{path}: not results of an experiment: move it away")
        self.runs, self.facts = stored["runs"], stored["facts"]

    def of(self, run: SystemRun) -> dict[str, Any] | None:
        """The record of a run as it is configured now."""
        record = self.runs.get(run.name)
        return record if record is not None and record["key"] == run.key else None

    def outdated(self, experiment: Experiment) -> list[str]:
        """Names of runs that were measured with other settings or data."""
        return [r.name for r in experiment.runs if r.name in self.runs and self.of(r) is None]

    def same_judge(self, facts: dict[str, Any]) -> bool:
        """Whether earlier runs were scored by the same recogniser as these facts."""
        before, now = (f.get("recognizer") or {} for f in (self.facts, facts))
        return not self.runs or all(before.get(k) == now.get(k) for k in ("name", "model_sha256"))

    def add(self, run: SystemRun, record: dict[str, Any], facts: dict[str, Any]) -> None:
        """Store a record and write the file."""
        self.runs[run.name] = record
        self.facts.update(facts)
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(self.runs[name])}"
                           for name in sorted(self.runs))
        write_text(self.path, f'{{"format": {FORMAT},\n "facts": {json.dumps(self.facts)},\n'
                              f' "runs": {{\n{lines}\n }}}}\n')


def read_record(run: SystemRun, store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    """(record, facts) of a run that has been trained, synthesized, probed and scored."""
    folder = store.run(run)
    results, probe = (read_json(folder / name) for name in ("results.json", "probe.json"))
    scores = _columns(folder / "scores.jsonl")
    summaries = {u.stage: read_json(store.unit(u) / "summary.json") for u in run.units}
    units = [{"stage": u.stage, "key": u.key, **{k: summaries[u.stage][k] for k in (
        "seconds", "audio_seconds", "steps", "skipped_steps")}, "events": [
            *("recovered: " + r["reason"] for r in summaries[u.stage]["recoveries"]),
            *("warned: " + w["message"] for w in summaries[u.stage]["warnings"])]}
        for u in run.units]
    record = {
        "key": run.key, "system": run.system, "seed": run.seed, "commit": results["commit"],
        "hardware": results["hardware"],
        "train_seconds": round(sum(
            summaries[s]["seconds"] for s in run.recipe.stages_to(run.speaks, judges=False)), 1),
        "units": units, "problems": len(results["problems"]), **probe,
        "scores": {kind: scores[kind] for kind in KINDS if kind in scores}}
    return record, {"recordings": scores.get("recording", {}), "hardware": results["hardware"],
                    "recognizer": results["recognizer"], "not_run": results["not_run"]}


def _columns(path: Path) -> dict[str, dict[str, dict[str, list]]]:
    """system -> set -> columns; None where a metric did not run on an utterance."""
    out: dict[str, dict[str, dict[str, list]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        e = row["errors"] or {}
        edits = sum(e[k] for k in ("substituted", "deleted", "inserted")) if e else None
        values = {"utts": row["utt"], "edits": edits, "words": e.get("words"),
                  "char_edits": e.get("char_edits"), "chars": e.get("chars"),
                  "sim": None if row["sim"] is None else round(row["sim"], 4),
                  "dnsmos": row["dnsmos"] and round(row["dnsmos"]["ovrl"], 4)}
        table = out.setdefault(row["system"], {}).setdefault(row["set"], {k: [] for k in values})
        for name, value in values.items():
            table[name].append(value)
    return out


class Estimates:
    """Seconds of training and measuring, from finished units, else from a scored run."""

    def __init__(self, experiment: Experiment, store: Store, results: Results, scored: Path | None):
        found = read_json(scored) if scored is not None else None
        trained = found["training"] if found else {}
        self.stages = {name: [s["audio_seconds"] / s["seconds"]] for name, s in trained.items()}
        self.clips = None
        if found:
            spent = {row["name"]: row["seconds"] for row in found["stages"]}
            self.clips = (spent["synthesize"] + spent["score"]) / found["expected"]
        self.kinds: dict[str, list[float]] = {}
        measured: dict[str, list[float]] = {}
        for unit in experiment.units.values():
            summary = read_json(store.unit(unit) / "summary.json")
            if summary:
                speed = summary["audio_seconds"] / summary["seconds"]
                self.kinds.setdefault(unit.kind, []).append(speed)
                measured.setdefault(unit.stage, []).append(speed)
        self.stages |= measured

    def training(self, unit: StageRun) -> float | None:
        """Seconds from start to end; None where no speed is known."""
        minutes = unit.config.train.max_minutes or math.inf
        speeds = self.kinds.get(unit.kind) or self.stages.get(unit.stage)
        seconds = unit.audio_seconds / mean(speeds) if speeds else math.inf
        seconds = min(60 * minutes, seconds)
        return seconds if math.isfinite(seconds) else None


def experiment_status(experiment: Experiment, store: Store, results: Results,
                      scored: Path | None) -> str:
    """The text of ``e2etts ablate --status``."""
    guess = Estimates(experiment, store, results, scored)
    open_runs = [run for run in experiment.runs if results.of(run) is None]
    needed = {u.name for run in open_runs for u in run.units}
    lines = [f"{'stage of training':34} {'seed':>4}  {'state':28}  systems"]
    left, unknown = 0.0, 0
    for name, unit in experiment.units.items():
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
        users = list(dict.fromkeys(r.system for r in experiment.runs if unit in r.units))
        whose = "all" if len(users) == len(experiment.config.systems) else ", ".join(users)
        lines.append(f"{name:34} {unit.seed:4d}  {state:28}  {whose}")
    lines += ["", f"{'run':34} {'seed':>4}  state"]
    outdated = set(results.outdated(experiment))
    for run in experiment.runs:
        state = "measured" if results.of(run) else "to be measured"
        if run.name in outdated:
            state += ": what is stored is of other settings or data"
        lines.append(f"{run.system:34} {run.seed:4d}  {state}")
    clips = _clips(experiment)
    if guess.clips is not None and clips:
        left += guess.clips * clips * len(open_runs)
    else:
        unknown += len(open_runs)
    done = len(experiment.runs) - len(open_runs)
    lines += ["", f"{done} of {len(experiment.runs)} runs measured; about {clock(left)} left"
              + (f", and {unknown} parts of unknown length" if unknown else "")]
    return "\n".join(lines)


def _clips(experiment: Experiment) -> int:
    """Clips of a run: copy synthesis and text-to-speech of tests, text-to-speech of sentences."""
    recipe, count = experiment.runs[0].recipe, 0
    for times, names in ((2, recipe.corpus.tests), (1, recipe.corpus.sentences)):
        for name in names:
            path = recipe.dump(name) / "text"
            count += times * (len(path.read_text("utf-8").splitlines()) if path.is_file() else 0)
    return count
