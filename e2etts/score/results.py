"""Scores an experiment, metric by metric, into results.json and scores.jsonl."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from e2etts import provenance
from e2etts.errors import UserError
from e2etts.files import read_json, write_text
from e2etts.score import compare
from e2etts.score.clips import (
    EMBEDDING_SYSTEM,
    PROMPT_SYSTEM,
    SYSTEMS,
    Clip,
    LabelledRecording,
    read_clips,
)
from e2etts.score.config import ScoreConfig
from e2etts.score.error_rates import error_rates, mean_interval, rate_interval
from e2etts.score.judges.locate import Unavailable
from e2etts.score.measure import ScoreCache
from e2etts.score.metrics.registry import DEFAULT_METRICS, REGISTRY
from e2etts.score.metrics.style import summarise_styles
from e2etts.score.score_run import ClipScore, ScoreRun
from e2etts.score.unseen_voices import by_unseen_voice, nearest_voices
from e2etts.score.utterance_lists import read_folder

UNITS = {
    "wer": "fraction of reference words", "wer_ci": "95 % bootstrap interval of wer",
    "cer": "fraction of reference characters without spaces",
    "sim": "cosine of speaker embeddings (Resemblyzer unless models names another), clip to mean "
           "of the speaker's references, 0 to 1",
    "dnsmos": "DNSMOS P.835 overall, 1 to 5", "n": "clips scored", "seconds": "mean per clip",
    "train_seconds": "seconds", "wall_seconds": "seconds", "peak_gib": "GiB"}


def score_experiment(exp: Path, config: ScoreConfig, seed: int, command: str,
                     say: Callable[[str], None] = print,
                     labelled: Sequence[LabelledRecording] = (),
                     voices: Mapping[str, Sequence[Path]] | None = None) -> dict[str, Any]:
    """Measure every clip of ``exp/wavs``, write results.json and scores.jsonl, return results.

    Missing or unreadable wavs are counted and listed, not scored. A metric that cannot run is
    listed under "not_run" with its remedy. labelled: recordings that train the style classifier;
    voices: recordings of each training voice, with which unseen voices are compared. Raises
    UserError for broken manifests.
    """
    clips, usual = read_clips(exp / "wavs"), DEFAULT_METRICS
    if not any(c.emotion for c in clips):  # not measured without styles
        usual, metrics = (tuple(m for m in some if m != "style")
                          for some in (usual, config.metrics))
        config = replace(config, metrics=metrics)
    return score_clips(clips, exp, config, seed, command, say, usual=usual, labelled=labelled,
                       voices=voices)


def score_folder(wavs: Path, config: ScoreConfig, command: str, *, lang: str = "",
                 name: str = "", listed: Path | None = None, out: Path | None = None,
                 say: Callable[[str], None] = print, **more: Any) -> tuple[Path, dict[str, Any]]:
    """The same for a folder of any system, see ``read_folder``; returns where results were
    written (``out``, else beside the wavs) and the results. Raises UserError as that does."""
    if listed and not lang:
        raise UserError("--list needs --lang, the language of its texts, such as --lang en")
    if lang and not re.fullmatch("[a-z]{2,3}", lang):
        raise UserError(f"--lang {lang}: expected a code of two or three letters, such as en, zh")
    whole = wavs.resolve()
    clips = read_folder(wavs, name=name or whole.name, lang=lang, listed=listed, say=say, **more)
    exp = out or whole.with_name(f"{whole.name}_scores")
    exp.mkdir(parents=True, exist_ok=True)
    return exp, score_clips(clips, exp, config, config.seed, command, say)


def score_clips(clips: list[Clip], exp: Path, config: ScoreConfig, seed: int, command: str,
                say: Callable[[str], None] = print, usual: tuple[str, ...] = (),
                labelled: Sequence[LabelledRecording] = (),
                voices: Mapping[str, Sequence[Path]] | None = None) -> dict[str, Any]:
    """The same for clips of any system, written to ``exp``. usual: metrics that are listed as not
    run where they are switched off."""
    start = time.perf_counter()
    cache = ScoreCache(exp / "score_cache.json")
    scores = [ClipScore(c, None if cache.hash_of(c.wav) else "missing") for c in clips]
    run = ScoreRun(scores, cache, config, say, labelled, voices)
    seconds = {}
    for metric in config.metrics:
        began = time.perf_counter()
        try:
            REGISTRY[metric].score(run)
        except Unavailable as e:
            run.skip(metric, e.reason, e.remedy)
        seconds[metric] = round(time.perf_counter() - began, 1)
    for metric in usual:
        if metric not in config.metrics:
            run.skip(metric, "switched off by score.metrics", f"add {metric} to score.metrics")
    processes = len(config.devices) or config.workers
    own = provenance.peak_gib(processes)  # before git, as large as this process, is one of them
    results = _results(exp, run, seed, command)
    results.update(provenance.stages(exp, time.perf_counter() - start))
    if rm := read_json(exp / "rm.json"):
        results["rm"] = rm
    results["peak_gib"] = round(max(results["peak_gib"], own), 3)
    results["scoring"] = {"seconds": seconds, "workers": processes,
                          "measured": cache.misses, "from_cache": cache.hits,
                          "peak_gib": round(own, 3)}
    write_text(exp / "scores.jsonl", "".join(
        json.dumps(s.row(exp), ensure_ascii=False) + "\n" for s in scores))
    write_text(exp / "results.json", json.dumps(_rounded(results), indent=1, ensure_ascii=False)
               + "\n")
    return _rounded(results)


def _results(exp: Path, run: ScoreRun, seed: int, command: str) -> dict[str, Any]:
    config = run.config
    grouped: dict[str, dict[str, list[ClipScore]]] = {s: {} for s in SYSTEMS}
    for s in run.scores:
        grouped.setdefault(s.clip.system, {}).setdefault(s.clip.set, []).append(s)
    cells = {system: {name: summarise(some, config) for name, some in sets.items()}
             for system, sets in grouped.items()}
    details = {system: {name: detail(some, config) for name, some in sets.items()}
               for system, sets in grouped.items() if sets}
    problems = [{"clip": f"{s.clip.system}/{s.clip.set}/{s.clip.utt}", "where": s.clip.origin,
                 "wav": s.clip.wav.name, "problem": s.problem}
                for s in run.scores if s.problem]
    failures = [{"clip": f"{s.clip.system}/{s.clip.set}/{s.clip.utt}", "metric": metric,
                 "problem": why} for s in run.scores for metric, why in s.failures.items()]
    for f in failures:
        run.say(f"score: {f['clip']}: no {f['metric']}: {f['problem']}")
    for p in problems:
        run.say(f"score: {p['where']}: {p['wav']} not scored: {p['problem']}")
    return {
        "systems": {s: cells[s] for s in SYSTEMS}, "voice_prompt": cells.get(PROMPT_SYSTEM, {}),
        "other_systems": {s: c for s, c in cells.items() if s not in (*SYSTEMS, PROMPT_SYSTEM)},
        "expected": len(run.scores), "scored": len(run.scores) - len(problems),
        "problems": problems, "failures": failures, "not_run": run.not_run, "details": details,
        "durations": {system: {name: d["seconds"] for name, d in sets.items()}
                      for system, sets in details.items()},
        "paired": paired(grouped, config), **_styles(run), **_unseen(run),
        "recognizer": run.recognizer, "models": run.models,
        "units": {**UNITS, **{m: REGISTRY[m].about for m in config.metrics
                              if not REGISTRY[m].default}},
        **provenance.training(exp), "commit": provenance.commit(), "seed": seed,
        "hardware": provenance.hardware(), "command": command, "tag": exp.name,
        "bootstrap_samples": config.bootstrap_samples}


def _styles(run: ScoreRun) -> dict[str, Any]:
    found = [(s.clip.system, s.clip.set, s.clip.emotion, s.values["style"]) for s in run.scores
             if "style" in s.values]
    if not found:
        return {}
    return {"style": {"training_recordings": run.models["style"]["training_recordings"],
                      "systems": summarise_styles(found, run.config.bootstrap_samples,
                                                  run.config.seed)}}


def _unseen(run: ScoreRun) -> dict[str, Any]:
    """Figures of speech in voices that training does not have, where there is any."""
    sets = by_unseen_voice(run.scores)
    if not sets:
        return {}
    zero_shot = [name for name, systems in sets.items() if EMBEDDING_SYSTEM in systems]
    return {"unseen_voices": {"training_voices": len(run.voices), "zero_shot": zero_shot, "sets": {
        name: {system: {voice: {**summarise(some, run.config), **detail(some, run.config),
                                **nearest_voices(some, run.config)}
                        for voice, some in of.items()} for system, of in systems.items()}
        for name, systems in sets.items()}}}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def summarise(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any]:
    """The six numbers of one system on one set; None for a metric that did not run."""
    errors = [s.errors for s in some if s.errors]
    rates = error_rates(errors) if errors else (None, None)
    return {"wer": rates[0],
            "wer_ci": rate_interval(errors, config.bootstrap_samples, config.seed)
            if errors else None,
            "cer": rates[1], "sim": _mean([s.sim for s in some if s.sim is not None]),
            "dnsmos": _mean([s.dnsmos["ovrl"] for s in some if s.dnsmos]),
            "n": sum(s.problem is None for s in some)}


def detail(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any]:
    """Behind the six numbers: counts, kinds of error, further means and intervals."""
    errors = [s.errors for s in some if s.errors]
    good = [s for s in some if s.problem is None]
    sims = [s.sim for s in good if s.sim is not None]
    moses = [s.dnsmos for s in good if s.dnsmos]
    prompts = [s.sim_prompt for s in good if s.sim_prompt is not None]
    spent = [s.clip.synthesis_seconds for s in good if s.clip.synthesis_seconds]
    seconds = sum(s.clip.seconds for s in good)

    def interval(values: list[float]) -> list[float] | None:
        return mean_interval(values, config.bootstrap_samples, config.seed) if values else None

    out = {"expected": len(some), "missing": sum(s.problem == "missing" for s in some),
           "unreadable": sum(s.problem not in (None, "missing") for s in some),
           "silent": sum("silent" in s.notes for s in some), "with_wer": len(errors),
           "seconds": _mean([s.clip.seconds for s in good]),
           "sim_ci": interval(sims), "dnsmos_ci": interval([m["ovrl"] for m in moses]),
           "sim_to_prompt": _mean(prompts),
           "real_time_factor": sum(spent) / seconds if spent and seconds else None}
    for name in ("words", "substituted", "deleted", "inserted"):
        out[name] = sum(getattr(e, name) for e in errors)
    for name in ("sig", "bak"):
        out[f"dnsmos_{name}"] = _mean([m[name] for m in moses])
    more = {name: REGISTRY[name].summarise(some, config) for name in config.metrics}
    more = {name: figures for name, figures in more.items() if figures}
    return {**out, "metrics": more} if more else out


def paired(grouped: dict[str, dict[str, list[ClipScore]]], config: ScoreConfig) -> dict[str, Any]:
    """WER differences between systems on the same utterances of each set, as ``e2etts compare``
    computes them."""
    out: dict[str, Any] = {}
    for a, b in (("tts", "copy"), ("copy", "recording"), ("copy", "vocoded"),
                 ("vocoded", "recording"), (PROMPT_SYSTEM, EMBEDDING_SYSTEM)):
        for name in grouped.get(a, {}).keys() & grouped.get(b, {}).keys():
            both = [[{("", s.clip.utt): {"errors": s.errors.to_dict()}
                      for s in grouped[system][name] if s.errors}] for system in (a, b)]
            if found := compare.common(both, "wer"):
                e = compare.estimate(*found[0], samples=config.bootstrap_samples, seed=config.seed)
                if e.p is not None:
                    out.setdefault(name, {})[f"{a} - {b}"] = {
                        "difference": e.value, "ci": [e.low, e.high], "p": e.p, "n": e.utts}
    return {name: out[name] for name in sorted(out)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value
