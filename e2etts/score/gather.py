"""Scores read back, of one experiment or of any set of scored folders."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2etts.errors import UserError
from e2etts.files import read_json
from e2etts.score.sections import NAMES, cells_of

Row = dict[str, Any]
Scores = dict[tuple[str, str, str], Row]  # (system, set, utterance) -> a line of scores.jsonl


def read_results(exp: Path) -> dict[str, Any]:
    """results.json of an experiment. Raises UserError when it is absent or damaged."""
    results = read_json(exp / "results.json")
    if not isinstance(results, dict) or "systems" not in results:
        raise UserError(f"{exp / 'results.json'}: absent or not a result: run e2etts score first")
    return results


def read_scores(path: Path) -> Scores:
    """Rows of a score file: JSON objects, one a line, as ``e2etts score`` writes them; a row need
    not name its system or set. A folder means its scores.jsonl.

    Raises UserError naming file:line for what is not a score, and for one that occurs twice.
    """
    path = path / "scores.jsonl" if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise UserError(f"{path}: cannot read ({e.strerror}): run e2etts score first") from e
    scores: Scores = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            key = (str(row.get("system", "")), str(row.get("set", "")), str(row["utt"]))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f"{path}:{number}: not a score: want a JSON object with 'utt'") from e
        if key in scores:
            raise UserError(f"{path}:{number}: '{key[2]}' occurs twice: remove one of the lines")
        scores[key] = row
    return scores


def gather(exps: Sequence[Path]) -> tuple[dict[str, Any], Scores]:
    """Results and scores of all experiments as if they were one; ``wav`` of a row is a path.

    A system whose name is that of another on the same set is called after its folder too. What is
    no system's, such as training and the RM alone, is left to the page of each experiment. Raises
    UserError for a folder without scores.
    """
    read = {exp: (read_results(exp), read_scores(exp)) for exp in exps}
    for exp, (_, scores) in read.items():
        for row in scores.values():
            row["wav"] = exp / row["wav"] if row.get("wav") else None
    return read[exps[0]] if len(read) == 1 else _merged(read)


def _merged(read: dict[Path, tuple[dict[str, Any], Scores]]) -> tuple[dict[str, Any], Scores]:
    times = Counter((system, name) for results, _ in read.values()
                    for system, sets in cells_of(results).items() for name in sets)
    twice = {system for (system, _), n in times.items() if n > 1}

    def called(system: str, exp: Path) -> str:
        return f"{NAMES.get(system, system)} ({exp})" if system in twice else system

    out: dict[str, Any] = {
        "tag": ", ".join(map(str, read)), "systems": {}, "other_systems": {}, "details": {},
        "style": {"systems": {}}, "units": {}, "models": {}, "not_run": [], "problems": [],
        "failures": [], "scored": 0, "expected": 0}
    every: Scores = {}
    for exp, (results, scores) in read.items():
        style = results.get("style", {"systems": {}})
        for target, of in ((out["other_systems"], cells_of(results)),
                           (out["details"], results.get("details", {})),
                           (out["style"]["systems"], style["systems"])):
            for system, sets in of.items():
                target.setdefault(called(system, exp), {}).update(sets)
        out["style"] |= {k: v for k, v in style.items() if k != "systems"}
        every |= {(called(system, exp), *rest): row for (system, *rest), row in scores.items()}
        out["units"] |= results.get("units", {})
        out["models"] |= {f"{k} ({exp})": m for k, m in results.get("models", {}).items()}
        for part, key in (("not_run", "metric"), ("problems", "clip"), ("failures", "clip")):
            out[part] += [{**row, key: f"{exp}: {row[key]}"} for row in results.get(part, [])]
        for part in ("scored", "expected"):
            out[part] += results[part]
    heard = sorted({r["recognizer"]["name"] for r, _ in read.values() if r.get("recognizer")})
    differ = "different ones, whose error rates do not compare: " if len(heard) > 1 else ""
    out["recognizer"] = {"name": differ + ("; ".join(heard) or "none")}
    return out, every
