"""Data directories from lists of utterances; unusable rows are returned with the reason."""

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from e2etts.data.datadir import DataDir, parse_segment
from e2etts.data.list_formats import COLUMNS, Row, audio_bytes, list_files, read_list
from e2etts.data.recordings import mono_at, write_wav
from e2etts.errors import UserError

LeftOut = tuple[str, str, str]  # name, place, reason


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How a list is read.

    columns: what (see ``COLUMNS``) -> its column, by name or, where the first line names none, by
        number from 1; ``3/2`` takes the first that is not empty.
    audio_dir: what audio paths start from; default the folder of the list. suffix: ending of
        audio files whose names lack it.
    speaker, lang: of all rows, where no column has them. folder_speaker: the speaker is the folder
        that holds the file. text_only: the list names no audio; ids are the speaker and the line.
    """

    columns: dict[str, str] = field(default_factory=dict)
    audio_dir: Path | None = None
    suffix: str = ".wav"
    speaker: str | None = None
    folder_speaker: bool = False
    lang: str | None = None
    delimiter: str | None = None
    text_only: bool = False


LJSPEECH = {"audio": "1", "text": "3/2"}  # id|text|text with numbers written out


@dataclass(frozen=True)
class _Entry:
    place: str
    path: str
    utt: str  # empty where the file's path names it
    text: str
    speaker: str
    lang: str
    emotion: str
    span: tuple[str, str] | None


class _Unusable(Exception):
    """Why a row cannot be used: ``kind`` or ``kind: particulars``."""


def data_from_lists(lists: Iterable[str | Path], options: ListOptions, wav_dir: str | Path,
           sample_rate_hz: int) -> tuple[DataDir, list[LeftOut]]:
    """The set that ``lists`` describe. Audio stored in a list is written to ``wav_dir/unpacked``,
    one channel at ``sample_rate_hz``; audio in files is only named.

    Raises UserError for a list that cannot be read or lacks a column, and if no row is usable.
    """
    entries: list[_Entry] = []
    left_out: list[LeftOut] = []
    unpack = _Unpacker(Path(wav_dir) / "unpacked", sample_rate_hz)
    for path in [file for name in lists for file in list_files(name)]:
        reader = _ListReader(path, options, unpack)
        rows = read_list(path, options.delimiter, _by_number(options.columns))
        for row in tqdm(rows, desc=path.name, unit="row", mininterval=2.0, delay=2.0):
            try:
                entries.append(reader.entry(row))
            except _Unusable as e:
                left_out.append((reader.name_of(row), row.place, str(e)))
        reader.print_columns()
    data = _directory(entries, left_out)
    if not data.text:
        first = f", the first ({left_out[0][1]}) because of: {left_out[0][2]}" if left_out else ""
        raise UserError(f"none of {len(left_out)} rows can be used{first}")
    return data, left_out


def _by_number(columns: dict[str, str]) -> bool:
    return any(c.replace("/", "").isdecimal() for c in columns.values())


class _Unpacker:
    """Writes audio that is stored in lists to files, at once, because it can be large."""

    def __init__(self, folder: Path, sample_rate_hz: int):
        self.folder, self.sample_rate_hz = folder, sample_rate_hz
        self.written: set[str] = set()

    def __call__(self, stored: io.BytesIO, utt: str) -> str:
        if utt in self.written:
            raise _Unusable("id occurs twice")
        try:
            wav, rate = soundfile.read(stored, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as e:
            raise _Unusable(f"unreadable audio: {e}") from e
        path = self.folder / f"{utt}.wav"
        write_wav(path, mono_at(wav, rate, self.sample_rate_hz), self.sample_rate_hz)
        self.written.add(utt)
        return str(path)


class _ListReader:
    """Turns rows of one list into entries; its columns are settled by the first row."""

    def __init__(self, path: Path, options: ListOptions, unpack: "_Unpacker"):
        self.path, self.options, self.unpack = path, options, unpack
        self.base = options.audio_dir or path.parent
        self.columns: dict[str, list[str]] | None = None

    def entry(self, row: Row) -> _Entry:
        if self.columns is None:
            self.columns = self._settle(row)
        text = self._value(row, "text")
        if not text:
            raise _Unusable("no text")
        audio, utt = self._cell(row, "audio"), safe(self._value(row, "id"))
        stored = audio_bytes(audio)
        path = "" if stored or self.options.text_only else self._file(audio)
        speaker, lang = self._label(row, "speaker", path), self._label(row, "lang", path)
        if stored:
            named = Path(audio.get("path") or f"{self.path.stem}-{row.place.rpartition(':')[2]}")
            utt = utt or _with_speaker(safe(named.stem), speaker)
            path = self.unpack(stored, utt)
        elif self.options.text_only:
            utt = utt or f"{speaker}-{self.path.stem}-{int(row.place.rpartition(':')[2]):04d}"
        start, end = self._value(row, "start"), self._value(row, "end")
        return _Entry(row.place, path, utt, text, speaker, re.split("[-_]", lang.lower())[0],
                      safe(self._value(row, "emotion")),
                      (start or "0", end or "-1") if start or end else None)

    def name_of(self, row: Row) -> str:
        """Name of a row in the list of those left out."""
        audio = self._cell(row, "audio")
        audio = audio.get("path") if isinstance(audio, dict) else audio
        return self._value(row, "id") or str(audio or "")

    def print_columns(self) -> None:
        """Print which column is used for what: guesses can be wrong."""
        used = " ".join(f"{k}={'/'.join(v)}" for k, v in (self.columns or {}).items())
        print(f"{self.path}: columns {used or 'none: the list is empty'}")

    def _settle(self, row: Row) -> dict[str, list[str]]:
        columns = {what: name.split("/") for what, name in self.options.columns.items()}
        for what, names in COLUMNS.items():
            found = [n for n in names if n in row.values]
            if found and what not in columns and not _by_number(self.options.columns):
                columns[what] = found[:1]
        for what, names in columns.items():
            if not any(n in row.values for n in names):
                raise UserError(f"{row.place}: no column '{'/'.join(names)}' ({what}); there are: "
                                f"{', '.join(row.values)}")
        for what in ("text",) if self.options.text_only else ("audio", "text"):
            if what not in columns:
                raise UserError(f"{self.path}: no column is called {' or '.join(COLUMNS[what])}: "
                                f"give --columns {what}=NAME, or its number where the first line "
                                f"names no columns; there are: {', '.join(row.values)}")
        return columns

    def _cell(self, row: Row, what: str) -> Any:
        cells = (row.values.get(name) for name in (self.columns or {}).get(what, ()))
        return next((cell for cell in cells if cell not in (None, "")), None)

    def _value(self, row: Row, what: str) -> str:
        cell = self._cell(row, what)
        return "" if cell is None else " ".join(str(cell).split())

    def _file(self, audio: Any) -> str:
        named = audio.get("path") if isinstance(audio, dict) else audio
        if not named:
            raise _Unusable("no audio named")
        path = self.base / str(named).strip()
        for found in (path, path.with_name(path.name + self.options.suffix)):
            if found.is_file():
                return str(found)
        raise _Unusable(f"no such file: {path}")

    def _label(self, row: Row, what: str, path: str) -> str:
        given = {"speaker": self.options.speaker, "lang": self.options.lang}[what]
        if what == "speaker" and self.options.folder_speaker and path:
            return safe(Path(path).parent.name)
        if what not in self.columns:
            if not given:
                raise UserError(f"{self.path}: no column has the {what}: give --{what} NAME for "
                                f"all, or --columns {what}=NAME; there are: "
                                f"{', '.join(row.values)}")
            return safe(given)
        label = safe(self._value(row, what)) or safe(given or "")
        if not label:
            raise _Unusable(f"no {what}")
        return label


def safe(name: str) -> str:
    """``name`` as a part of an id: letters, digits and ``. _ -``."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.-")


def _directory(entries: list[_Entry], left_out: list[LeftOut]) -> DataDir:
    """Adds to ``left_out``."""
    data = DataDir({}, {}, {})
    segmented = any(e.span for e in entries)
    folders = {os.path.dirname(os.path.abspath(e.path)) for e in entries if not e.utt}
    common = os.path.commonpath(folders) if folders else ""
    seen: dict[tuple, str] = {}
    for e in entries:
        recording = _recording_id(e.path, common) if common and e.path else e.utt
        utt = e.utt or _with_speaker("-".join([recording, *map(safe, e.span or ())]), e.speaker)
        first = seen.setdefault((e.path or e.place, e.span), e.place)
        segment, reason = f"{recording} {' '.join(e.span or ('0', '-1'))}", ""
        if first != e.place:
            reason = f"same audio as another row: {first}"
        elif utt in data.text:
            reason = "id occurs twice"
        elif segmented and data.wav.get(recording, e.path) != e.path:
            reason = "two recordings would have one id"
        elif segmented:
            reason = _time_fault(segment)
        if reason:
            left_out.append((utt, e.place, reason))
            continue
        if segmented:
            data.segments[utt] = segment
        if e.path:
            data.wav[recording if segmented else utt] = e.path
        data.text[utt], data.utt2lang[utt], data.utt2spk[utt] = e.text, e.lang, e.speaker
        if e.emotion:
            data.utt2emo[utt] = e.emotion
    return data


def _recording_id(path: str, common: str) -> str:
    stem = os.path.relpath(os.path.splitext(os.path.abspath(path))[0], common)
    return safe(stem.replace(os.sep, "-"))


def _time_fault(segment: str) -> str:
    try:
        parse_segment(segment)
    except ValueError as e:
        return f"unusable times: {e}"
    return ""


def _with_speaker(name: str, speaker: str) -> str:
    """Ids that begin with the speaker sort by speaker."""
    begins = re.match(rf"{re.escape(speaker)}(?![^\W_])", name)
    return name if begins else f"{speaker}-{name}"
