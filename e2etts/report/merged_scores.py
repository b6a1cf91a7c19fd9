"""Results and scores of several experiments or scored folders, merged for one page."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2etts.report.formats import NAMES
from e2etts.report.sections import cells_of
from e2etts.score.score_files import Scores, read_results, read_scores


def merged_scores(exps: Sequence[Path]) -> tuple[dict[str, Any], Scores]:
    """Results and scores of all experiments as if they were one; ``wav`` of a row is a path.

    Where two systems have one name on the same set, their names get the folder's. Training and the
    RM alone are of no system and stay on the page of each experiment. Raises UserError for a folder
    without scores.
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
        "style": {"systems": {}}, "unseen_voices": {"sets": {}, "zero_shot": []}, "units": {},
        "models": {}, "not_run": [], "problems": [], "failures": [], "scored": 0, "expected": 0}
    every: Scores = {}
    trained = set()  # numbers of training voices
    for exp, (results, scores) in read.items():
        style = results.get("style", {"systems": {}})
        for target, of in ((out["other_systems"], cells_of(results)),
                           (out["details"], results.get("details", {})),
                           (out["style"]["systems"], style["systems"])):
            for system, sets in of.items():
                target.setdefault(called(system, exp), {}).update(sets)
        unseen = results.get("unseen_voices", {"sets": {}})
        for name, systems in unseen["sets"].items():
            whole = out["unseen_voices"]["sets"].setdefault(name, {})
            whole |= {called(system, exp): of for system, of in systems.items()}
        out["unseen_voices"]["zero_shot"] += unseen.get("zero_shot", [])
        trained |= {str(unseen["training_voices"])} if unseen["sets"] else set()
        out["style"] |= {k: v for k, v in style.items() if k != "systems"}
        every |= {(called(system, exp), *rest): row for (system, *rest), row in scores.items()}
        out["units"] |= results.get("units", {})
        out["models"] |= {f"{k} ({exp})": m for k, m in results.get("models", {}).items()}
        for part, key in (("not_run", "metric"), ("problems", "clip"), ("failures", "clip")):
            out[part] += [{**row, key: f"{exp}: {row[key]}"} for row in results.get(part, [])]
        for part in ("scored", "expected"):
            out[part] += results[part]
    out["unseen_voices"]["training_voices"] = " or ".join(sorted(trained))
    recognisers = sorted({r["recognizer"]["name"] for r, _ in read.values() if r.get("recognizer")})
    differ = "different ones, whose error rates do not compare: " if len(recognisers) > 1 else ""
    out["recognizer"] = {"name": differ + ("; ".join(recognisers) or "none")}
    return out, every
