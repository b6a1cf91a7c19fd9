"""Texts for the synthetic voices: open-licensed sentences, train prompts, recombinations."""

import gzip
import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from asterisk import Prompt, words_of
from settings import MiniData

from e2etts.errors import UserError
from e2etts.text import normalise

PACKAGES = {
    "en": ["wordnet-base"], "es": ["fortunes-es"], "fr": ["debian-faq-fr"],
    "it": ["debian-faq-it", "fortunes-it"], "ru": ["debian-faq-ru", "fortunes-ru"]}
# Of the fortunes only files of proverbs and thoughts: others hold jokes at people's cost.
FORTUNES = {
    "es": ("sabiduria.fortunes", "filosofia.fortunes", "ciencia.fortunes", "vida.fortunes",
           "libertad.fortunes"),
    "it": ("leggi",), "ru": ("knowledge", "success", "time", "future", "work", "happy")}
LEAST_WORDS, MOST_WORDS, MOST_CHARACTERS = 3, 18, 140
_LETTERS = {"en": "a-z", "es": "a-záéíóúüñ", "fr": "a-zàâæçéèêëîïôœùûüÿ", "it": "a-zàèéìíîòóù",
            "ru": "а-яё"}
_APOCOPES = {"po", "mo", "di", "fa", "va", "sta", "da", "be", "to", "ca"}  # of Italian: un po'
_UNSPOKEN = re.compile(r"[\[\](){}<>|\\/_*#@^~=+«»\"“”„0-9…]|--|\.\.|[A-ZА-Я]{2,}|[.]\w|https?")


def open_sentences(lang: str, deb: Path) -> list[str]:
    """Clean, distinct sentences of the packages of ``lang`` (see PACKAGES), in order."""
    seen: dict[str, str] = {}
    for text in _read(lang, deb):
        if clean := clean_sentence(text, lang):
            seen.setdefault(words_of(clean), clean)
    if len(seen) < 100:
        raise UserError(f"{deb}: only {len(seen)} clean sentences ({lang}) in "
                        f"{', '.join(PACKAGES[lang])}; remove the folder and run again")
    return list(seen.values())


def _read(lang: str, deb: Path) -> Iterator[str]:
    if lang == "en":
        for part in ("noun", "verb", "adj", "adv"):
            for line in _lines(deb / f"usr/share/wordnet/data.{part}"):
                gloss = line.partition(" | ")[2]
                yield from (m[1] for m in re.finditer(r'"([^"]+)"', gloss))
        return
    for name in FORTUNES.get(lang, ()):
        fortunes = "\n".join(_lines(deb / "usr/share/games/fortunes" / lang / name))
        for saying in fortunes.split("\n%"):
            body = re.split(r"\n\s*(?:--|—|©|\()", saying.strip("\n%"))[0]
            yield from split_sentences(body)
    faq = deb / f"usr/share/doc/debian/FAQ/debian-faq.{lang}.txt.gz"
    if f"debian-faq-{lang}" in PACKAGES[lang]:
        for paragraph in re.split(r"\n\s*\n|\n\s+\* ", "\n".join(_lines(faq))):
            yield from split_sentences(paragraph)


def _lines(path: Path) -> list[str]:
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot read: {e.strerror}; remove data/download/deb and run "
                        "again") from e
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return raw.decode("utf-8", errors="replace").splitlines()


def split_sentences(text: str) -> list[str]:
    """Complete sentences of a paragraph: those with an end mark."""
    return [m[0].strip() for m in re.finditer(r"[^.!?]+[.!?]+(?=\s|$)", " ".join(text.split()))]


def clean_sentence(text: str, lang: str) -> str:
    """The normalised sentence with an end mark; empty if it is not plain text."""
    text = text.strip().replace("’", "'")
    text = accented(text) if lang == "it" else text
    if not text or _UNSPOKEN.search(text) or text[0] in "-—–'" or "\ufffd" in text:
        return ""
    if lang != "en" and not text.lstrip("¿¡")[:1].isupper():  # WordNet alone has whole clauses
        return ""  # without a capital; elsewhere the beginning is missing
    spoken = re.sub(r"[¿¡:;,—–-]", " ", text.lower())
    if not re.fullmatch(f"[{_LETTERS[lang]}' ]+[.?!]?", spoken):
        return ""
    words = spoken.split()
    if not LEAST_WORDS <= len(words) <= MOST_WORDS or len(text) > MOST_CHARACTERS:
        return ""
    if any(len(w) > 20 for w in words):
        return ""
    return ended(normalise(text, lang))


def accented(text: str) -> str:
    """Italian ``text`` with the accents that fortunes write as apostrophes: ``e' cosi'``."""
    def accent(match: re.Match) -> str:
        word, vowel = match[1].lower(), match[2]
        if word + vowel.lower() in _APOCOPES:
            return match[0]
        closed = vowel in "eE" and (word.endswith("ch") or word in ("n", "s"))
        return unicodedata.normalize("NFC", match[1] + vowel + ("\u0301" if closed else "\u0300"))

    return re.sub(r"\b([^\W\d_]*)([aeiouAEIOU])'(?!\w)", accent, text)


def ended(text: str) -> str:
    """``text`` with a full stop if it ends without . ? !"""
    text = text.rstrip(", ")
    return text if text[-1] in ".?!" else text + "."


def recombine(texts: list[str], amount: int, rng: random.Random) -> list[str]:
    """Random new texts from two pieces of known texts each; pieces end at punctuation."""
    pieces = sorted({p.strip() for t in texts for p in re.split(r"[.,?!]", t)
                     if len(p.strip()) > 3 and len(p.split()) <= MOST_WORDS - 2})
    out: dict[str, None] = {}
    for _ in range(amount * 5 if len(pieces) > 1 else 0):
        first, second = rng.sample(pieces, 2)
        if LEAST_WORDS <= len(f"{first} {second}".split()) <= MOST_WORDS:
            out.setdefault(f"{first}, {second}." if rng.random() < 0.5
                           else f"{first}. {second}.")
        if len(out) == amount:
            break
    return list(out)


def holds_none(forbidden: set[str]) -> Callable[[str], bool]:
    """Whether a normalised text holds no text of ``forbidden`` (word keys) as a whole."""
    barred = [f" {key} " for key in forbidden]

    def harmless(text: str) -> bool:
        key = f" {words_of(text)} "
        return not any(b in key for b in barred)

    return harmless


def voice_texts(lang: str, amounts: dict[str, int], train: list[Prompt], forbidden: set[str],
                deb: Path, config: MiniData,
                held_out: dict[str, int] | None = None) -> dict[str, list[str]]:
    """Texts for every voice of a language, at least ``amounts`` (voice: sentences).

    Each open-licensed sentence goes to one voice only. Each voice also gets prompts of the train
    set and recombinations, in the shares of ``config``. No text holds a text of
    ``forbidden`` (word keys of dev, test and sentences.txt). Voices that are ``held_out`` get at
    most so many open-licensed sentences alone, and no text of another voice holds one of these.
    """
    harmless = holds_none(forbidden)

    def allowed(texts: list[str]) -> list[str]:
        return [t for t in texts if harmless(t)]

    rng = random.Random(f"{config.seed} {lang} texts")
    prompts = [ended(normalise(p.text, lang)) for p in train if p.lang == lang]
    spoken = [t for t in allowed(prompts) if LEAST_WORDS <= len(t.split()) <= MOST_WORDS]
    free = allowed(open_sentences(lang, deb))
    rng.shuffle(free)
    out = {}
    for voice, amount in (held_out or {}).items():
        # From the end: the other voices keep the texts that they have without held-out voices.
        long = [t for t in free if len(t.split()) >= config.test_least_words]
        out[voice] = long[max(0, len(long) - amount) :]
        taken = set(out[voice])
        free = [t for t in free if t not in taken]
    unseen = holds_none({words_of(t) for texts in out.values() for t in texts})
    free = [t for t in free if unseen(t)]
    for voice, amount in amounts.items():
        rng = random.Random(f"{config.seed} {voice} texts")
        known = rng.sample(spoken, min(len(spoken), round(amount * config.prompt_share)))
        mixed = allowed(recombine(prompts, round(amount * config.recombined_share), rng))
        most = amount - len(known) - len(mixed)
        mine, free = free[:most], free[most:]
        mixed += allowed(recombine(prompts, max(0, most - len(mine)), rng))
        texts = [t for t in dict.fromkeys(known + mixed + mine) if unseen(t)]
        rng.shuffle(texts)
        out[voice] = texts
    return out
