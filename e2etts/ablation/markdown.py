"""ABLATION.md: the tables of an experiment, from its configuration and records alone."""

import math
from collections.abc import Callable
from pathlib import Path

from e2etts.ablation.cells import (
    METRICS,
    RECOGNITION,
    Record,
    Take,
    cell,
    difference,
    events,
    recognised,
    records,
    same_seeds,
    spoken,
    token_cell,
    token_difference,
    training_seconds,
    unscored,
)
from e2etts.ablation.experiment import Experiment, exposure
from e2etts.ablation.figures import draw_figures
from e2etts.ablation.store import Results
from e2etts.files import write_text
from e2etts.nets.system import PARTS
from e2etts.report.formats import ABSENT, clock
from e2etts.report.results_markdown import recogniser_name
from e2etts.score.compare import Estimate, holm
from e2etts.tables import table

Show = Callable[[float], str]
Runs = dict[str, list[Record]]
Pairs = tuple[tuple[str, str], ...]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _fixed(digits: int) -> Show:
    return lambda value: f"{value:.{digits}f}"


# Metric -> heading and format.
SHOWN: dict[str, tuple[str, Show]] = {
    "wer": ("WER, %", _percent), "cer": ("CER, %", _percent), "sim": ("similarity", _fixed(3)),
    "dnsmos": ("DNSMOS", _fixed(2))}
HEADS = {"labels": "label error rate, %", "speaker": "speaker accuracy, %"}
STATISTICS: dict[str, tuple[str, Show]] = {
    "entropy_bits": ("H(X_n)", _fixed(3)),
    "mutual_information_bits": ("I(X_n+1; X_n)", _fixed(3)),
    "mutual_information_plug_in_bits": ("plug-in I", _fixed(3)),
    "mutual_information_shuffled_bits": ("of shuffled pairs", _fixed(3)),
    "used_share": ("codes used, %", _percent)}


def written(e: Estimate | None, show: Show, sign: bool = False, most: float = math.inf) -> str:
    """"12.3 [10.1, 14.5]"; with ``sign``, as a difference and with its p-value. most: the
    largest possible value."""
    if e is None:
        return ABSENT
    if sign and e.value == 0 and not e.low:  # the same clips or tokens
        return "equal"
    mark = (lambda v: ("+" if v >= 0 else "") + show(v)) if sign else show
    out = mark(e.value)
    if e.low is not None and e.high > e.low:
        # A rate or a score is never below zero.
        low = e.low if sign else max(0.0, e.low)
        out += f" [{mark(low)}, {mark(min(most, e.high))}]"
    if sign and e.p is not None:
        out += f", p {_p(e.p)}"
    return out


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def write_ablation(experiment: Experiment, results: Results, folder: Path, command: str) -> None:
    """Write ABLATION.md and figures/ into ``folder``, from what has been measured so far."""
    figures = draw_figures(experiment, results, folder)
    write_text(folder / "ABLATION.md", ablation_markdown(experiment, results, command, figures))


def ablation_markdown(experiment: Experiment, results: Results, command: str,
                      figures: list[Path]) -> str:
    """The whole ABLATION.md. command: the one that writes it again."""
    runs, recipe = records(experiment, results), experiment.runs[0].recipe
    config = experiment.config
    tests, sets = recipe.corpus.tests, (*recipe.corpus.tests, *recipe.corpus.sentences)
    pairs, leading = config.comparisons, config.comparisons[: config.leading]
    seeds = {name: len(config.seeds_of(name)) for name in config.systems}
    lines = ["# Ablation", "", "Written by `e2etts ablate` from `ablation.json`; do not edit. The "
             "same command resumes, or only writes this page when all is measured:",
             "", f"    {command}", "", *_facts(experiment, results, runs, spoken("tts", sets)),
             *_systems(experiment, runs, seeds), ""]
    every = f"on {', '.join(f'`{s}`' for s in sets)} together"
    lines += ["## 1 Main comparisons", "", f"Text-to-speech {every}:", "",
              *_leading(leading, runs, seeds, spoken("tts", sets)), ""]
    lines += ["## 2 Text-to-speech", ""]
    for name in sets:
        lines += [f"On `{name}`:", "", *_speech(runs, seeds, spoken("tts", (name,)),
                                                _recordings(results, name)), ""]
    if pairs[config.leading:]:
        lines += [f"Every other comparison, text-to-speech {every}:", "",
                  *_speech_differences(pairs[config.leading:], runs, seeds, spoken("tts", sets)),
                  ""]
    lines += [f"Every run by its seed, text-to-speech {every}, WER, % (DNSMOS):", "",
              *_each_run(experiment, runs, spoken("tts", sets)), ""]
    lines += ["## 3 Copy synthesis", "",
              f"Tokens of the recordings of {', '.join(f'`{s}`' for s in tests)} through FM and "
              "vocoder:", "", *_speech(runs, seeds, spoken("copy", tests), None), "",
              *_speech_differences(pairs, runs, seeds, spoken("copy", tests)), "",
              "## 4 What the RM recognises in recordings", "",
              *_recognition(pairs, runs, seeds, tests), "",
              "## 5 Tokens", "", *_tokens(pairs, runs, seeds), ""]
    lines += ["## Figures", ""] if figures else []
    for figure in figures:
        lines += [f"![{figure.stem.replace('_', ' ')}]({figure.parent.name}/{figure.name})", ""]
    return "\n".join(lines)


def _facts(experiment: Experiment, results: Results, runs: Runs, speech: Take) -> list[str]:
    done = [r for some in runs.values() for r in some]
    commits = sorted({"+".join([name[:12], *dirty]) for name, *dirty in
                      (r["commit"].split("+") for r in done)})
    config = experiment.config
    wanted = ", ".join(map(str, config.every_seed))
    seeds = ", ".join(map(str, sorted({r["seed"] for r in done}))) or "none"
    machines = sorted({r.get("hardware", results.facts["hardware"]) for r in done})
    answers = [[f"text-to-speech WER, {a} - {b}, points", written(
        difference(runs[a], runs[b], speech, METRICS["wer"]), _percent, True)]
        for a, b in config.comparisons[: config.leading]]
    out = table(["", ""], [
        *answers,
        ["runs (a system at a seed)", f"{len(done)} of {len(experiment.runs)} measured"],
        ["seeds", seeds if seeds == wanted else f"{seeds} so far; planned {wanted}"],
        ["judges, none of which took part in training", _judges(experiment, results)],
        ["hardware", "; ".join(machines) or ABSENT],
        ["commits", ", ".join(commits) or ABSENT]], left=2)
    out += ["", "Each cell: mean over a system's measured seeds and its 95 % interval: utterances "
            "are resampled, and seeds spread (`e2etts/score/compare.py`). Differences are of the "
            "same utterances and seeds, \"equal\" where none of these differs. The last column of "
            "tables of differences is the p-value of WER, corrected for the number of differences "
            "in that table (Holm); other p-values are not corrected."]
    if any(len(some) == 1 for some in runs.values()):
        out += ["", "**Where there is one seed, intervals and p-values are of the utterances "
                "alone**: they state nothing about training with another seed."]
    notes = [f"- {m['metric']} not run: {m['reason']}; {m['remedy']}"
             for m in results.facts.get("not_run", [])]
    for r in done:
        some = [f"{r['problems']} clips could not be scored"] if r["problems"] else []
        notes += [f"- {r['system']}-seed{r['seed']}: {what}" for what in some + unscored(r)]
    notes += [f"- {what}" for what in events(done)]
    return [*out, *([""] if notes else []), *notes, ""]


def _judges(experiment: Experiment, results: Results) -> str:
    """The models behind the metrics that have run."""
    score = experiment.runs[0].recipe.score
    absent = {m["metric"] for m in results.facts.get("not_run", []) if m["sets"] == "all"}
    names = {"wer": recogniser_name(results.facts.get("recognizer") or {}),
             "sim": f"similarity: {score.speaker}", "dnsmos": "DNSMOS"}
    return "; ".join(v for k, v in names.items() if k in score.metrics and k not in absent)


def _systems(experiment: Experiment, runs: Runs, seeds: dict[str, int]) -> list[str]:
    rows, spent = [], []
    for name, spec in experiment.config.systems.items():
        recipe, some = next(r.recipe for r in experiment.runs if r.system == name), runs[name]
        rows.append([f"`{name}`", spec.about, _seeds(some, seeds[name]),
                     clock(training_seconds(some))])
        used = {u["stage"]: u["audio_seconds"] for r in some for u in r["units"]}
        seconds, sizes = exposure(recipe, spec.speaks, used), some[0]["parameters"] if some else {}
        spent.append([f"`{name}`", *(", ".join([
            f"{seconds[p] / 3600:.2f} h" if seconds[p] < math.inf else "? h",
            *([f"{sizes[p] / 1e6:.2f} M"] if p in sizes else [])]) for p in PARTS)])
    return ["## Systems", "", "Training: median time of all stages but the vocoder, which all "
            "systems share.", "", *table(["system", "what", "seeds", "training"], rows, left=2), "",
            "Hours of audio that each part is trained on, and its parameters:", "",
            *table(["system", *PARTS], spent)]


def _seeds(some: list[Record], wanted: int, none: str = "not run") -> str:
    if not some:
        return none
    return str(wanted) if len(some) == wanted else f"{len(some)} of {wanted}"


Cells = Callable[[list[Record]], list[str]]
Differences = Callable[[list[Record], list[Record]], list[str]]


def _rows(runs: Runs, seeds: dict[str, int], cells: Cells) -> list[list[str]]:
    return [[name, _seeds(some, seeds[name]), *cells(some)] for name, some in runs.items()]


def _difference_rows(pairs: Pairs, runs: Runs, seeds: dict[str, int], cells: Differences
                     ) -> list[list[str]]:
    return [[f"{a} - {b}", _seeds(same_seeds(runs[a], runs[b])[0], min(seeds[a], seeds[b]),
                                  "none in common"), *cells(runs[a], runs[b])] for a, b in pairs]


def _spoken_cells(take: Take) -> tuple[Cells, Differences]:
    """Cells of the speech of one system, and of the difference of two."""
    return (lambda some: [written(cell(some, take, METRICS[m]), show)
                          for m, (_, show) in SHOWN.items()],
            lambda a, b: [written(difference(a, b, take, METRICS[m]), show, True)
                          for m, (_, show) in SHOWN.items()])


def _speech_head(what: str, *more: str) -> list[str]:
    return [what, "seeds", *(title for title, _ in SHOWN.values()), *more]


def _speech(runs: Runs, seeds: dict[str, int], take: Take, topline: list[str] | None) -> list[str]:
    rows = _rows(runs, seeds, _spoken_cells(take)[0])
    if topline:
        rows.insert(0, ["recordings", "", *topline])
    return table(_speech_head("system"), rows)


def _recordings(results: Results, name: str) -> list[str] | None:
    columns = results.facts.get("recordings", {}).get(name)
    return _spoken_cells(lambda _: columns)[0]([{}]) if columns else None


def _leading(pairs: Pairs, runs: Runs, seeds: dict[str, int], take: Take) -> list[str]:
    """The systems of the main comparisons, and their differences."""
    some = {name: runs[name] for pair in pairs for name in pair}
    return [*table(_speech_head("system"), _rows(some, seeds, _spoken_cells(take)[0])), "",
            *_speech_differences(pairs, runs, seeds, take)]


def _speech_differences(pairs: Pairs, runs: Runs, seeds: dict[str, int], take: Take) -> list[str]:
    rows = _difference_rows(pairs, runs, seeds, _spoken_cells(take)[1])
    found = [difference(runs[a], runs[b], take, METRICS["wer"]) for a, b in pairs]
    corrected = holm([e and e.p for e in found])
    return table(_speech_head("difference", "WER, p corrected"), [
        [*row, ABSENT if p is None else _p(p).removeprefix("= ")]
        for row, p in zip(rows, corrected, strict=True)])


def _each_run(experiment: Experiment, runs: Runs, take: Take) -> list[str]:
    """Every run, because intervals over few seeds show little."""
    def shown(record: Record, metric: str) -> str:
        e = cell([record], take, METRICS[metric])
        return ABSENT if e is None else SHOWN[metric][1](e.value)

    rows, seeds = [], experiment.config.every_seed
    for name, some in runs.items():
        by_seed = {r["seed"]: f"{shown(r, 'wer')} ({shown(r, 'dnsmos')})" for r in some}
        rows.append([name, *(by_seed.get(seed, ABSENT) for seed in seeds)])
    return table(["system", *(f"seed {seed}" for seed in seeds)], rows)


def _recognition(pairs: Pairs, runs: Runs, seeds: dict[str, int], tests: tuple[str, ...]
                 ) -> list[str]:
    take = recognised(tests)
    rows = _rows(runs, seeds, lambda some: [
        written(cell(some, take, RECOGNITION[m]), _percent,
                most=1.0 if m == "speaker" else math.inf) for m in HEADS])
    rows += _difference_rows(pairs, runs, seeds, lambda a, b: [
        written(difference(a, b, take, RECOGNITION[m]), _percent, True) for m in HEADS])
    return ["Labels are the text tokens of the recipe (characters, phonemes or pieces), read "
            "greedily from the CTC head, in recordings of "
            f"{', '.join(f'`{s}`' for s in tests)}.", "",
            *table(["system", "seeds", *HEADS.values()], rows)]


def _tokens(pairs: Pairs, runs: Runs, seeds: dict[str, int]) -> list[str]:
    rows = _rows(runs, seeds, lambda some: [
        f"{some[0]['tokens']['tokens']}" if some else ABSENT,
        *(written(token_cell(some, k), show) for k, (_, show) in STATISTICS.items())])
    rows += _difference_rows(pairs, runs, seeds, lambda a, b: [
        "", *(written(token_difference(a, b, k), show, True)
              for k, (_, show) in STATISTICS.items())])
    return ["Tokens of the training recordings, in bits. I is the plug-in estimate from pairs "
            "within utterances less that of shuffled pairs, comparable at equal numbers of tokens "
            "only. Intervals are over seeds; of one seed there is none.", "",
            *table(["system", "seeds", "tokens", *(title for title, _ in STATISTICS.values())],
                   rows)]
