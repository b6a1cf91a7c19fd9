"""``e2etts prepare`` and ``train`` from a published LM, and from a system that gets a language."""

import json

import pytest
import tokenizers
import yaml
from made_corpus import make_set
from safetensors.torch import load_file

from e2etts.bin.main import main

TRUNK = {"dim": 16, "layers": 1, "heads": 2, "head_dim": 8, "hidden_dim": 24}
STAGE = {"task": "first_order", "trainable": ["tokenizer", "lm", "fm", "rm"],
         "weights": {"lm": 0.1, "fm": 1.0, "ctc": 1.0},
         "train": {"max_steps": 1, "batch_seconds": 6, "lr": 1e-9, "log_every": 1, "workers": 0}}
CONFIG = {
    "corpus": {}, "audio": {"mel_bands": 8}, "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "q_dim": 8},
              "lm": {"trunk": {**TRUNK, "rope_base": 1e6}, "speaker_embedding": False},
              "fm": {"trunk": TRUNK, "encoder_layers": 1}, "rm": {"trunk": TRUNK}},
    "stages": {"tokenizer": STAGE}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An English system: dump/ and exp/en/."""
    folder = tmp_path_factory.mktemp("starts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_set(folder, "train", 12)
        make_set(folder, "dev", 2, seed=1)
        (folder / "en.yaml").write_text(yaml.safe_dump(CONFIG))
        assert run("prepare", "en") == 0 and run("train", "en", "tokenizer") == 0
    return folder


def run(verb: str, name: str, *more: str) -> int:
    return main([verb, *more, "--config", f"{name}.yaml", "--tag", name])


def tensors(folder, name):
    return load_file(folder / f"exp/{name}/tokenizer/best/model.safetensors")


def test_a_trained_system_gets_a_language(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    for name, seed in (("train", 3), ("dev", 4)):
        data = make_set(trained / "more", name, 4, speakers=1, seed=seed)
        for utt in data.text:
            data.utt2lang[utt], data.utt2spk[utt] = "de", f"a-{data.utt2spk[utt]}"
            data.text[utt] = "groß äpfel " + data.text[utt]
        data.save(trained / "more/data" / name)
    config = {**CONFIG, "corpus": {"data_dir": "more/data", "dump_dir": "more/dump"},
              "extends": {"dump": "dump", "checkpoint": "exp/en/tokenizer/best"}}
    (trained / "more.yaml").write_text(yaml.safe_dump(config))
    assert run("prepare", "more", "extends=null") == 0
    assert run("train", "more", "tokenizer") == 2
    assert "dump: its speakers are not the first ones of this system" in capsys.readouterr().err
    assert run("prepare", "more") == 0 and run("train", "more", "tokenizer") == 0
    before, after = (json.loads((trained / d / "vocab.json").read_text())
                     for d in ("dump", "more/dump"))
    assert after["languages"] == ["en", "de"]
    assert after["speakers"] == [*before["speakers"], "a-voice-0"]
    assert after["text_size"] == before["text_size"] + 3  # p, ß and ä
    assert after["mel_mean"] == before["mel_mean"]
    old, new = tensors(trained, "en"), tensors(trained, "more")
    size = before["text_size"]
    assert old.keys() == new.keys()
    for name in ("lm.text.weight", "rm.ctc.weight", "tokenizer.encoder.stem.weight"):
        rows = min(size, len(old[name]))
        assert new[name][:rows].allclose(old[name][:rows], atol=1e-6), name
    assert run("train", "more", "tokenizer", "model.rm.trunk.hidden_dim=32") == 2
    assert "model.rm.trunk.hidden_dim: 24 != 32" in capsys.readouterr().err


def test_the_lm_of_a_stage_starts_from_published_files(trained, monkeypatch, capsys):
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(trained)
    peer = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, intermediate_size=24, rope_theta=1e6))
    peer.save_pretrained(trained / "qwen")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(["one two three"] * 9, tokenizers.trainers.BpeTrainer(
        vocab_size=270, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    bpe.save("qwen/tokenizer.json")
    stage = {**STAGE, "pretrained_lm": "qwen"}
    config = {**CONFIG, "corpus": {"dump_dir": "qwen_dump"}, "stages": {"tokenizer": stage},
              "text": {"model_type": "published", "published": "qwen", "phonemes": False}}
    (trained / "qwen.yaml").write_text(yaml.safe_dump(config))
    assert run("prepare", "qwen") == 0 and run("train", "qwen", "tokenizer") == 0
    assert json.loads((trained / "qwen_dump/vocab.json").read_text())["space"] == []
    theirs, ours = peer.state_dict(), tensors(trained, "qwen")
    assert ours["lm.trunk.layers.0.mlp.up_proj.weight"].allclose(
        theirs["model.layers.0.mlp.up_proj.weight"], atol=1e-6)
    rows = len(ours["lm.text.weight"])
    assert ours["lm.text.weight"].allclose(theirs["model.embed_tokens.weight"][:rows], atol=1e-6)
    capsys.readouterr()
    assert main(["train", "tokenizer", "--config", "qwen.yaml", "--tag", "x",
                 "model.lm.trunk.layers=2"]) == 2
    assert ("stages.tokenizer.pretrained_lm: qwen/config.json has other sizes: set "
            "model.lm.trunk.layers=1 (is 2)" in capsys.readouterr().err)
    letters = "text={model_type: char, published: null}"
    assert run("train", "qwen", "tokenizer", letters) == 2
    assert "set text.model_type=published" in capsys.readouterr().err
