"""What egs/mini holds out for tests and validation."""

from dataclasses import replace

import pytest
import synthetic
from mini_corpus import CONFIG, prompts
from split import hold_out, split

from e2etts.errors import UserError


def test_the_split_depends_on_texts_alone():
    many = prompts(40)
    first = split(many, [], CONFIG)
    again = split(many[::-1], [], CONFIG)
    assert {n: {p.utt for p in s} for n, s in first.items()} == {
        n: {p.utt for p in s} for n, s in again.items()}
    assert [len(first[n]) for n in ("test_en", "dev", "train")] == [5, 3, 32]
    other = split(many, [], replace(CONFIG, seed=2))
    assert {p.utt for p in other["test_en"]} != {p.utt for p in first["test_en"]}


def test_no_text_is_on_two_sides_and_tests_can_be_judged():
    many = prompts(30)
    twins = [replace(p, utt=p.utt + "b", text=p.text.upper()) for p in many[:10]]
    short = [replace(p, utt=p.utt + "s", key=f"short {i}") for i, p in enumerate(many)]
    brief = [replace(p, utt=p.utt + "t", key=p.key + " x", seconds=1.0) for p in many]
    sets = split(many + twins + short + brief, [], CONFIG)
    held = [p for n in sets if n != "train" for p in sets[n]]
    assert len(held) == 8 and len(held) + len(sets["train"]) == 100
    assert not {p.key for p in held} & {p.key for p in sets["train"]}
    assert all(p.seconds >= 1.2 and len(p.key.split()) >= 4 for p in held)


def test_too_few_prompts_and_sentences_that_are_prompts_are_refused():
    with pytest.raises(UserError, match="only 6 prompts can be judged; lower"):
        split(prompts(6), [], CONFIG)
    with pytest.raises(UserError, match="is a prompt"):
        split(prompts(20), [("en", "NUMBER 3, is a text of several words!")], CONFIG)


def spoken(voice, style, texts):
    return [synthetic.Spoken(f"{voice}-{style}-{t}", "en", voice, style, f"{t}.wav", t, 1.0)
            for t in texts]


def test_labelled_speech_is_held_out_by_voice_and_style():
    config = replace(CONFIG, style_test_utts=2, style_dev_utts=1)
    texts = [f"text {n} of several words." for n in range(20)]
    plain = spoken("flite-slt", "", texts[:3])
    fast = spoken("flite-slt", "fast", texts[:10])
    slow = spoken("flite-awb", "slow", texts[10:])
    train = [replace(prompts(1)[0], key="text 12 of several words")]
    found = hold_out([*plain, *fast, *slow], train, config)
    held = found["test_style"] + found["dev"]
    assert [(s.voice, s.style) for s in found["test_style"]] == [
        ("flite-slt", "fast")] * 2 + [("flite-awb", "slow")] * 2
    assert [s.style for s in found["dev"]] == ["fast", "slow"]
    assert sorted(s.utt for s in found["train"] + held) == sorted(
        s.utt for s in [*plain, *fast, *slow])
    assert not {s.text for s in held} & {s.text for s in found["train"]}
    assert "text 12 of several words." not in {s.text for s in held}
    again = hold_out([*slow[::-1], *fast[::-1], *plain], train, config)
    assert {s.utt for s in again["test_style"]} == {s.utt for s in found["test_style"]}
    assert hold_out(plain, train, config) == {"train": plain}
    with pytest.raises(UserError, match=r"hours\.flite-slt\+fast: 5 utter.* 3 are to be held out"):
        hold_out(fast[:5], train, config)
