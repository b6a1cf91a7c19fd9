"""Held-out utterances for test and validation; the split depends only on the text."""

import collections

import synthetic
from asterisk import Prompt, order, words_of
from held_out import ZERO_SHOT, counts
from settings import MiniData

from e2etts.errors import UserError
from e2etts.text import normalise


def split(prompts: list[Prompt], sentences: list[tuple[str, str]],
          config: MiniData) -> dict[str, list[Prompt]]:
    """Sets of real prompts by the hash of their normalised text.

    Test and dev take texts that occur once, with at least ``test_least_words`` words and a
    length in ``test_seconds``: ASR is unreliable for shorter ones. A prompt whose text is
    in sentences.txt is an error. Of a voice that is held out, such prompts are test_zero_shot, and
    the others are in no set.
    """
    held_out = counts(config)
    sets: dict[str, list[Prompt]] = {"train": [], "dev": []}
    free = {(lang, words_of(normalise(text, lang))) for lang, text in sentences}
    for lang in config.languages:
        mine = [p for p in prompts if p.lang == lang]
        for p in mine:
            if (lang, p.key) in free:
                raise UserError(f"local/sentences.txt: '{p.text}' is a prompt ({p.utt}); choose "
                                "another sentence")
        mine.sort(key=lambda p: (order(config.seed, p.lang, p.key), p.utt))
        times = collections.Counter(p.key for p in mine)
        held = held_out.get(f"asterisk-{lang}", 0)
        low, high = config.held_out_seconds if held else config.test_seconds
        judged = [p for p in mine if times[p.key] == 1 and low <= p.seconds <= high
                  and len(p.key.split()) >= config.test_least_words]
        if held:
            if len(judged) < held:
                raise UserError(f"corpus_data.held_out.asterisk-{lang}: only {len(judged)} prompts "
                                "can be judged; lower the number")
            sets.setdefault(ZERO_SHOT, []).extend(judged[:held])
            continue
        tests, devs = config.test_utts.get(lang, 0), config.dev_utts
        if len(judged) < tests + devs:
            raise UserError(f"corpus_data.test_utts.{lang}={tests}, dev_utts={devs}: only "
                            f"{len(judged)} prompts can be judged; lower the numbers")
        sets[f"test_{lang}"] = judged[:tests]
        sets["dev"] += judged[tests: tests + devs]
        held = {p.utt for p in judged[: tests + devs]}
        sets["train"] += [p for p in mine if p.utt not in held]
    return {name: chosen for name, chosen in sets.items() if chosen}


def hold_out(spoken: list[synthetic.Spoken], train: list[Prompt],
             config: MiniData) -> dict[str, list[synthetic.Spoken]]:
    """Synthetic speech by set: labelled utterances of every voice and style are held out for
    test_style and dev, if their texts occur only once and are not train prompts."""
    times = collections.Counter(s.text for s in spoken)
    known = {p.key for p in train}
    by_style: dict[tuple[str, str], list[synthetic.Spoken]] = {}
    for s in spoken:
        if s.style:
            found = by_style.setdefault((s.voice, s.style), [])
            found += [s] if times[s.text] == 1 and words_of(s.text) not in known else []
    out: dict[str, list[synthetic.Spoken]] = {"train": [], "dev": [], "test_style": []}
    held: set[str] = set()
    for (voice, style), found in by_style.items():
        found.sort(key=lambda s: order(config.seed, s.lang, s.text))
        wanted = config.style_test_utts + config.style_dev_utts
        if len(found) < 2 * wanted:
            raise UserError(f"corpus_data.hours.{voice}+{style}: {len(found)} "
                            f"utterances of texts of their own, {wanted} are to be held out: "
                            "raise the hours, or lower style_test_utts and style_dev_utts")
        out["test_style"] += found[: config.style_test_utts]
        out["dev"] += found[config.style_test_utts : wanted]
        held |= {s.utt for s in found[:wanted]}
    out["train"] = [s for s in spoken if s.utt not in held]
    return {name: some for name, some in out.items() if some}
