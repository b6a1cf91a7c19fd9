"""Kaldi-style data directories: files of ``id value`` lines, UTF-8, sorted by id."""

import codecs
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from e2etts.errors import UserError
from e2etts.files import write_text


def read_table(path: str | Path) -> dict[str, str]:
    """Read an ``id value`` file; values may hold spaces.

    Raises UserError with file:line for a missing file, bytes that are not UTF-8, a line without
    a value, a repeated id, an id that cannot name a file, or ids out of order.
    """
    path = Path(path)
    table: dict[str, str] = {}
    previous = ""
    for number, line in _lines(path):
        utt, _, value = line.strip().partition(" ")
        value = value.strip()
        if not utt or not value:
            raise UserError(f"{path}:{number}: expected 'id value', got '{line.strip()[:60]}'")
        if "/" in utt:
            raise UserError(f"{path}:{number}: id '{utt}' holds '/'; ids name files: replace it")
        if utt in table:
            raise UserError(f"{path}:{number}: id '{utt}' occurs twice; remove one of the lines")
        if utt < previous:
            raise UserError(f"{path}:{number}: '{utt}' comes after '{previous}'; sort the file "
                            "with LC_ALL=C sort")
        utt = sys.intern(utt)  # the files of a set share ids: intern them
        table[utt] = value
        previous = utt
    return table


def _lines(path: Path):
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as e:
        raise UserError(f"{path}: cannot read: {e.strerror}") from e
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n") if raw else [], start=1):
        try:
            yield number, line.decode("utf-8").replace("\t", " ")
        except UnicodeDecodeError as e:
            raise UserError(f"{path}:{number}: not UTF-8 (byte {e.start}); convert the file "
                            "to UTF-8") from e


def write_table(path: str | Path, table: dict[str, str]) -> None:
    """Write a table sorted by id, atomically (temporary name, rename).

    Raises UserError when an id or value cannot be stored as one line, or the write fails.
    """
    path = Path(path)
    for utt, value in table.items():
        if not utt or "/" in utt or any(c.isspace() for c in utt):
            raise UserError(f"{path}: id '{utt}' is empty or holds white space or '/'")
        if not value.strip() or "\n" in value or "\r" in value:
            raise UserError(f"{path}: value of '{utt}' is empty or holds a line break")
    write_text(path, "".join(f"{utt} {table[utt].strip()}\n" for utt in sorted(table)))


# File -> field of DataDir.
TABLES = {"text": "text", "utt2lang": "utt2lang", "utt2spk": "utt2spk", "wav.scp": "wav",
          "utt2emo": "utt2emo", "segments": "segments", "utt2prompt": "utt2prompt"}
REQUIRED = ("text", "utt2lang", "utt2spk")
PARTIAL = ("utt2emo", "utt2prompt")  # may cover only some of the ids


class AudioSpan(NamedTuple):
    """Location of the audio of an utterance: a file or a segment of it (end None: to its end)."""

    path: str
    start_seconds: float = 0.0
    end_seconds: float | None = None


@dataclass
class DataDir:
    """A Kaldi-style data set: tables with the same ids. ``wav`` is empty for text-only sets;
    ``utt2emo`` may cover only some of the ids. With ``segments`` (utterance -> ``recording start
    end`` in seconds; end -1 is the end of the recording) the keys of ``wav`` are recordings.
    ``utt2prompt`` (utterance -> another one of its speaker) is of zero-shot sets: the text of the
    one is to be spoken in the voice of the recording of the other."""

    text: dict[str, str]
    utt2lang: dict[str, str]
    utt2spk: dict[str, str]
    wav: dict[str, str] = field(default_factory=dict)
    utt2emo: dict[str, str] = field(default_factory=dict)
    segments: dict[str, str] = field(default_factory=dict)
    utt2prompt: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.text)

    @property
    def utts(self) -> list[str]:
        return sorted(self.text)

    def source(self, utt: str) -> AudioSpan:
        """Location of the audio of ``utt``."""
        if not self.segments:
            return AudioSpan(self.wav[utt])
        recording, start, end = parse_segment(self.segments[utt])
        return AudioSpan(self.wav[recording], start, end)

    @classmethod
    def load(cls, path: str | Path, need_wav: bool = False) -> "DataDir":
        """Read a directory. ``need_wav``: require wav.scp.

        Raises UserError for a missing or empty directory, ids that differ between the files, a
        segment of an unknown recording, a prompt that is none, or a wav.scp entry that is a
        command.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: no such data directory; run the data stage (--stage 1)")
        tables = {}
        for name, kept_as in TABLES.items():
            wanted = name in REQUIRED or (name == "wav.scp" and need_wav)
            if wanted or (path / name).exists():
                tables[kept_as] = read_table(path / name)
        if not tables["text"]:
            raise UserError(f"{path}/text: no utterances; run the data stage again (--stage 1)")
        data = cls(**tables)
        data._check(path)
        for label in (data.utt2lang, data.utt2spk, data.utt2emo):  # few distinct values
            label.update({utt: sys.intern(value) for utt, value in label.items()})
        return data

    def _check(self, path: Path) -> None:
        ids = self.text.keys()
        for name, table in self.tables().items():
            if not table or (name == "wav.scp" and self.segments):
                continue
            extra = sorted(table.keys() - ids)
            missing = [] if name in PARTIAL else sorted(ids - table.keys())
            if extra or missing:
                what = (f"'{extra[0]}' is not in text" if extra
                        else f"'{missing[0]}' of text is missing")
                raise UserError(f"{path}/{name}: {what} ({len(extra) + len(missing)} ids differ); "
                                "give all files of the directory the same ids")
        for number, (utt, value) in enumerate(self.segments.items(), start=1):
            try:
                recording = parse_segment(value)[0]
            except ValueError as e:
                raise UserError(f"{path}/segments:{number}: '{utt}': {e}") from e
            if recording not in self.wav:
                raise UserError(f"{path}/segments:{number}: '{utt}' is of recording "
                                f"'{recording}', which wav.scp lacks")
        for number, (utt, prompt) in enumerate(self.utt2prompt.items(), start=1):
            if fault := prompt_fault(utt, prompt, self.utt2spk):
                raise UserError(f"{path}/utt2prompt:{number}: '{utt}': {fault}")
        if self.utt2prompt and not self.wav:
            raise UserError(f"{path}/utt2prompt: prompts are recordings: add wav.scp")
        for number, (utt, value) in enumerate(self.wav.items(), start=1):
            if is_command(value):
                raise UserError(f"{path}/wav.scp:{number}: '{utt}' is a command; only paths of "
                                "audio files are read: run the command and store its output")

    def tables(self) -> dict[str, dict[str, str]]:
        """File name -> table, in the order of ``TABLES``."""
        return {name: getattr(self, kept_as) for name, kept_as in TABLES.items()}

    def save(self, path: str | Path) -> None:
        """Write all files; empty optional tables are not written, and old files of them removed."""
        path = Path(path)
        for name, table in self.tables().items():
            if table or name in REQUIRED:
                write_table(path / name, table)
            else:
                (path / name).unlink(missing_ok=True)

    def subset(self, utts: Iterable[str]) -> "DataDir":
        """The subset with ``utts`` and their recordings; one whose prompt is not among them loses
        it."""
        keep = set(utts)
        parts = {f.name: {u: v for u, v in getattr(self, f.name).items() if u in keep}
                 for f in fields(self)}
        parts["utt2prompt"] = {u: p for u, p in parts["utt2prompt"].items() if p in keep}
        if self.segments:
            used = {v.partition(" ")[0] for v in parts["segments"].values()}
            parts["wav"] = {r: v for r, v in self.wav.items() if r in used}
        return DataDir(**parts)


def parse_segment(value: str) -> tuple[str, float, float | None]:
    """Parse ``recording start end`` (seconds); an end of -1 becomes None.

    Raises ValueError with the reason.
    """
    try:
        recording, first, last = value.split()
        start, end = float(first), float(last)
    except ValueError:
        raise ValueError(f"expected 'recording start end', got '{value[:60]}'") from None
    if end == -1:
        end = math.inf
    if not 0 <= start < end:
        raise ValueError(f"{first} to {last} is no valid interval; give seconds, start before end")
    return recording, start, None if math.isinf(end) else end


def prompt_fault(utt: str, prompt: str, utt2spk: dict[str, str]) -> str:
    """Why ``prompt`` cannot be the voice prompt of ``utt``; empty if it can."""
    if prompt == utt:
        return "is its own prompt: name another utterance of its speaker"
    if prompt not in utt2spk:
        return f"its prompt '{prompt}' is no utterance of this set"
    if utt2spk[prompt] != utt2spk.get(utt):
        return (f"its prompt '{prompt}' is of speaker '{utt2spk[prompt]}', not of its own "
                f"'{utt2spk.get(utt)}'")
    return ""


def is_command(value: str) -> bool:
    """Whether a wav.scp value is a Kaldi pipe; e2etts never runs these."""
    return value.strip().startswith("|") or value.strip().endswith("|")
