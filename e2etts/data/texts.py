"""Normalised words or phonemes of the texts of a set."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from e2etts.data.datadir import DataDir
from e2etts.data.workers import in_order
from e2etts.errors import UserError
from e2etts.text import normalise, phonemise

_TEXTS_AT_ONCE = 200


def spoken_texts(data: DataDir, path: Path, *, phonemes: bool,
                 workers: int) -> tuple[dict[str, str], dict[str, str]]:
    """(input of the text tokenizer, reasons for texts without any), both by utterance.

    path: folder of the set, for error messages. Raises UserError if no text of a language can be
    used: the cause is then the language or its program, not the texts.
    """
    of_language: dict[str, list[str]] = defaultdict(list)
    for utt in data.utts:
        of_language[data.utt2lang[utt]].append(utt)
    jobs = [(lang, {u: data.text[u] for u in utts[i : i + _TEXTS_AT_ONCE]})
            for lang, utts in sorted(of_language.items())
            for i in range(0, len(utts), _TEXTS_AT_ONCE)]
    spoken: dict[str, str] = {}
    wrong: dict[str, str] = {}
    results = in_order(partial(_spoken, phonemes=phonemes), jobs, workers, 1)
    for found, refused in tqdm(results, desc=f"{path.name}: text", total=len(jobs), leave=False):
        spoken |= found
        wrong |= refused
    for utts in of_language.values():
        if not any(utt in spoken for utt in utts):
            raise UserError(f"{path}/text: {utts[0]}: {wrong[utts[0]]}")
    return spoken, wrong


def _spoken(job: tuple[str, dict[str, str]],
            phonemes: bool) -> tuple[dict[str, str], dict[str, str]]:
    lang, texts = job
    found, wrong = _each(lambda u: [normalise(texts[i], lang) for i in u], list(texts))
    if phonemes:
        words = found
        found, silent = _each(lambda u: phonemise([words[i] for i in u], lang), list(words))
        wrong |= silent
    return found, wrong


def _each(convert: Callable[[list[str]], list[str]],
          utts: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Apply ``convert`` to a list, bisecting on failure: results and reasons by utterance."""
    if not utts:
        return {}, {}
    try:
        return dict(zip(utts, convert(utts), strict=True)), {}
    except UserError as e:
        if len(utts) == 1:
            return {}, {utts[0]: " ".join(str(e).split())}
    middle = len(utts) // 2
    parts = [_each(convert, half) for half in (utts[:middle], utts[middle:])]
    return parts[0][0] | parts[1][0], parts[0][1] | parts[1][1]
