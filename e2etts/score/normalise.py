"""What counts as the same words: texts are compared after these rules, in reference and heard."""

import re
from collections.abc import Callable
from functools import cache

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
    "mailbox"; which of the two was said cannot be heard."""
    known, joined = set(other), []
    for word in words:
        if joined and joined[-1] + word in known:
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def comparable(reference: str, heard: str, lang: str) -> tuple[list[str], list[str]]:
    """Reference and heard words, ready to be aligned."""
    said, got = words_of(reference, lang), words_of(heard, lang)
    said = join_compounds(said, got)
    return said, join_compounds(got, said)
