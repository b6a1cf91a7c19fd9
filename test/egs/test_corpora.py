"""Stage 1 of the recipes for published corpora, on small trees in their published layout."""

import published
import pytest
from recipe_copy import copied, prepare

from e2etts.data.datadir import DataDir

MINIATURE = "corpus_data.miniature=true"


@pytest.fixture
def stage1(tmp_path, monkeypatch, capsys):
    """stage1(recipe, settings class, overrides...) -> (exit status, stdout, stderr)."""
    def start(name, settings, *overrides, corpus_dir=tmp_path / "corpus"):
        if not (tmp_path / "egs").exists():
            copied(name, tmp_path)
        monkeypatch.chdir(tmp_path / "egs" / name)
        status = prepare(name, settings, "--corpus_dir", str(corpus_dir), *overrides)
        return status, *capsys.readouterr()

    return start


def load(name):
    return DataDir.load(f"data/{name}", need_wav=True)


def test_libritts(stage1, tmp_path):
    published.libritts(tmp_path / "corpus")
    done = stage1("libritts", "LibriTTS", MINIATURE, "corpus_data.enrol_utts=1")
    assert done[0] == 0 and "dev-other" not in done[1]
    train, dev, test, enrol = (load(n) for n in ("train", "dev", "test_clean", "enrol"))
    assert (len(train), len(dev), len(test), len(load("test_other")), len(enrol)) == (
        18, 6, 4, 4, 4)
    assert not set(test.utt2spk.values()) & set(train.utt2spk.values())
    assert set(test.utt2spk.values()) < set(enrol.utt2spk.values())
    assert not test.text.keys() & enrol.text.keys()
    assert all("7" not in t for t in train.text.values())  # the normalised texts
    utt = train.utts[0]
    assert train.utt2spk[utt] == utt.split("_")[0] == "100" and train.utt2lang[utt] == "en"
    assert train.wav[utt] == str(  # 24 kHz already: read where it lies
        tmp_path / f"corpus/LibriTTS/train-clean-100/100/121123/{utt}.wav")
