"""Word and character error rates with bootstrap intervals.

Both texts are normalised first: English by Whisper's normaliser, others by simple rules.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

import jiwer
import numpy as np

PACKAGES = ("jiwer", "whisper_normalizer", "num2words")
DIGITS = re.compile(r"\d{1,9}")
DIGIT_GAP = re.compile(r"(?<=\d) (?=\d)")
UNSPACED = ("ja", "th", "yue", "zh")  # written without spaces: each character is a word
DOTS = re.compile(r"…|\.{2,}")


@cache
def _normaliser(lang: str) -> Callable[[str], str]:
    """English: Whisper's normaliser (spelling, contractions, numbers as digits), numbers side by
    side joined. Others: numbers in words; no case, punctuation or accents."""
    if lang == "en":
        from whisper_normalizer.english import EnglishTextNormalizer

        english = EnglishTextNormalizer()

        def normalise(text: str) -> str:
            text = english(DOTS.sub(" ", text))  # a gap of dots is not a decimal point
            return DIGIT_GAP.sub("", re.sub(r"\bone\b", "1", text))

        return normalise
    from num2words import CONVERTER_CLASSES, num2words
    from whisper_normalizer.basic import BasicTextNormalizer

    basic = BasicTextNormalizer(remove_diacritics=True, split_letters=lang in UNSPACED)

    def in_words(match: re.Match) -> str:
        known = lang in CONVERTER_CLASSES
        return f" {num2words(int(match[0]), lang=lang)} " if known else match[0]

    return lambda text: basic(DIGITS.sub(in_words, text))


def words_of(text: str, lang: str) -> list[str]:
    """The words of a text that are compared; empty when it has none, such as "[music]"."""
    return _normaliser(lang)(text).split()


def join_compounds(words: list[str], other: list[str]) -> list[str]:
    """``words`` with neighbours joined where ``other`` writes them together: "mail box" against
    "mailbox", which sound the same."""
    known, joined = set(other), []
    for word in words:
        if joined and joined[-1] + word in known:
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def comparable(reference: str, hypothesis: str, lang: str) -> tuple[list[str], list[str]]:
    """Words of reference and hypothesis, ready to be aligned."""
    want, got = words_of(reference, lang), words_of(hypothesis, lang)
    want = join_compounds(want, got)
    return want, join_compounds(got, want)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Edits between a reference and a recognition hypothesis, in words and in characters.

    Both are normalised; ``hypothesis`` is what was recognised."""

    reference: str
    hypothesis: str
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


def count_errors(reference: str, hypothesis: str, lang: str) -> Errors | None:
    """Errors after normalising both texts; None where the reference has no words left.

    Characters are counted without spaces.
    """
    return errors_between(*comparable(reference, hypothesis, lang))


def errors_between(want: list[str], got: list[str]) -> Errors | None:
    """Errors between words as they are; None where the reference is empty."""
    if not want:
        return None
    w = jiwer.process_words(" ".join(want), " ".join(got))
    c = jiwer.process_characters("".join(want), "".join(got))
    return Errors(reference=" ".join(want), hypothesis=" ".join(got), substituted=w.substitutions,
                  deleted=w.deletions, inserted=w.insertions, words=len(want),
                  char_edits=c.substitutions + c.deletions + c.insertions,
                  chars=len("".join(want)))


def error_rates(found: list[Errors]) -> tuple[float, float]:
    """(WER, CER) of a set: all edits over all reference words, all reference characters."""
    return (sum(e.edits for e in found) / sum(e.words for e in found),
            sum(e.char_edits for e in found) / sum(e.chars for e in found))


def align(reference: str, hypothesis: str) -> list[tuple[str, str, str]]:
    """Aligned words (kind, reference, hypothesis); kind is equal, substitute, delete or insert."""
    want, got = reference.split(), hypothesis.split()
    if not want:
        return [("insert", "", w) for w in got]
    out = []
    for chunk in jiwer.process_words(reference, hypothesis).alignments[0]:
        ref = want[chunk.ref_start_idx : chunk.ref_end_idx]
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
