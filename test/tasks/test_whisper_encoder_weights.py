"""The encoder of a small random Whisper model, as transformers saves it, over our mel."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from e2etts.errors import UserError
from e2etts.nets.whisper_encoder import ADAPTER_SCALE, WhisperEncoder, WhisperEncoderConfig
from e2etts.tasks.whisper_encoder_weights import load_whisper_encoder

transformers = pytest.importorskip("transformers")

BANDS, KEY = 6, "model.tokenizer.encoder"
SIZES = {"dim": 16, "heads": 2, "hidden_dim": 24, "layers": 3, "mel_bands": BANDS,
         "max_positions": 20}


@pytest.fixture(scope="module")
def peer():
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(
        vocab_size=30, d_model=16, num_mel_bins=BANDS, max_source_positions=20,
        encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=8, max_target_positions=10,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)).eval()
    with torch.no_grad():  # norms and biases start as constants, which would hide a wrong one
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def published(peer, tmp_path):
    peer.save_pretrained(tmp_path, safe_serialization=True)
    return tmp_path


def make(seed=1, our_bands=BANDS, **changes) -> WhisperEncoder:
    torch.manual_seed(seed)
    config = WhisperEncoderConfig(published="unused", **{**SIZES, **changes})
    return WhisperEncoder(config, mel_bands=our_bands)


def loaded(folder, **changes) -> WhisperEncoder:
    """With the adapter set to the identity."""
    net = make(**changes)
    load_whisper_encoder(net, str(folder), KEY)
    with torch.no_grad():
        net.adapter.weight.copy_(torch.eye(BANDS))
    return net


@pytest.mark.parametrize("shard_size", ["1GB", "4KB"])
@pytest.mark.parametrize("bare", [False, True])
def test_output_is_that_of_transformers(peer, tmp_path, shard_size, bare):
    model = peer.model if bare else peer  # WhisperModel: names without "model."
    model.save_pretrained(tmp_path, max_shard_size=shard_size, safe_serialization=True)
    assert (tmp_path / "model.safetensors").is_file() == (shard_size == "1GB")
    net, mel = loaded(tmp_path).train(), torch.randn(2, 40, BANDS)  # train: dropout is off
    with torch.no_grad():
        ours = net(mel, torch.tensor([40, 40]))
        theirs = peer.model.encoder(mel.transpose(1, 2)).last_hidden_state
    assert ours.shape == (2, 20, 16)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_lower_layers_have_the_published_weights_and_a_fresh_norm(peer, published):
    net, mel = loaded(published, layers=2), torch.randn(1, 40, BANDS)
    with torch.no_grad():
        ours = net(mel, torch.tensor([40]))
        theirs = peer.model.encoder(mel.transpose(1, 2), output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours, torch.nn.functional.layer_norm(theirs[2], (16,)), atol=1e-5,
                               rtol=0)


@pytest.mark.parametrize("conv_stride", [True, False])
def test_padding_changes_nothing(published, conv_stride):
    net = loaded(published, conv_stride=conv_stride).eval()
    per = net.frames_per_position
    assert per == (2 if conv_stride else 1)
    torch.nn.init.normal_(net.adapter.bias)
    mel, lens = torch.randn(3, 20, BANDS), [20, 6, 14]
    out = net(mel, torch.tensor(lens))
    assert out.shape == (3, 20 // per, 16) and out.isfinite().all()
    for b, n in enumerate(lens):
        alone = net(mel[b : b + 1, :n], torch.tensor([n]))
        torch.testing.assert_close(out[b, : n // per], alone[0], atol=1e-5, rtol=0)


def test_wrong_frame_counts_are_refused():
    with pytest.raises(ValueError, match="7 mel frames are not a multiple of 2"):
        make()(torch.randn(1, 7, BANDS), torch.tensor([7]))
    assert make(conv_stride=False)(torch.randn(1, 7, BANDS), torch.tensor([7])).shape[1] == 7
    with pytest.raises(ValueError, match="21 positions, but Whisper has 20"):
        make()(torch.randn(1, 42, BANDS), torch.tensor([42]))


def test_the_adapter_starts_as_a_scaled_identity_or_interpolates_bands():
    assert make().adapter.weight.equal(ADAPTER_SCALE * torch.eye(BANDS))
    net = make(our_bands=11)
    ramp = ADAPTER_SCALE * torch.linspace(0.0, 10.0, BANDS)
    torch.testing.assert_close(net.adapter(torch.arange(11.0)), ramp)
    assert net(torch.randn(2, 8, 11), torch.tensor([8, 4])).shape == (2, 4, 16)


@pytest.mark.parametrize("trainable", [True, False])
def test_the_adapter_learns_and_the_published_weights_where_they_may(published, trainable):
    net = loaded(published, trainable=trainable)
    net.requires_grad_(True)  # what a stage does with the parts that it trains
    out = net(torch.randn(2, 8, BANDS), torch.tensor([8, 6]))
    (out * torch.randn_like(out)).sum().backward()
    names = {name for name, _ in net.named_parameters()}
    assert {"adapter.weight", "adapter.bias"} <= names
    assert any(n.startswith("whisper.") for n in names) == trainable
    assert "whisper.embed_positions.weight" not in names
    assert not [n for n, p in net.named_parameters() if not p.grad.abs().sum() > 0]
    assert set(net.state_dict()) == set(make(trainable=not trainable).state_dict())


def test_half_precision_files_fill_full_precision_weights(published):
    tensors = load_file(published / "model.safetensors")
    save_file({k: v.half() for k, v in tensors.items()}, published / "model.safetensors")
    weight = loaded(published).whisper.conv1.weight
    assert weight.dtype == torch.float32
    assert weight.equal(tensors["model.encoder.conv1.weight"].half().float())


def test_other_sizes_are_named_as_the_keys_to_set(published):
    net = make(dim=32, heads=4, layers=5, mel_bands=8, max_positions=30)
    with pytest.raises(UserError) as e:
        load_whisper_encoder(net, str(published), KEY)
    for words in (f"{KEY}: ", ".dim=16 (is 32)", ".heads=2 (is 4)", ".mel_bands=6 (is 8)",
                  ".max_positions=20 (is 30)", f"{KEY}.layers=3 or fewer (is 5)"):
        assert words in str(e.value)
    assert "hidden_dim" not in str(e.value) and "\n" not in str(e.value)
    with pytest.raises(ValueError, match="multiple of heads"):
        make(heads=3)


def test_another_kind_of_model_is_refused(published):
    content = json.loads((published / "config.json").read_text())
    for key, value, words in (("model_type", "wav2vec2", "'wav2vec2', expected 'whisper'"),
                              ("activation_function", "relu", "'relu', expected 'gelu'"),
                              ("encoder_layers", None, "encoder_layers is None")):
        (published / "config.json").write_text(json.dumps({**content, key: value}))
        with pytest.raises(UserError, match=words):
            load_whisper_encoder(make(), str(published), KEY)
    (published / "config.json").unlink()
    with pytest.raises(UserError, match="config.json: cannot be read"):
        load_whisper_encoder(make(), str(published), KEY)


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.pop("model.encoder.conv2.bias"), "lacks 1 tensors, such as encoder.conv2.bias"),
    (lambda t: t.update({"model.encoder.layers.3.fc1.bias": torch.zeros(1)}),
     "unknown to Whisper, 1 tensors, such as model.encoder.layers.3.fc1.bias"),
    (lambda t: t.update({"model.encoder.conv1.bias": torch.zeros(3)}),
     r"conv1.bias has shape \(3,\), expected \(16,\)")])
def test_files_that_do_not_fit_are_refused(published, change, message):
    tensors = load_file(published / "model.safetensors")
    change(tensors)
    save_file(tensors, published / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_whisper_encoder(make(), str(published), KEY)


def test_damaged_pickled_and_escaping_files_are_refused(published):
    whole = (published / "model.safetensors").read_bytes()
    (published / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="model.safetensors: broken"):
        load_whisper_encoder(make(), str(published), KEY)
    (published / "model.safetensors").rename(published / "pytorch_model.bin")
    with pytest.raises(UserError, match="no such file of the published model"):
        load_whisper_encoder(make(), str(published), KEY)
    (published.parent / "out.safetensors").write_bytes(whole)
    (published / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../out.safetensors"}}))
    with pytest.raises(UserError, match="no such file of the published model"):
        load_whisper_encoder(make(), str(published), KEY)
