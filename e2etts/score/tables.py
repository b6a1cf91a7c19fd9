"""RESULTS.md, from results.json and nothing else."""

from collections.abc import Callable
from typing import Any

from e2etts.score.clips import SYSTEMS

NAMES = {"recording": "recording", "copy": "copy synthesis", "tts": "text-to-speech",
         "tts_prompt": "voice prompt"}
ABSENT = "–"


def percent(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.1f}"


def clock(seconds: float | None) -> str:
    """"12 min 05 s", or "45.2 s" below a minute."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def systems_of(results: dict[str, Any]) -> dict[str, dict]:
    """System -> set -> figures, of every system that has any: a recipe's own first."""
    every = {**results["systems"], **results.get("other_systems", {})}
    return {name: sets for name, sets in every.items() if sets}


def set_order(results: dict[str, Any]) -> list[str]:
    """Sets of all systems: tests before sentences, English first."""
    names = {n for sets in (*systems_of(results).values(), results.get("voice_prompt", {}))
             for n in sets}
    return sorted(names, key=lambda n: (n.startswith("sentences"), not n.endswith("_en"), n))


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = [":--"] + ["--:"] * (len(head) - 1)
    return [f"| {' | '.join(str(c).replace('|', '&#124;') for c in row)} |"
            for row in (head, rule, *rows)]


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
    ("Speaker similarity", "Cosine of a clip's voice to the mean of its speaker's references "
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
    listener = results.get("recognizer") or {}
    voice = results["models"].get("sim", {}).get("name", "none") if "models" in results \
        else "Resemblyzer"
    trained = [("training", clock(results.get("train_seconds"))),
               ("all stages", clock(results.get("wall_seconds")))] if results.get("training") \
        else []
    facts = [("recogniser", listener_name(listener)), ("speaker model", voice),
             ("hardware", results.get("hardware")), *trained,
             ("peak memory", f"{results['peak_gib']:.2f} GiB"), ("seed", results.get("seed")),
             ("commit", results.get("commit")),
             ("clips", f"{results.get('scored')} scored of {results.get('expected')} expected")]
    lines += _table(["", ""], [[k, str(v)] for k, v in facts])
    names, systems = set_order(results), systems_of(results)
    for title, note, show in GROUPS:
        rows = [[name, *(_cell(sets, details.get(s, {}), name, show)
                         for s, sets in systems.items())] for name in names]
        rows = [r for r in rows if any(c != ABSENT for c in r[1:])]
        lines += ["", f"## {title}", "", *([note, ""] if note else [])]
        lines += _table(["set", *(NAMES.get(s, s) for s in systems)], rows) if rows \
            else ["Not run."]
    lines += _prompted(results, details) + _further(results) + _paired(results)
    lines += _styles(results) + _rm(results) + _not_run(results)
    lines += _problems(results) + _stages(results)
    return "\n".join(lines) + "\n"


def listener_name(listener: dict[str, str]) -> str:
    """Recogniser, version and weights, from ``recognizer`` of results.json."""
    if not listener:
        return "none"
    weights = listener.get("model_sha256")
    return ", ".join(p for p in (listener["name"], listener.get("version"),
                                 f"weights {weights[:12]}" if weights else "") if p)


def _cell(cells: dict, details: dict, name: str, show: Callable[[dict, dict], str]) -> str:
    return show(cells[name], details.get(name, {})) if name in cells else ABSENT


def _prompted(results: dict, details: dict) -> list[str]:
    cells, more = results.get("voice_prompt", {}), details.get("tts_prompt", {})
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
            *_table(["set", "WER, %", "CER, %", "similarity", "to the prompt", "DNSMOS", "clips"],
                    rows)]


def further_rows(results: dict) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    """Metric -> (set, system, figures) of metrics beyond the six numbers of every set."""
    found: dict[str, list] = {}
    for system, sets in results.get("details", {}).items():
        for name, more in sets.items():
            for metric, figures in more.get("metrics", {}).items():
                found.setdefault(metric, []).append((name, system, figures))
    return found


def figure(value: Any) -> str:
    """A number, or an interval, as it stands in a table."""
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return f"[{', '.join(map(figure, value))}]"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _further(results: dict) -> list[str]:
    lines = []
    for metric, rows in further_rows(results).items():
        names = [k for k in rows[0][2] if k not in ("scored", "expected")]
        lines += ["", f"## {metric}", "", results.get("units", {}).get(metric, ""), ""]
        model = results.get("models", {})
        used = [f"{m['name']} ({m['source']})" for k, m in model.items()
                if k.split()[0] == metric and "source" in m]
        lines += [f"By {', '.join(used)}.", ""] if used else []
        lines += [line for k, m in model.items() if k.split()[0] == metric
                  for d in m.get("deviations", []) for line in (f"**Not the protocol**: {d}.", "")]
        lines += _table(["set", "system", *names, "scored of expected"], [
            [name, NAMES.get(system, system), *(figure(f.get(k)) for k in names),
             f"{f['scored']} of {f['expected']}"] for name, system, f in rows])
    return lines


def _paired(results: dict) -> list[str]:
    rows = [[name, pair, f"{100 * d['difference']:+.1f} [{100 * d['ci'][0]:+.1f}, "
             f"{100 * d['ci'][1]:+.1f}]", str(d["n"])]
            for name, pairs in results.get("paired", {}).items() for pair, d in pairs.items()]
    return ["", "## WER differences on the same clips, points", "",
            *_table(["set", "systems", "difference", "clips"], rows)] if rows else []


STYLE_NOTE = ("Share of clips that a classifier hears in the style they were asked for, %. It is "
              "trained on {} labelled recordings of the train set; the column of held-out "
              "recordings says how well it can tell.")


def style_table(results: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows: accuracy by set, then by style over all sets; no rows without styles."""
    systems = results.get("style", {}).get("systems", {})
    shown = [s for s in (*SYSTEMS, "tts_prompt") if s in systems]
    rows = []
    for name in sorted({n for s in shown for n in systems[s]}):
        cells = [systems[s].get(name) for s in shown]
        rows.append([name, *(ABSENT if c is None else f"{percent(c['accuracy'])} "
                             f"[{percent(c['ci'][0])}, {percent(c['ci'][1])}] of {c['n']}"
                             for c in cells)])
    every = {s: [c["heard_as"] for c in systems[s].values()] for s in shown}
    for style in sorted({k for found in every.values() for heard in found for k in heard}):
        cells = []
        for s in shown:
            counts = [heard[style] for heard in every[s] if style in heard]
            n = sum(sum(c.values()) for c in counts)
            cells.append(f"{sum(c.get(style, 0) for c in counts)} of {n}" if n else ABSENT)
        rows.append([style, *cells])
    return ["set or style", *(NAMES[s] for s in shown)], rows


def _styles(results: dict) -> list[str]:
    head, rows = style_table(results)
    if not rows:
        return []
    note = STYLE_NOTE.format(results["style"]["training_recordings"])
    return ["", "## Style control", "", note, "", *_table(head, rows)]


RM_NOTE = ("What the RM of stage {} recognises in the tokens of recordings: word error rate of its "
           "CTC and of its attention decoder (greedy, against the text as the text front end has "
           "it), accuracy of emotion and speaker of a known label, %.")


def rm_table(rm: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the RM alone, by condition and set."""
    rows = []
    for condition, found in rm.get("conditions", {}).items():
        for name, c in found["sets"].items():
            cells = [ABSENT if r not in c else _share(c[r]["wer"], c[r]["wer_ci"])
                     for r in ("ctc", "attention")]
            cells += [ABSENT if t not in c else
                      f"{_share(c[t]['accuracy'], c[t]['accuracy_ci'])} of {c[t]['labelled']}"
                      for t in ("emotion", "speaker")]
            rows.append([f"{name}, {condition}", *cells, str(c["n"])])
    return ["set", "WER, CTC", "WER, attention", "emotion", "speaker", "clips"], rows


def _share(value: float, ci: list[float]) -> str:
    return f"{percent(value)} [{percent(ci[0])}, {percent(ci[1])}]"


def rm_verification(rm: dict) -> list[str]:
    """One line a condition: the equal error rate of the RM's speaker vectors."""
    return [f"Speaker verification, {condition}: equal error rate {_share(v['eer'], v['eer_ci'])} "
            f"% ({v['same']} pairs of one speaker, {v['different']} of two, from "
            f"{v['utterances']} clips of {v['speakers']} speakers)."
            for condition, found in rm.get("conditions", {}).items()
            if (v := found["speaker"]) is not None]


def _rm(results: dict) -> list[str]:
    rm = results.get("rm", {})
    head, rows = rm_table(rm)
    if not rows:
        return []
    return ["", "## Reward model alone", "", RM_NOTE.format(rm["system"]), "", *_table(head, rows),
            *(f"\n{line}" for line in rm_verification(rm))]


def _not_run(results: dict) -> list[str]:
    out = [f"- {r['metric']}" + (f" of {', '.join(r['sets'])}" if r["sets"] != "all" else "")
           + f": {r['reason']}; {r['remedy']}" for r in results.get("not_run", [])]
    return ["", "## Not run", "", *out] if out else []


def _problems(results: dict) -> list[str]:
    out = [f"- `{p['clip']}` ({p['where']}): {p['problem']}" for p in results.get("problems", [])]
    out += [f"- `{p['clip']}`: no {p['metric']}: {p['problem']}"
            for p in results.get("failures", [])]
    return ["", "## Clips that could not be scored", "", *out] if out else []


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
            *_table(["stage", "wall", "training", "steps", "peak GiB"], rows)] if rows else []
