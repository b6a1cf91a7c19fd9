"""Speech tokens of a prepared set, or what belongs to each of them, from files: ``<name>.scp`` and
``.ark``, one row of integers an utterance."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import kaldiio
import numpy as np
from kaldiio.matio import read_kaldi

from e2etts.data.datadir import is_command, read_table, write_table
from e2etts.errors import UserError

# Tokenizers pad the end of a recording differently; more than this is another recording or rate.
TOLERANCE_TOKENS = 2
# Tables that the prepare stage writes.
RESERVED = ("mel", "wav")


def ark_entry(scp: Path, utt: str, value: str) -> str:
    """``path:offset`` of an scp value, the ark being in the folder of the scp. Raises UserError
    for a command."""
    if is_command(value):
        raise UserError(f"{scp}: '{utt}' is a command; only ark files are read: run the stage that "
                        "wrote it again")
    path, _, offset = value.rpartition(":")
    return f"{scp.parent / Path(path).name}:{offset}"


def read_ark(entry: str, content: str, remedy: str) -> np.ndarray:
    """The array at ``path:offset``. Raises UserError with its content and the remedy for a damaged
    file and for anything but a binary Kaldi matrix or vector: of the other formats that kaldiio
    reads, one is a pickle, which may run code."""
    path, _, offset = entry.rpartition(":")
    try:
        with open(path, "rb") as file:
            file.seek(int(offset))
            if file.read(2) != b"\0B":
                raise ValueError("not a binary Kaldi matrix or vector")
            file.seek(int(offset))
            return read_kaldi(file)
    except Exception as e:  # kaldiio has no error of its own for damaged files
        reason = " ".join(str(e).split()) or "damaged"
        raise UserError(f"{entry}: cannot read {content} ({reason}): {remedy}") from e


class Rows:
    """A row of integers of every utterance, read lazily.

    Raises UserError for a missing file and for one that lacks utterances of ``utts``.
    """

    def __init__(self, folder: Path, name: str, utts: Sequence[str]):
        self.scp = folder / f"{name}.scp"
        if not self.scp.is_file():
            raise UserError(f"{self.scp}: no such file: write token rows with 'e2etts tokens', or "
                            "as a Kaldi ark of integer vectors")
        table = read_table(self.scp)
        missing = [u for u in utts if u not in table]
        if missing:
            raise UserError(f"{self.scp}: lacks {len(missing)} of {len(utts)} utterances, the "
                            f"first is '{missing[0]}': write the tokens of the whole set again")
        self.entries = {u: ark_entry(self.scp, u, table[u]) for u in utts}

    def row(self, utt: str) -> np.ndarray:
        """(N,) int64. Raises UserError for one that is damaged."""
        row = read_ark(self.entries[utt], f"tokens of '{utt}'", f"write {self.scp} again")
        if row.ndim != 1 or row.dtype.kind != "i":
            raise UserError(f"{self.entries[utt]}: '{utt}' is no row of integers but "
                            f"{row.dtype} {row.shape}: write {self.scp} again")
        return row.astype(np.int64)


class Codes:
    """Token rows (``Rows``) of the set in ``folder``, within a codebook."""

    def __init__(self, folder: Path, name: str, utts: Sequence[str], codebook_size: int):
        self.rows, self.codebook_size = Rows(folder, name, utts), codebook_size

    @property
    def scp(self) -> Path:
        return self.rows.scp

    def row(self, utt: str) -> np.ndarray:
        """(N,) int64 tokens. Raises UserError for one that is damaged or outside of the
        codebook."""
        row = self.rows.row(utt)
        if len(row) == 0 or row.min() < 0 or row.max() >= self.codebook_size:
            raise UserError(f"{self.rows.entries[utt]}: '{utt}' has no tokens, or tokens outside "
                            f"0..{self.codebook_size - 1}: set model.tokenizer.codebook_size to "
                            "that of their tokenizer")
        return row

    def lengths(self, frames: dict[str, int], frames_per_token: int) -> list[int]:
        """Number of tokens of each utterance of ``frames`` (its mel frames).

        Raises UserError, with the first few, where tokens and mel disagree by more than
        ``TOLERANCE_TOKENS``."""
        counts = {utt: len(self.row(utt)) for utt in frames}
        wrong = [f"{utt} ({counts[utt]} tokens, {n} mel frames)" for utt, n in frames.items()
                 if abs(counts[utt] - n / frames_per_token) > TOLERANCE_TOKENS]
        if wrong:
            raise UserError(
                f"{self.scp}: {len(wrong)} utterances whose tokens do not fit {frames_per_token} "
                f"mel frames a token: {', '.join(wrong[:5])}: set audio.frames_per_token to the "
                "rate of the tokens, or write them again")
        return list(counts.values())


def write_codes(folder: Path, name: str, rows: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write rows of integers (N,) as ``<name>.ark`` and ``<name>.scp``; returns how many.

    Raises UserError for a name that is no file of its own, and when the disk refuses."""
    if not name or "/" in name or name in RESERVED:
        raise UserError(f"'{name}' cannot be the name of tokens: choose one without '/', other "
                        f"than {', '.join(RESERVED)}")
    ark, scp = folder / f"{name}.ark", folder / f"{name}.scp"
    part = ark.with_name(f"{ark.name}.part")
    offsets: dict[str, str] = {}
    try:
        with part.open("wb") as file:
            for utt, row in rows:
                offsets[utt] = f"{ark}:{file.tell() + len(utt.encode()) + 1}"  # behind the key
                kaldiio.save_ark(file, {utt: row.astype(np.int32)})
        part.replace(ark)
    except OSError as e:
        raise UserError(f"{ark}: cannot write: {e.strerror or e}") from e
    finally:
        part.unlink(missing_ok=True)
    write_table(scp, offsets)
    return len(offsets)
