"""Validate a data directory: every finding names file, line and reason."""

import codecs
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from e2etts.data.datadir import (
    PARTIAL,
    REQUIRED,
    TABLES,
    AudioSpan,
    DataDir,
    is_command,
    parse_segment,
    prompt_fault,
    write_text,
)
from e2etts.data.recordings import header, read
from e2etts.data.workers import in_order
from e2etts.errors import UserError

OUT_OF_ORDER, LOST_PROMPT = "out of order", "its prompt has faults"
# Repaired without dropping the utterance: by sorting the file, by dropping its line of utt2prompt.
REPAIRABLE = {OUT_OF_ORDER, LOST_PROMPT}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that an utterance must meet. Characters are those of the written text. Without
    ``samples`` only the audio header is checked: rate, channels and length. None for the rate or
    the channels accepts any."""

    sample_rate_hz: int | None = 16000
    channels: int | None = 1
    characters_per_second: tuple[float, float] = (1.0, 40.0)
    longest_characters: int = 400
    clipped_share: float = 0.005
    samples: bool = True


@dataclass(frozen=True)
class Finding:
    """One fault. ``utt`` is empty if it concerns no utterance; skipping cannot repair it then."""

    path: str
    line: int
    utt: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.utt + ': ' if self.utt else ''}{self.reason}"


@dataclass
class _Table:
    """Contents of a file: value and line number of the first occurrence of each id."""

    values: dict[str, str]
    lines: dict[str, int]


def validate(directory: str | Path, limits: Limits, workers: int = 2) -> list[Finding]:
    """All findings of a data directory, in the order of the files.

    A directory without wav.scp is a text-only set. Raises UserError when the directory itself is
    missing.
    """
    return _examine(Path(directory), limits, workers)[1]


def _examine(directory: Path, limits: Limits,
             workers: int) -> tuple[dict[str, _Table], list[Finding]]:
    if not directory.is_dir():
        raise UserError(f"{directory}: no such data directory; give the folder that holds "
                        "text, utt2spk, utt2lang and wav.scp")
    findings: list[Finding] = []
    tables = {}
    for name in TABLES:
        path = directory / name
        if path.exists():
            tables[name] = _read(path, findings)
        elif name in REQUIRED:
            findings.append(Finding(str(path), 0, "", "missing file"))
    if "text" in tables and not tables["text"].values and not findings:
        findings.append(Finding(str(directory / "text"), 0, "", "no utterances"))
    _check_ids(directory, tables, findings)
    for utt, text in (tables["text"].values if "text" in tables else {}).items():
        if len(text) > limits.longest_characters:
            findings.append(Finding(str(directory / "text"), tables["text"].lines[utt], utt,
                                    f"{len(text)} characters, at most "
                                    f"{limits.longest_characters}"))
    if "utt2prompt" in tables:
        _check_prompts(directory, tables, findings)
    if "wav.scp" in tables:
        _check_audio(directory, tables, limits, workers, findings)
    return tables, findings


def _read(path: Path, findings: list[Finding]) -> _Table:
    table = _Table({}, {})
    previous = ""
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as e:
        findings.append(Finding(str(path), 0, "", f"cannot read: {e.strerror}"))
        return table
    lines = raw.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        utt = line.split(b" ")[0].split(b"\t")[0].decode("utf-8", errors="replace")

        def add(reason: str, utt: str = utt, number: int = number) -> None:
            findings.append(Finding(str(path), number, utt, reason))

        try:
            value = line.decode("utf-8").replace("\t", " ").partition(" ")[2].strip()
        except UnicodeDecodeError as e:
            add(f"not UTF-8 (byte {e.start} of the line)")
            value = None
        if not utt:
            add("line without an id")
            continue
        if "/" in utt:
            add("id holds '/'; ids name files")
        if utt in table.values:
            add(f"id occurs twice, first on line {table.lines[utt]}")
            continue
        if utt < previous:
            add(f"{OUT_OF_ORDER}: comes after '{previous}'")
        if value == "":
            add("empty value")
        previous = max(previous, utt)
        utt = sys.intern(utt)
        table.values[utt] = value or ""
        table.lines[utt] = number
    return table


def _utterances(tables: dict[str, _Table]) -> set[str]:
    """Union of the utterances of all files; with segments, wav.scp has recordings instead."""
    apart = {*PARTIAL, "wav.scp" if "segments" in tables else ""}
    return {utt for name, t in tables.items() if name not in apart for utt in t.values}


def _check_ids(directory: Path, tables: dict[str, _Table], findings: list[Finding]) -> None:
    every = _utterances(tables)
    for name, table in tables.items():
        path = str(directory / name)
        if name in PARTIAL:
            findings += [Finding(path, table.lines[u], u, "not in the other files")
                         for u in sorted(table.values.keys() - every)]
            continue
        if name == "wav.scp" and "segments" in tables:
            continue
        for utt in sorted(every - table.values.keys()):
            other = next(n for n, t in tables.items() if utt in t.values)
            findings.append(Finding(path, 0, utt, f"missing here, but in {other}:"
                                                  f"{tables[other].lines[utt]}"))


def _check_prompts(directory: Path, tables: dict[str, _Table], findings: list[Finding]) -> None:
    path, table = str(directory / "utt2prompt"), tables["utt2prompt"]
    speakers = tables["utt2spk"].values if "utt2spk" in tables else {}
    if "wav.scp" not in tables:
        findings.append(Finding(path, 0, "", "prompts are recordings, and there is no wav.scp"))
    for utt, prompt in table.values.items():
        if prompt and utt in speakers and (fault := prompt_fault(utt, prompt, speakers)):
            findings.append(Finding(path, table.lines[utt], utt, fault))


def _check_audio(directory: Path, tables: dict[str, _Table], limits: Limits, workers: int,
                 findings: list[Finding]) -> None:
    named_by = "segments" if "segments" in tables else "wav.scp"
    lines = tables[named_by].lines
    texts = tables["text"].values if "text" in tables else {}
    jobs, faults = [], {}
    for utt, value in tables[named_by].values.items():
        if not value:
            continue
        try:
            source = _source(value, tables["wav.scp"].values, named_by == "segments")
        except ValueError as e:
            faults[utt] = [str(e)]
        else:
            jobs.append((utt, source, texts.get(utt, "")))
    work = partial(_faults_of, limits=limits)
    results = tqdm(in_order(work, jobs, workers, chunk=64), desc=f"validate {directory.name}",
                   total=len(jobs), mininterval=2.0, disable=len(jobs) < 500)
    faults |= {utt: found for utt, found in results if found}
    findings += [Finding(str(directory / named_by), lines[utt], utt, reason)
                 for utt in lines if utt in faults for reason in faults[utt]]


def _source(value: str, wavs: dict[str, str], segmented: bool) -> AudioSpan:
    """Raises ValueError for an unusable entry."""
    source = AudioSpan(value)
    if segmented:
        recording, start, end = parse_segment(value)
        if not wavs.get(recording):
            raise ValueError(f"recording '{recording}' is not in wav.scp")
        source = AudioSpan(wavs[recording], start, end)
    if is_command(source.path):
        raise ValueError("a command, not a path; commands are never run")
    return source


def _faults_of(job: tuple[str, AudioSpan, str], limits: Limits) -> tuple[str, list[str]]:
    utt, source, text = job
    return utt, audio_faults(source, text, limits)


def audio_faults(source: AudioSpan, text: str, limits: Limits) -> list[str]:
    """Reasons why the audio of one utterance is unusable; empty if it is valid."""
    path = source.path
    try:
        about = header(source)
        wav = read(source)[0] if limits.samples else np.zeros((0, 1))
    except UserError as e:
        return [str(e)]
    faults = []
    if limits.channels not in (None, about.channels):
        faults.append(f"{path}: {about.channels} channels, expected {limits.channels}")
    if limits.sample_rate_hz not in (None, about.rate_hz):
        faults.append(f"{path}: {about.rate_hz} Hz, expected {limits.sample_rate_hz} Hz")
    if not about.samples:
        return [*faults, f"{path}: zero length"]
    if not np.isfinite(wav).all():
        return [*faults, f"{path}: {int((~np.isfinite(wav)).sum())} samples are not numbers"]
    clipped = float((np.abs(wav) >= 32767 / 32768).mean()) if len(wav) else 0.0
    if clipped >= limits.clipped_share:
        faults.append(f"{path}: clipped: {clipped:.1%} of the samples at full scale")
    low, high = limits.characters_per_second
    per_second = len(text) / about.seconds
    if text and not low <= per_second <= high:
        faults.append(f"{path}: {per_second:.1f} characters a second, expected {low:g} to "
                      f"{high:g}")
    return faults


def clean_directory(directory: str | Path, limits: Limits, policy: Literal["fail", "skip"],
                    workers: int = 2) -> list[Finding]:
    """Validate; on findings raise UserError (fail) or drop the faulty utterances (skip).

    skip rewrites each file atomically, sorted and with equal ids, and lists dropped utterances
    with reasons in ``skipped.tsv``. Dropping all utterances of a set is an error.
    """
    directory = Path(directory)
    tables, findings = _examine(directory, limits, workers)
    skipped = directory / "skipped.tsv"
    if not findings:
        skipped.unlink(missing_ok=True)
        return []
    if policy == "fail":
        more = f" (and {len(findings) - 1} more findings)" if len(findings) > 1 else ""
        raise UserError(f"{findings[0]}{more}; correct the directory or use --policy skip")
    data, lost = _without_faults(directory, tables, findings)
    write_findings(skipped, findings)
    data.save(directory)
    print(f"{directory}: {lost} of {len(data) + lost} utterances skipped, "
          f"{len(findings)} findings listed in {skipped}", flush=True)
    return findings


def faultless(directory: str | Path, limits: Limits,
              workers: int = 2) -> tuple[DataDir, list[Finding]]:
    """The set without faulty utterances, and the findings; writes nothing.

    Raises UserError if dropping utterances cannot repair the set.
    """
    directory = Path(directory)
    tables, findings = _examine(directory, limits, workers)
    return _without_faults(directory, tables, findings)[0], findings


def _without_faults(directory: Path, tables: dict[str, _Table],
                    findings: list[Finding]) -> tuple[DataDir, int]:
    """(the set of valid utterances, number of dropped ones). Adds findings for the utterances whose
    prompt is dropped: they stay, but have none."""
    hopeless = next((f for f in findings if not f.utt and f.reason != "line without an id"), None)
    if hopeless:
        raise UserError(f"{hopeless}: skipping utterances cannot repair this")
    dropped = {f.utt for f in findings if f.reason.partition(":")[0] not in REPAIRABLE}
    every = _utterances(tables)
    keep = every - dropped
    if not keep:
        raise UserError(f"{directory}: all {len(every)} utterances have faults, the first is "
                        f"{findings[0]}; correct the data")
    whole = DataDir(**{TABLES[name]: t.values for name, t in tables.items()})
    if whole.utt2prompt:
        path, lines = str(directory / "utt2prompt"), tables["utt2prompt"].lines
        findings += [Finding(path, lines[utt], utt, f"{LOST_PROMPT}: '{prompt}' is left out")
                     for utt, prompt in whole.utt2prompt.items()
                     if utt in keep and prompt not in keep]
    return whole.subset(keep), len(every) - len(keep)


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write the list of dropped utterances: utterance, place and reason, tab-separated."""
    rows = "".join(f"{f.utt}\t{Path(f.path).name}:{f.line}\t{f.reason}\n" for f in findings)
    write_text(path, "utterance\tplace\treason\n" + rows)
