"""Grapheme-to-phoneme (G2P): IPA by espeak-ng, pinyin syllables for Mandarin by pypinyin."""

import re
from functools import lru_cache

from e2etts.errors import UserError
from e2etts.text import espeak
from e2etts.text.normalise import PUNCTUATION, language_of

_CLAUSE = re.compile(rf"[^{re.escape(PUNCTUATION)}]+|[{re.escape(PUNCTUATION)}]")
_ESPEAK_VOICES = {"de": "de", "en": "en-us", "en-gb": "en-gb", "es": "es-419", "es-es": "es",
                  "fr": "fr", "fr-be": "fr-be", "fr-ch": "fr-ch", "it": "it", "ru": "ru"}
_LONGEST_CLAUSE = 400  # characters: espeak-ng reads at most 1000 bytes a line


def phonemise(lines: list[str], lang: str) -> list[str]:
    """Phonemes of normalised ``lines``: words separated by spaces, punctuation as separate symbols.

    IPA with stress marks by espeak-ng (lang: a tag; its region selects the accent if espeak-ng
    supports it). For Mandarin, pinyin syllables with tone sandhi ("ni2 hao3"; 5 is the neutral
    tone) by pypinyin. espeak-ng processes clause by clause, which keeps phonemes aligned with
    texts. Raises UserError when espeak-ng is missing or fails, or when a line has no phonemes.
    """
    base, tag = language_of(lang), lang.lower().replace("_", "-")
    voice = _ESPEAK_VOICES.get(tag) or _ESPEAK_VOICES.get(base)
    pieces = [_clauses(line) for line in lines]
    clauses = [p for parts in pieces for p in parts if p not in PUNCTUATION]
    answers = iter(_pinyin(clauses) if base == "zh" else espeak.sounds(clauses, voice))
    out = []
    for line, parts in zip(lines, pieces, strict=True):
        sounds = " ".join(p if p in PUNCTUATION else next(answers) for p in parts)
        sounds = " ".join(sounds.split())
        if not any(c.isalpha() and c not in "ˈˌː" for c in sounds):
            raise UserError(f"'{line[:60]}': no phonemes found ({lang}); "
                            "correct the text or leave the utterance out")
        out.append(sounds)
    return out


def _pinyin(clauses: list[str]) -> list[str]:
    """Syllables separated by spaces; words in Latin letters are read as English."""
    from pypinyin import Style, lazy_pinyin  # slow import: it loads dictionaries

    split = [re.findall(r"[a-z']+|[^a-z']+", clause) for clause in clauses]
    latin = sorted({p for parts in split for p in parts if p[0].isascii() and p[0] != " "})
    english = dict(zip(latin, espeak.sounds(latin, "en-us"), strict=True)) if latin else {}
    return [" ".join(english.get(p) or " ".join(lazy_pinyin(
        p, style=Style.TONE3, neutral_tone_with_five=True, tone_sandhi=True, errors="ignore"))
        for p in parts) for parts in split]


@lru_cache
def pinyin_syllables() -> frozenset[str]:
    """Every syllable of the dictionary in each tone."""
    from pypinyin.contrib.tone_convert import to_normal
    from pypinyin.pinyin_dict import pinyin_dict

    plain = {to_normal(p) for entry in pinyin_dict.values() for p in entry.split(",")}
    return frozenset(f"{p}{tone}" for p in plain if p.isascii() and p.isalpha()
                     for tone in range(1, 6))


def _clauses(line: str) -> list[str]:
    parts = []
    for piece in _CLAUSE.findall(line):
        words: list[str] = []
        for word in piece.split():
            if sum(map(len, words)) + len(words) + len(word) > _LONGEST_CLAUSE:
                parts.append(" ".join(words))
                words = []
            words.append(word)
        if words:
            parts.append(" ".join(words))
    return parts
