"""Our speech encoders against those of transformers, with the same random weights."""

import pytest
import torch
from published_models import SMALL, SMALL_BASE, randomise

from e2etts.score.judges.ssl_encoders import BUCKETS, SpeechEncoder, SSLConfig, buckets

transformers = pytest.importorskip("transformers")

TOP = {"layer_norm": "feature_projection.layer_norm",
       "post_extract_proj": "feature_projection.projection", "mask_emb": "masked_spec_embed",
       "encoder.pos_conv.0": "encoder.pos_conv_embed.conv"}
INNER = {"self_attn.relative_attention_bias": "attention.rel_attn_embed",
         "self_attn.grep_linear": "attention.gru_rel_pos_linear",
         "self_attn.grep_a": "attention.gru_rel_pos_const", "self_attn_layer_norm": "layer_norm",
         "self_attn": "attention", "fc1": "feed_forward.intermediate_dense",
         "fc2": "feed_forward.output_dense"}


def renamed(key: str) -> str:
    """The name in transformers of a parameter of fairseq's form."""
    if key.startswith("feature_extractor"):
        _, _, layer, place, *rest = key.split(".")
        return f"feature_extractor.conv_layers.{layer}.{'conv' if place == '0' else 'layer_norm'}" \
               f".{rest[-1]}"
    for old, new in TOP.items():
        if key == old or key.startswith(old + "."):
            return new + key.removeprefix(old)
    for old, new in INNER.items():
        if f".{old}" in key and key.startswith("encoder.layers"):
            return key.replace(f".{old}", f".{new}", 1)
    return key


def theirs(config: SSLConfig):
    kind = transformers.WavLMConfig if config.relative else transformers.Wav2Vec2Config
    more = {"num_buckets": BUCKETS, "max_bucket_distance": 800} if config.relative else {}
    made = kind(
        hidden_size=config.dim, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, intermediate_size=config.ffn_dim,
        conv_dim=[config.channels] * 7, conv_bias=False,
        feat_extract_norm="layer" if config.norm_first else "group",
        do_stable_layer_norm=config.norm_first, num_conv_pos_embeddings=config.position_kernel,
        num_conv_pos_embedding_groups=config.position_groups, **more)
    model = transformers.WavLMModel if config.relative else transformers.Wav2Vec2Model
    return model(made).eval()


@pytest.mark.parametrize("config", [SMALL, SMALL_BASE], ids=["WavLM", "wav2vec 2.0"])
def test_hidden_states_are_those_of_transformers(config):
    net, other = randomise(SpeechEncoder(config)), theirs(config)
    other.load_state_dict({renamed(k): v for k, v in net.state_dict().items()})
    wav = torch.randn(2, 16000)
    with torch.no_grad():
        ours = net(wav)
        found = other(wav, output_hidden_states=True)
    # The last is normalised, which not every version of transformers lists.
    expected = [*found.hidden_states[:-1], found.last_hidden_state]
    assert len(ours) == len(expected) == config.layers + 1
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == (2, 49, config.dim)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_buckets_are_exact_near_and_logarithmic_far():
    rows = buckets(1000, torch.device("cpu"))
    assert rows[0, 0] == 0 and rows[5, 2] == 3 and rows[2, 5] == 160 + 3
    assert rows[79, 0] == 79 and rows[80, 0] == 80
    # 80 + ln(253 / 80) / ln(10) * 80 = 120.0015...
    assert rows[253, 0] == 120 and rows[252, 0] == 119
    assert rows[999, 0] == 159 and rows[0, 999] == 319
