"""A text LM of a recipe's own texts, trained for a few steps, from which its LM starts."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch
import yaml
from made_corpus import make_set
from safetensors.torch import load_file

from e2etts.bin.main import main
from e2etts.cli import tool

SCRIPT = Path(__file__).resolve().parents[2] / "utils/text_lm.py"
TRUNK = {"dim": 16, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 8, "hidden_dim": 24}
STAGE = {"task": "first_order", "trainable": ["tokenizer", "lm", "fm", "rm"],
         "weights": {"lm": 0.1, "fm": 1.0, "ctc": 1.0}, "pretrained_lm": "text_lm",
         "train": {"max_steps": 1, "batch_seconds": 6, "lr": 1e-9, "log_every": 1, "workers": 0}}
CONFIG = {
    "corpus": {}, "audio": {"mel_bands": 8}, "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "q_dim": 8}, "lm": {"trunk": TRUNK},
              "fm": {"trunk": TRUNK, "encoder_layers": 1}, "rm": {"trunk": TRUNK}},
    "stages": {"tokenizer": {**STAGE, "pretrained_lm": None}}}


@pytest.fixture
def train_text_lm(monkeypatch):
    """The command, in this process."""
    spec = importlib.util.spec_from_file_location("text_lm", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        return tool(str(SCRIPT), module.__doc__, module.add_arguments, module.run)
    return call


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe folder that is prepared."""
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path, "train", 24)
    make_set(tmp_path, "dev", 4, seed=1)
    for name, stage in (("conf", CONFIG["stages"]["tokenizer"]), ("started", STAGE)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**CONFIG, "stages": {"tokenizer": stage}}))
    assert main(["prepare", "--config", "conf.yaml"]) == 0
    return tmp_path


def train(config: str, *more: str) -> int:
    return main(["train", "tokenizer", "--config", f"{config}.yaml", "--tag", config, *more])


def test_it_learns_the_texts_and_the_lm_starts_from_it(recipe, train_text_lm, capsys):
    assert train("started") == 2
    assert "(utils/text_lm.py)" in capsys.readouterr().err
    assert train_text_lm("text_lm", "--config", "conf.yaml", "--steps", "60") == 0
    learnt, dev = (float(line.split(": ")[1].split()[0])
                   for line in capsys.readouterr().out.splitlines()
                   if line.startswith(("step 60: ", "dev: ")))
    size = json.loads(Path("dump/vocab.json").read_text())["text_size"]
    assert min(learnt, dev) > 0 and max(learnt, dev) < 0.9 * math.log(size)
    assert {p.name for p in Path("text_lm").iterdir()} == {
        "config.json", "model.safetensors", "text.model"}
    assert train("started") == 0
    theirs = load_file("text_lm/model.safetensors")
    ours = load_file("exp/started/tokenizer/best/model.safetensors")
    assert ours["lm.text.weight"].allclose(theirs["model.embed_tokens.weight"], atol=1e-6)
    for name in ("layers.1.mlp.up_proj.weight", "layers.0.self_attn.q_norm.weight", "norm.weight"):
        assert ours[f"lm.trunk.{name}"].allclose(theirs[f"model.{name}"], atol=1e-6), name


def test_it_is_of_the_published_form(recipe, train_text_lm):
    transformers = pytest.importorskip("transformers")
    from e2etts.recipe import load_recipe
    from e2etts.tasks.text_lm import TextLM
    assert train_text_lm("text_lm", "--config", "conf.yaml", "--steps", "2") == 0
    peer = transformers.AutoModelForCausalLM.from_pretrained("text_lm").eval()
    assert type(peer).__name__ == "Qwen3ForCausalLM"
    tensors = load_file("text_lm/model.safetensors")
    model = TextLM(load_recipe("conf.yaml").model.lm.trunk, peer.config.vocab_size).eval()
    names = {"text.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}
    model.load_state_dict({k: tensors[names.get(k, k.replace("trunk", "model", 1))]
                           for k in model.state_dict()})
    ids = torch.randint(0, peer.config.vocab_size, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model.head(model.trunk(model.text(ids))), peer(ids).logits,
                                   atol=1e-4, rtol=1e-4)


def test_a_text_lm_of_other_text_tokens_or_sizes_is_refused(recipe, train_text_lm, capsys):
    assert train_text_lm("text_lm", "--config", "conf.yaml", "--steps", "1") == 0
    capsys.readouterr()
    assert train("started", "model.lm.trunk.layers=3") == 2
    assert "model.lm.trunk.layers=2 (is 3)" in capsys.readouterr().err
    (recipe / "text_lm/text.model").write_bytes(b"another")
    assert train("started") == 2
    assert "text_lm/text.model is not dump/text.model" in capsys.readouterr().err
    assert train_text_lm("x", "--config", "conf.yaml", "model.lm.trunk.qk_norm=false") == 2
    assert "model.lm.trunk.qk_norm" in capsys.readouterr().err
    assert train_text_lm("x", "--config", "conf.yaml", "--steps", "0") == 2
    assert not Path("x").exists()
