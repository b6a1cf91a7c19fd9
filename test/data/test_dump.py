import json
import math

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from made_corpus import AUDIO, make_dump, make_set, run_prepare

from e2etts.audio import AudioConfig, load_wav, log_mel
from e2etts.data.datadir import DataDir, read_table
from e2etts.data.dump import space_between
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.programs import find_program
from e2etts.text import TextConfig, TextTokenizer


def snapshot(dump):
    return {p.relative_to(dump): p.stat().st_mtime_ns for p in dump.rglob("*") if p.is_file()}


def test_tables_mels_and_scalars(tmp_path):
    dump = make_dump(tmp_path, emotions=True)
    data = DataDir.load(tmp_path / "data/train")
    model = TextTokenizer.load(dump / "text.model")
    frames = read_table(dump / "train/utt2num_frames")
    text, ids = (read_table(dump / "train" / n) for n in ("text_norm", "text_ids"))
    assert list(ids) == data.utts == list(frames)
    for utt, value in read_table(dump / "train/mel.scp").items():
        mel = kaldiio.load_mat(value)
        wanted = log_mel(torch.from_numpy(load_wav(data.wav[utt], 16000)), AUDIO).numpy()
        assert mel.dtype == np.float32 and len(mel) == int(frames[utt])
        np.testing.assert_allclose(mel, wanted, atol=1e-5)
        assert [int(i) for i in ids[utt].split()] == model.encode(text[utt])
    vocab = Vocab.load(dump)
    assert vocab.speakers == ["voice-0", "voice-1"] and vocab.languages == ["en"]
    assert vocab.emotions == ["happy", "sad"]
    assert vocab.text_size == len(model)
    assert math.log(1e-5) < vocab.mel_mean < 3 and 0 < vocab.mel_std < 6
    total = sum(map(int, frames.values())) / sum(len(v.split()) for v in ids.values())
    per = AUDIO.frames_per_token
    assert vocab.mean_tokens_per_text_token == pytest.approx(total / per, abs=1e-3)
    assert (dump / "train/skipped").read_text() == ""
    assert not (dump / "sentences/mel.scp").exists() and (dump / "sentences/text_ids").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_second_run_changes_nothing_and_says_so(tmp_path, capsys):
    dump = make_dump(tmp_path)
    before = snapshot(dump)
    capsys.readouterr()
    run_prepare(tmp_path)
    said = capsys.readouterr().out
    assert [said.count(f"{s}: up to date") for s in ("train", "dev", "sentences")] == [1, 1, 1]
    assert snapshot(dump) == before


def test_changed_audio_text_or_setting_is_noticed(tmp_path, capsys):
    make_dump(tmp_path)
    capsys.readouterr()
    data = DataDir.load(tmp_path / "data/dev")
    first = data.utts[0]
    soundfile.write(data.wav[first], np.full(8000, 0.1), 16000, "PCM_16")
    dump = run_prepare(tmp_path)
    said = capsys.readouterr().out
    assert "train: up to date" in said and "dev: up to date" not in said
    assert read_table(dump / "dev/utt2num_frames")[first] == "25"
    data.text[first] = "a quite new text"
    data.save(tmp_path / "data/dev")
    run_prepare(tmp_path)
    assert read_table(dump / "dev/text_norm")[first] == "a quite new text"
    run_prepare(tmp_path, audio=AudioConfig(mel_bands=12))
    assert kaldiio.load_mat(read_table(dump / "dev/mel.scp")[first]).shape == (25, 12)


def test_new_text_model_reaches_every_set(tmp_path):
    dump = make_dump(tmp_path)
    before = read_table(dump / "sentences/text_ids")
    run_prepare(tmp_path, text=TextConfig(model_type="unigram", vocab_size=60, phonemes=False))
    assert read_table(dump / "sentences/text_ids") != before


def test_unusable_utterances_are_listed_with_the_reason(tmp_path, capsys):
    data = make_set(tmp_path, "train", 24)
    make_set(tmp_path, "dev", 6)
    make_set(tmp_path, "sentences", 3, wav=False)
    short, silent = data.utts[3], data.utts[7]
    soundfile.write(data.wav[short], np.zeros(100), 16000, "PCM_16")
    data.text[silent] = "?!"
    data.save(tmp_path / "data/train")
    dump = run_prepare(tmp_path)
    skipped = read_table(dump / "train/skipped")
    assert skipped[short] == "audio: 0 frames, less than one token"
    assert skipped[silent].startswith("text: ") and len(skipped) == 2
    assert "22 utterances" in capsys.readouterr().out
    for name in ("mel.scp", "text_ids", "utt2spk", "wav.scp"):
        assert not read_table(dump / "train" / name).keys() & {short, silent}


def test_unreadable_input_is_an_error_and_leaves_the_former_dump(tmp_path):
    dump = make_dump(tmp_path)
    before = snapshot(dump)
    data = DataDir.load(tmp_path / "data/train")
    soundfile.write(data.wav[data.utts[0]], np.zeros((8000, 2)), 16000, "PCM_16")
    with pytest.raises(UserError, match="2 channels"):
        run_prepare(tmp_path)
    assert snapshot(dump) == before
    (tmp_path / "wav" / f"{data.utts[0]}.wav").unlink()
    with pytest.raises(UserError, match=r"wav\.scp:1: .*No such file"):
        run_prepare(tmp_path)
    with pytest.raises(UserError, match="no such data directory"):
        run_prepare(tmp_path, sets=["train", "absent"], train="absent")


def test_unknown_language_is_an_error_not_a_skip(tmp_path):
    data = make_set(tmp_path, "train", 4)
    data.utt2lang.update(dict.fromkeys(data.utts, "xx"))
    data.save(tmp_path / "data/train")
    with pytest.raises(UserError, match="'xx'"):
        run_prepare(tmp_path, sets=["train"])
    assert not (tmp_path / "dump/train").exists()


def test_phonemes(tmp_path):
    try:
        find_program("espeak-ng")
    except UserError:
        pytest.skip("espeak-ng is not installed")
    make_set(tmp_path, "train", 4)
    dump = run_prepare(tmp_path, sets=["train"],
                       text=TextConfig(model_type="char", phonemes=True))
    assert any("ˈ" in t for t in read_table(dump / "train/text_norm").values())


def test_worker_processes_give_the_same_files(tmp_path):
    make_set(tmp_path, "train", 60)
    one = (run_prepare(tmp_path, sets=["train"], workers=1) / "train/mel.ark").read_bytes()
    (tmp_path / "dump/train/stamp.json").unlink()
    two = (run_prepare(tmp_path, sets=["train"], workers=2) / "train/mel.ark").read_bytes()
    assert one == two


def test_space_between_joins_texts_as_if_written_together(tmp_path):
    dump = make_dump(tmp_path)
    model = TextTokenizer.load(dump / "text.model")
    space = space_between(model, "red two", "blue")
    assert model.encode("red two") + space + model.encode("blue") == model.encode("red two blue")
    assert Vocab.load(dump).space == space


def test_broken_vocabulary_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="--stage 2"):
        Vocab.load(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"speakers": []}))
    with pytest.raises(UserError, match="not a vocabulary"):
        Vocab.load(tmp_path)
