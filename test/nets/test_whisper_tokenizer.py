"""The FSQ tokenizer on the encoder of a published Whisper model (here random and small)."""

import pytest
import torch
from tiny import BANDS, LEVELS, Q, unreached, wake

from e2etts.config import build
from e2etts.errors import UserError
from e2etts.nets.system import SystemConfig
from e2etts.nets.tokenizers.fsq import FSQTokenizer
from e2etts.nets.whisper_encoder import WhisperEncoder

pytest.importorskip("transformers")

ENCODER = {"published": "unused", "dim": 16, "heads": 2, "hidden_dim": 24, "layers": 1,
           "mel_bands": BANDS, "max_positions": 20}


def make(frames_per_token=2, **encoder) -> FSQTokenizer:
    torch.manual_seed(0)
    section = {"encoder": {**ENCODER, **encoder}, "levels": LEVELS, "q_dim": Q}
    config = build(SystemConfig, {"tokenizer": section}, "model").tokenizer
    return wake(config.build(mel_bands=BANDS, frames_per_token=frames_per_token), std=0.1).eval()


# Positions a token: one, two, two with the published stride.
@pytest.mark.parametrize(("frames_per_token", "conv_stride", "stacked"),
                         [(2, True, 1), (2, False, 2), (4, True, 2)])
def test_positions_are_stacked_to_tokens_and_padding_changes_nothing(frames_per_token, conv_stride,
                                                                     stacked):
    net = make(frames_per_token, conv_stride=conv_stride)
    assert isinstance(net.encoder, WhisperEncoder) and net.stacked == stacked
    mel, lens = torch.randn(3, 20, BANDS), [20, 8, 12]
    out = net(mel, torch.tensor(lens))
    assert out.q.shape == (3, 20 // frames_per_token, Q)
    for b, n in enumerate(lens):
        tokens = n // frames_per_token
        alone = net(mel[b : b + 1, :n], torch.tensor([n]))
        assert out.lens[b] == tokens
        torch.testing.assert_close(out.bounded[b, :tokens], alone.bounded[0], atol=1e-5, rtol=0)


def test_gradient_reaches_every_parameter():
    net = make().train()
    out = net(torch.randn(2, 20, BANDS), torch.tensor([20, 12]))
    (out.q * torch.randn(Q)).tanh().sum().backward()
    assert not unreached(net)


def test_what_does_not_fit_is_refused():
    for frames in (1, 3):
        with pytest.raises(ValueError, match=f"a token lasts {frames} mel frames, a position of "
                                             "the encoder 2: set encoder.conv_stride to false"):
            make(frames)
        assert make(frames, conv_stride=False).stacked == frames
    with pytest.raises(UserError, match="sees the whole recording: leave causal off"):
        build(SystemConfig, {"tokenizer": {"encoder": ENCODER, "causal": True}}, "model")
