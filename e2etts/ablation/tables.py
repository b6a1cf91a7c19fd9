"""ABLATION.md: the tables of an experiment, from its plan and its records and nothing else."""

from collections.abc import Callable
from pathlib import Path

from e2etts.ablation.cells import (
    METRICS,
    RECOGNITION,
    Record,
    Take,
    cell,
    difference,
    recognised,
    records,
    spoken,
    token_cell,
    token_difference,
)
from e2etts.ablation.plan import Plan, exposure
from e2etts.ablation.record import Results
from e2etts.nets.system import PARTS
from e2etts.score.compare import Estimate
from e2etts.score.tables import ABSENT, clock

Show = Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _fixed(digits: int) -> Show:
    return lambda value: f"{value:.{digits}f}"


# Metric -> heading, and how a value is written.
SHOWN: dict[str, tuple[str, Show]] = {
    "wer": ("WER, %", _percent), "cer": ("CER, %", _percent), "sim": ("similarity", _fixed(3)),
    "dnsmos": ("DNSMOS", _fixed(2))}
HEADS = {"labels": "label error rate, %", "speaker": "speaker accuracy, %"}


def written(e: Estimate | None, show: Show, sign: bool = False) -> str:
    """"12.3 [10.1, 14.5]"; with ``sign``, as a difference and with its p-value."""
    if e is None:
        return ABSENT
    mark = (lambda v: ("+" if v >= 0 else "") + show(v)) if sign else show
    out = mark(e.value)
    if e.low is not None:
        # What is a rate or a score is never below zero, whatever its interval.
        low = e.low if sign else max(0.0, e.low)
        out += f" [{mark(low)}, {mark(e.high)}]"
    if sign and e.p is not None:
        out += f", p {'< 0.001' if e.p < 0.001 else f'= {e.p:.3f}'}"
    return out


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    rule = [":--"] + ["--:"] * (len(head) - 1)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *rows)]


def markdown(plan: Plan, results: Results, command: str, figures: list[Path]) -> str:
    """The whole ABLATION.md."""
    runs, recipe = records(plan, results), plan.runs[0].recipe
    tests, sets = recipe.corpus.tests, (*recipe.corpus.tests, *recipe.corpus.sentences)
    lines = ["# Ablation", "", "Written by `e2etts ablate` from `ablation.json`; do not edit.", "",
             f"    {command}", "", *_facts(plan, results, runs), *_budget(plan, runs),
             "", "## 1 Text-to-speech", ""]
    for name in sets:
        lines += [f"On `{name}`:", "", *_speech(plan, runs, spoken("tts", (name,)),
                                                _recordings(results, name)), ""]
    every = f"on {', '.join(f'`{s}`' for s in sets)} together"
    first, others = plan.config.comparisons[0], plan.config.comparisons[1:]
    lines += ["## 2 Without end-to-end training", "", f"Text-to-speech {every}:", "",
              *_without(first, runs, spoken("tts", sets)), ""]
    if others:
        lines += [f"Every other comparison, text-to-speech {every}:", "",
                  *_comparisons(others, runs, spoken("tts", sets)), ""]
    lines += ["## 3 Copy synthesis", "", f"Tokens of the recordings of {', '.join(tests)} through "
              "FM and vocoder:", "", *_speech(plan, runs, spoken("copy", tests), None), "",
              *_comparisons(plan.config.comparisons, runs, spoken("copy", tests)), "",
              "## 4 What the RM reads in recordings", "", *_recognition(plan, runs, tests), "",
              "## 5 Tokens", "", *_tokens(plan, runs), ""]
    for figure in figures:
        lines += [f"![{figure.stem.replace('_', ' ')}]({figure.parent.name}/{figure.name})", ""]
    return "\n".join(lines)


def _facts(plan: Plan, results: Results, runs: dict[str, list[Record]]) -> list[str]:
    done = sum(map(len, runs.values()))
    judge = results.facts.get("recognizer") or {}
    commits = sorted({r["commit"][:12] for some in runs.values() for r in some})
    out = table(["", ""], [
        ["runs", f"{done} of {len(plan.runs)} measured"],
        ["seeds", ", ".join(map(str, plan.config.seeds))],
        ["judges, none of which took part in training",
         f"{judge.get('name', 'no recogniser')}; Resemblyzer; DNSMOS"],
        ["hardware", str(results.facts.get("hardware"))], ["commits", ", ".join(commits) or "–"]])
    out += ["", "Each cell: mean over seeds with its 95 % interval (utterances drawn anew, and the "
            "spread of seeds; `e2etts/score/compare.py`). Differences are of the same utterances "
            f"and seeds; p-values are not corrected for there being {len(plan.config.comparisons)} "
            "comparisons."]
    out += [f"- {m['metric']} not run: {m['reason']}; {m['remedy']}"
            for m in results.facts.get("not_run", [])]
    problems = {f"{r['system']}-seed{r['seed']}": r["problems"]
                for some in runs.values() for r in some if r["problems"]}
    out += [f"- {name}: {count} clips could not be scored" for name, count in problems.items()]
    return [*out, ""]


def _budget(plan: Plan, runs: dict[str, list[Record]]) -> list[str]:
    rows = []
    for name, spec in plan.config.systems.items():
        recipe = next(r.recipe for r in plan.runs if r.system == name)
        seconds, some = exposure(recipe, spec.speaks), runs.get(name, [])
        mean = sum(r["train_seconds"] for r in some) / len(some) if some else None
        size = f"{sum(some[0]['parameters'].values()) / 1e6:.1f}" if some else ABSENT
        rows.append([name, spec.about, str(len(some)),
                     *(f"{seconds[p] / 3600:.2f}" for p in PARTS), size, clock(mean)])
    return ["## Systems and their budgets", "",
            "Hours of audio that each part is trained on, parameters, and mean training time.", "",
            *table(["system", "what", "runs", *PARTS, "M parameters", "training"], rows)]


def _speech(plan: Plan, runs: dict[str, list[Record]], take: Take,
            topline: dict[str, Estimate | None] | None) -> list[str]:
    rows = [[name, *(written(cell(some, take, METRICS[m]), show)
                     for m, (_, show) in SHOWN.items())] for name, some in _in_order(plan, runs)]
    if topline:
        rows.insert(0, ["recordings", *(written(topline[m], show)
                                        for m, (_, show) in SHOWN.items())])
    return table(["system", *(title for title, _ in SHOWN.values())], rows)


def _recordings(results: Results, name: str) -> dict[str, Estimate | None] | None:
    columns = results.facts.get("recordings", {}).get(name)
    if columns is None:
        return None
    return {m: cell([{}], lambda _: columns, METRICS[m]) for m in SHOWN}


def _without(pair: tuple[str, str], runs: dict[str, list[Record]], take: Take) -> list[str]:
    with_it, without = (runs.get(name, []) for name in pair)
    rows = [[name, *(written(cell(some, take, METRICS[m]), show)
                     for m, (_, show) in SHOWN.items())]
            for name, some in zip(pair, (with_it, without), strict=True)]
    rows.append(["difference", *(written(difference(with_it, without, take, METRICS[m]), show, True)
                                 for m, (_, show) in SHOWN.items())])
    return table(["system", *(title for title, _ in SHOWN.values())], rows)


def _comparisons(pairs: tuple[tuple[str, str], ...], runs: dict[str, list[Record]],
                 take: Take) -> list[str]:
    rows = [[f"{a} - {b}", *(written(difference(runs.get(a, []), runs.get(b, []), take,
                                                METRICS[m]), show, True)
                             for m, (_, show) in SHOWN.items())] for a, b in pairs]
    return table(["difference", *(title for title, _ in SHOWN.values())], rows)


def _recognition(plan: Plan, runs: dict[str, list[Record]], tests: tuple[str, ...]) -> list[str]:
    take = recognised(tests)
    rows = [[name, *(written(cell(some, take, RECOGNITION[m]), _percent) for m in HEADS)]
            for name, some in _in_order(plan, runs)]
    rows += [[f"{a} - {b}", *(written(difference(runs.get(a, []), runs.get(b, []), take,
                                                 RECOGNITION[m]), _percent, True) for m in HEADS)]
             for a, b in plan.config.comparisons]
    return ["Labels are the text tokens of the recipe (characters, phonemes or pieces), read "
            "greedily from the CTC head.", "", *table(["system", *HEADS.values()], rows)]


def _tokens(plan: Plan, runs: dict[str, list[Record]]) -> list[str]:
    titles = {"entropy_bits": "H(X_n)", "mutual_information_bits": "I(X_n+1; X_n)",
              "mutual_information_plug_in_bits": "plug-in I",
              "mutual_information_shuffled_bits": "of shuffled pairs", "used_share": "codes used"}
    order = list(_in_order(plan, runs))
    rows = [[name, f"{some[0]['tokens']['tokens']}",
             *(written(token_cell(some, k), _fixed(3)) for k in titles)] for name, some in order]
    rows += [[f"{a} - {b}", "", *(written(token_difference(runs.get(a, []), runs.get(b, []), k),
                                          _fixed(3), True) for k in titles)]
             for a, b in plan.config.comparisons]
    return ["Tokens of the training recordings, in bits. I is the plug-in estimate from pairs "
            "within utterances less that of shuffled pairs; intervals are over seeds.", "",
            *table(["system", "tokens", *titles.values()], rows)]


def _in_order(plan: Plan, runs: dict[str, list[Record]]):
    return ((name, runs[name]) for name in plan.config.systems if name in runs)
