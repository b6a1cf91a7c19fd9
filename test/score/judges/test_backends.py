"""Recognisers and classifiers from small random models in the files of the published ones."""

import sys
import types

import numpy as np
import pytest
import soundfile
import torch
from made_up import tone
from tiny_pack import write_pack

from e2etts.errors import UserError
from e2etts.score.config import ScoreConfig
from e2etts.score.judges import emotion_classifiers, locate, paraformer
from e2etts.score.judges.locate import Unavailable
from e2etts.score.judges.recognizers import named_recognizer
from e2etts.score.judges.trained_system import TrainedSystem
from e2etts.score.measure import ScoreCache
from e2etts.score.meter import WavJob, unpack
from e2etts.score.metrics import tokens


def test_whisper_of_transformers_recognises_alone_as_in_a_batch(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tiny_whisper import write_whisper

    write_whisper(tmp_path / "whisper")
    wavs = [tone(0.5, 200), tone(0.9, 500), tone(0.3, 700)]
    jobs = []
    for i, wav in enumerate(wavs):
        soundfile.write(tmp_path / f"{i}.wav", wav, 16000, subtype="FLOAT")
        jobs.append(WavJob(tmp_path / f"{i}.wav", "en"))
    found = []
    for size in (1, 3):
        meter = named_recognizer(f"transformers:{tmp_path / 'whisper'}",
                                 ScoreConfig(batch_clips=size))
        heard = ScoreCache(tmp_path / f"{size}.json").measure(meter, jobs, 1)
        found.append([heard[job] for job in jobs])
    assert found[0] == found[1] and len(set(found[0])) == 3
    model = transformers.WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "whisper", dtype=torch.float32)
    processor = transformers.WhisperProcessor.from_pretrained(tmp_path / "whisper")
    features = processor(wavs[1], sampling_rate=16000, return_tensors="pt").input_features
    ids = model.generate(features, language="en", task="transcribe")
    assert processor.batch_decode(ids, skip_special_tokens=True)[0] == found[0][1]


def test_whisper_of_ctranslate2_loads_a_folder(tmp_path):
    pytest.importorskip("faster_whisper")
    converters = pytest.importorskip("ctranslate2.converters")
    from tiny_whisper import write_whisper

    write_whisper(tmp_path / "whisper", window_seconds=30)
    converters.TransformersConverter(
        str(tmp_path / "whisper"), copy_files=["tokenizer.json", "preprocessor_config.json"]
    ).convert(str(tmp_path / "ct2"))
    config = ScoreConfig(window_seconds=30, beam=1)
    short, named = (named_recognizer(name, config).open("cpu")([tone(0.5, 200), tone(2, 500)], "en")
                    for name in (str(tmp_path / "ct2"), f"faster-whisper:{tmp_path / 'ct2'}"))
    assert short == named and short[0] and short[0] != short[1]


def test_funasr_is_called_as_in_the_protocol(tmp_path, monkeypatch):
    """FunASR itself is not needed: what it is given is written down."""
    calls = []

    class AutoModel:
        def __init__(self, **options):
            calls.append(options)

        def generate(self, **options):
            calls.append(options)
            return [{"key": "a", "text": "\u4f60 \u597d"}]

    module = types.ModuleType("funasr")
    module.AutoModel, module.__spec__ = AutoModel, types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "funasr", module)
    monkeypatch.setattr(paraformer, "version", lambda name: "1")
    meter = named_recognizer("funasr", ScoreConfig())
    soundfile.write(tmp_path / "a.wav", tone(0.5, 200), 24000)
    job = WavJob(tmp_path / "a.wav", "zh")
    assert ScoreCache(tmp_path / "c.json").measure(meter, [job], 1) == {job: "\u4f60 \u597d"}
    assert calls[0]["model"] == "paraformer-zh" and not {"vad_model", "punc_model"} & set(calls[0])
    assert calls[1] == {"input": str(job.path), "batch_size_s": 300}
    assert meter.understands("zh") and not meter.understands("en")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_pack(folder)
    for i, hz in enumerate((200, 500)):
        soundfile.write(folder / f"{i}.wav", tone(0.8 + i, hz), 16000)
    return folder


def clips(system):
    return [WavJob(system / f"{i}.wav", "en") for i in (0, 1)]


def test_the_reward_model_recognises(system, tmp_path):
    meter = named_recognizer(f"rm:{system}", ScoreConfig())
    assert meter.understands("fr") and not meter.understands("zh")
    heard = ScoreCache(tmp_path / "c.json").measure(meter, clips(system), 1)
    synthesizer = TrainedSystem.at(str(system)).load("cpu")
    for job, text in heard.items():
        row = synthesizer.encode([soundfile.read(str(job.path), dtype="float32")[0]])[0]
        rm, q = synthesizer.system.rm, synthesizer.system.tokenizer.embed(row[None])
        with torch.no_grad():
            best = rm.ctc_logits(rm.encode(q, torch.tensor([len(row)])))[0].argmax(-1).tolist()
        ids = [b for b, before in zip(best, [None, *best], strict=False) if b != before]
        assert text == synthesizer.tokenizer.decode([i for i in ids if i != rm.blank])
    assert any(heard.values())


def test_tokens_are_those_of_the_systems_tokenizer(system, tmp_path):
    meter = tokens.TokenMeter(TrainedSystem.at(str(system)))
    found = ScoreCache(tmp_path / "c.json").measure(meter, clips(system), 1)
    rows = [unpack(found[job], tokens.TOKEN) for job in clips(system)]
    assert [len(r) for r in rows] == [20, 45]  # 25 a second
    wav = soundfile.read(str(clips(system)[0].path), dtype="float32")[0]
    assert rows[0].tolist() == TrainedSystem.at(str(system)).load("cpu").encode([wav])[0].tolist()


def test_token_statistics_on_a_worked_example():
    found = tokens.statistics([np.array([0, 1, 0, 1, 0]), np.array([2, 2, 2, 2])])
    assert (found["tokens"], found["distinct"]) == (9, 3)
    # 0 and 2 make up 3 and 4 of 9, 1 the rest
    p = np.array([3, 2, 4]) / 9
    assert found["entropy_bits"] == pytest.approx(-(p * np.log2(p)).sum())
    # pairs 01 10 01 10 22 22 22: no pair across clips; the first tells the second
    p = np.array([2, 2, 3]) / 7
    assert found["mutual_information_plug_in_bits"] == pytest.approx(-(p * np.log2(p)).sum())
    assert found["repeated"] == pytest.approx(3 / 7)
    even = tokens.statistics([np.array([0, 0, 1, 1, 0])])
    assert even["mutual_information_plug_in_bits"] == pytest.approx(0)


def test_the_reward_models_emotion_head_is_a_classifier(system, tmp_path):
    config = ScoreConfig(models={"emotion": f"rm:{system}"})
    meter = emotion_classifiers.find(config)
    found = ScoreCache(tmp_path / "c.json").measure(meter, clips(system), 1)
    assert set(found.values()) <= {"sad", "glad"} == set(meter.labels())


def test_a_classifier_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "net")
    torch.manual_seed(1)
    net = transformers.Wav2Vec2ForSequenceClassification(transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=[8] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8, id2label={0: "sad", 1: "glad"}, label2id={"sad": 0, "glad": 1}))
    net.classifier.bias.data = torch.tensor([0.0, 9.0])
    net.save_pretrained(tmp_path / "net")
    meter = emotion_classifiers.find(ScoreConfig(models={"emotion": str(tmp_path / "net")}))
    assert meter.labels() == ["glad", "sad"]
    assert meter.open("cpu")([tone(0.5, 300)], "en") == ["glad"]


def test_missing_models_are_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "funasr", None)
    with pytest.raises(Unavailable, match="funasr is not installed"):
        named_recognizer("funasr", ScoreConfig())
    monkeypatch.setattr(paraformer, "require", lambda packages, remedy: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # FunASR itself does not know it
    with pytest.raises(Unavailable, match="score.models.paraformer-zh=FOLDER"):
        named_recognizer("funasr", ScoreConfig())
    folder = ScoreConfig(models={paraformer.MODEL: str(tmp_path)})
    assert named_recognizer("funasr", folder).model == str(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(UserError, match="recognizer=transformers:: no/such/folder is neither a f"):
        named_recognizer("transformers:no/such/folder", ScoreConfig())
    with pytest.raises(UserError, match="model.safetensors: no such file"):
        named_recognizer(f"rm:{tmp_path}", ScoreConfig())
    with pytest.raises(Unavailable, match="no classifier is configured"):
        emotion_classifiers.find(ScoreConfig())
    monkeypatch.setattr(locate, "hub_answers", lambda name: True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    assert locate.locate_hub("key", "a/b", None) == ("a/b", False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: "cached")
    assert locate.locate_hub("key", "a/b", "c/d") == ("c/d", True)
