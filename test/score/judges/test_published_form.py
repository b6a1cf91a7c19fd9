"""Names and shapes of the published checkpoints, written out, against those that our nets load.

Sources: s3prl/s3prl, upstream/wavlm; microsoft/UniSpeech, downstreams/speaker_verification;
tarepan/SpeechMOS, utmos22. No weights: the nets live on the meta device.
"""

import torch
from published_models import fairseq_keys

from e2etts.score.judges.ssl_encoders import SSLConfig
from e2etts.score.judges.utmos22 import UTMOS
from e2etts.score.judges.wavlm_sv import WavLMSpeaker

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def batch_norm(name: str, size: int) -> Shapes:
    return {**linear(name, size), f"{name}.running_mean": (size,),
            f"{name}.running_var": (size,), f"{name}.num_batches_tracked": ()}


def encoder(up: str, dim: int, ffn: int, layers: int) -> Shapes:
    """What WavLM and wav2vec 2.0 have in common."""
    out = {f"{up}.mask_emb": (dim,), **linear(f"{up}.layer_norm", 512),
           **linear(f"{up}.post_extract_proj", dim, 512), **linear(f"{up}.encoder.layer_norm", dim),
           f"{up}.encoder.pos_conv.0.weight_g": (1, 1, 128),
           f"{up}.encoder.pos_conv.0.weight_v": (dim, dim // 16, 128),
           f"{up}.encoder.pos_conv.0.bias": (dim,)}
    for i, (inputs, kernel) in enumerate([(1, 10)] + [(512, 3)] * 4 + [(512, 2)] * 2):
        out[f"{up}.feature_extractor.conv_layers.{i}.0.weight"] = (512, inputs, kernel)
    for at in (f"{up}.encoder.layers.{i}" for i in range(layers)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= linear(f"{at}.self_attn.{name}", dim, dim)
        out |= linear(f"{at}.self_attn_layer_norm", dim) | linear(f"{at}.final_layer_norm", dim)
        out |= linear(f"{at}.fc1", ffn, dim) | linear(f"{at}.fc2", dim, ffn)
    return out


def shapes_of(state: dict[str, torch.Tensor]) -> Shapes:
    return {k: tuple(v.shape) for k, v in fairseq_keys(state).items()}


def test_wavlm_large_with_ecapa_tdnn():
    up = "feature_extract.model"
    expected = {"feature_weight": (25,), **encoder(up, 1024, 4096, 24),
                f"{up}.encoder.layers.0.self_attn.relative_attention_bias.weight": (320, 16)}
    for i in range(7):
        expected |= linear(f"{up}.feature_extractor.conv_layers.{i}.2.1", 512)
    for i in range(24):
        at = f"{up}.encoder.layers.{i}.self_attn"
        expected |= {f"{at}.grep_a": (1, 16, 1, 1), **linear(f"{at}.grep_linear", 8, 64)}
    expected |= linear("layer1.conv", 512, 1024, 5) | batch_norm("layer1.bn", 512)
    for at in ("layer2", "layer3", "layer4"):
        for name in (f"{at}.Conv1dReluBn1", f"{at}.Conv1dReluBn2"):
            expected |= linear(f"{name}.conv", 512, 512, 1) | batch_norm(f"{name}.bn", 512)
        for k in range(7):
            expected |= linear(f"{at}.Res2Conv1dReluBn.convs.{k}", 64, 64, 3)
            expected |= batch_norm(f"{at}.Res2Conv1dReluBn.bns.{k}", 64)
        expected |= linear(f"{at}.SE_Connect.linear1", 128, 512)
        expected |= linear(f"{at}.SE_Connect.linear2", 512, 128)
    expected |= linear("conv", 1536, 1536, 1) | linear("pooling.linear1", 128, 1536, 1)
    expected |= linear("pooling.linear2", 1536, 128, 1) | batch_norm("bn", 3072)
    expected |= linear("linear", 256, 3072)
    with torch.device("meta"):
        found = WavLMSpeaker(SSLConfig()).state_dict()
    assert shapes_of(found) == expected
    # By huggingface.co/bezzam/wavlm_large_finetune_seed_tts_eval the file has 711 tensors, the last
    # a classifier of the 5,994 speakers of VoxCeleb2, and
    # 1,301,926,579 bytes; a zip archive adds a few hundred for each tensor.
    assert len(expected) + 1 == 711
    held = sum(v.nbytes for v in found.values()) + 4 * 256 * 5994
    assert 0 < 1_301_926_579 - held < 500 * 711


def test_utmos22_strong():
    expected = {"domain_emb": (1, 128), "judge_emb": (1, 128),
                **encoder("wav2vec2", 768, 3072, 12),
                **linear("wav2vec2.feature_extractor.conv_layers.0.2", 512),
                **linear("projection.0", 2048, 1024), **linear("projection.2", 1, 2048)}
    for way in ("", "_reverse"):
        expected |= {f"blstm.weight_ih_l0{way}": (2048, 1024), f"blstm.bias_ih_l0{way}": (2048,),
                     f"blstm.weight_hh_l0{way}": (2048, 512), f"blstm.bias_hh_l0{way}": (2048,)}
    with torch.device("meta"):
        found = UTMOS().state_dict()
    assert shapes_of(found) == expected
