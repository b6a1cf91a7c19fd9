"""What is measured of each run, in ``ablation.json``: one line a run, written as it comes."""

import json
from pathlib import Path
from typing import Any

from e2etts.ablation.plan import Plan, Run, chain
from e2etts.errors import UserError
from e2etts.files import read_json, write_text

FORMAT = 1
KINDS = ("copy", "tts")


class Results:
    """``ablation.json``: records of runs by name, of recordings by set, and who judged."""

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

    def of(self, run: Run) -> dict[str, Any] | None:
        """The record of a run as it is configured now."""
        record = self.runs.get(run.name)
        return record if record is not None and record["key"] == run.key else None

    def outdated(self, plan: Plan) -> list[str]:
        """Names of runs that were measured with other settings or data."""
        return [r.name for r in plan.runs if r.name in self.runs and self.of(r) is None]

    def same_judge(self, facts: dict[str, Any]) -> bool:
        """Whether what was measured before was heard by the same recogniser as these facts."""
        before, now = (f.get("recognizer") or {} for f in (self.facts, facts))
        return not self.runs or all(before.get(k) == now.get(k) for k in ("name", "model_sha256"))

    def add(self, run: Run, record: dict[str, Any], facts: dict[str, Any]) -> None:
        """Store a record and write the file."""
        self.runs[run.name] = record
        self.facts.update(facts)
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(self.runs[name])}"
                           for name in sorted(self.runs))
        write_text(self.path, f'{{"format": {FORMAT},\n "facts": {json.dumps(self.facts)},\n'
                              f' "runs": {{\n{lines}\n }}}}\n')


def read_record(run: Run, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(record, facts) of a run whose ``folder`` has been trained, spoken, probed and scored."""
    results = read_json(folder / "results.json")
    probe = read_json(folder / run.speaks / "probe.json")
    scores = _columns(folder / "scores.jsonl")
    summaries = {u.stage: read_json(folder / u.stage / "summary.json")
                 for u in run.units}
    units = [{"stage": u.stage, "key": u.key, **{k: summaries[u.stage][k] for k in (
        "seconds", "audio_seconds", "steps", "skipped_steps")}, "events": [
            *("recovered: " + r["reason"] for r in summaries[u.stage]["recoveries"]),
            *("warned: " + w["message"] for w in summaries[u.stage]["warnings"])]}
        for u in run.units]
    record = {
        "key": run.key, "system": run.system, "seed": run.seed, "commit": results["commit"],
        "hardware": results["hardware"],
        "train_seconds": round(sum(summaries[s]["seconds"] for s in chain(
            run.recipe, run.speaks)), 1),
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
