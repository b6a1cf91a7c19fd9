"""An LM that starts from small random files of the form in which Qwen3 is published."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_system, trunk

from e2etts.errors import UserError
from e2etts.nets.lm import LM, LMConfig
from e2etts.tasks.qwen3_weights import load_qwen3_lm

ROWS = 9 + 3  # the table is padded, as that of Qwen3 is


@pytest.fixture(scope="module")
def peer():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        vocab_size=ROWS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, intermediate_size=24, rope_theta=1e6,
        tie_word_embeddings=True)).eval()


@pytest.fixture
def published(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    return tmp_path


def make_lm(seed=1, **changes) -> LM:
    torch.manual_seed(seed)
    config = LMConfig(trunk=trunk(rope_base=1e6, **changes), speaker_embedding=False)
    return LM(config, text_vocab=9, languages=2, codes=2, digits=None, q_dim=4,
              speaker_dim=4, advances=3)


def states(lm, ids):
    return lm.trunk(lm.text(ids))


@pytest.mark.parametrize("shard_size", ["1GB", "4KB"])
def test_the_lm_reads_text_as_the_published_model_does(peer, tmp_path, shard_size):
    peer.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors").is_file() == (shard_size == "1GB")
    lm, untouched = make_lm(), make_lm()
    load_qwen3_lm(lm, str(tmp_path), "k")
    ids = torch.randint(0, 9, (2, 7))
    with torch.no_grad():
        torch.testing.assert_close(states(lm, ids), peer.model(ids).last_hidden_state, atol=1e-5,
                                   rtol=1e-4)
    changed = {n.split(".")[0] for n, p in lm.named_parameters()
               if not p.equal(untouched.get_parameter(n))}
    assert changed == {"trunk", "text"}


def test_half_precision_files_fill_full_precision_weights(published):
    tensors = load_file(published / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in tensors.items()}, published / "model.safetensors")
    lm = make_lm()
    load_qwen3_lm(lm, str(published), "k")
    assert lm.text.weight.dtype == torch.float32
    assert lm.text.weight.equal(tensors["model.embed_tokens.weight"][:9].bfloat16().float())


def test_other_sizes_are_named_as_the_keys_to_set(published):
    with pytest.raises(UserError) as e:
        load_qwen3_lm(make_lm(layers=3, kv_heads=2), str(published), "stages.lm.init")
    for words in ("stages.lm.init: ", "trunk.layers=2 (is 3)", "trunk.kv_heads=1 (is 2)"):
        assert words in str(e.value)
    with pytest.raises(UserError, match="rope_base=1000000.0"):
        load_qwen3_lm(make_system().lm, str(published), "k")


def test_another_kind_of_model_is_refused(published):
    told = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps({**told, "model_type": "llama"}))
    with pytest.raises(UserError, match="model_type 'llama', expected 'qwen3'"):
        load_qwen3_lm(make_lm(), str(published), "k")
    (published / "config.json").unlink()
    with pytest.raises(UserError, match="config.json: cannot be read"):
        load_qwen3_lm(make_lm(), str(published), "k")


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.pop("model.norm.weight"), "lacks 1 tensors, such as model.norm.weight"),
    (lambda t: t.update({"model.layers.0.bias": torch.zeros(1)}), "model.layers.0.bias"),
    (lambda t: t.update({"model.norm.weight": torch.zeros(3)}), r"shape \(3,\), expected \(16,\)"),
    (lambda t: t.update({"model.embed_tokens.weight": torch.zeros(5, 16)}),
     "9 text tokens, but the embedding of .* has 5 rows")])
def test_files_that_do_not_fit_are_refused(published, change, message):
    tensors = load_file(published / "model.safetensors")
    change(tensors)
    save_file(tensors, published / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_qwen3_lm(make_lm(), str(published), "k")


def test_missing_damaged_and_escaping_files_are_refused(published):
    whole = (published / "model.safetensors").read_bytes()
    (published / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="model.safetensors: broken"):
        load_qwen3_lm(make_lm(), str(published), "k")
    (published / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no such file of the published model"):
        load_qwen3_lm(make_lm(), str(published), "k")
    (published.parent / "out.safetensors").write_bytes(whole)
    (published / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../out.safetensors"}}))
    with pytest.raises(UserError, match="no such file of the published model"):
        load_qwen3_lm(make_lm(), str(published), "k")
