import torch
from tiny import BANDS, SPEAKER_DIM, unreached, wake

from e2etts.nets.speaker import SpeakerConfig, SpeakerEncoder


def make():
    torch.manual_seed(0)
    config = SpeakerConfig(embedding_dim=SPEAKER_DIM, dim=12, dilations=(1, 2, 3))
    return wake(SpeakerEncoder(config, mel_bands=BANDS)).eval()


def test_embedding_is_a_unit_vector_and_ignores_padding():
    net, lens = make(), [20, 1, 13]
    mel = torch.randn(3, 20, BANDS) * 3
    out = net(mel, torch.tensor(lens))
    assert out.shape == (3, SPEAKER_DIM)
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(3))
    for b, n in enumerate(lens):
        alone = net(mel[b : b + 1, :n], torch.tensor([n]))
        torch.testing.assert_close(out[b : b + 1], alone, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_every_parameter_and_valid_frames_only():
    net = make()
    mel = torch.randn(2, 12, BANDS, requires_grad=True)
    (net(mel, torch.tensor([12, 5])) * torch.randn(SPEAKER_DIM)).sum().backward()
    assert unreached(net) in ([], ["score.bias"])  # a bias on all scores cancels in softmax
    assert not mel.grad[1, 5:].any() and (mel.grad[1, :5].abs().sum(-1) > 0).all()


def test_constant_input_has_finite_gradient():
    """Zero spread: the square root must not blow up."""
    net = make()
    mel = torch.zeros(1, 6, BANDS, requires_grad=True)
    net(mel, torch.tensor([6])).sum().backward()
    assert mel.grad.isfinite().all()
