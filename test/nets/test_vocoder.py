"""Vocoder: shapes, alignment, exact inverse STFT, padding invariance, gradient reach."""

from dataclasses import replace

import pytest
import torch

from e2etts.audio import AudioConfig, log_mel
from e2etts.nets.source import PitchScale, Source, track_pitch
from e2etts.nets.vocoder import PITCH_BINS, SameSTFT, Vocoder, VocoderConfig

RATES = {"sample_rate_hz": 16000, "hop_samples": 320, "mel_bands": 80}
SMALL = VocoderConfig(dim=32, layers=2)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def speech(seconds: float, hz: float = 150.0, rate: int = 16000) -> torch.Tensor:
    """Harmonics with a fall towards high frequencies and a little noise, (1, S)."""
    time = torch.arange(int(seconds * rate)) / rate
    tone = sum(torch.cos(2 * torch.pi * hz * k * time + k * k) / k for k in range(1, 15))
    return (0.1 * tone + 0.003 * torch.randn(len(time)))[None]


@pytest.mark.parametrize("fft, hop", [(640, 160), (1280, 320), (512, 256)])
def test_stft_inverse_is_exact(fft, hop):
    stft = SameSTFT(fft, hop)
    wav = torch.randn(2, hop * 7)
    spectrum = stft(wav)
    assert spectrum.shape == (2, 7, fft // 2 + 1)
    torch.testing.assert_close(stft.inverse(spectrum), wav, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spectrum", ["harmonic", "phase"])
@pytest.mark.parametrize("split", [1, 2])
def test_shape(spectrum, split):
    config = replace(SMALL, spectrum=spectrum, frame_split=split, fft_samples=1280 // split)
    out = Vocoder(config, **RATES)(torch.randn(2, 9, 80))
    assert out.wav.shape == (2, 9 * 320) and out.wav.dtype == torch.float32
    if spectrum == "harmonic":
        assert out.pitch_logits.shape == (2, 9 * split, PITCH_BINS)
        assert out.voicing_logits.shape == (2, 9 * split)
    else:
        assert out.pitch_logits is None


@pytest.mark.parametrize("spectrum", ["harmonic", "phase"])
def test_padded_equals_single(spectrum):
    vocoder = Vocoder(replace(SMALL, spectrum=spectrum), **RATES).eval()
    mel = torch.randn(2, 12, 80) - 5
    mel[1, 7:] = float("inf")
    lens = torch.tensor([12, 7])
    with torch.no_grad():
        both = vocoder(mel, lens).wav
        singles = [vocoder(mel[b : b + 1, :n]).wav[0] for b, n in enumerate(lens.tolist())]
    for row, single in zip(both, singles, strict=True):
        torch.testing.assert_close(row[: len(single)], single, atol=2e-4, rtol=1e-3)
        assert not row[len(single) :].any()


@pytest.mark.parametrize("spectrum", ["harmonic", "phase"])
def test_gradient_reaches_everything(spectrum):
    vocoder = Vocoder(replace(SMALL, spectrum=spectrum), **RATES)
    mel = (torch.randn(1, 8, 80) - 5).requires_grad_()
    out = vocoder(mel, pitch_hz=torch.full((1, 16), 120.0) if vocoder.harmonic else None)
    loss = out.wav.square().sum()
    if vocoder.harmonic:
        loss = loss + out.pitch_logits.square().sum() + out.voicing_logits.square().sum()
    loss.backward()
    for name, parameter in vocoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert parameter.grad.isfinite().all(), name
    assert mel.grad.abs().sum() > 0


def test_autocast_leaves_samples_in_float32():
    vocoder = Vocoder(SMALL, **RATES).eval()
    mel = torch.randn(1, 8, 80) - 5
    pitch = torch.full((1, 16), 120.0)
    with torch.no_grad():
        exact = vocoder(mel, pitch_hz=pitch).wav
        with torch.autocast("cpu", torch.bfloat16):
            rough = vocoder(mel, pitch_hz=pitch).wav
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_evaluation_is_repeatable():
    vocoder = Vocoder(SMALL, **RATES).eval()
    mel = torch.randn(1, 8, 80) - 5
    assert torch.equal(vocoder.synthesize(mel), vocoder.synthesize(mel))


def test_untrained_output_is_aligned_with_the_mel():
    """A burst in the mel of frame 20 comes out around sample 20.5 * 320."""
    wav = torch.zeros(1, 40 * 320)
    wav[:, 20 * 320 : 21 * 320] = 0.3 * torch.randn(320)
    vocoder = Vocoder(SMALL, **RATES).eval()
    with torch.no_grad():
        out = vocoder(log_mel(wav, AudioConfig()), pitch_hz=torch.zeros(1, 80)).wav[0]
    energy = out.square()
    centre = (energy * torch.arange(len(energy))).sum() / energy.sum()
    assert abs(centre - 20.5 * 320) < 80


def test_untrained_output_has_the_level_of_the_recording():
    wav = speech(1.0)
    vocoder = Vocoder(SMALL, **RATES).eval()
    with torch.no_grad():
        pitch = track_pitch(wav, 16000, 160)
        out = vocoder(log_mel(wav, AudioConfig()), pitch_hz=pitch).wav
    assert 0.5 < out.std() / wav.std() < 2


@pytest.mark.parametrize("change", [
    {"frame_split": 3}, {"fft_samples": 600}, {"kernel": 4}, {"fft_samples": 160}])
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError):
        Vocoder(replace(SMALL, **change), **RATES)


@pytest.mark.parametrize("hz", [75.0, 120.0, 210.0, 400.0])
def test_pitch_of_a_tone(hz):
    found = track_pitch(speech(0.5, hz), 16000, 160)
    assert found.shape == (1, 50)
    torch.testing.assert_close(found[:, 5:-5], torch.full((1, 40), hz), rtol=0.01, atol=0.0)


def test_noise_and_silence_have_no_pitch():
    assert (track_pitch(0.1 * torch.randn(1, 16000), 16000, 160) > 0).float().mean() < 0.1
    assert not track_pitch(torch.zeros(1, 8000), 16000, 160).any()


def test_pitch_scale_decodes_its_targets():
    scale = PitchScale(PITCH_BINS)
    hz = torch.tensor([[65.0, 123.4, 250.0, 480.0]])
    targets = scale.targets(hz)
    torch.testing.assert_close(targets.sum(-1), torch.ones(1, 4))
    torch.testing.assert_close(scale.decode(targets.log()), hz, rtol=0.005, atol=0.0)
    assert not scale.decode(targets.log(), torch.full((1, 4), -1.0)).any()


def test_pulses_follow_the_pitch():
    pulses = Source(16000, 160).pulses(torch.full((1, 100), 200.0))
    peaks = (pulses[0] > 0.7 * pulses.max()).nonzero()[:, 0]
    assert len(peaks) == 200 and set(peaks.diff().tolist()) == {80}
    assert abs(pulses.square().mean() - 1) < 0.05
    half = torch.full((1, 100), 200.0)
    half[:, 50:] = 0
    assert not Source(16000, 160).pulses(half)[:, 51 * 160 :].any()
