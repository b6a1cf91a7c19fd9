"""Check a data directory: every finding names file, line and reason."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from tqdm import tqdm

from e2etts.data.datadir import REQUIRED, TABLES, is_command, write_text
from e2etts.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an utterance must keep. Characters are those of the text as written."""

    sample_rate_hz: int = 16000
    characters_per_second: tuple[float, float] = (1.0, 40.0)
    longest_characters: int = 400
    clipped_share: float = 0.005


@dataclass(frozen=True)
class Finding:
    """One fault. ``utt`` is empty where no utterance can be named; then only fail helps."""

    path: str
    line: int
    utt: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.utt + ': ' if self.utt else ''}{self.reason}"


@dataclass
class _Table:
    """A file as it is: value and line number per id, first occurrence."""

    values: dict[str, str]
    lines: dict[str, int]


def validate(directory: str | Path, limits: Limits, root: Path | None = None) -> list[Finding]:
    """All findings of a data directory, in the order of the files.

    ``root``: what relative wav paths start from; default the current folder. A directory without
    wav.scp is a text-only set. Raises UserError when the directory itself is missing.
    """
    directory = Path(directory)
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
    if "wav.scp" in tables:
        _check_audio(directory, tables, limits, root or Path(), findings)
    return findings


def _read(path: Path, findings: list[Finding]) -> _Table:
    table = _Table({}, {})
    previous = ""
    try:
        raw = path.read_bytes()
    except OSError as e:
        findings.append(Finding(str(path), 0, "", f"cannot read: {e.strerror}"))
        return table
    lines = raw.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        utt = line.split(b" ")[0].split(b"\t")[0].decode("utf-8", errors="replace")

        def add(reason: str, utt: str = utt, number: int = number) -> None:
            findings.append(Finding(str(path), number, utt, reason))

        try:
            value = line.decode("utf-8").replace("\t", " ").partition(" ")[2].strip()
        except UnicodeDecodeError as e:
            add(f"not UTF-8 (byte {e.start} of the line)")
            value = ""
        if not utt.strip():
            add("line without an id")
            continue
        if utt in table.values:
            add(f"id occurs twice, first on line {table.lines[utt]}")
            continue
        if utt < previous:
            add(f"out of order: comes after '{previous}'")
        if not value and not any(f.utt == utt and f.line == number and f.path == str(path)
                                 for f in findings[-1:]):
            add("empty value")
        previous = max(previous, utt)
        table.values[utt] = value
        table.lines[utt] = number
    return table


def _check_ids(directory: Path, tables: dict[str, _Table], findings: list[Finding]) -> None:
    every = {utt for name, t in tables.items() if name != "utt2emo" for utt in t.values}
    for name, table in tables.items():
        path = str(directory / name)
        if name == "utt2emo":
            findings += [Finding(path, table.lines[u], u, "not in the other files")
                         for u in sorted(table.values.keys() - every)]
            continue
        for utt in sorted(every - table.values.keys()):
            other = next(n for n, t in tables.items() if utt in t.values)
            findings.append(Finding(path, 0, utt, f"missing here, but in {other}:"
                                                  f"{tables[other].lines[utt]}"))


def _check_audio(directory: Path, tables: dict[str, _Table], limits: Limits, root: Path,
                 findings: list[Finding]) -> None:
    scp = tables["wav.scp"]
    texts = tables["text"].values if "text" in tables else {}
    for utt, value in tqdm(scp.values.items(), desc=f"validate {directory.name}",
                           mininterval=2.0, disable=len(scp.values) < 500):
        if not value:
            continue
        for reason in audio_faults(value, texts.get(utt, ""), limits, root):
            findings.append(Finding(str(directory / "wav.scp"), scp.lines[utt], utt, reason))


def audio_faults(value: str, text: str, limits: Limits, root: Path) -> list[str]:
    """Reasons why the audio of one utterance cannot be used; empty when it is good."""
    if is_command(value):
        return ["a command, not a path; commands are never run"]
    path = root / value
    if not path.exists():
        return [f"{value}: no such file"]
    try:
        wav, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError, ValueError) as e:
        return [f"{value}: unreadable audio: {' '.join(str(e).split())}"]
    faults = []
    if wav.shape[1] != 1:
        faults.append(f"{value}: {wav.shape[1]} channels, expected one")
    if rate != limits.sample_rate_hz:
        faults.append(f"{value}: {rate} Hz, expected {limits.sample_rate_hz} Hz")
    if not len(wav):
        return [*faults, f"{value}: zero length"]
    if not np.isfinite(wav).all():
        return [*faults, f"{value}: {int((~np.isfinite(wav)).sum())} samples are not numbers"]
    clipped = float((np.abs(wav) >= 32767 / 32768).mean())
    if clipped >= limits.clipped_share:
        faults.append(f"{value}: clipped: {clipped:.1%} of the samples at full scale")
    low, high = limits.characters_per_second
    per_second = len(text) * rate / len(wav)
    if text and not low <= per_second <= high:
        faults.append(f"{value}: {per_second:.1f} characters a second, expected {low:g} to "
                      f"{high:g}")
    return faults


def clean_directory(directory: str | Path, limits: Limits, policy: Literal["fail", "skip"],
                    root: Path | None = None) -> list[Finding]:
    """Validate; on findings raise UserError (fail) or write the set without them (skip).

    skip rewrites each file whole (temporary name, rename), sorted and with equal ids, and lists
    what it left out, with the reasons, in ``skipped.tsv``. It never empties a set: that raises.
    """
    directory = Path(directory)
    findings = validate(directory, limits, root)
    skipped = directory / "skipped.tsv"
    if not findings:
        skipped.unlink(missing_ok=True)
        return []
    if policy == "fail":
        more = f" (and {len(findings) - 1} more findings)" if len(findings) > 1 else ""
        raise UserError(f"{findings[0]}{more}; correct the directory or use --policy skip")
    hopeless = next((f for f in findings if not f.utt and f.reason != "line without an id"), None)
    if hopeless:
        raise UserError(f"{hopeless}: skipping utterances cannot repair this")
    dropped = {f.utt for f in findings if f.reason.partition(":")[0] not in REPAIRABLE}
    tables = {name: _read(directory / name, []) for name in TABLES
              if (directory / name).exists()}
    every = {u for n, t in tables.items() if n != "utt2emo" for u in t.values}
    keep = sorted(every - dropped)
    if not keep:
        raise UserError(f"{directory}: all {len(every)} utterances have faults, the first is "
                        f"{findings[0]}; correct the data")
    rows = "".join(f"{f.utt}\t{Path(f.path).name}:{f.line}\t{f.reason}\n" for f in findings)
    write_text(skipped, "utterance\tplace\treason\n" + rows)
    for name, table in tables.items():
        lines = [f"{u} {table.values[u]}\n" for u in keep if u in table.values]
        write_text(directory / name, "".join(lines))
    print(f"{directory}: {len(every) - len(keep)} of {len(every)} utterances skipped, "
          f"{len(findings)} findings listed in {os.fspath(skipped)}", flush=True)
    return findings


# Sorting the file again cures this one without losing the utterance.
REPAIRABLE = {"out of order"}
