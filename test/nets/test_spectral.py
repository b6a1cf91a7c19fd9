"""Spectral losses: zero for identical inputs, monotone, finite gradients."""

import math

import pytest
import torch

from e2etts.nets.spectral import (
    anti_wrapping,
    mel_loss,
    phase_loss,
    stft_loss,
    waveform_loss,
)


def all_losses(fake: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
    convergence, magnitude = stft_loss(fake, real, (256, 512, 1024, 2048))
    return {"convergence": convergence, "magnitude": magnitude,
            "mel": mel_loss(fake, real, 16000, ((512, 40), (1024, 80))),
            "waveform": waveform_loss(fake, real), **phase_loss(fake, real)}


@pytest.fixture
def wav() -> torch.Tensor:
    torch.manual_seed(0)
    return 0.1 * torch.randn(2, 4000)


def test_zero_for_identical(wav):
    for name, value in all_losses(wav, wav).items():
        assert value.item() == 0, name


def test_losses_increase_with_distance(wav):
    near = all_losses(wav + 0.005 * torch.randn_like(wav), wav)
    far = all_losses(wav + 0.05 * torch.randn_like(wav), wav)
    for name in near:
        assert 0 < near[name] < far[name], name


@pytest.mark.parametrize("silent", ["fake", "real"])
def test_gradient_is_finite_also_in_silence(wav, silent):
    fake, real = (torch.zeros_like(wav), wav) if silent == "fake" else (wav, wav * 0)
    fake = fake.clone().requires_grad_()
    sum(all_losses(fake, real).values()).backward()
    assert fake.grad.isfinite().all()


def test_gradient_reaches_the_samples(wav):
    for name in all_losses(wav, wav):
        fake = (wav + 0.01 * torch.randn_like(wav)).requires_grad_()
        all_losses(fake, wav)[name].backward()
        assert fake.grad.abs().sum() > 0, name


def test_magnitude_losses_ignore_the_sign(wav):
    losses = all_losses(-wav, wav)
    assert losses["convergence"] < 1e-6 and losses["mel"] < 1e-6
    assert losses["phase"] > 3 and losses["group_delay"] < 1e-3


def test_losses_are_float32_under_autocast(wav):
    fake = wav + 0.01 * torch.randn_like(wav)
    exact = all_losses(fake, wav)
    with torch.autocast("cpu", torch.bfloat16):
        for name, value in all_losses(fake, wav).items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, exact[name])


def test_anti_wrapping():
    angle = torch.tensor([0.0, 0.5, -0.5, 2 * math.pi, 2 * math.pi + 0.1, math.pi])
    expected = torch.tensor([0.0, 0.5, 0.5, 0.0, 0.1, math.pi])
    torch.testing.assert_close(anti_wrapping(angle), expected, atol=1e-5, rtol=0)
