"""Word and character error rates with bootstrap intervals."""

from dataclasses import asdict, dataclass

import jiwer
import numpy as np

from e2etts.score.normalise import comparable

PACKAGES = ("jiwer", "whisper_normalizer", "num2words")


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Edits between what should be said and what was heard, in words and in characters."""

    reference: str
    heard: str
    substituted: int
    deleted: int
    inserted: int
    words: int
    char_edits: int
    chars: int

    @property
    def edits(self) -> int:
        return self.substituted + self.deleted + self.inserted

    def to_dict(self) -> dict:
        return asdict(self)


def count_errors(reference: str, heard: str, lang: str) -> Errors | None:
    """Errors after normalising both texts; None where the reference has no words left.

    Characters are counted without spaces.
    """
    return errors_between(*comparable(reference, heard, lang))


def errors_between(said: list[str], got: list[str]) -> Errors | None:
    """Errors between words as they are; None where nothing should have been said."""
    if not said:
        return None
    w = jiwer.process_words(" ".join(said), " ".join(got))
    c = jiwer.process_characters("".join(said), "".join(got))
    return Errors(reference=" ".join(said), heard=" ".join(got), substituted=w.substitutions,
                  deleted=w.deletions, inserted=w.insertions, words=len(said),
                  char_edits=c.substitutions + c.deletions + c.insertions,
                  chars=len("".join(said)))


def error_rates(found: list[Errors]) -> tuple[float, float]:
    """(WER, CER) of a set: all edits over all reference words, all reference characters."""
    return (sum(e.edits for e in found) / sum(e.words for e in found),
            sum(e.char_edits for e in found) / sum(e.chars for e in found))


def align(reference: str, heard: str) -> list[tuple[str, str, str]]:
    """Aligned words (kind, reference, heard); kind is equal, substitute, delete or insert."""
    said, got = reference.split(), heard.split()
    if not said:
        return [("insert", "", w) for w in got]
    out = []
    for chunk in jiwer.process_words(reference, heard).alignments[0]:
        ref = said[chunk.ref_start_idx : chunk.ref_end_idx]
        hyp = got[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for i in range(max(len(ref), len(hyp))):
            out.append((chunk.type, ref[i] if i < len(ref) else "", hyp[i] if i < len(hyp) else ""))
    return out


def _picks(n: int, samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, (samples, n))


def _interval(values: np.ndarray) -> list[float]:
    return [float(v) for v in np.percentile(values, [2.5, 97.5])]


def rate_interval(found: list[Errors], samples: int, seed: int) -> list[float]:
    """95 % bootstrap interval of the WER; utterances are drawn with replacement
    (Bisani and Ney, 2004)."""
    edits = np.array([e.edits for e in found], float)
    words = np.array([e.words for e in found], float)
    pick = _picks(len(found), samples, seed)
    return _interval(edits[pick].sum(1) / words[pick].sum(1))


def mean_interval(values: list[float], samples: int, seed: int) -> list[float]:
    """95 % bootstrap interval of a mean."""
    return _interval(np.array(values, float)[_picks(len(values), samples, seed)].mean(1))
