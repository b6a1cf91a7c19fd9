"""Statistics of a data set: utterances, hours, durations, speakers, texts; published sizes."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from e2etts.data.datadir import AudioSpan, DataDir
from e2etts.data.edit import text_key
from e2etts.data.recordings import header
from e2etts.data.workers import in_order
from e2etts.errors import UserError

HOURS_TOLERANCE = 0.01  # published hours are rounded
ABOUT_TOLERANCE = 0.05  # some publishers state only "about"


def summarise(data: DataDir, *, audio: bool = True, workers: int = 2) -> dict[str, Any]:
    """Statistics of a set, ready for JSON. ``audio``: read the headers of its files; utterances
    with an unreadable file are counted as ``unreadable`` and excluded from durations."""
    texts = list(data.text.values())
    out: dict[str, Any] = {
        "utterances": len(data), "distinct_texts": len({text_key(t) for t in texts}),
        "characters_mean": sum(map(len, texts)) / len(texts)}
    seconds: dict[str, float] = {}
    if data.segments:
        out["recordings"] = len(data.wav)
        out["recordings_unused"] = len(data.wav.keys() - {
            v.partition(" ")[0] for v in data.segments.values()})
    if audio and data.wav:
        seconds, rates, unreadable = _headers(data, workers)
        out["unreadable"] = unreadable
        out["formats"] = {f"{hz} Hz, {n} channels": count for (hz, n), count in rates.items()}
        if seconds:
            lengths = np.array(list(seconds.values()))
            out["hours"] = lengths.sum() / 3600
            out["seconds"] = dict(zip(("shortest", "median", "longest"), map(float, np.quantile(
                lengths, (0, 0.5, 1))), strict=True))
            out["characters_per_second"] = sum(len(data.text[u]) for u in seconds) / lengths.sum()
    for what, labels in (("languages", data.utt2lang), ("emotions", data.utt2emo),
                         ("speakers", data.utt2spk)):
        groups = defaultdict(lambda: {"utterances": 0, "hours": 0.0})
        for utt, label in labels.items():
            groups[label]["utterances"] += 1
            groups[label]["hours"] += seconds.get(utt, 0.0) / 3600
        out[what] = dict(sorted(groups.items()))
    return out


def _headers(data: DataDir, workers: int) -> tuple[dict[str, float], Counter, int]:
    jobs = [data.source(utt) for utt in data.utts]
    seconds, formats, unreadable = {}, Counter(), 0
    found = tqdm(in_order(_try_header, jobs, workers, chunk=64), desc="audio headers",
                 total=len(jobs), mininterval=2.0, disable=len(jobs) < 5000)
    for utt, about in zip(data.utts, found, strict=True):
        if about is None:
            unreadable += 1
        else:
            seconds[utt] = about.seconds
            formats[about.rate_hz, about.channels] += 1
    return seconds, formats, unreadable


def _try_header(source: AudioSpan):
    try:
        return header(source)
    except UserError:
        return None


def summary_text(name: str, numbers: dict[str, Any], speakers: int) -> str:
    """The statistics as text; lists the ``speakers`` with most utterances."""
    hours = f", {numbers['hours']:.2f} h" if "hours" in numbers else ""
    lines = [f"{name}: {numbers['utterances']} utterances{hours}, "
             f"{len(numbers['speakers'])} speakers"]
    if "seconds" in numbers:
        lines.append("  seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in
                                               numbers["seconds"].items()))
        lines.append(f"  characters a second: {numbers['characters_per_second']:.1f}")
    lines.append(f"  texts: {numbers['distinct_texts']} distinct, "
                 f"{numbers['characters_mean']:.1f} characters on average")
    if "recordings" in numbers:
        lines.append(f"  recordings: {numbers['recordings']}, "
                     f"{numbers['recordings_unused']} without a segment")
    if "formats" in numbers:
        formats = [f"{k} ({n})" for k, n in numbers["formats"].items()]
        formats += [f"unreadable ({numbers['unreadable']})"] * bool(numbers["unreadable"])
        lines.append("  audio: " + ", ".join(formats))
    for what, most in (("languages", None), ("emotions", None), ("speakers", speakers)):
        order = sorted(numbers[what].items(), key=lambda item: -item[1]["utterances"])
        shown = [f"{label} {g['utterances']}" + (f" ({g['hours']:.2f} h)" if g["hours"] else "")
                 for label, g in order[:most]]
        more = len(order) - len(shown)
        if shown:
            lines.append(f"  {what}: {', '.join(shown)}{f', {more} more' if more else ''}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Size:
    utterances: int
    hours: float
    speakers: int


@dataclass(frozen=True)
class Published:
    """Size of a part of a corpus as its publishers state it; None where they do not.
    about_hours: where they state "about" or "roughly"."""

    utterances: int | None = None
    hours: float | None = None
    speakers: int | None = None
    about_hours: float | None = None

    def __str__(self) -> str:
        stated = (("{:,} utterances", self.utterances), ("{:.2f} h", self.hours),
                ("about {:g} h", self.about_hours), ("{:,} speakers", self.speakers))
        return ", ".join(form.format(value) for form, value in stated if value is not None)

    def agrees(self, size: Size) -> bool:
        """Counts must be equal, hours as precisely as they are stated."""
        return all((
            self.utterances in (None, size.utterances), self.speakers in (None, size.speakers),
            self.hours is None or abs(size.hours - self.hours) <= HOURS_TOLERANCE * self.hours,
            self.about_hours is None
            or abs(size.hours - self.about_hours) <= ABOUT_TOLERANCE * self.about_hours))


def compare_sizes(sizes: list[tuple[str, Size]], published: dict[str, Published]) -> list[str]:
    """Print the size of each part, with the published one; returns the parts that differ."""
    for name, size in sizes:
        stated = f" (published: {published[name]})" if name in published else ""
        print(f"{name}: {size.utterances:,} utterances, {size.hours:.2f} h, {size.speakers:,} "
              f"speakers{stated}", flush=True)
    return [name for name, size in sizes if name in published and not published[name].agrees(size)]
