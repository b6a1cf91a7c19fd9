"""Titled tables from results.json, shared by RESULTS.md and the report page."""

from collections.abc import Callable
from typing import Any, NamedTuple

from e2etts.report.formats import ABSENT, NAMES, figure, fixed, percent
from e2etts.score.clips import PROMPT_SYSTEM, SYSTEMS


class Section(NamedTuple):
    """notes: sentences before the table; the first column names the rows."""

    title: str
    notes: list[str]
    head: list[str]
    rows: list[list[str]]


# Figures of every set: title, field of results.json, format.
COLUMNS = (("WER, %", "wer", percent), ("CER, %", "cer", percent),
           ("similarity", "sim", fixed(3)), ("DNSMOS", "dnsmos", fixed(2)))


def systems_of(results: dict[str, Any]) -> dict[str, dict]:
    """System -> set -> figures, of every system that has any: a recipe's own first."""
    every = {**results["systems"], **results.get("other_systems", {})}
    return {name: sets for name, sets in every.items() if sets}


def cells_of(results: dict[str, Any]) -> dict[str, dict]:
    """The same, with speech by voice prompt."""
    every = {**results["systems"], PROMPT_SYSTEM: results.get("voice_prompt", {}),
             **results.get("other_systems", {})}
    return {name: sets for name, sets in every.items() if sets}


def in_tables(results: dict[str, Any], cells: dict[str, dict]) -> dict[str, dict]:
    """``cells`` (system -> set -> figures) without zero-shot sets, which have a table of their
    own."""
    apart = results.get("unseen_voices", {}).get("zero_shot", ())
    kept = {system: {name: cell for name, cell in sets.items() if name not in apart}
            for system, sets in cells.items()}
    return {system: sets for system, sets in kept.items() if sets}


def set_order(results: dict[str, Any]) -> list[str]:
    """Sets of all systems: tests before sentences, English first."""
    names = {name for sets in cells_of(results).values() for name in sets}
    return sorted(names, key=lambda n: (n.startswith("sentences"), not n.endswith("_en"), n))


def sections(results: dict[str, Any]) -> list[Section]:
    """Voices without training data, metrics beyond the numbers of every set, style control, the RM
    alone, and which losses shape the tokens, where measured."""
    return [s for s in (_unseen(results.get("unseen_voices", {})), *_further(results),
                        _styles(results), _rm(results.get("rm", {})),
                        _q_shares(results.get("training", {}))) if s.rows]


def _q_shares(training: dict[str, dict]) -> Section:
    shares = {stage: s["q_shares"] for stage, s in training.items() if s.get("q_shares")}
    losses = list(dict.fromkeys(name for found in shares.values() for name in found))
    return Section("What shapes the tokens", [
        "Share of each loss, in %, in the sum over the stage's steps of learning rate times norm "
        "of the gradient at q; of stage joint, at the LM's samples of q."],
        ["stage", *losses], [[stage, *(percent(found.get(name)) for name in losses)]
                             for stage, found in shares.items()])


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


def _unseen(unseen: dict) -> Section:
    """Speech in voices without training data: by set, voice and system."""
    rows = []
    for name, systems in unseen.get("sets", {}).items():
        for voice in dict.fromkeys(v for of in systems.values() for v in of):
            title = name if voice == "all" else f"{name}, {voice}"
            rows += [[title, NAMES.get(system, system), *_unseen_cells(of[voice])]
                     for system, of in systems.items() if voice in of]
    notes = [
        "Zero-shot: training has no recordings of these voices. Voice prompt: LM and FM continue "
        "one recording of the voice; speaker embedding: they get its embedding alone (the LM that "
        "of synthesis.lm_speakers, where set). Similarity to the voice: cosine to the mean of its "
        "other recordings, neither the prompt nor of the same text.",
        "Nearest training voice: the highest cosine of a clip to the mean of a training voice (of "
        f"{unseen.get('training_voices')}). Own voice nearer: share of clips that are more similar "
        "to their own voice than to every training voice. Intervals are over clips."]
    return Section("Voices without training data", notes, [
        "set, voice", "system", "WER, %", "CER, %", "similarity to the voice", "to the prompt",
        "to the nearest training voice", "own voice nearer, %", "nearest training voices",
        "DNSMOS", "clips"], rows)


def _unseen_cells(cell: dict) -> list[str]:
    def value(key: str, show: Callable[[float | None], str]) -> str:
        ci = cell.get(f"{key}_ci")
        return show(cell.get(key)) + (f" [{show(ci[0])}, {show(ci[1])}]" if ci else "")

    names = ", ".join(f"{name} {n}" for name, n in cell.get("names", {}).items())
    n, expected = cell["n"], cell["expected"]
    return [value("wer", percent), value("cer", percent), value("sim", fixed(3)),
            value("sim_to_prompt", fixed(3)), value("nearest", fixed(3)),
            value("own_nearer", percent), names or ABSENT, value("dnsmos", fixed(2)),
            str(n) if n == expected else f"{n} of {expected}"]


def _share(value: float, ci: list[float]) -> str:
    return f"{percent(value)} [{percent(ci[0])}, {percent(ci[1])}]"


def _styles(results: dict) -> Section:
    """Accuracy by set, then by style over all sets."""
    style = results.get("style", {"systems": {}})
    systems = style["systems"]
    shown = [s for s in dict.fromkeys((*SYSTEMS, PROMPT_SYSTEM, *systems)) if s in systems]
    rows = []
    for name in sorted({n for s in shown for n in systems[s]}):
        cells = [systems[s].get(name) for s in shown]
        rows.append([name, *(ABSENT if c is None else
                             f"{_share(c['accuracy'], c['ci'])} of {c['n']}" for c in cells)])
    tables = {s: [c["heard_as"] for c in systems[s].values()] for s in shown}
    for label in sorted({k for some in tables.values() for table in some for k in table}):
        cells = []
        for s in shown:
            counts = [table[label] for table in tables[s] if label in table]
            n = sum(sum(c.values()) for c in counts)
            cells.append(f"{sum(c.get(label, 0) for c in counts)} of {n}" if n else ABSENT)
        rows.append([label, *cells])
    note = ("Share of clips classified as the requested style, %. The classifier is trained on "
            f"{style.get('training_recordings')} labelled recordings of the train set; the column "
            "of held-out recordings shows its own accuracy.")
    return Section("Style control", [note], ["set or style", *(NAMES.get(s, s) for s in shown)],
                   rows)


def _rm(rm: dict) -> Section:
    """Recognition by the RM alone, by condition and set, and speaker verification."""
    note = (f"Recognition by the RM of stage {rm.get('system')} from the tokens of recordings: "
            "word error rate of its CTC and of its attention decoder (greedy, against the output "
            "of the text front end), accuracy of emotion and speaker where labelled, %.")
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


def summary_lines(results: dict[str, Any]) -> list[str]:
    """The figures of each system and set, a line each, for a terminal."""
    out = []
    for system, sets in systems_of(results).items():
        for name, cell in sets.items():
            shown = [f"{title}: {show(cell[key])}" for title, key, show in COLUMNS
                     if cell[key] is not None]
            if shown:
                expected = results["details"][system][name]["expected"]
                out.append(f"{system} {name}: {'; '.join(shown)} ({cell['n']} scored of {expected} "
                           "expected)")
    for metric, rows in further_rows(results).items():
        for name, system, figures in rows:
            shown = " ".join(f"{k} {figure(v)}" for k, v in figures.items()
                             if k not in ("scored", "expected"))
            out.append(f"{system} {name}: {metric}: {shown} ({figures['scored']} scored of "
                       f"{figures['expected']} expected)")
    return out


def not_run(results: dict) -> list[str]:
    """Metrics that did not run, with reason and remedy."""
    return [r["metric"] + (f" of {', '.join(r['sets'])}" if r["sets"] != "all" else "")
            + f": {r['reason']}; {r['remedy']}" for r in results.get("not_run", [])]


def problems(results: dict) -> list[tuple[str, str]]:
    """(clip, the metric that failed on it and why)."""
    return [*((p["clip"], f" ({p['where']}): {p['problem']}")
              for p in results.get("problems", [])),
            *((p["clip"], f": no {p['metric']}: {p['problem']}")
              for p in results.get("failures", []))]
