import numpy as np
import pytest
import soundfile
from made_corpus import make_set

from e2etts.bin.main import main
from e2etts.data.datadir import DataDir, read_table
from e2etts.data.emotion_labels import TransformersEmotion, label_emotions
from e2etts.data.validate import Limits, validate
from e2etts.errors import UserError

transformers = pytest.importorskip("transformers")
LIMITS = Limits(characters_per_second=(0, 1000))  # tones say their texts at any speed


class Loudness:
    """Long recordings are "calm", short ones "tense"; the longer, the surer."""

    sample_rate_hz = 8000

    def __init__(self, fails_after=1000):
        self.calls, self.fails_after = 0, fails_after

    def __call__(self, wav):
        self.calls += 1
        if self.calls > self.fails_after:
            raise KeyboardInterrupt
        sure = min(1.0, len(wav) / 8000)
        return {"calm": sure, "tense": 1 - sure}


def seconds_of(data):
    return {u: soundfile.info(w).duration for u, w in data.wav.items()}


def test_sure_answers_become_labels_and_true_labels_stay(tmp_path, capsys):
    before = make_set(tmp_path, "train", 12, emotions=True)
    model = Loudness()
    label_emotions(tmp_path / "data/train", model, least_confidence=0.8)
    after = DataDir.load(tmp_path / "data/train")
    assert model.calls == 12 - len(before.utt2emo) == 4
    assert {u: after.utt2emo[u] for u in before.utt2emo} == before.utt2emo
    for utt, seconds in seconds_of(after).items():
        if utt not in before.utt2emo:
            want = "calm" if seconds >= 0.8 else "tense" if seconds <= 0.2 else None
            assert after.utt2emo.get(utt) == want
    answers = read_table(tmp_path / "data/train/utt2emo_pseudo")
    assert set(answers) == set(after.text) - set(before.utt2emo)
    assert all(float(v.split()[1]) >= 0.5 for v in answers.values())
    assert "8 labels of its own" in capsys.readouterr().out
    assert not validate(tmp_path / "data/train", LIMITS)


def test_another_threshold_and_other_names_need_no_new_run(tmp_path):
    before = make_set(tmp_path, "train", 12, emotions=True)
    folder = tmp_path / "data/train"
    label_emotions(folder, Loudness(), least_confidence=0.99)
    model = Loudness()
    label_emotions(folder, model, least_confidence=0.0, rename={"calm": "neutral"})
    found = DataDir.load(folder).utt2emo
    assert model.calls == 0 and len(found) == 12
    assert set(found.values()) <= {"happy", "sad", "neutral", "tense"}
    assert {u: found[u] for u in before.utt2emo} == before.utt2emo


def test_an_interrupted_run_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("e2etts.data.emotion_labels.SAVE_EVERY", 2)
    make_set(tmp_path, "train", 7)
    folder = tmp_path / "data/train"
    with pytest.raises(KeyboardInterrupt):
        label_emotions(folder, Loudness(fails_after=5), least_confidence=0.5)
    rest = Loudness()
    label_emotions(folder, rest, least_confidence=0.5)
    assert rest.calls == 3 and len(DataDir.load(folder).utt2emo) == 7
    (folder / "utt2emo_pseudo").write_text("a b\n")
    with pytest.raises(UserError, match="utt label confidence"):
        label_emotions(folder, rest, least_confidence=0.5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny random classifier, saved as transformers saves them."""
    folder = tmp_path_factory.mktemp("model")
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
        num_labels=3, id2label={0: "angry", 1: "very happy", 2: "sad"})
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000).save_pretrained(folder)
    return folder


def test_a_model_of_transformers_labels_a_folder(saved, tmp_path, capsys):
    make_set(tmp_path, "train", 3)
    model = TransformersEmotion(str(saved))
    found = model(np.random.default_rng(0).standard_normal(16000).astype(np.float32))
    assert set(found) == {"angry", "very_happy", "sad"} and model.sample_rate_hz == 16000
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-5)
    call = ["label-emotions", str(tmp_path / "data/train"), "--model", str(saved)]
    assert main([*call, "--confidence", "0", *(
        x for label in found for x in ("--rename", f"{label}=x"))]) == 0
    assert set(DataDir.load(tmp_path / "data/train").utt2emo.values()) == {"x"}
    assert "3 pseudo labels" in capsys.readouterr().out
    assert main([*call, "--rename", "angry"]) == 2
    assert "expected OLD=NEW" in capsys.readouterr().err


def test_what_is_no_model_or_holds_pickles_is_refused(saved, tmp_path):
    with pytest.raises(UserError, match="not an audio-classification model"):
        TransformersEmotion(str(tmp_path / "nothing"))
    for file in saved.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="safetensors"):
        TransformersEmotion(str(tmp_path))
