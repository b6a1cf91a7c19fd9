"""``e2etts train`` of a tokenizer that begins with the encoder of a published Whisper model."""

import pytest
import torch
import yaml
from made_corpus import make_set
from safetensors.torch import load_file

from e2etts.bin.main import main

transformers = pytest.importorskip("transformers")

BANDS = 8
TRUNK = {"dim": 16, "layers": 1, "heads": 2, "head_dim": 8, "hidden_dim": 24}
TRAIN = {"max_steps": 1, "batch_seconds": 6, "lr": 1e-9, "ema_decay": 0, "log_every": 1,
         "workers": 0}
CONFIG = {
    "corpus": {}, "audio": {"mel_bands": BANDS}, "text": {"phonemes": False},
    "model": {"tokenizer": {"levels": [4, 3, 3], "q_dim": 8, "encoder": {
                  "published": "whisper", "dim": 16, "heads": 2, "hidden_dim": 24, "layers": 1,
                  "mel_bands": BANDS, "max_positions": 100}},
              "lm": {"trunk": TRUNK}, "fm": {"trunk": TRUNK, "encoder_layers": 1},
              "rm": {"trunk": TRUNK}},
    "stages": {
        "tokenizer": {"task": "first_order", "trainable": ["tokenizer", "fm"],
                      "weights": {"fm": 1.0}, "train": TRAIN},
        "fm": {"task": "first_order", "init": "tokenizer", "trainable": ["fm"],
               "weights": {"fm": 1.0}, "train": TRAIN}}}
WEIGHT = "encoder.whisper.layers.0.fc1.weight"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe folder with dump/ and the published model in whisper/; returns its weights."""
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path, "train", 6)
    make_set(tmp_path, "dev", 2, seed=1)
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.manual_seed(1)
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(
        vocab_size=30, d_model=16, num_mel_bins=BANDS, max_source_positions=100,
        encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=8, max_target_positions=10,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1))
    model.save_pretrained(tmp_path / "whisper", safe_serialization=True)
    assert run("prepare") == 0
    return model.model.encoder.state_dict()


def run(verb: str, *more: str) -> int:
    return main([verb, *more, "--config", "conf.yaml", "--tag", "t"])


def weight(stage: str) -> torch.Tensor:
    return load_file(f"exp/t/{stage}/best/model.safetensors")[f"tokenizer.{WEIGHT}"]


def test_a_stage_begins_with_the_published_weights_and_later_ones_need_no_files(recipe, tmp_path):
    assert run("train", "tokenizer") == 0
    published = recipe["layers.0.fc1.weight"]
    torch.testing.assert_close(weight("tokenizer"), published, atol=1e-6, rtol=0)
    (tmp_path / "whisper").rename(tmp_path / "gone")
    assert run("train", "fm") == 0 and torch.equal(weight("fm"), weight("tokenizer"))


@pytest.mark.parametrize(("override", "message"), [
    ("model.tokenizer.encoder.dim=32", "set model.tokenizer.encoder.dim=16 (is 32)"),
    ("audio.frames_per_token=1", "configuration section 'model': a token lasts 1 mel frames")])
def test_sizes_that_do_not_fit_are_named(recipe, capsys, override, message):
    assert run("prepare", override) == 0
    assert run("train", "tokenizer", override) == 2
    assert message in capsys.readouterr().err
