"""What the prepared data say of the models' sizes."""

import json

import pytest
from made_corpus import AUDIO, make_dump, make_set, run_prepare

from e2etts.data.datadir import read_table, write_table
from e2etts.data.vocab import Vocab, token_ratios


def write_set(folder, rows: dict[str, tuple[int, int, str]]):
    """utterance -> (frames, text tokens, language)."""
    folder.mkdir(parents=True)
    write_table(folder / "utt2num_frames", {u: str(f) for u, (f, _, _) in rows.items()})
    write_table(folder / "text_ids", {u: " ".join(["3"] * n) for u, (_, n, _) in rows.items()})
    write_table(folder / "utt2lang", {u: lang for u, (_, _, lang) in rows.items()})
    return folder


def test_speech_tokens_per_text_token_are_quantiles_of_utterances(tmp_path):
    """101 utterances of 2, 4, ... 202 tokens of two frames for two text tokens each."""
    rows = {f"u{i:03d}": (4 * (i + 1), 2, "en") for i in range(101)}
    low, high = token_ratios(write_set(tmp_path / "a", rows), 2)
    assert low == pytest.approx(2.0) and high == pytest.approx(100.0)  # the 2nd and the 100th
    assert token_ratios(tmp_path / "a", 4) == pytest.approx([1.0, 50.0])


def test_a_rare_language_widens_the_ratios(tmp_path):
    """One Mandarin utterance, of six tokens a syllable, among 500 of one token a letter."""
    rows = {f"u{i:03d}": (20, 10, "en") for i in range(500)} | {"v": (120, 10, "zh")}
    assert token_ratios(write_set(tmp_path / "a", rows), 2) == [1.0, 6.0]
    rows["w"] = (4, 10, "fr")
    assert token_ratios(write_set(tmp_path / "b", rows), 2) == [0.2, 6.0]


def test_a_token_that_is_begun_counts(tmp_path):
    assert token_ratios(write_set(tmp_path / "a", {"u": (5, 3, "en")}), 2) == [1.0, 1.0]


def test_prepared_data_have_them_and_an_extended_system_has_both(tmp_path):
    dump = make_dump(tmp_path)
    found = Vocab.load(dump).tokens_per_text_token
    assert found == token_ratios(dump / "train", AUDIO.frames_per_token) and found[0] < found[1]
    frames, texts = (read_table(dump / "train" / n) for n in ("utt2num_frames", "text_ids"))
    each = [-(-int(f) // 2) / len(texts[u].split()) for u, f in frames.items()]
    assert min(each) <= found[0] < sorted(each)[2] and sorted(each)[-3] < found[1] <= max(each)
    data = make_set(tmp_path / "more", "train", 6, seed=5)
    for utt in data.text:  # long texts for the same recordings: few speech tokens each
        data.text[utt] = " ".join([data.text[utt]] * 8)
        data.utt2spk[utt] = f"a-{data.utt2spk[utt]}"
    data.save(tmp_path / "more/data/train")
    alone = Vocab.load(run_prepare(tmp_path / "more", sets=["train"])).tokens_per_text_token
    joined = Vocab.load(run_prepare(tmp_path / "more", sets=["train"], extends=dump))
    assert alone[1] < found[1] and alone[0] < found[0]
    assert joined.tokens_per_text_token == [alone[0], found[1]]


def test_a_vocabulary_of_an_earlier_version_is_read(tmp_path):
    vocab = Vocab(speakers=["a"], languages=["en"], emotions=[], mel_mean=-4.0, mel_std=2.0,
                  text_size=9, space=[3], tokens_per_text_token=[1.5, 3.0])
    vocab.save(tmp_path)
    assert Vocab.load(tmp_path) == vocab
    stored = json.loads((tmp_path / "vocab.json").read_text())
    del stored["tokens_per_text_token"]
    (tmp_path / "vocab.json").write_text(json.dumps(stored))
    assert Vocab.load(tmp_path).tokens_per_text_token is None
