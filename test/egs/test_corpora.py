"""Stage 1 of the recipes for published corpora, on small trees in their published layout."""

from pathlib import Path

import numpy as np
import published
import pytest
import soundfile
from recipe_copy import copied, module, prepare

from e2etts.audio import AudioConfig
from e2etts.data.corpus import CorpusData, Job, Recording, by_speaker, trim_edges
from e2etts.data.datadir import DataDir
from e2etts.data.summary import Published, Size

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
    assert "CC BY 4.0" in Path("data/ATTRIBUTION").read_text()
    assert all("7" not in t for t in train.text.values())  # the normalised texts
    utt = train.utts[0]
    assert train.utt2spk[utt] == utt.split("_")[0] == "100" and train.utt2lang[utt] == "en"
    assert train.wav[utt] == str(  # 24 kHz already: read where it lies
        tmp_path / f"corpus/LibriTTS/train-clean-100/100/121123/{utt}.wav")


def test_ljspeech(stage1, tmp_path):
    published.ljspeech(tmp_path / "corpus")
    assert stage1("ljspeech", "CorpusData", MINIATURE, "corpus_data.dev_utts=2",
                  "corpus_data.test_utts=3")[0] == 0
    assert (len(load("train")), load("dev").utts, load("test").utts) == (
        7, ["LJ001-0008", "LJ001-0009"], ["LJ001-0010", "LJ001-0011", "LJ001-0012"])
    # No quoting, abbreviations read out, the number from the normalised field.
    assert load("train").text["LJ001-0001"] == (
        '"Mister Wood and Company, of Saint James, Number five')


def test_ljspeech_no_is_a_word_at_the_end_of_a_sentence():
    expand = module("ljspeech")._ABBREVIATION.sub
    assert expand("X", "She said No. Then No. six came, and Mr. Stone.") == (
        "She said No. Then X six came, and X Stone.")


def test_vctk(stage1, tmp_path):
    published.vctk(tmp_path / "corpus")
    overrides = [MINIATURE, "corpus_data.unseen_speakers=[p225]", "corpus_data.dev_utts=2",
                 "corpus_data.test_utts=2", "corpus_data.enrol_utts=2"]
    assert stage1("vctk", "VCTK", *overrides)[0] == 0
    sets = {n: load(n) for n in ("train", "dev", "test", "test_unseen", "enrol")}
    assert {n: len(d) for n, d in sets.items()} == {
        "train": 13, "dev": 2, "test": 2, "test_unseen": 2, "enrol": 2}
    assert set(sets["train"].utt2spk.values()) == {"p280", "p362", "s5"}
    assert set(sets["enrol"].utt2spk.values()) == {"p225"}
    texts = {n: set(d.text.values()) for n, d in sets.items()}
    assert not texts["train"] & (texts["dev"] | texts["test"] | texts["test_unseen"])
    left_out = read_rows("data/left_out.tsv")
    assert left_out["p362_025"] == "text without a recording"
    assert sum(r == "recording without a text" for r in left_out.values()) == 6  # p315
    wav, rate = soundfile.read(sets["train"].wav["s5_001"])
    assert rate == 24000 and abs(len(wav) / rate - 1.2) < 0.06  # 0.4 s of silence cut to 0.1


def test_aishell3(stage1, tmp_path):
    published.aishell3(tmp_path / "corpus")
    assert stage1("aishell3", "CorpusData", MINIATURE, "corpus_data.dev_utts=3",
                  "corpus_data.test_utts=4", "corpus_data.enrol_utts=2")[0] == 0
    train, test = load("train"), load("test")
    assert (len(train), len(load("dev")), len(test)) == (9, 3, 4)
    assert set(load("enrol").utt2spk.values()) == {"SSB0693"} < set(test.utt2spk.values())
    assert set(train.utt2spk.values()) == {"SSB0005", "SSB0009"}
    assert all(len(t) == 6 and not t.isascii() for t in train.text.values())
    assert soundfile.info(train.wav[train.utts[0]]).samplerate == 24000


def test_aishell3_pinyin_and_tones_stay_out_of_the_text():
    characters = module("aishell3").characters
    assert characters("武 wu3 术 shu4 始 shi3 终 zhong1") == "武术始终"
    assert characters("T T 恤 xu4 衫 shan1") == "TT恤衫" and characters("武 wu 术 shu4") == ""


@pytest.mark.parametrize("folders_of_sets", [True, False], ids=["first release", "later release"])
def test_esd(stage1, tmp_path, folders_of_sets):
    published.esd(tmp_path / "corpus", folders_of_sets)
    assert stage1("esd", "ESD", MINIATURE)[0] == 0
    train, en, zh = load("train"), load("test_en"), load("test_zh")
    assert (len(train), len(load("dev")), len(en), len(zh)) == (40, 20, 10, 10)
    assert set(train.utt2emo.values()) == {"angry", "happy", "neutral", "sad", "surprise"}
    assert train.utt2emo["0012_000410"] == "angry" and train.utt2lang["0012_000410"] == "en"
    assert set(zh.utt2spk.values()) == {"0001", "0003"} and set(en.utt2lang.values()) == {"en"}
    # One text in four encodings.
    assert zh.text["0001_000030"] == zh.text["0003_000030"] and "。" in zh.text["0001_000030"]
    assert train.text["0012_000060"] == train.text["0016_000060"] == published.sentence(60).replace(
        "seven", "l’été")


def test_esd_the_label_is_told_from_the_text():
    without_label = module("esd").without_label
    assert without_label("I saw it.  Happy", "en") == "I saw it."
    assert without_label("I saw it.", "en") == without_label("I saw it.\tSad", "en") == "I saw it."
    assert without_label("四天 中立", "zh") == without_label("四天", "zh") == "四天"


def test_emilia(stage1, tmp_path):
    published.emilia(tmp_path / "corpus")
    overrides = [MINIATURE, "corpus_data.held_out_speakers=0.5", "corpus_data.dev_utts=5",
                 "corpus_data.test_utts=2", "corpus_data.enrol_utts=1"]
    assert stage1("emilia", "Emilia", *overrides)[0] == 0
    sets = {n: load(n) for n in ("train", "dev", "test_en", "test_zh", "enrol")}
    assert len(sets["test_en"]) == len(sets["test_zh"]) == 2
    speakers = {n: set(d.utt2spk.values()) for n, d in sets.items()}
    assert not speakers["train"] & (speakers["dev"] | speakers["enrol"])
    assert not speakers["dev"] & speakers["enrol"]
    assert speakers["test_en"] | speakers["test_zh"] == speakers["enrol"]
    train = sets["train"]
    assert set(train.utt2lang.values()) == {"en", "zh"}
    assert any("C" in s for s in speakers["train"])  # of Emilia-YODAS
    assert not any(t.startswith(" ") for t in train.text.values())
    assert read_rows("data/left_out.tsv") == {
        "EN_B00000_S00000_W000000": "dnsmos below 3",
        "EN_B00000_S00000_W000001": "language: fr among en",
        "EN_B00000_S00000_W000002": "key differs from the sidecar's id",
        "EN_B00000_S00000_W000003": ".json without the other half",
        "EN_B00000_S00001_W000000": "text: repeats 'Thank you for watching.'",
        "EN_B00000_S00001_W000001": "text: '再' is of another script",
        **{f"EN_B00013_S00913_W{n:06d}": "speaker: listed in local/bad_speakers.txt"
           for n in range(4)}}
    info = soundfile.info(train.wav[train.utts[0]])
    assert (info.samplerate, info.format) == (24000, "FLAC")

    before = {p: p.stat().st_mtime_ns for p in Path("data/wav").rglob("*.flac")}
    for shard in (tmp_path / "corpus").rglob("*.tar"):  # a second run does not read them
        shard.write_bytes(b"")
    assert stage1("emilia", "Emilia", *overrides)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in Path("data/wav").rglob("*.flac")} == before
    assert load("train") == train


def test_emilia_what_a_recogniser_has_not_heard():
    misheard = module("emilia")._misheard
    assert not misheard("Ja, naïve Œuvre: Straße, no no no no!", "fr")
    assert not misheard("他说ＯＫ，好的好的好的。", "zh")
    assert not misheard("カタカナー、漢字々", "ja")
    assert "'い' is of another script" in misheard("这是いい", "zh")
    assert "'ا' is of another script" in misheard("and ا", "en")
    assert misheard("好的吧好的吧好的吧好的吧好的吧好的吧", "zh") == "text: repeats '好的吧'"


@pytest.mark.parametrize("name", ["../EN_x_W000000.json", "/EN_x_W000000.json"])
def test_emilia_an_archive_that_names_places_outside_is_refused(stage1, tmp_path, name):
    published.write_tar(tmp_path / "corpus/Emilia/EN/EN-B000000.tar", [(name, b"{}")])
    status, _, said = stage1("emilia", "Emilia", "corpus_data.languages=[en]")
    assert status == 2 and "lies outside" in said.splitlines()[-1]


# What all of them do


def test_a_corpus_of_another_size_than_published_is_refused(stage1, tmp_path):
    published.libritts(tmp_path / "corpus")
    status, told, said = stage1("libritts", "LibriTTS")
    assert status == 2 and "not the published size" in said and "miniature=true" in said
    assert "dev-clean: 6 utterances, 0.00 h, 2 speakers (published: 5,736 utterances, " in told
    assert not Path("data/train").exists()


def test_sizes_are_compared_as_they_are_told():
    published = Published(10, hours=50.0, speakers=3)
    assert published.agrees(Size(10, 50.4, 3)) and not published.agrees(Size(10, 50.6, 3))
    assert not published.agrees(Size(11, 50.0, 3)) and not published.agrees(Size(10, 50.0, 2))
    about = Published(about_hours=85)
    assert about.agrees(Size(1, 88.0, 1)) and not about.agrees(Size(1, 80.0, 1))
    assert str(Published(88035, speakers=218, about_hours=85)) == (
        "88,035 utterances, about 85 h, 218 speakers")


def test_a_corpus_is_compared_as_a_whole_too(stage1, tmp_path):
    published.aishell3(tmp_path / "corpus")
    status, told, said = stage1("aishell3", "CorpusData")
    assert status == 2 and "train, test, all: not the published size" in said
    assert "all: 24 utterances, 0.01 h, 3 speakers (published: 88,035 utterances, about" in told


def test_an_utterance_that_occurs_twice_is_told(stage1, tmp_path):
    published.aishell3(tmp_path / "corpus")
    content = tmp_path / "corpus/train/content.txt"
    lines = content.read_text("utf-8").splitlines()
    content.write_text("\n".join([*lines, lines[0]]), "utf-8")
    assert stage1("aishell3", "CorpusData", MINIATURE, "corpus_data.dev_utts=3",
                  "corpus_data.test_utts=4", "corpus_data.enrol_utts=2")[0] == 0
    assert read_rows("data/left_out.tsv") == {"SSB00050001": "id occurs twice"}


def test_what_cannot_be_used_is_left_out_and_listed(stage1, tmp_path):
    published.libritts(tmp_path / "corpus", utts=6)
    part = tmp_path / "corpus/LibriTTS/train-clean-100/100/121123"
    wavs = sorted(part.glob("*.wav"))
    wavs[0].write_bytes(b"RIFF")
    published.write(wavs[1], published.voice(1, 0.2, 24000), 24000)
    wavs[2].with_suffix(".normalized.txt").write_text("\n")
    wavs[3].with_suffix(".normalized.txt").write_text("word " * 40)
    stereo = np.stack([published.voice(1, 1.2, 24000)] * 2, axis=1)
    published.write(wavs[4], stereo, 24000)
    status, told, _ = stage1("libritts", "LibriTTS", MINIATURE, "corpus_data.train_parts="
                             "[train-clean-100]", "corpus_data.enrol_utts=1")
    assert status == 0 and "4 left out" in told
    reasons = read_rows("data/left_out.tsv")
    assert [reasons[w.stem].split(":")[0] for w in wavs[:4]] == [
        "unreadable audio", "0.2 s, expected 0.5 to 30", "no text",
        "132.7 characters a second, expected 1 to 40"]
    train = load("train")
    assert len(train) == 8 and soundfile.info(train.wav[wavs[4].stem]).channels == 1


def test_without_the_corpus_it_is_said_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(copied("esd", tmp_path))
    assert prepare("esd", "ESD") == 2
    assert "authors send a link" in (said := capsys.readouterr().err) and "--corpus_dir" in said


def test_the_same_choice_whatever_else_there_is():
    job = Job(CorpusData(enrol_utts=2), AudioConfig(), Path("data"))
    pool = [Recording(utt=f"{s}-{i}", wav="", text="", speaker=s, lang="en")
            for s in "abc" for i in range(9)]
    test, enrol = job.hold_out(pool, 6, known={"a"})
    assert job.hold_out(pool[::-1], 6, {"a"}) == (test, enrol)
    assert {r.speaker for r in enrol} == {r.speaker for r in test} - {"a"}
    assert not {r.utt for r in test} & {r.utt for r in enrol}
    assert all(len(mine) == 2 for mine in by_speaker(enrol).values())


def test_edges_are_cut_by_loudness_alone():
    tone = published.voice(3, 1.0, 16000)
    quiet = 0.0005 * np.random.default_rng(0).standard_normal(8000)
    wav = np.concatenate([quiet, tone, quiet])
    assert abs(len(trim_edges(wav, 16000, 40)) / 16000 - 1.2) < 0.05
    assert len(trim_edges(np.zeros(100), 16000, 40)) == 100


def read_rows(path):
    return dict(line.split("\t") for line in Path(path).read_text().splitlines()[1:])
