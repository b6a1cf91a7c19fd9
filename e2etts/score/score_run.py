"""One scoring run: clips, their scores, and metrics that could not run."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2etts.score.clips import Clip, LabelledRecording
from e2etts.score.config import ScoreConfig
from e2etts.score.error_rates import Errors, mean_interval
from e2etts.score.judges.locate import Unavailable
from e2etts.score.measure import ScoreCache
from e2etts.score.meter import Meter, WavJob


@dataclass
class ClipScore:
    """Scores of one clip; None where a metric did not run on it.

    problem: why its wav cannot be scored at all; nearest_voice: of a clip of an unseen voice, the
    ``name`` of the most similar training voice, and its ``sim``; failures: metric -> why that one
    failed on it; values: results of metrics without a field of their own.
    """

    clip: Clip
    problem: str | None = None
    hypothesis: str | None = None
    errors: Errors | None = None
    sim: float | None = None
    sim_prompt: float | None = None
    nearest_voice: dict[str, Any] | None = None
    dnsmos: dict[str, float] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def row(self, exp: Path) -> dict[str, Any]:
        """One line of scores.jsonl of ``exp``; its wav is relative to that folder."""
        c = self.clip
        return {"system": c.system, "set": c.set, "utt": c.utt, "text": c.text, "lang": c.lang,
                "wav": os.path.relpath(c.wav, exp), "seconds": c.seconds,
                "problem": self.problem, "hypothesis": self.hypothesis,
                "errors": self.errors.to_dict() if self.errors else None, "sim": self.sim,
                "sim_prompt": self.sim_prompt, "nearest_voice": self.nearest_voice,
                "dnsmos": self.dnsmos, "metrics": self.values, "failures": self.failures,
                "notes": self.notes}


def own_job(clip: Clip) -> WavJob:
    """Measures a clip alone."""
    return WavJob(clip.wav, clip.lang)


class ScoreRun:
    """What the metrics share; each fills its part of the scores."""

    def __init__(self, scores: list[ClipScore], cache: ScoreCache, config: ScoreConfig,
                 say: Callable[[str], None], labelled: Sequence[LabelledRecording] = (),
                 voices: Mapping[str, Sequence[Path]] | None = None):
        """labelled: recordings of the train set on which a style classifier is trained; voices:
        recordings of each voice of the train set, with which unseen voices are compared."""
        self.labelled, self.voices = labelled, voices or {}
        self.scores, self.cache, self.config, self.say = scores, cache, config, say
        self.not_run: list[dict[str, Any]] = []
        self.recognizer: dict[str, str] | None = None
        self.models: dict[str, dict[str, Any]] = {}  # metric -> the model that judges

    def skip(self, metric: str, reason: str, remedy: str, sets: list[str] | None = None) -> None:
        """Note that a metric did not run, on all sets or on some."""
        self.not_run.append({"metric": metric, "sets": sets or "all", "reason": reason,
                             "remedy": remedy})
        where = f" of {', '.join(sets)}" if sets else ""
        self.say(f"score: {metric}{where} not run: {reason}; {remedy}")

    def good(self) -> list[ClipScore]:
        """Those whose wav is there and, as far as known, can be read."""
        return [s for s in self.scores if s.problem is None]

    def with_text(self) -> list[ClipScore]:
        """Those of ``good`` whose text is known. Raises Unavailable where none is."""
        return self._having(lambda c: c.text, "text", "pass a list: --list FILE")

    def with_target(self) -> list[ClipScore]:
        """Those of ``good`` of whose text there is a recording. Raises Unavailable without any."""
        return self._having(lambda c: c.target, "recording of the same text",
                            "pass a folder of them: --refs DIR")

    def with_prompt(self) -> list[ClipScore]:
        """Those of ``good`` that imitate a prompt. Raises Unavailable where none does."""
        return self._having(lambda c: c.prompt, "voice prompt",
                            "pass a list that names them: --list FILE")

    def _having(self, take: Callable[[Clip], Any], what: str, remedy: str) -> list[ClipScore]:
        found = [s for s in self.good() if take(s.clip)]
        if not found:
            raise Unavailable(f"no clip has a {what}", remedy)
        return found

    def measure(self, meter: Meter, some: list[ClipScore], metric: str,
                job: Callable[[Clip], WavJob] = own_job) -> Iterator[tuple[ClipScore, Any]]:
        """(score, value) of those that could be measured; marks the rest."""
        cut = [s for s in some if s.clip.seconds > (meter.longest_seconds or float("inf"))]
        for s in cut:
            s.notes.append(f"{metric}: cut off after {meter.longest_seconds:g} s")
        if cut:
            self.say(f"score: {metric}: {len(cut)} clips are cut off after "
                     f"{meter.longest_seconds:g} s, the first {cut[0].clip.utt}")
        return self.sort_out(self.of(meter, [job(s.clip) for s in some]), some, metric, job)

    def sort_out(self, values: dict[WavJob, Any], some: list[ClipScore], metric: str,
                 job: Callable[[Clip], WavJob] = own_job) -> Iterator[tuple[ClipScore, Any]]:
        """The same from known values, so that a metric that measures recordings too opens its
        model once for all."""
        for s in some:
            wanted = job(s.clip)
            value = values.get(wanted, {"error": f"its recording {wanted.reference} is missing"})
            if not isinstance(value, dict) or "error" not in value:
                yield s, value
            elif value["error"].startswith("unreadable"):
                s.problem = value["error"]
            else:
                s.failures[metric] = value["error"]

    def of(self, meter: Meter, jobs: Iterable[WavJob]) -> dict[WavJob, Any]:
        """The value of every job whose files exist."""
        return self.cache.measure(meter, jobs, self.config.workers, self.config.devices)


def mean_of(name: str, some: list[ClipScore], config: ScoreConfig) -> dict[str, Any] | None:
    """Mean of a number over the clips that have it, its 95 % interval, and how many of how many;
    None where none has."""
    values = [s.values[name] for s in some if s.values.get(name) is not None]
    if not values:
        return None
    return {"mean": sum(values) / len(values),
            "ci": mean_interval(values, config.bootstrap_samples, config.seed),
            "scored": len(values), "expected": len(some)}
