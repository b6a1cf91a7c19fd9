"""Text to token ids: normalisation per language, phonemes by espeak-ng, SentencePiece."""

import contextlib
import io
import re
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import num2words
import sentencepiece

from e2etts.errors import UserError
from e2etts.programs import find_program
from e2etts.spoken import ABBREVIATIONS, CURRENCIES, SYMBOLS, TIME, WORDS


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How text becomes tokens. ``vocab_size`` bounds unigram and bpe; char takes what it sees."""

    model_type: Literal["char", "unigram", "bpe"] = "char"
    vocab_size: int = 512
    phonemes: bool = True


LANGUAGES = tuple(ABBREVIATIONS)
PUNCTUATION = ".,?!"
_CHARACTERS = str.maketrans({
    "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "…": ".", ";": ",", ":": ",", "—": ",",
    "–": ",", "‑": "-", "¿": None, "¡": None, "\u00ad": None, "\u200b": None, "\ufeff": None})
_ORDINALS = {
    "en": r"(\d+)(?:st|nd|rd|th)\b", "es": r"(\d+)(?:º|ª|er\b|ª|°)", "it": r"(\d+)(?:º|ª|°)",
    "fr": r"(\d+)(?:ers?|res?|èmes?|emes?|es?)\b", "ru": r"(\d+)-(?:й|я|е|го|му|м|ая|ый|ой)\b"}
_THOUSANDS = {"en": ",", "es": ".", "it": ".", "fr": " \u00a0\u202f", "ru": " \u00a0\u202f"}


def normalise(text: str, lang: str) -> str:
    """Lower-case words as they are read aloud; of the punctuation only ``. , ? !`` stay.

    Numbers, ordinals, times, amounts, common abbreviations and symbols are written out in
    ``lang`` (en, es, fr, it, ru). Raises UserError for another language or an empty result.
    """
    _known(lang)
    out = unicodedata.normalize("NFC", text).translate(_CHARACTERS_BUT_COLON).lower()
    if lang == "fr":  # the t of "parle-t-il" is a sound, not the letter's name
        out = re.sub(r"-t-(?=elles?\b|ils?\b|on\b)", " t'", out)
    for pattern, spoken in _ABBREVIATION_PATTERNS[lang]:
        out = pattern.sub(spoken, out)
    out = re.sub(r"\b(?:[^\W\d_]\.){2,}", lambda m: " ".join(m[0].replace(".", "")) + " ", out)
    out = re.sub(r"\b(\d{1,2}):(\d{2})\b", partial(_time, lang=lang), out)
    out = out.translate(_CHARACTERS)
    out = _amounts(out, lang)
    out = re.sub(_ORDINALS[lang], lambda m: f" {number(m[1], lang, ordinal=True)} ", out)
    out = _numbers(out, lang)
    for symbol, spoken in SYMBOLS[lang].items():
        out = out.replace(symbol, f" {spoken} ")
    out = "".join(c if c.isalpha() or unicodedata.combining(c) or c in "' .,?!" else " "
                  for c in unicodedata.normalize("NFC", out))
    out = re.sub(r"(?<![^\W_])'+|'+(?![^\W_])", "", out)
    out = re.sub(r"\s*([.,?!])[.,?!\s]*", r"\1 ", out)
    out = " ".join(out.split()).lstrip(".,?! ")
    if not any(c.isalpha() for c in out):
        raise UserError(f"'{text.strip()[:60]}': no words left after normalisation ({lang}); "
                        "correct the text or leave the utterance out")
    return out


_CHARACTERS_BUT_COLON = {k: v for k, v in _CHARACTERS.items() if chr(k) != ":"}


def _known(lang: str) -> None:
    if lang not in LANGUAGES:
        raise UserError(f"language '{lang}' has no text rules; known: {', '.join(LANGUAGES)}; "
                        "add it to e2etts/spoken.py")


def _spoken_pattern(written: str) -> re.Pattern:
    end = "" if written[-1] in ". " else r"(?!\w)"
    return re.compile(rf"(?<!\w){re.escape(written)}{end}")


_ABBREVIATION_PATTERNS = {
    lang: [(_spoken_pattern(k), f" {v} ") for k, v in table.items()]
    for lang, table in ABBREVIATIONS.items()}


def number(digits: str, lang: str, ordinal: bool = False) -> str:
    """Words for a whole or decimal number written with a point; long or 0-led runs by digit."""
    if len(digits) > 1 and (digits[0] == "0" or len(digits) > 9) and "." not in digits:
        return " ".join(num2words.num2words(int(d), lang=lang) for d in digits)
    value = float(digits) if "." in digits else int(digits)
    try:
        words = num2words.num2words(value, lang=lang, to="ordinal" if ordinal else "cardinal")
    except (NotImplementedError, OverflowError):
        words = num2words.num2words(value, lang=lang)
    return words.replace("-", " ").replace(",", "")


def _numbers(text: str, lang: str) -> str:
    group = "[" + re.escape(_THOUSANDS[lang]) + "]"
    text = re.sub(rf"(?<!\d)\d{{1,3}}(?:{group}\d{{3}})+(?!\d)",
                  lambda m: re.sub(r"\D", "", m[0]), text)
    decimal = r"\." if lang == "en" else "[.,]"
    text = re.sub(rf"(?<![\d.,])(\d+){decimal}(\d{{1,4}})(?![\d.,]*\d)",
                  lambda m: f" {_decimal(m[1], m[2], lang)} ", text)
    text = re.sub(r"(?<![\w.])-(?=\d)", f" {WORDS[lang]['minus']} ", text)
    return re.sub(r"\d+", lambda m: f" {number(m[0], lang)} ", text)


def _decimal(whole: str, part: str, lang: str) -> str:
    digits = " ".join(num2words.num2words(int(d), lang=lang) for d in part)
    return f"{number(whole, lang)} {WORDS[lang]['point']} {digits}"


def _amounts(text: str, lang: str) -> str:
    for sign, (one, many) in CURRENCIES[lang].items():
        found = rf"{re.escape(sign)}\s?(\d[\d.,]*\d|\d)|(\d[\d.,]*\d|\d)\s?{re.escape(sign)}"
        text = re.sub(found, lambda m, one=one, many=many: (
            f"{m[1] or m[2]} {one if (m[1] or m[2]) == '1' else many}"), text)
    return text


def _time(match: re.Match, lang: str) -> str:
    hour, minute = int(match[1]), int(match[2])
    if hour > 23 or minute > 59:
        return f"{match[1]} {match[2]}"
    exact, early, joined = TIME[lang]
    hours = num2words.num2words(hour, lang=lang)
    minutes = num2words.num2words(minute, lang=lang)
    form = exact if minute == 0 else early if minute < 10 else joined
    return " " + form.format(h=hours, m=minutes).replace("-", " ") + " "


_CLAUSE = re.compile(rf"[^{re.escape(PUNCTUATION)}]+|[{re.escape(PUNCTUATION)}]")
_ESPEAK_VOICES = {"en": "en-us", "es": "es-419", "fr": "fr", "it": "it", "ru": "ru"}
_LONGEST_CLAUSE = 400  # characters: espeak-ng reads at most 1000 bytes a line


def phonemise(lines: list[str], lang: str) -> list[str]:
    """IPA with stress marks for normalised ``lines``: words apart by spaces, punctuation as
    separate symbols.

    One espeak-ng process reads one clause a line and answers one line a clause, so that sounds
    and texts cannot drift apart. Raises UserError when espeak-ng is missing or fails, or when a
    line has no sounds.
    """
    _known(lang)
    pieces = [_clauses(line) for line in lines]
    spoken = _espeak([p for parts in pieces for p in parts if p not in PUNCTUATION], lang)
    answers = iter(spoken)
    out = []
    for line, parts in zip(lines, pieces, strict=True):
        sounds = " ".join(p if p in PUNCTUATION else next(answers) for p in parts)
        sounds = " ".join(sounds.split())
        if not any(c.isalpha() and c not in "ˈˌː" for c in sounds):
            raise UserError(f"'{line[:60]}': espeak-ng finds no sounds in it ({lang}); "
                            "correct the text or leave the utterance out")
        out.append(sounds)
    return out


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


def _espeak(clauses: list[str], lang: str) -> list[str]:
    program = find_program("espeak-ng")
    command = [program.path, "-q", "--ipa", "-v", _ESPEAK_VOICES[lang]]

    def run(some: list[str]) -> list[str]:
        done = subprocess.run(command, input="".join(c + "\n" for c in some).encode(),
                              capture_output=True, env=program.env, check=False)
        if done.returncode:
            reason = " ".join(done.stderr.decode(errors="replace").split())[:200]
            raise UserError(f"{program.path}: fails with status {done.returncode}: {reason}; "
                            "reinstall espeak-ng")
        return done.stdout.decode("utf-8").splitlines()

    answers = run(clauses) if clauses else []
    if len(answers) != len(clauses):  # a clause that espeak-ng splits answers with several lines
        answers = [" ".join(run([clause])) for clause in clauses]
    return [re.sub(r"\([a-z-]+\)|-", "", a).replace("_", " ").strip() for a in answers]


PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
# Every symbol that espeak-ng writes for the five languages, so that a rare sound is never unknown.
IPA = "abcdefhijklmnopqrstuvwxyzæçðøŋœɐɑɒɔəɚɛɜɟɡɣɨɪɫɬɭɲɹɾʀʁʂʃʊʌʎʐʑʒʔʝʲˈˌːθβχɕɯɵʉ̪̩̃͡ʰʷ"


class TextTokenizer:
    """A SentencePiece model. Ids: 0 padding, 1 unknown, 2 begin, 3 end, then the pieces.

    ``unknown`` counts symbols that the model lacks; their place keeps the unknown id.
    """

    def __init__(self, model: bytes):
        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor()
        self._pieces.LoadFromSerializedProto(model)
        self.unknown: Counter[str] = Counter()

    @classmethod
    def train(cls, lines: Iterable[str], config: TextConfig) -> "TextTokenizer":
        """Fit on normalised (or phonemised) lines; the same lines give the same model."""
        lines = [line for line in lines if line.strip()]
        if not lines:
            raise UserError("text model: no training text; check the text of the train set")
        symbols = set("".join(lines)) | set(PUNCTUATION) | (set(IPA) if config.phonemes else set())
        symbols.discard(" ")
        model = io.BytesIO()
        least = len(symbols) + 5
        size = least if config.model_type == "char" else max(config.vocab_size, least)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=model, model_type=config.model_type,
                vocab_size=size, hard_vocab_limit=False, character_coverage=1.0,
                required_chars="".join(sorted(symbols)), normalization_rule_name="identity",
                pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END, num_threads=1,
                shuffle_input_sentence=False, max_sentence_length=16384, minloglevel=2)
        except (RuntimeError, OSError) as e:
            raise UserError(f"text model: SentencePiece cannot be trained: "
                            f"{' '.join(str(e).split())}; lower text.vocab_size") from e
        return cls(model.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> "TextTokenizer":
        """Read a model file. Raises UserError when it is missing or damaged."""
        try:
            return cls(Path(path).read_bytes())
        except OSError as e:
            raise UserError(f"{path}: cannot read the text model: {e.strerror}; run the prepare "
                            "stage (--stage 2)") from e
        except (RuntimeError, ValueError) as e:
            raise UserError(f"{path}: not a SentencePiece model; run the prepare stage again "
                            "(--stage 2)") from e

    def save(self, path: str | Path) -> None:
        """Write the model under a temporary name and rename."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(self._model)
            part.replace(path)
        except OSError as e:
            with contextlib.suppress(OSError):
                part.unlink()
            raise UserError(f"{path}: cannot write: {e.strerror}") from e

    def __len__(self) -> int:
        return self._pieces.GetPieceSize()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; symbols the model lacks become id 1 and are counted."""
        pieces = self._pieces.EncodeAsPieces(text)
        ids = [self._pieces.PieceToId(p) for p in pieces]
        self.unknown.update(c for p, i in zip(pieces, ids, strict=True) if i == UNKNOWN
                            for c in p.strip("▁"))
        return ids

    def decode(self, ids: list[int]) -> str:
        """Text of ``ids``; unknown symbols show as ⁇."""
        return self._pieces.DecodeIds(ids)
