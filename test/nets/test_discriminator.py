"""Discriminator: shapes, losses, and learning to separate two kinds of signal."""

import torch

from e2etts.nets.discriminator import (
    DiscriminatorConfig,
    SpectrogramDiscriminator,
    Verdict,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)

SMALL = DiscriminatorConfig(fft_samples=(128, 256), channels=8, layers=2)


def test_shapes_and_gradient():
    torch.manual_seed(0)
    judge = SpectrogramDiscriminator(SMALL)
    wav = torch.randn(2, 2000, requires_grad=True)
    verdict = judge(wav)
    assert len(verdict.scores) == 2 and [len(f) for f in verdict.features] == [2, 2]
    assert all(s.ndim == 3 and len(s) == 2 for s in verdict.scores)
    adversarial_loss(verdict).backward()
    assert wav.grad.isfinite().all() and wav.grad.abs().sum() > 0
    assert all(p.grad is not None for p in judge.parameters())


def test_losses_at_known_scores():
    def say(x):
        return Verdict([torch.full((1, 2, 2), x)], [[torch.full((1, 3), x)]])
    assert discriminator_loss(say(1.0), say(-1.0)) == 0
    assert discriminator_loss(say(0.0), say(0.0)) == 2
    assert adversarial_loss(say(1.0)) == 0 and adversarial_loss(say(-1.0)) == 2
    assert feature_matching_loss(say(1.0), say(1.0)) == 0
    assert feature_matching_loss(say(1.0), say(3.0)) == 2


def test_silence_has_finite_gradient():
    wav = torch.zeros(1, 1000, requires_grad=True)
    adversarial_loss(SpectrogramDiscriminator(SMALL)(wav)).backward()
    assert wav.grad.isfinite().all()


def test_learns_to_separate_noise_from_a_tone():
    torch.manual_seed(0)
    judge = SpectrogramDiscriminator(SMALL)
    optimiser = torch.optim.Adam(judge.parameters(), 3e-3)
    tone = torch.sin(torch.arange(2000) * 0.3).expand(2, -1)
    for _ in range(40):
        loss = discriminator_loss(judge(tone), judge(torch.randn(2, 2000)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 1
