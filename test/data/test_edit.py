"""Combined and split sets keep every utterance, or report why one is dropped."""

import pytest

from e2etts.data.datadir import DataDir
from e2etts.data.edit import chosen, combine, renamed, split, text_key
from e2etts.errors import UserError


def made(utts=60, speakers=6, texts=None, prefix="u"):
    """Utterance i of speaker i % speakers; without ``texts`` every text is its own."""
    names = [f"{prefix}{i:03d}" for i in range(utts)]
    return DataDir(
        {u: f"Text {i % texts if texts else i}" + "." * (i % 2) for i, u in enumerate(names)},
        dict.fromkeys(names, "en"), {u: f"s{i % speakers}" for i, u in enumerate(names)},
        {u: f"wav/{u}.wav" for u in names}, {u: "sad" for u in names[::3]})


def test_split_by_utterance():
    data = made()
    sets, left_out = split(data, {"dev": 5, "test": 10}, "train", seed=1)
    assert {n: len(s) for n, s in sets.items()} == {"dev": 5, "test": 10, "train": 45}
    assert sorted(u for s in sets.values() for u in s.text) == data.utts and not left_out
    assert set(sets["train"].utt2spk.values()) == set(data.utt2spk.values())
    assert sets["dev"].utt2emo.keys() <= sets["dev"].text.keys()
    turned = DataDir(**{k: dict(reversed(v.items())) for k, v in vars(data).items()})
    assert split(turned, {"dev": 5, "test": 10}, "train", seed=1)[0]["test"].utts == \
        sets["test"].utts
    assert split(data, {"dev": 5, "test": 10}, "train", seed=2)[0]["test"].utts != \
        sets["test"].utts


def test_every_speaker_keeps_an_utterance_for_training():
    sets, _ = split(made(utts=20, speakers=10), {"test": 10}, "train")
    assert len(set(sets["train"].utt2spk.values())) == 10
    with pytest.raises(UserError, match="'test': only 10 of 11 utterances"):
        split(made(utts=20, speakers=10), {"test": 11}, "train")


def texts(data):
    return {text_key(t) for t in data.text.values()}


def test_equal_texts_stay_together_and_nothing_is_lost():
    data = made(utts=60, speakers=3, texts=25)
    sets, left_out = split(data, {"dev": 6, "test": 9}, "train", unique_text=True)
    assert not left_out and sum(map(len, sets.values())) == 60
    assert 5 <= len(sets["dev"]) <= 6 and 8 <= len(sets["test"]) <= 9
    train, dev, test = (texts(sets[n]) for n in ("train", "dev", "test"))
    assert not train & dev and not train & test and not dev & test


def test_split_by_speaker_with_unique_texts():
    data = made(utts=60, speakers=6, texts=40)
    sets, left_out = split(data, {"dev": 1, "test": 2}, "train", by_speaker=True,
                           unique_text=True)
    speakers = [set(s.utt2spk.values()) for s in sets.values()]
    assert [len(s) for s in speakers] == [1, 2, 3] and len(set.union(*speakers)) == 6
    assert len(sets["dev"]) == 10 and left_out
    assert sum(map(len, sets.values())) + len(left_out) == 60
    assert not texts(sets["train"]) & (texts(sets["dev"]) | texts(sets["test"]))
    assert set(left_out.values()) <= {"text is in dev too", "text is in test too"}
    with pytest.raises(UserError, match="6 of 6 speakers"):
        split(data, {"test": 6}, "train", by_speaker=True)
    with pytest.raises(UserError, match="nothing is left for the set 'train'"):
        split(made(texts=1), {"test": 2}, "train", by_speaker=True, unique_text=True)


def test_chosen_counts_dropped_utterances():
    data = made(utts=30, speakers=3)
    part, left_out = chosen(data, data.utts[:20], per_speaker=4, count=10, seed=3)
    assert len(part) == 10 and len(left_out) == 20
    speakers = list(part.utt2spk.values())
    assert max(map(speakers.count, speakers)) <= 4
    assert sum(r == "not requested" for r in left_out.values()) == 10
    assert chosen(data, data.utts[:20], per_speaker=4, count=10, seed=3)[0] == part
    with pytest.raises(UserError, match="no utterance is left"):
        chosen(data, ["other"])


def test_combined_sets_hold_both_and_reject_duplicate_utterances():
    a, b = made(5, prefix="a"), made(4, prefix="b")
    whole = combine({"a": a, "b": b})
    assert whole.utts == a.utts + b.utts and whole.wav == a.wav | b.wav
    assert whole.utt2emo == a.utt2emo | b.utt2emo and len(a) == 5
    with pytest.raises(UserError, match="again: 'a00.' is in another"):
        combine({"a": a, "again": made(2, prefix="a")})
    b.wav = {}
    with pytest.raises(UserError, match="b: has no wav.scp"):
        combine({"a": a, "b": b})


def test_segments_and_whole_files_combine(tmp_path):
    cut = DataDir({"x": "t", "y": "t"}, {"x": "en", "y": "en"}, {"x": "s", "y": "s"},
                  {"r": "r.wav"}, segments={"x": "r 0 1", "y": "r 1 2"})
    whole = combine({"a": made(2), "cut": cut})
    whole.save(tmp_path)
    again = DataDir.load(tmp_path)
    assert again == whole and again.source("y") == ("r.wav", 1.0, 2.0)
    assert again.source("u001") == ("wav/u001.wav", 0.0, None)
    other = DataDir({"z": "t"}, {"z": "en"}, {"z": "s"}, {"r": "r.wav"}, segments={"z": "r 2 3"})
    assert len(combine({"cut": cut, "other": other}).wav) == 1
    other.wav["r"] = "another.wav"
    with pytest.raises(UserError, match="'r' is in another"):
        combine({"cut": cut, "other": other})


def test_renaming_changes_every_file(tmp_path):
    cut = DataDir({"x": "t"}, {"x": "en"}, {"x": "s"}, {"r": "/old/r.wav"}, {"x": "sad"},
                  {"x": "r 0 1"})
    new = renamed(cut, prefix="b-", speaker_prefix="c-", path=("/old", "/new"))
    new.save(tmp_path)
    assert DataDir.load(tmp_path).source("b-x") == ("/new/r.wav", 0.0, 1.0)
    assert new.utt2spk == {"b-x": "c-s"} and new.utt2emo == {"b-x": "sad"}
    with pytest.raises(UserError, match="does not begin with '/other'"):
        renamed(cut, path=("/other", "/new"))
