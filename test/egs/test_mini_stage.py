"""The whole data stage of egs/mini, on recordings that are made up."""

from pathlib import Path

import asterisk
import engines
import numpy as np
import prepare_data
import pytest
import soundfile
from mini_corpus import tone, wordnet, write_g722
from settings import MiniData

from e2etts.data import corpus
from e2etts.data.datadir import DataDir
from e2etts.text import normalise


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
    monkeypatch.setattr(engines, "fetch", lambda voices: None)
    (root / "conf.yaml").write_text(
        "seed: 3\ncorpus_data: {languages: [en], test_utts: {en: 5}, dev_utts: 3,\n"
        "  hours: {flite-slt: 0.003, espeak-ru: 0.0}, workers: 1}\n")
    return root


def run(*overrides, status=0):
    assert corpus.run("", MiniData, prepare_data.prepare,
                      ["--config", "conf.yaml", *overrides]) == status


def test_the_stage_makes_sets_that_validate_and_a_second_run_changes_nothing(recipe, capsys):
    run()
    shown = capsys.readouterr().out
    data = recipe / "data"
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
    run()
    assert "nothing has changed" in capsys.readouterr().out
    (data / "done.json").unlink()
    run()
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns if p.suffix == ".wav" else 0)
             for p in data.rglob("*") if p.is_file()}
    assert before == after


def test_overrides_reach_the_stage_and_what_is_wrong_is_said(recipe, capsys):
    run("corpus_data.hours.flite-slt=0.0", "stages.lm.train.lr=1")
    assert set(DataDir.load(recipe / "data/train").utt2spk.values()) == {"asterisk-en"}
    for wrong, said in ((["corpus_data.hour=1"], "'corpus_data.hour'; nearest known key: "
                         "'corpus_data.hours'"), (["--corpus_dir", "."], "not supported")):
        run(*wrong, status=2)
        assert said in capsys.readouterr().err


def test_styles_become_emotion_labels_and_without_them_there_are_none(recipe, flite, capsys):
    flite(tone(3.0))  # as long as the texts take
    run()
    plain = {p.name: p.read_text() for p in Path("data/train").iterdir()}
    assert not list(Path("data").glob("*/utt2emo")) and not Path("data/test_style").exists()
    run("corpus_data.hours.flite-slt+fast=0.015", "corpus_data.hours.flite-slt+low=0.015",
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
    run("corpus_data.prompts_per_language=15", "corpus.data_dir=data_small")
    data = recipe / "data"
    assert not (data / "train").exists()
    assert "Allison Smith" in Path("data_small/ATTRIBUTION").read_text()
    assert len(list((data / "wav/asterisk").rglob("*.wav"))) == 15
    real = [s for s in DataDir.load("data_small/train").utt2spk.values() if s == "asterisk-en"]
    assert len(real) == 15 - 5 - 3


def test_a_clipped_recording_fails_or_is_skipped(recipe, capsys):
    loud = np.clip(tone(2.0).astype(np.int32) * 30, -32768, 32767).astype(np.int16)
    run()
    test = DataDir.load(recipe / "data/train", need_wav=True)
    victim = next(p for u, p in test.wav.items() if u.startswith("asterisk"))
    soundfile.write(recipe / victim, loud, 16000)
    run("corpus_data.policy=fail", status=2)
    assert "clipped" in capsys.readouterr().err
    run()
    assert "clipped" in (recipe / "data/train/skipped.tsv").read_text()
