"""RESULTS.md, from results.json alone."""

from collections.abc import Callable
from typing import Any

from e2etts.report.formats import ABSENT, NAMES, clock, percent
from e2etts.report.sections import (
    in_tables,
    not_run,
    problems,
    sections,
    set_order,
    systems_of,
)
from e2etts.score.clips import PROMPT_SYSTEM
from e2etts.tables import table


def _wer(cell: dict, _: dict) -> str:
    if cell["wer"] is None:
        return ABSENT
    low, high = (percent(v) for v in cell["wer_ci"])
    return f"{percent(cell['wer'])} [{low}, {high}]"


def _with_interval(name: str, digits: int) -> Callable[[dict, dict], str]:
    def show(cell: dict, more: dict) -> str:
        value, ci = cell[name], more.get(f"{name}_ci")
        if value is None:
            return ABSENT
        tail = f" [{ci[0]:.{digits}f}, {ci[1]:.{digits}f}]" if ci else ""
        return f"{value:.{digits}f}{tail}"
    return show


def _count(cell: dict, more: dict) -> str:
    expected = more.get("expected", cell["n"])
    return f"{cell['n']} of {expected}" if expected != cell["n"] else str(cell["n"])


GROUPS: list[tuple[str, str, Callable[[dict, dict], str]]] = [
    ("Word error rate, %", "Lower is better. In brackets: 95 % bootstrap interval.", _wer),
    ("Character error rate, %", "Lower is better; spaces are not counted.",
     lambda c, _: percent(c["cer"])),
    ("Speaker similarity", "Cosine of a clip's embedding to the mean of its speaker's references "
     "(itself excluded); higher is better.", _with_interval("sim", 3)),
    ("DNSMOS, overall", "Estimated quality, 1 to 5; higher is better.",
     _with_interval("dnsmos", 2)),
    ("Mean duration, seconds", "", lambda _, m: ABSENT if m.get("seconds") is None
     else f"{m['seconds']:.2f}"),
    ("Clips scored", "Where fewer than expected: see the list of problems.", _count)]


def results_markdown(results: dict[str, Any]) -> str:
    """The whole RESULTS.md."""
    details = results.get("details", {})
    lines = ["# Results", "", "Written by `e2etts score` from `results.json`; do not edit.", ""]
    lines += [f"    {results.get('command', 'e2etts score')}", ""]
    recogniser = results.get("recognizer") or {}
    speaker_model = results["models"].get("sim", {}).get("name", "none") if "models" in results \
        else "Resemblyzer"
    trained = [("training", clock(results.get("train_seconds"))),
               ("all stages", clock(results.get("wall_seconds")))] if results.get("training") \
        else []
    facts = [("recogniser", recogniser_name(recogniser)), ("speaker model", speaker_model),
             ("hardware", results.get("hardware")), *trained,
             ("peak memory", f"{results['peak_gib']:.2f} GiB"), ("seed", results.get("seed")),
             ("commit", results.get("commit")),
             ("clips", f"{results.get('scored')} scored of {results.get('expected')} expected")]
    lines += table(["", ""], [[k, str(v)] for k, v in facts])
    names, systems = set_order(results), in_tables(results, systems_of(results))
    for title, note, show in GROUPS:
        rows = [[name, *(_cell(sets, details.get(s, {}), name, show)
                         for s, sets in systems.items())] for name in names]
        rows = [r for r in rows if any(c != ABSENT for c in r[1:])]
        lines += ["", f"## {title}", "", *([note, ""] if note else [])]
        lines += table(["set", *(NAMES.get(s, s) for s in systems)], rows) if rows \
            else ["Not run."]
    lines += _prompted(results, details) + _paired(results)
    for title, notes, head, rows in sections(results):
        lines += ["", f"## {title}", "", *(line for n in notes for line in (n, ""))]
        lines += table(head, rows)
    lines += _listed("Not run", not_run(results))
    lines += _listed("Clips that could not be scored",
                     [f"`{clip}`{why}" for clip, why in problems(results)])
    lines += _stages(results)
    return "\n".join(lines) + "\n"


def _listed(title: str, items: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {item}" for item in items)] if items else []


def recogniser_name(recogniser: dict[str, str]) -> str:
    """Recogniser, version and weights, from ``recognizer`` of results.json."""
    if not recogniser:
        return "none"
    weights = recogniser.get("model_sha256")
    return ", ".join(p for p in (recogniser["name"], recogniser.get("version"),
                                 f"weights {weights[:12]}" if weights else "") if p)


def _cell(cells: dict, details: dict, name: str, show: Callable[[dict, dict], str]) -> str:
    return show(cells[name], details.get(name, {})) if name in cells else ABSENT


def _prompted(results: dict, details: dict) -> list[str]:
    found = in_tables(results, {PROMPT_SYSTEM: results.get("voice_prompt", {})})
    cells, more = found.get(PROMPT_SYSTEM, {}), details.get(PROMPT_SYSTEM, {})
    if not cells:
        return []
    rows = []
    for name in (n for n in set_order(results) if n in cells):
        c, m = cells[name], more.get(name, {})
        to_prompt = m.get("sim_to_prompt")
        rows.append([name, _wer(c, m), percent(c["cer"]), _with_interval("sim", 3)(c, {}),
                     ABSENT if to_prompt is None else f"{to_prompt:.3f}",
                     _with_interval("dnsmos", 2)(c, {}), _count(c, m)])
    return ["", "## Text-to-speech by voice prompt", "",
            *table(["set", "WER, %", "CER, %", "similarity", "to the prompt", "DNSMOS", "clips"],
                    rows)]


def _paired(results: dict) -> list[str]:
    rows = [[name, pair, f"{100 * d['difference']:+.1f} [{100 * d['ci'][0]:+.1f}, "
             f"{100 * d['ci'][1]:+.1f}]", str(d["n"])]
            for name, pairs in results.get("paired", {}).items() for pair, d in pairs.items()]
    return ["", "## WER differences on the same clips, points", "",
            *table(["set", "systems", "difference", "clips"], rows)] if rows else []


def _stages(results: dict) -> list[str]:
    training = results.get("training", {})
    rows = []
    for r in results.get("stages", []):
        t = training.get(r.get("name"), {})
        rows.append([f"{r.get('stage', '')} {r.get('name', '')}", clock(r["seconds"]),
                     clock(t["seconds"]) if "seconds" in t else ABSENT,
                     str(t.get("steps", ABSENT)),
                     f"{t['peak_gib']:.2f}" if t.get("peak_gib") is not None else ABSENT])
    return ["", "## Time of each stage", "",
            *table(["stage", "wall", "training", "steps", "peak GiB"], rows)] if rows else []
