"""What results.json says, as titled tables that RESULTS.md and the report page share."""

from collections.abc import Callable
from typing import Any, NamedTuple

from e2etts.score.clips import PROMPT_SYSTEM, SYSTEMS

NAMES = {"recording": "recording", "copy": "copy synthesis", "tts": "text-to-speech",
         PROMPT_SYSTEM: "voice prompt"}
ABSENT = "–"


class Section(NamedTuple):
    """notes: sentences before the table; the first column of rows names them."""

    title: str
    notes: list[str]
    head: list[str]
    rows: list[list[str]]


def percent(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.1f}"


def fixed(digits: int) -> Callable[[float | None], str]:
    """Shows a number with so many decimals."""
    return lambda value: ABSENT if value is None else f"{value:.{digits}f}"


# What every set has a figure of: title, field of results.json, how it is shown.
COLUMNS = (("WER, %", "wer", percent), ("CER, %", "cer", percent),
           ("similarity", "sim", fixed(3)), ("DNSMOS", "dnsmos", fixed(2)))


def figure(value: Any) -> str:
    """A number, or an interval, as it stands in a table."""
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return f"[{', '.join(map(figure, value))}]"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def systems_of(results: dict[str, Any]) -> dict[str, dict]:
    """System -> set -> figures, of every system that has any: a recipe's own first."""
    every = {**results["systems"], **results.get("other_systems", {})}
    return {name: sets for name, sets in every.items() if sets}


def cells_of(results: dict[str, Any]) -> dict[str, dict]:
    """The same, speech by voice prompt among them."""
    every = {**results["systems"], PROMPT_SYSTEM: results.get("voice_prompt", {}),
             **results.get("other_systems", {})}
    return {name: sets for name, sets in every.items() if sets}


def set_order(results: dict[str, Any]) -> list[str]:
    """Sets of all systems: tests before sentences, English first."""
    names = {name for sets in cells_of(results).values() for name in sets}
    return sorted(names, key=lambda n: (n.startswith("sentences"), not n.endswith("_en"), n))


def sections(results: dict[str, Any]) -> list[Section]:
    """Metrics beyond the numbers of every set, style control, and the RM alone, where measured."""
    return [s for s in (*_further(results), _styles(results), _rm(results.get("rm", {})))
            if s.rows]


def further_rows(results: dict) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    """Metric -> (set, system, figures) of metrics beyond the six numbers of every set."""
    found: dict[str, list] = {}
    for system, sets in results.get("details", {}).items():
        for name, more in sets.items():
            for metric, figures in more.get("metrics", {}).items():
                found.setdefault(metric, []).append((name, system, figures))
    return found


def _further(results: dict) -> list[Section]:
    out = []
    for metric, rows in further_rows(results).items():
        names = [k for k in rows[0][2] if k not in ("scored", "expected")]
        models = [m for k, m in results.get("models", {}).items() if k.split()[0] == metric]
        used = [f"{m['name']} ({m['source']})" for m in models if "source" in m]
        notes = [results.get("units", {}).get(metric, ""),
                 f"By {', '.join(dict.fromkeys(used))}." if used else "",
                 *dict.fromkeys(f"NOT THE PROTOCOL: {d}." for m in models
                                for d in m.get("deviations", []))]
        out.append(Section(
            metric, [n for n in notes if n], ["set", "system", *names, "scored of expected"],
            [[name, NAMES.get(system, system), *(figure(f.get(k)) for k in names),
              f"{f['scored']} of {f['expected']}"] for name, system, f in rows]))
    return out


def _share(value: float, ci: list[float]) -> str:
    return f"{percent(value)} [{percent(ci[0])}, {percent(ci[1])}]"


def _styles(results: dict) -> Section:
    """Accuracy by set, then by style over all sets."""
    told = results.get("style", {"systems": {}})
    systems = told["systems"]
    shown = [s for s in dict.fromkeys((*SYSTEMS, PROMPT_SYSTEM, *systems)) if s in systems]
    rows = []
    for name in sorted({n for s in shown for n in systems[s]}):
        cells = [systems[s].get(name) for s in shown]
        rows.append([name, *(ABSENT if c is None else
                             f"{_share(c['accuracy'], c['ci'])} of {c['n']}" for c in cells)])
    every = {s: [c["heard_as"] for c in systems[s].values()] for s in shown}
    for style in sorted({k for found in every.values() for heard in found for k in heard}):
        cells = []
        for s in shown:
            counts = [heard[style] for heard in every[s] if style in heard]
            n = sum(sum(c.values()) for c in counts)
            cells.append(f"{sum(c.get(style, 0) for c in counts)} of {n}" if n else ABSENT)
        rows.append([style, *cells])
    note = ("Share of clips that a classifier hears in the style they were asked for, %. It is "
            f"trained on {told.get('training_recordings')} labelled recordings of the train set; "
            "the column of held-out recordings says how well it can tell.")
    return Section("Style control", [note], ["set or style", *(NAMES.get(s, s) for s in shown)],
                   rows)


def _rm(rm: dict) -> Section:
    """What the RM alone recognises, by condition and set, and how it tells speakers apart."""
    note = (f"What the RM of stage {rm.get('system')} recognises in the tokens of recordings: word "
            "error rate of its CTC and of its attention decoder (greedy, against the text as the "
            "text front end has it), accuracy of emotion and speaker of a known label, %.")
    rows, notes = [], [note]
    for condition, found in rm.get("conditions", {}).items():
        for name, c in found["sets"].items():
            cells = [ABSENT if r not in c else _share(c[r]["wer"], c[r]["wer_ci"])
                     for r in ("ctc", "attention")]
            cells += [ABSENT if t not in c else
                      f"{_share(c[t]['accuracy'], c[t]['accuracy_ci'])} of {c[t]['labelled']}"
                      for t in ("emotion", "speaker")]
            rows.append([f"{name}, {condition}", *cells, str(c["n"])])
        if (v := found["speaker"]) is not None:
            notes.append(f"Speaker verification, {condition}: equal error rate "
                         f"{_share(v['eer'], v['eer_ci'])} % ({v['same']} pairs of one speaker, "
                         f"{v['different']} of two, from {v['utterances']} clips of "
                         f"{v['speakers']} speakers).")
    return Section("Reward model alone", notes,
                   ["set", "WER, CTC", "WER, attention", "emotion", "speaker", "clips"], rows)


def not_run(results: dict) -> list[str]:
    """Metrics that did not run: why, and how to get what they lack."""
    return [r["metric"] + (f" of {', '.join(r['sets'])}" if r["sets"] != "all" else "")
            + f": {r['reason']}; {r['remedy']}" for r in results.get("not_run", [])]


def problems(results: dict) -> list[tuple[str, str]]:
    """(clip, what could not be measured of it and why)."""
    return [*((p["clip"], f" ({p['where']}): {p['problem']}")
              for p in results.get("problems", [])),
            *((p["clip"], f": no {p['metric']}: {p['problem']}")
              for p in results.get("failures", []))]
