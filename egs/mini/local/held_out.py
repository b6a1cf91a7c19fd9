"""Voices that are held out of training (corpus_data.held_out): the set test_zero_shot."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engines
import synthetic
import torch
from asterisk import order
from settings import MiniData

from e2etts.errors import UserError

ZERO_SHOT = "test_zero_shot"
LEAST = 3  # a text, its prompt, and a reference of the voice
# The same person in two languages.
TWINS = {"asterisk-en": "asterisk-es", "asterisk-es": "asterisk-en"}


def counts(config: MiniData) -> dict[str, int]:
    """Voice -> utterances of the voices that are held out.

    Raises UserError for an unknown voice, one that has speech in training too, and too few
    utterances."""
    held = {voice: count for voice, count in config.held_out.items() if count}
    recordings = {f"asterisk-{lang}": lang for lang in config.languages}
    for voice, count in held.items():
        key = f"corpus_data.held_out.{voice}"
        if "+" in voice:
            raise UserError(f"{key}: a voice is held out with all its styles: leave '+...' out")
        lang = recordings.get(voice) or engines.voice_language(voice, key)
        if lang not in config.languages:
            raise UserError(f"{key}: its language is not among corpus_data.languages")
        twin = TWINS.get(voice)
        if twin in recordings and twin not in held:
            raise UserError(f"{key}: {twin} is the same person: hold it out too, or leave its "
                            "language out of corpus_data.languages")
        trained = [v for v, hours in config.hours.items()
                   if hours > 0 and engines.speaker_of(v) == voice]
        if trained:
            raise UserError(f"{key}: training would have its speech: set "
                            f"corpus_data.hours.{trained[0]}=0, or hold another voice out")
        if count < LEAST:
            raise UserError(f"{key}: {count} utterances, at least {LEAST} are needed")
    return held


def texts_needed(count: int) -> int:
    """Number of texts of which ``count`` will have a fitting length."""
    return 2 * count + 8


def speak(texts: dict[str, list[str]], held: dict[str, int], root: Path,
          config: MiniData) -> tuple[list[synthetic.Spoken], list[tuple]]:
    """Speak the texts of each held-out voice in order, until it has its number of utterances that
    last ``held_out_seconds``.

    Returns these, and (voice, text, reason) of failures. Raises UserError for a voice whose texts
    are used up.
    """
    programs = engines.find(texts)
    low, high = config.held_out_seconds
    spoken, failed = [], []
    torch.set_num_threads(1)
    with ThreadPoolExecutor(config.workers) as pool:
        for voice, lines in texts.items():
            mine, size, start = [], 8 * config.workers, 0
            while len(mine) < held[voice] and start < len(lines):
                some = lines[start : start + size]
                start += size
                made = pool.map(lambda t, v=voice: synthetic.speak(t, v, root, programs), some)
                for text, (utt, path, seconds, reason) in zip(some, made, strict=True):
                    if reason:
                        failed.append((voice, text, reason))
                    elif low <= seconds <= high:
                        mine.append(synthetic.Spoken(utt, engines.voice_language(voice), voice,
                                                     "", path, text, seconds))
            if len(mine) < held[voice]:
                raise UserError(f"corpus_data.held_out.{voice}: only {len(mine)} of its texts take "
                                f"{low:g} to {high:g} s: lower the number, or change "
                                "corpus_data.held_out_seconds")
            spoken += mine[: held[voice]]
    return spoken, failed


def prompts(utt2spk: dict[str, str], seed: int) -> dict[str, str]:
    """Utterance -> its prompt: each utterance is the prompt of one other of its voice, in an order
    that depends only on seed and names."""
    of_voice: dict[str, list[str]] = {}
    for utt in sorted(utt2spk, key=lambda u: order(seed, "prompts", u)):
        of_voice.setdefault(utt2spk[utt], []).append(utt)
    return {utt: prompt for utts in of_voice.values()
            for utt, prompt in zip(utts, [*utts[1:], utts[0]], strict=True)}
