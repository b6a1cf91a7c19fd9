"""e2etts score-rm, from prepared data and a checkpoint."""

import json

import pytest
import torch
import yaml
from made_corpus import AUDIO, make_set, run_prepare

from e2etts.bin.main import main
from e2etts.config import to_dict
from e2etts.data.vocab import Vocab
from e2etts.nets.system import System
from e2etts.recipe import load_recipe
from e2etts.stages.start import model_config
from e2etts.tasks.build import system_sizes
from e2etts.train.checkpoint import save_checkpoint


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe folder with prepared data and a checkpoint of an untrained system."""
    monkeypatch.chdir(tmp_path)
    for name, utts in (("train", 24), ("dev", 6), ("sentences", 2)):
        make_set(tmp_path, name, utts, emotions=name != "sentences", wav=name != "sentences")
    run_prepare(tmp_path)
    trunk = {"dim": 16, "layers": 1, "heads": 1, "hidden_dim": 16}
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({
        "corpus": {"tests": ["dev"]}, "audio": to_dict(AUDIO),
        "text": {"model_type": "char", "phonemes": False},
        "model": {"tokenizer": {"encoder": trunk, "levels": [5, 5], "q_dim": 8},
                  "lm": {"trunk": trunk}, "fm": {"trunk": trunk, "encoder_layers": 1},
                  "rm": {"trunk": trunk, "decoder_layers": 1}},
        "score": {"bootstrap_samples": 20, "rm_snr_db": [0]},
        "stages": {"rm": {"task": "first_order", "weights": {"ctc": 1.0},
                          "train": {"max_steps": 1}}}}))
    save_untrained(load_recipe(config))
    return config


def save_untrained(recipe):
    vocab = Vocab.load("dump")
    torch.manual_seed(0)
    system = System(recipe.model, system_sizes(recipe, vocab))
    save_checkpoint("exp/tiny/rm/best", dict(system.state_dict()),
                    {"config": model_config(recipe, "rm", vocab), "step": 1})


def test_the_command_scores_every_recording_clean_and_noisy(recipe, capsys):
    assert main(["score-rm", "--config", str(recipe), "--system", "rm"]) == 0
    found = json.loads((recipe.parent / "exp/tiny/rm.json").read_text())
    assert found["system"] == "rm" and set(found["conditions"]) == {"clean", "0 dB"}
    for numbers in found["conditions"].values():
        dev = numbers["sets"]["dev"]
        assert dev["n"] == 6 and dev["emotion"]["labelled"] == 4
        assert dev["ctc"]["words"] == dev["attention"]["words"] > 6
        assert dev["speaker"]["labelled"] == 6 and numbers["speaker"]["utterances"] == 6
    embedding = [str(recipe), "model.rm.speaker_loss=embedding"]
    assert main(["score-rm", "--system", "rm", "--config", *embedding]) == 2
    assert "model.rm.speaker_loss: 'classes' != 'embedding'" in capsys.readouterr().err
    save_untrained(load_recipe(*embedding[:1], embedding[1:]))
    assert main(["score-rm", "--system", "rm", "--config", *embedding]) == 0
    found = json.loads((recipe.parent / "exp/tiny/rm.json").read_text())["conditions"]["clean"]
    assert "speaker" not in found["sets"]["dev"] and found["speaker"]["utterances"] == 6
    assert "rm dev, 0 dB: ctc WER" in capsys.readouterr().out
    assert main(["score-rm", "--config", str(recipe)]) == 2
    assert "no stage 'joint'" in capsys.readouterr().err
