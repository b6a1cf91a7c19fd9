import pytest
import torch
from tiny import BANDS, LEVELS, Q, trunk, unreached, wake

from e2etts.nets.tokenizer import stack_frames
from e2etts.nets.tokenizers.fsq import Config


def make(causal=False):
    torch.manual_seed(0)
    config = Config(encoder=trunk(), levels=LEVELS, q_dim=Q, causal=causal)
    return wake(config.build(mel_bands=BANDS, frames_per_token=2)).eval()


def test_stack_frames_keeps_time_order():
    mel = torch.arange(12.0).view(1, 4, 3)
    assert torch.equal(stack_frames(mel, 2)[0], torch.arange(12.0).view(2, 6))
    with pytest.raises(ValueError, match="multiple"):
        stack_frames(mel, 3)


@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(causal):
    net = make(causal)
    mel, lens = torch.randn(3, 20, BANDS), [20, 6, 14]
    out = net(mel, torch.tensor(lens))
    assert out.q.shape == (3, 10, Q) and out.index.shape == (3, 10)
    assert out.bounded.shape == (3, 10, len(LEVELS)) and out.lens.tolist() == [10, 3, 7]
    for b, n in enumerate(lens):
        alone = net(mel[b : b + 1, :n], torch.tensor([n]))
        torch.testing.assert_close(out.bounded[b, : n // 2], alone.bounded[0], atol=1e-5, rtol=0)
        assert torch.equal(out.index[b, : n // 2], alone.index[0])
        torch.testing.assert_close(out.q[b, : n // 2], alone.q[0], atol=1e-5, rtol=0)


def test_causal_tokenizer_does_not_look_ahead():
    mel, lens = torch.randn(1, 20, BANDS), torch.tensor([20])
    other = mel.clone()
    other[:, 12:] += 1
    for causal in (True, False):
        net = make(causal)
        a, b = net(mel, lens).bounded[:, :6], net(other, lens).bounded[:, :6]
        assert torch.allclose(a, b, atol=1e-6) == causal


def test_one_embedding_for_encoder_indices_and_codebook():
    net = make()
    out = net(torch.randn(2, 20, BANDS), torch.tensor([20, 20]))
    torch.testing.assert_close(net.embed(out.index), out.q)
    torch.testing.assert_close(net.codebook()[out.index], out.q)
    assert net.codebook().shape == (net.codebook_size, Q)


def test_gradient_reaches_every_parameter_through_rounding():
    net = make().train()
    out = net(torch.randn(2, 20, BANDS), torch.tensor([20, 12]))
    (out.q * torch.randn(Q)).tanh().sum().backward()
    assert not unreached(net)
    assert not out.index.requires_grad
