"""Kaldi-style data directories: files of ``id value`` lines, UTF-8, sorted by id."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from e2etts.errors import UserError


def read_table(path: str | Path) -> dict[str, str]:
    """Read an ``id value`` file; values may hold spaces.

    Raises UserError with file:line for a missing file, bytes that are not UTF-8, a line without
    a value, a repeated id, or ids out of order.
    """
    path = Path(path)
    table: dict[str, str] = {}
    previous = ""
    for number, line in _lines(path):
        utt, _, value = line.strip().partition(" ")
        value = value.strip()
        if not utt or not value:
            raise UserError(f"{path}:{number}: expected 'id value', got '{line.strip()[:60]}'")
        if utt in table:
            raise UserError(f"{path}:{number}: id '{utt}' occurs twice; remove one of the lines")
        if utt < previous:
            raise UserError(f"{path}:{number}: '{utt}' comes after '{previous}'; sort the file "
                            "with LC_ALL=C sort")
        table[utt] = value
        previous = utt
    return table


def _lines(path: Path):
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot read: {e.strerror}") from e
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n") if raw else [], start=1):
        try:
            yield number, line.decode("utf-8").replace("\t", " ")
        except UnicodeDecodeError as e:
            raise UserError(f"{path}:{number}: not UTF-8 (byte {e.start}); convert the file "
                            "to UTF-8") from e


def write_table(path: str | Path, table: dict[str, str]) -> None:
    """Write a table sorted by id, under a temporary name and renamed.

    Raises UserError when an id or value cannot be stored as one line, or the disk refuses.
    """
    path = Path(path)
    for utt, value in table.items():
        if not utt or any(c.isspace() for c in utt):
            raise UserError(f"{path}: id '{utt}' is empty or holds white space")
        if not value.strip() or "\n" in value or "\r" in value:
            raise UserError(f"{path}: value of '{utt}' is empty or holds a line break")
    write_text(path, "".join(f"{utt} {table[utt].strip()}\n" for utt in sorted(table)))


def write_text(path: str | Path, content: str) -> None:
    """Write UTF-8 text under a temporary name and rename. Raises UserError (disk full, ...)."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(content, encoding="utf-8")
        part.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UserError(f"{path}: cannot write: {e.strerror}") from e


TABLES = ("text", "utt2lang", "utt2spk", "wav.scp", "utt2emo")
REQUIRED = ("text", "utt2lang", "utt2spk")


@dataclass
class DataDir:
    """One set: tables with the same ids. ``wav`` is empty for text-only sets (free sentences);
    ``utt2emo`` may cover only some of the ids."""

    text: dict[str, str]
    utt2lang: dict[str, str]
    utt2spk: dict[str, str]
    wav: dict[str, str] = field(default_factory=dict)
    utt2emo: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.text)

    @property
    def utts(self) -> list[str]:
        return sorted(self.text)

    @classmethod
    def load(cls, path: str | Path, need_wav: bool = False) -> "DataDir":
        """Read a directory. ``need_wav``: a set without wav.scp is an error.

        Raises UserError for a missing or empty directory, ids that differ between the files, or
        a wav.scp entry that is a command.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: no such data directory; run the data stage (--stage 1)")
        tables = {}
        for name in TABLES:
            wanted = name in REQUIRED or (name == "wav.scp" and need_wav)
            if wanted or (path / name).exists():
                tables[name] = read_table(path / name)
        ids = tables["text"].keys()
        if not ids:
            raise UserError(f"{path}/text: no utterances; run the data stage again (--stage 1)")
        for name, table in tables.items():
            extra = sorted(table.keys() - ids)
            missing = [] if name == "utt2emo" else sorted(ids - table.keys())
            if extra or missing:
                what = (f"'{extra[0]}' is not in text" if extra
                        else f"'{missing[0]}' of text is missing")
                raise UserError(f"{path}/{name}: {what} ({len(extra) + len(missing)} ids differ); "
                                "give all files of the directory the same ids")
        for number, (utt, value) in enumerate(tables.get("wav.scp", {}).items(), start=1):
            if is_command(value):
                raise UserError(f"{path}/wav.scp:{number}: '{utt}' is a command; only paths of "
                                "audio files are read: run the command and store its output")
        return cls(tables["text"], tables["utt2lang"], tables["utt2spk"],
                   tables.get("wav.scp", {}), tables.get("utt2emo", {}))

    def save(self, path: str | Path) -> None:
        """Write all files; empty ``wav`` and ``utt2emo`` are not written, and removed if there."""
        path = Path(path)
        for name, table in zip(TABLES, (self.text, self.utt2lang, self.utt2spk, self.wav,
                                        self.utt2emo), strict=True):
            if table or name in REQUIRED:
                write_table(path / name, table)
            else:
                (path / name).unlink(missing_ok=True)

    def subset(self, utts: list[str]) -> "DataDir":
        """The same set with only ``utts``."""
        keep = set(utts)
        return DataDir(*({u: v for u, v in table.items() if u in keep} for table in (
            self.text, self.utt2lang, self.utt2spk, self.wav, self.utt2emo)))


def is_command(value: str) -> bool:
    """Whether a wav.scp value is a Kaldi pipe, which e2etts never runs."""
    return value.strip().startswith("|") or value.strip().endswith("|")
