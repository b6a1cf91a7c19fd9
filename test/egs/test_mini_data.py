"""The data stage of egs/mini: fetching, checking, choosing, splitting, speaking; offline."""

import io
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from served import Handler

from e2etts.data.datadir import DataDir
from e2etts.errors import UserError
from e2etts.text import normalise

LOCAL = Path(__file__).resolve().parents[2] / "egs/mini/local"
sys.path.insert(0, str(LOCAL))

import asterisk  # noqa: E402
import fetch  # noqa: E402
import prepare_data  # noqa: E402
import sentences  # noqa: E402
import synthetic  # noqa: E402
from settings import CorpusConfig  # noqa: E402

CONFIG = CorpusConfig(languages=("en",), test_utts={"en": 5}, dev_utts=3,
                      hours={"flite-slt": 0.01})


def tone(seconds, level=8000):
    return (level * np.sin(np.arange(round(seconds * 16000)) * 0.05)).astype(np.int16)


def write_g722(path, wav):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as out:
        stream = out.add_stream("g722", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(wav[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)


def prompts(count, lang="en", seconds=2.0):
    texts = [f"Number {n} is a text of several words." for n in range(count)]
    return [asterisk.Prompt(f"asterisk-{lang}-{n:03d}", lang, f"{n}.wav", text,
                            asterisk.words_of(normalise(text, lang)), seconds)
            for n, text in enumerate(texts)]


# Fetching


def release(names):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def test_the_release_is_used_where_it_can_be_reached(server, tmp_path):
    Handler.content = release({
        "./core-sounds-en.txt": b"hello: Hello.\n", "./digits/1.g722": b"x", "LICENSE": b"l",
        "../evil.g722": b"e", "/abs.g722": b"e"})
    config = replace(CONFIG, release_url=server)
    found = fetch.fetch_all(tmp_path / "download", config)
    sounds, transcript = found["en"]
    inside = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.g722"))
    assert inside == ["download/release/en/digits/1.g722"]
    assert transcript.read_text() == "hello: Hello.\n" and not (tmp_path / "evil.g722").exists()
    Handler.asked.clear()
    assert fetch.fetch_all(tmp_path / "download", config) == found and not Handler.asked


def test_neither_source_gives_one_error_that_says_both(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    config = replace(CONFIG, release_url="http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"neither the release .*refused.* nor Debian.*apt-get"):
        fetch.fetch_all(tmp_path / "download", config)


def test_a_damaged_archive_is_removed_and_debian_is_asked(server, tmp_path, monkeypatch):
    Handler.content = release({"core-sounds-en.txt": b"a: b\n" * 99})[:-30]
    monkeypatch.setattr(fetch, "fetch_from_debian", lambda lang, download, why: (lang, why))
    found = fetch.fetch_all(tmp_path, replace(CONFIG, release_url=server))
    assert "damaged" in found["en"][1] and not list(tmp_path.glob("*.tar.gz"))


# Checking and choosing


def test_transcripts_with_byte_order_mark_comments_and_colons(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeff; Comment: none\n\na/b: One: two.\nc:\na/b: again\nno line\n".encode())
    texts, sha = asterisk.read_transcript(path)
    assert texts == {"a/b": "One: two.", "c": ""} and len(sha) == 64


def test_a_changed_recording_is_noticed(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/a.g722").write_bytes(b"1")
    sums = tmp_path / "sums"
    sums.write_text("en.audio 0\n")
    with pytest.raises(UserError, match="checksum of en.audio is .*expected 0.*run again"):
        asterisk.check("en", tmp_path / "sounds", "1", sums)
    sums.write_text("en.text 1\nru.audio 0\n")
    assert list(asterisk.check("en", tmp_path / "sounds", "1", sums)) == ["a"]


def test_the_committed_sums_cover_every_language():
    kinds = [line.split()[0] for line in (LOCAL / "checksums.txt").read_text().splitlines()]
    assert kinds == [f"{lang}.{kind}" for lang in CorpusConfig().languages
                     for kind in ("audio", "text")]


def test_prompts_that_are_not_plain_speech_are_left_out_with_their_reason():
    texts = {"beep": "[a beep]", "note": "Hello (quietly)", "good": "Hello.", "copy": "Hello.",
             "Upper": "Case.", "gone": "Not there.", "symbols": "...", "silence/1": "one"}
    shas = {n: n for n in ["beep", "note", "good", "copy", "upper", "mute", "symbols",
                           "silence/1"]} | {"copy": "copy", "good": "copy"}
    good, bad = asterisk.select("en", texts, shas)
    assert good == [("en", "copy", "Hello."), ("en", "upper", "Case.")]
    reasons = {name: reason for _, name, reason in bad}
    assert reasons["good"] == "same audio as copy" and reasons["mute"] == "no transcript"
    assert reasons["beep"] == reasons["note"] and "brackets" in reasons["beep"]
    assert reasons["gone"] == "transcript without audio" and reasons["silence/1"] == "silence"
    assert reasons["symbols"] == "no letters of the language"
    assert asterisk.text_reason("x", "hello", "ru") == "no letters of the language"


def test_misspelt_transcripts_are_put_right():
    spelling = asterisk.read_spelling(LOCAL / "spelling.tsv", "es")
    assert asterisk.respell("Numero de extension; contrasena.", spelling) == (
        "Número de extensión; contraseña.")
    assert asterisk.respell("extensiones", spelling) == "extensiones"
    for line in (LOCAL / "spelling.tsv").read_text(encoding="utf-8").splitlines():
        lang, wrong, right = line.split("\t")
        assert lang in CorpusConfig().languages and wrong != right and wrong == wrong.lower()


def test_silence_at_the_edges_is_cut_to_what_was_asked():
    quiet = np.zeros(16000, np.int16)
    cut = asterisk.cut_edges(np.concatenate([quiet, tone(1), quiet]), 0.3)
    assert abs(len(cut) - 1.6 * 16000) < 20
    assert len(asterisk.cut_edges(tone(1), 0.3)) >= 15990
    assert len(asterisk.cut_edges(quiet, 0.3)) == 0


def test_decoding_gives_16_khz_and_is_resumable(tmp_path):
    write_g722(tmp_path / "a.g722", tone(1.0))
    write_g722(tmp_path / "b.g722", tone(1.0, level=0))
    (tmp_path / "c.g722").write_bytes(b"")
    jobs = [(tmp_path / f"{n}.g722", tmp_path / f"out/{n}.wav", 0.3) for n in "abc"]
    reasons = asterisk.decode_all(jobs, 1)
    assert reasons[:2] == ["", "silence"] and reasons[2]
    info = soundfile.info(tmp_path / "out/a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert abs(info.duration - 1.0) < 0.05
    before = (tmp_path / "out/a.wav").stat().st_mtime_ns
    asterisk.decode_all(jobs, 1)
    assert (tmp_path / "out/a.wav").stat().st_mtime_ns == before
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.wav"]


@pytest.mark.parametrize("seconds, level, text, reason", [
    (2.0, 0.3, "a usual text.", ""), (2.0, 1e-4, "a usual text.", "nearly silent"),
    (17.0, 0.3, "a usual text of more words than that.", "longer than 16 s"),
    (0.5, 0.3, "a text that is far too long.", "characters per second"),
    (9.0, 0.3, "short.", "characters per second")])
def test_audio_that_cannot_be_its_text(tmp_path, seconds, level, text, reason):
    soundfile.write(tmp_path / "a.wav", tone(seconds) / 8000 * level, 16000)
    found = asterisk.judge(tmp_path / "a.wav", text, seconds, CorpusConfig())
    assert reason in found and bool(found) == bool(reason)


# Splitting


def test_the_split_depends_on_texts_alone():
    many = prompts(40)
    first = prepare_data.split(many, [], CONFIG)
    again = prepare_data.split(many[::-1], [], CONFIG)
    assert {n: {p.utt for p in s} for n, s in first.items()} == {
        n: {p.utt for p in s} for n, s in again.items()}
    assert [len(first[n]) for n in ("test_en", "dev", "train")] == [5, 3, 32]
    other = prepare_data.split(many, [], replace(CONFIG, seed=2))
    assert {p.utt for p in other["test_en"]} != {p.utt for p in first["test_en"]}


def test_no_text_is_on_two_sides_and_tests_can_be_judged():
    many = prompts(30)
    twins = [replace(p, utt=p.utt + "b", text=p.text.upper()) for p in many[:10]]
    short = [replace(p, utt=p.utt + "s", key=f"short {i}") for i, p in enumerate(many)]
    brief = [replace(p, utt=p.utt + "t", key=p.key + " x", seconds=1.0) for p in many]
    sets = prepare_data.split(many + twins + short + brief, [], CONFIG)
    held = [p for n in sets if n != "train" for p in sets[n]]
    assert len(held) == 8 and len(held) + len(sets["train"]) == 100
    assert not {p.key for p in held} & {p.key for p in sets["train"]}
    assert all(p.seconds >= 1.2 and len(p.key.split()) >= 4 for p in held)


def test_too_few_prompts_and_sentences_that_are_prompts_are_refused():
    with pytest.raises(UserError, match="only 6 prompts can be judged; lower"):
        prepare_data.split(prompts(6), [], CONFIG)
    with pytest.raises(UserError, match="is a prompt"):
        prepare_data.split(prompts(20), [("en", "NUMBER 3, is a text of several words!")], CONFIG)


# Sentences


@pytest.mark.parametrize("text, lang, clean", [
    ("He runs home", "en", "he runs home."), ("Is it over?", "en", "is it over?"),
    ("Two words", "en", ""), ("See page 12 of it", "en", ""), ("- He runs home", "en", ""),
    ("the NATO members met", "en", ""), ("un été à la mer", "en", ""), ("a [b] c d", "en", ""),
    ("¡Qué bonita es la vida!", "es", "qué bonita es la vida!"),
    ("Это очень хорошо", "ru", "это очень хорошо."), ("é finita la carta", "it", ""),
    ("this is english", "ru", ""),
    ("word " * 19, "en", ""), ("he said: go home", "en", "he said, go home.")])
def test_only_clean_sentences_pass(text, lang, clean):
    assert sentences.clean_sentence(text, lang) == clean


def test_free_sentences_are_well_formed_and_no_prompts():
    found = prepare_data.read_sentences(LOCAL / "sentences.txt", CorpusConfig())
    counts = {lang: sum(1 for other, _ in found if other == lang) for lang in
              CorpusConfig().languages}
    assert counts == {"en": 100, "es": 4, "fr": 4, "it": 4, "ru": 4}
    assert len({text for _, text in found}) == 116


def test_a_bad_line_of_sentences_is_named(tmp_path):
    (tmp_path / "s.txt").write_text("en|Good line.\nbad line\n")
    with pytest.raises(UserError, match="s.txt:2: expected 'language|text'"):
        prepare_data.read_sentences(tmp_path / "s.txt", CONFIG)


NOUNS = ("cat", "dog", "king", "clock", "river", "garden", "letter", "doctor", "window", "story")
VERBS = ("sees", "finds", "takes", "loves", "brings", "paints", "moves", "hides", "keeps",
         "needs", "wants", "hears")


def wordnet(root):
    """A WordNet of 110 examples in the package's format, already fetched."""
    deb = root / "data/download/deb"
    (deb / "usr/share/wordnet").mkdir(parents=True)
    lines = [f'001 n 0 | a gloss; "the {a} {v} every {b}"' for a in NOUNS for v in VERBS
             for b in NOUNS[:1] if a != b]
    lines += [f'002 n 0 | more; "a {a} is no text of several words {v}"' for a in NOUNS[:1]
              for v in VERBS]
    for part in ("noun", "verb", "adj", "adv"):
        (deb / f"usr/share/wordnet/data.{part}").write_text("\n".join(lines) + "\n")
    (deb / "packages.json").write_text('{"wordnet-base": "1"}')
    return deb


def test_texts_are_seeded_dealt_out_and_hold_nothing_held_out(tmp_path):
    deb = wordnet(tmp_path)
    train = prompts(30)
    barred = {"number three", "the dog sees every cat", "more"}
    amounts = {"flite-slt": 40, "flite-rms": 40}
    texts = sentences.voice_texts("en", amounts, train, barred, deb, CONFIG)
    assert texts == sentences.voice_texts("en", amounts, train, barred, deb, CONFIG)
    assert all(38 <= len(t) <= 40 for t in texts.values())
    for text in texts["flite-slt"] + texts["flite-rms"]:
        key = f" {asterisk.words_of(text)} "
        assert not any(f" {b} " in key for b in barred) and text[-1] in ".?!"
    free = [{t for t in texts[v] if "every" in t} for v in texts]
    assert free[0] and free[1] and not free[0] & free[1]
    assert texts != sentences.voice_texts("en", amounts, train, barred, deb,
                                          replace(CONFIG, seed=2))


def test_sources_with_too_few_sentences_are_reported(tmp_path):
    deb = wordnet(tmp_path)
    for path in (deb / "usr/share/wordnet").iterdir():
        path.write_text('1 | "one two three"\n')
    with pytest.raises(UserError, match="only 1 clean sentences"):
        sentences.open_sentences("en", deb)
    path.unlink()
    with pytest.raises(UserError, match="data.noun: cannot read|data.adv: cannot read|cannot read"):
        sentences.open_sentences("en", deb)


# Speaking


@pytest.fixture
def flite(tmp_path, monkeypatch):
    """A flite that copies a wav of a second; ``write(...)`` chooses which."""
    made = tmp_path / "made.wav"
    script = tmp_path / "flite"
    script.write_text(f'#!/bin/sh\n[ -f {tmp_path}/broken ] && {{ echo bad >&2; exit 1; }}\n'
                      f'while [ "$1" != -o ]; do shift; done; cp {made} "$2"\n')
    script.chmod(0o755)
    monkeypatch.setenv("E2ETTS_FLITE", str(script))

    def write(wav, rate=16000):
        soundfile.write(made, wav, rate)

    write(tone(1.0))
    return write


def speak(texts, root, hours):
    return synthetic.speak_all({"flite-slt": texts}, {"flite-slt": hours}, root, CONFIG)


def test_a_voice_speaks_until_its_hours_are_full(flite, tmp_path):
    texts = [f"text number {n}." for n in range(100)]
    done, failed = speak(texts, tmp_path, 5.5 / 3600)
    assert [s.text for s in done] == texts[:6] and not failed
    again, _ = synthetic.speak_all({"flite-slt": texts}, {"flite-slt": 5.5 / 3600}, tmp_path,
                                   replace(CONFIG, workers=1))
    assert again == done
    assert all((tmp_path / s.wav).exists() and s.seconds == 1.0 for s in done)
    assert not list(tmp_path.rglob("*.spoken.wav")) and len({s.utt for s in done}) == 6


def test_other_rates_are_resampled_and_bad_answers_listed(flite, tmp_path):
    flite(tone(1.0, level=4000).repeat(2)[:22050], 22050)
    done, _ = speak(["one two three."], tmp_path, 1)
    assert soundfile.info(tmp_path / done[0].wav).samplerate == 16000
    assert abs(done[0].seconds - 1.0) < 0.01
    flite(tone(1.0, level=0))
    done, failed = speak(["four five six."], tmp_path, 1)
    assert not done and failed == [("flite-slt", "four five six.", "flite-slt wrote silence")]
    (tmp_path / "made.wav").write_bytes(b"junk")
    assert "no readable audio" in speak(["seven eight."], tmp_path, 1)[1][0][2]


def test_a_failing_program_and_unknown_voices_are_reported(flite, tmp_path):
    (tmp_path / "broken").write_text("")
    with pytest.raises(UserError, match="fails with status 1 on 'one two.': bad"):
        speak(["one two."], tmp_path, 1)
    with pytest.raises(UserError, match="corpus_data.hours.flite-bob: no such voice; known"):
        synthetic.voice_language("flite-bob")


def test_styles_of_a_voice_and_how_programs_are_asked_for_them(tmp_path):
    assert synthetic.voice_language("flite-slt+high") == "en"
    assert synthetic.voice_language("espeak-ru+whisper") == "ru"
    for voice, has in (("flite-rms+high", "neutral, fast, slow$"), ("espeak-es+", "flat, whisper"),
                       ("flite-slt+whisper", "neutral, fast, slow, high, low, flat$")):
        with pytest.raises(UserError, match=f"{re.escape(voice)}: .* has no such style; .*{has}"):
            synthetic.voice_language(voice)
    asked = {v: synthetic._arguments("a <b> c.", v, tmp_path / "x.wav") for v in (
        "flite-slt", "flite-slt+neutral", "flite-slt+slow", "espeak-es", "espeak-es+whisper",
        "espeak-es+flat")}
    out = str(tmp_path / "x.wav")
    assert asked["flite-slt"] == asked["flite-slt+neutral"] == [
        "-voice", "slt", "-t", "a <b> c.", "-o", out]
    assert asked["flite-slt+slow"][2:4] == ["--setf", "duration_stretch=1.4"]
    assert asked["espeak-es"] == ["-v", "es-419", "-w", out, "--", "a <b> c."]
    assert asked["espeak-es+whisper"][:2] == ["-v", "es-419+whisper"]
    assert asked["espeak-es+flat"][-1] == '<prosody range="0%">a &lt;b&gt; c.</prosody>'
    assert "-m" in asked["espeak-es+flat"]


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
    found = prepare_data.hold_out([*plain, *fast, *slow], train, config)
    held = found["test_style"] + found["dev"]
    assert [(s.voice, s.style) for s in found["test_style"]] == [
        ("flite-slt", "fast")] * 2 + [("flite-awb", "slow")] * 2
    assert [s.style for s in found["dev"]] == ["fast", "slow"]
    assert sorted(s.utt for s in found["train"] + held) == sorted(
        s.utt for s in [*plain, *fast, *slow])
    assert not {s.text for s in held} & {s.text for s in found["train"]}
    assert "text 12 of several words." not in {s.text for s in held}
    again = prepare_data.hold_out([*slow[::-1], *fast[::-1], *plain], train, config)
    assert {s.utt for s in again["test_style"]} == {s.utt for s in found["test_style"]}
    assert prepare_data.hold_out(plain, train, config) == {"train": plain}
    with pytest.raises(UserError, match=r"hours\.flite-slt\+fast: 5 utter.* 3 are to be held out"):
        prepare_data.hold_out(fast[:5], train, config)


def test_a_full_disk_is_said_and_leaves_nothing(flite, tmp_path, monkeypatch):
    full = asterisk.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(asterisk.shutil, "disk_usage", lambda path: full)
    with pytest.raises(UserError, match="flite-slt: disk full; free some space"):
        speak(["one two."], tmp_path, 1)

    def refuse(*args, **kwargs):
        Path(args[0]).write_bytes(b"half")
        raise AssertionError

    monkeypatch.setattr(asterisk.soundfile, "write", refuse)
    with pytest.raises(UserError, match="a.wav: cannot write audio: disk full"):
        asterisk.write_wav(tmp_path / "out/a.wav", tone(1.0))
    left = [p.name for p in tmp_path.rglob("*") if p.suffix in (".part", ".wav")]
    assert left == ["made.wav"]


# The whole stage


@pytest.fixture
def recipe(tmp_path, monkeypatch, flite):
    """A recipe folder with 24 recordings already fetched."""
    root = tmp_path / "egs"
    sounds = root / "data/download/release/en"
    lines = ["; prompts"]
    for n in range(24):
        write_g722(sounds / f"set/p{n}.g722", tone(1.5 + n / 100))
        lines.append(f"set/p{n}: Prompt {n} says several words.")
    write_g722(sounds / "beep.g722", tone(1.0))
    lines.append("beep: [tone]")
    (sounds / "core-sounds-en.txt").write_text("\n".join(lines))
    wordnet(root)
    (root / "checksums.txt").write_text("")
    (root / "spelling.tsv").write_text("en\tprompt\tprompt\n")
    monkeypatch.chdir(root)
    monkeypatch.setattr(asterisk, "HERE", root)
    monkeypatch.setattr(prepare_data, "fetch_programs", lambda config: None)
    conf = root / "conf.yaml"
    conf.write_text("seed: 3\ncorpus_data: {languages: [en], test_utts: {en: 5}, dev_utts: 3,\n"
                    "  hours: {flite-slt: 0.003, espeak-ru: 0.0}, workers: 1}\n")
    return conf


def run(conf, *overrides):
    parser = prepare_data.argparse.Namespace(config=conf, overrides=list(overrides))
    prepare_data.main(parser)


def test_the_stage_makes_sets_that_validate_and_a_second_run_changes_nothing(recipe, capsys):
    run(recipe)
    shown = capsys.readouterr().out
    data = recipe.parent / "data"
    train = DataDir.load(data / "train", need_wav=True)
    test = DataDir.load(data / "test_en", need_wav=True)
    assert len(test) == 5 and len(DataDir.load(data / "dev", need_wav=True)) == 3
    assert set(train.utt2spk.values()) == {"asterisk-en", "flite-slt"}
    keys = {asterisk.words_of(normalise(t, "en")) for t in train.text.values()}
    assert not keys & {asterisk.words_of(normalise(t, "en")) for t in test.text.values()}
    assert len(DataDir.load(data / "sentences_en")) == 100
    assert "brackets" in (data / "left_out.tsv").read_text() and "1 left out" in shown
    assert "CC BY-SA 3.0" in (data / "wav/asterisk/ATTRIBUTION").read_text()
    assert "train" in shown and "Allison Smith" in shown
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns if p.suffix == ".wav" else 0)
              for p in data.rglob("*") if p.is_file()}
    assert "nothing has changed" not in shown
    run(recipe)
    assert "nothing has changed" in capsys.readouterr().out
    (data / "done.json").unlink()
    run(recipe)
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns if p.suffix == ".wav" else 0)
             for p in data.rglob("*") if p.is_file()}
    assert before == after


def test_overrides_reach_the_stage_and_wrong_keys_name_the_nearest(recipe):
    run(recipe, "corpus_data.hours.flite-slt=0.0", "stages.lm.train.lr=1")
    assert set(DataDir.load(recipe.parent / "data/train").utt2spk.values()) == {"asterisk-en"}
    with pytest.raises(UserError, match="'corpus_data.hour'; nearest known key: 'corpus_data.hour"):
        run(recipe, "corpus_data.hour=1")


def test_styles_become_emotion_labels_and_without_them_there_are_none(recipe, flite, capsys):
    flite(tone(3.0))  # as long as the texts take
    run(recipe)
    plain = {p.name: p.read_text() for p in Path("data/train").iterdir()}
    assert not list(Path("data").glob("*/utt2emo")) and not Path("data/test_style").exists()
    run(recipe, "corpus_data.hours.flite-slt+fast=0.015", "corpus_data.hours.flite-slt+low=0.015",
        "corpus_data.style_test_utts=3", "corpus_data.style_dev_utts=1")
    train, test, dev = (DataDir.load(f"data/{n}", need_wav=True)
                        for n in ("train", "test_style", "dev"))
    assert sorted(test.utt2emo.values()) == ["fast"] * 3 + ["low"] * 3 and len(test) == 6
    assert sorted(dev.utt2emo.values()) == ["fast", "low"] and len(dev) == 5
    assert set(train.utt2emo.values()) == {"fast", "low"}
    assert {train.utt2spk[u] for u in train.utt2emo} == {"flite-slt"}
    assert len(set(train.wav.values())) == len(train)
    assert not set(test.text.values()) & set(train.text.values())
    old = {line.split()[0] for line in plain["wav.scp"].splitlines()}
    assert old <= set(train.text)  # what is spoken without a style is as before
    assert "test_style" in capsys.readouterr().out


def test_prompts_per_language_limits_what_is_decoded(recipe):
    run(recipe, "corpus_data.prompts_per_language=15", "corpus.data_dir=data_small")
    data = recipe.parent / "data"
    assert not (data / "train").exists()
    assert "Allison Smith" in Path("data_small/ATTRIBUTION").read_text()
    assert len(list((data / "wav/asterisk").rglob("*.wav"))) == 15
    real = [s for s in DataDir.load("data_small/train").utt2spk.values() if s == "asterisk-en"]
    assert len(real) == 15 - 5 - 3


def test_a_clipped_recording_fails_or_is_skipped(recipe):
    loud = np.clip(tone(2.0).astype(np.int32) * 30, -32768, 32767).astype(np.int16)
    run(recipe)
    test = DataDir.load(recipe.parent / "data/train", need_wav=True)
    victim = next(p for u, p in test.wav.items() if u.startswith("asterisk"))
    soundfile.write(recipe.parent / victim, loud, 16000)
    with pytest.raises(UserError, match="clipped"):
        run(recipe, "corpus_data.policy=fail")
    run(recipe)
    assert "clipped" in (recipe.parent / "data/train/skipped.tsv").read_text()
