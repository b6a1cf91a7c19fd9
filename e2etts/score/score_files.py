"""Reads the files that ``e2etts score`` writes: results.json and scores.jsonl."""

import json
from pathlib import Path
from typing import Any

from e2etts.errors import UserError
from e2etts.files import read_json

Row = dict[str, Any]
Scores = dict[tuple[str, str, str], Row]  # (system, set, utterance) -> a line of scores.jsonl


def read_results(exp: Path) -> dict[str, Any]:
    """results.json of an experiment. Raises UserError when it is absent or damaged."""
    results = read_json(exp / "results.json")
    if not isinstance(results, dict) or "systems" not in results:
        raise UserError(f"{exp / 'results.json'}: absent or not a result: run e2etts score first")
    return results


def read_scores(path: Path) -> Scores:
    """Rows of a score file: JSON objects, one per line, as ``e2etts score`` writes them; a row need
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
            raise UserError(f"{path}:{number}: not a score: expected a JSON object with 'utt'"
                            ) from e
        if key in scores:
            raise UserError(f"{path}:{number}: '{key[2]}' occurs twice: remove one of the lines")
        scores[key] = row
    return scores
