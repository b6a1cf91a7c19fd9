"""Scores an experiment, metric by metric, into results.json and scores.jsonl."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.data.datadir import write_text
from e2etts.score import dnsmos, provenance, similarity, style, wer
from e2etts.score.clips import PROMPT_SYSTEM, SYSTEMS, Clip, read_clips
from e2etts.score.config import ScoreConfig
from e2etts.score.measure import Job, ScoreCache
from e2etts.score.recognizers import REMEDY, find_recognizer

UNITS = {
    "wer": "fraction of reference words", "wer_ci": "95 % bootstrap interval of wer",
    "cer": "fraction of reference characters without spaces",
    "sim": "cosine of Resemblyzer voices, clip to mean of the speaker's references, 0 to 1",
    "dnsmos": "DNSMOS P.835 overall, 1 to 5", "n": "clips scored", "seconds": "mean a clip",
    "train_seconds": "seconds", "wall_seconds": "seconds", "peak_gib": "GiB"}


@dataclass
class Score:
    """What is known of one clip; None where a metric did not run on it."""

    clip: Clip
    problem: str | None = None
    heard: str | None = None
    errors: wer.Errors | None = None
    sim: float | None = None
    sim_prompt: float | None = None
    dnsmos: dict[str, float] | None = None
    style: str | None = None
    notes: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """One line of scores.jsonl."""
        c = self.clip
        return {"system": c.system, "set": c.set, "utt": c.utt, "text": c.text, "lang": c.lang,
                "seconds": c.seconds, "problem": self.problem, "heard": self.heard,
                "errors": self.errors.to_dict() if self.errors else None, "sim": self.sim,
                "sim_prompt": self.sim_prompt, "dnsmos": self.dnsmos, "notes": self.notes,
                **({"style": c.style, "style_heard": self.style} if c.style else {})}


def score_experiment(exp: Path, config: ScoreConfig, seed: int, command: str,
                     say: Callable[[str], None] = print,
                     labelled: Sequence[style.Labelled] = ()) -> dict[str, Any]:
    """Measure every clip of ``exp/wavs``, write results.json and scores.jsonl, return results.

    Missing or unreadable wavs are counted and listed, not scored. A metric that cannot run is
    listed under "not_run" with its remedy. labelled: what the style classifier learns from.
    Raises UserError for broken manifests.
    """
    start = time.perf_counter()
    clips = read_clips(exp / "wavs")
    cache = ScoreCache(exp / "score_cache.json")
    scores = [Score(c, None if cache.hash_of(c.wav) else "missing") for c in clips]
    run = _Run(scores, cache, config, say, labelled)
    for metric in config.metrics:
        began = time.perf_counter()
        getattr(run, metric)()
        run.seconds[metric] = round(time.perf_counter() - began, 1)
    for metric in ("wer", "sim", "dnsmos"):
        if metric not in config.metrics:
            run.skip(metric, "switched off by score.metrics", f"add {metric} to score.metrics")
    results = _results(exp, run, seed, command)
    results.update(provenance.stages(exp, time.perf_counter() - start))
    if rm := provenance.read_json(exp / "rm.json"):
        results["rm"] = rm
    own = provenance.own_peak_gib(config.workers)
    results["peak_gib"] = round(max(results["peak_gib"], own), 3)
    results["scoring"] = {"seconds": run.seconds, "workers": config.workers,
                          "measured": cache.misses, "from_cache": cache.hits,
                          "peak_gib": round(own, 3)}
    write_text(exp / "scores.jsonl", "".join(
        json.dumps(s.row(), ensure_ascii=False) + "\n" for s in scores))
    write_text(exp / "results.json", json.dumps(_rounded(results), indent=1, ensure_ascii=False)
               + "\n")
    return _rounded(results)


class _Run:
    """The metrics of one scoring run; each fills its fields of the scores."""

    def __init__(self, scores: list[Score], cache: ScoreCache, config: ScoreConfig,
                 say: Callable[[str], None], labelled: Sequence[style.Labelled]):
        self.labelled = labelled
        self.scores, self.cache, self.config, self.say = scores, cache, config, say
        self.seconds: dict[str, float] = {}
        self.not_run: list[dict[str, Any]] = []
        self.recognizer: dict[str, str] | None = None
        self.style_training = 0

    def skip(self, metric: str, reason: str, remedy: str, sets: list[str] | None = None) -> None:
        self.not_run.append({"metric": metric, "sets": sets or "all", "reason": reason,
                             "remedy": remedy})
        where = f" of {', '.join(sets)}" if sets else ""
        self.say(f"score: {metric}{where} not run: {reason}; {remedy}")

    def _lacks(self, metric: str, packages: tuple[str, ...], remedy: str) -> bool:
        missing = [p for p in packages if find_spec(p) is None]
        if missing:
            self.skip(metric, f"package {', '.join(missing)} is not installed", remedy)
        return bool(missing)

    def _scored(self) -> list[Score]:
        return [s for s in self.scores if s.problem is None]

    def _measure(self, meter, some: list[Score]):
        """(score, value) of those that could be measured; marks the rest."""
        values = self.cache.measure(meter, [Job(s.clip.wav, s.clip.lang) for s in some],
                                    self.config.workers)
        for s in some:
            value = values[Job(s.clip.wav, s.clip.lang)]
            if isinstance(value, dict) and "error" in value:
                s.problem = value["error"]
            else:
                yield s, value

    def wer(self) -> None:
        if self._lacks("wer", wer.PACKAGES, similarity.REMEDY):
            return
        meter = find_recognizer(self.config, lambda text: self.say(f"score: warning: {text}"))
        if meter is None:
            return self.skip("wer", "neither faster-whisper nor pocketsphinx is installed",
                             similarity.REMEDY)
        self.recognizer = meter.describe()
        self.say(f"score: recogniser {self.recognizer['name']} ({self.recognizer['source']})")
        deaf = sorted({s.clip.set for s in self._scored()
                       if not meter.understands(s.clip.lang)})
        if deaf:
            self.skip("wer", "this recogniser knows English only", REMEDY, deaf)
        some = [s for s in self._scored() if meter.understands(s.clip.lang)]
        for s, heard in self._measure(meter, some):
            s.heard = heard
            s.errors = wer.count_errors(s.clip.text, heard, s.clip.lang)
            if s.errors is None:
                s.notes.append("its text has no words to compare")

    def dnsmos(self) -> None:
        if not self._lacks("dnsmos", dnsmos.PACKAGES, dnsmos.REMEDY):
            for s, value in self._measure(dnsmos.QualityMeter(), self._scored()):
                s.dnsmos = value

    def style(self) -> None:
        some = [s for s in self._scored() if s.clip.style]
        if not some or self._lacks("style", style.PACKAGES, style.REMEDY):
            return
        meter = style.StyleMeter()
        jobs = {x: Job(x.wav, x.lang) for x in self.labelled}
        values = self.cache.measure(meter, jobs.values(), self.config.workers)
        known = [(x, values[job]) for x, job in jobs.items() if isinstance(values.get(job), list)]
        if len({x.label for x, _ in known}) < 2:
            return self.skip("style", "the train set has no recordings of two styles to learn from",
                             "prepare a train set with utt2emo")
        judge = style.StyleClassifier([style.features(v, x.text, x.lang) for x, v in known],
                                      [x.label for x, _ in known], self.config.seed)
        self.style_training = len(known)
        for s, measured in self._measure(meter, some):
            if measured is None:
                s.notes.append("silent")
            s.style = "silence" if measured is None else judge(
                [style.features(measured, s.clip.text, s.clip.lang)])[0]

    def sim(self) -> None:
        if self._lacks("sim", similarity.PACKAGES, similarity.REMEDY):
            return
        meter = similarity.VoiceMeter()
        some = self._scored()
        own = {(s.clip.set, s.clip.utt): self.cache.hash_of(s.clip.wav) for s in some
               if s.clip.system == "recording"}
        real = {c for s in some for c in self._references(s.clip)}
        real |= {s.clip.prompt for s in some if s.clip.prompt}
        voices = {job.path: value for job, value in self.cache.measure(
            meter, [Job(p, "") for p in sorted(real)], self.config.workers).items()
            if not isinstance(value, dict) and value is not None}
        means: dict[Any, np.ndarray | None] = {}
        for s, vector in self._measure(meter, some):
            if vector is None:
                s.notes.append("silent")
            # The recording of the utterance itself would make any copy of it look too good.
            without = own.get((s.clip.set, s.clip.utt))
            paths = tuple(p for p in self._references(s.clip)
                          if p in voices and self.cache.hash_of(p) != without)
            if paths not in means:
                means[paths] = similarity.mean_voice([voices[p] for p in paths])
            if means[paths] is None:
                s.notes.append("no readable reference of its speaker")
            else:
                s.sim = similarity.cosine(vector, means[paths])
            if s.clip.prompt in voices:
                s.sim_prompt = similarity.cosine(vector, similarity.unpack(voices[s.clip.prompt]))

    def _references(self, clip: Clip) -> tuple[Path, ...]:
        """At most ``references_per_speaker`` of a clip's references, evenly spread."""
        step = -(-len(clip.references) // self.config.references_per_speaker)
        return clip.references[:: max(1, step)]


def _results(exp: Path, run: _Run, seed: int, command: str) -> dict[str, Any]:
    config = run.config
    grouped: dict[str, dict[str, list[Score]]] = {s: {} for s in SYSTEMS}
    for s in run.scores:
        grouped.setdefault(s.clip.system, {}).setdefault(s.clip.set, []).append(s)
    cells = {system: {name: summarise(some, config) for name, some in sets.items()}
             for system, sets in grouped.items()}
    details = {system: {name: detail(some, config) for name, some in sets.items()}
               for system, sets in grouped.items() if sets}
    problems = [{"clip": f"{s.clip.system}/{s.clip.set}/{s.clip.utt}", "where": s.clip.origin,
                 "wav": s.clip.wav.name, "problem": s.problem}
                for s in run.scores if s.problem]
    for p in problems:
        run.say(f"score: {p['where']}: {p['wav']} not scored: {p['problem']}")
    return {
        "systems": {s: cells[s] for s in SYSTEMS}, "voice_prompt": cells.get(PROMPT_SYSTEM, {}),
        "other_systems": {s: c for s, c in cells.items() if s not in (*SYSTEMS, PROMPT_SYSTEM)},
        "expected": len(run.scores), "scored": len(run.scores) - len(problems),
        "problems": problems, "not_run": run.not_run, "details": details,
        "durations": {system: {name: d["seconds"] for name, d in sets.items()}
                      for system, sets in details.items()},
        "paired": paired(grouped, config), **_styles(run), "recognizer": run.recognizer,
        "units": UNITS,
        **provenance.training(exp), "commit": provenance.commit(), "seed": seed,
        "hardware": provenance.hardware(), "command": command, "tag": exp.name,
        "bootstrap_samples": config.bootstrap_samples}


def _styles(run: _Run) -> dict[str, Any]:
    found = [(s.clip.system, s.clip.set, s.clip.style, s.style) for s in run.scores if s.style]
    return {"style": {"training_recordings": run.style_training, "systems": style.summarise_styles(
        found, run.config.bootstrap_samples, run.config.seed)}} if found else {}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def summarise(some: list[Score], config: ScoreConfig) -> dict[str, Any]:
    """The six numbers of one system on one set; None for a metric that did not run."""
    errors = [s.errors for s in some if s.errors]
    rates = wer.error_rates(errors) if errors else (None, None)
    return {"wer": rates[0],
            "wer_ci": wer.rate_interval(errors, config.bootstrap_samples, config.seed)
            if errors else None,
            "cer": rates[1], "sim": _mean([s.sim for s in some if s.sim is not None]),
            "dnsmos": _mean([s.dnsmos["ovrl"] for s in some if s.dnsmos]),
            "n": sum(s.problem is None for s in some)}


def detail(some: list[Score], config: ScoreConfig) -> dict[str, Any]:
    """What the six numbers rest on: counts, kinds of error, further means and intervals."""
    errors = [s.errors for s in some if s.errors]
    good = [s for s in some if s.problem is None]
    sims = [s.sim for s in good if s.sim is not None]
    moses = [s.dnsmos for s in good if s.dnsmos]
    prompts = [s.sim_prompt for s in good if s.sim_prompt is not None]
    spent = [s.clip.synthesis_seconds for s in good if s.clip.synthesis_seconds]
    seconds = sum(s.clip.seconds for s in good)

    def interval(values: list[float]) -> list[float] | None:
        return wer.mean_interval(values, config.bootstrap_samples, config.seed) if values else None

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
    return out


def paired(grouped: dict[str, dict[str, list[Score]]], config: ScoreConfig) -> dict[str, Any]:
    """WER differences between systems on the same utterances of each set."""
    out: dict[str, Any] = {}
    for a, b in (("tts", "copy"), ("copy", "recording")):
        for name in grouped[a].keys() & grouped[b].keys():
            left, right = ({s.clip.utt: s.errors for s in grouped[system][name] if s.errors}
                           for system in (a, b))
            found = wer.paired_difference(left, right, config.bootstrap_samples, config.seed)
            if found:
                out.setdefault(name, {})[f"{a} - {b}"] = found
    return {name: out[name] for name in sorted(out)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value
