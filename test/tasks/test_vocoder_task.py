"""Vocoder task: terms, crops, phases, what is saved, and learning one clip."""

from dataclasses import replace

import pytest
import torch

from e2etts.audio import AudioConfig, log_mel
from e2etts.data.batch import Batch
from e2etts.errors import UserError
from e2etts.nets.discriminator import DiscriminatorConfig
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.tasks.build import build_vocoder
from e2etts.tasks.vocoder import VocoderOptions, VocoderTask
from e2etts.train.task import StepInfo

AUDIO = AudioConfig()
RATES = {"sample_rate_hz": 16000, "hop_samples": 320, "mel_bands": 80}
SMALL = VocoderConfig(dim=48, layers=2)
OPTIONS = VocoderOptions(crops=3, crop_frames=20)


def make_batch(frames: tuple[int, ...] = (60, 40, 10)) -> Batch:
    """Harmonic sounds of gliding pitch, one an entry, with garbage in the padding."""
    torch.manual_seed(0)
    size, batch = max(frames), len(frames)
    wav = torch.full((batch, size * 320), 9.0)
    mel = torch.full((batch, size, 80), float("nan"))
    for row, count in enumerate(frames):
        hz = torch.linspace(110, 170, count * 320) * (1 + 0.3 * row)
        phase = 2 * torch.pi * (hz / 16000).cumsum(0)
        tone = sum(torch.cos(k * phase + k * k) / k for k in range(1, 12))
        wav[row, : count * 320] = 0.05 * tone + 0.002 * torch.randn(count * 320)
        mel[row, :count] = log_mel(wav[row, : count * 320], AUDIO)
    zero = torch.zeros(batch, dtype=torch.long)
    return Batch(utts=[str(i) for i in range(batch)], mel=mel, mel_lens=torch.tensor(frames),
                 text=zero[:, None], text_lens=zero + 1, language=zero, speaker=zero,
                 emotion=zero - 1, reference_mel=torch.zeros(batch, 1, 80), reference_lens=zero + 1,
                 wav=wav)


def make_task(spectrum: str = "harmonic", **options) -> VocoderTask:
    torch.manual_seed(0)
    vocoder = Vocoder(replace(SMALL, spectrum=spectrum), **RATES)
    return VocoderTask(vocoder, AUDIO, replace(OPTIONS, **options))


def test_terms_are_finite_scalars():
    losses = make_task()(make_batch())
    assert set(losses.terms) == {"convergence", "magnitude", "mel", "pitch", "voicing"}
    assert set(losses.metrics) == {"mel_error", "pitch_cents", "voicing_error"}
    for name, value in (losses.terms | losses.metrics).items():
        assert value.ndim == 0 and value.isfinite(), name
    losses = make_task("phase", phase_terms=True)(make_batch())
    assert set(losses.terms) == {"convergence", "magnitude", "mel", "phase", "group_delay",
                                 "frequency", "waveform"}
    assert all(value.isfinite() for value in losses.terms.values())


def test_gradient_reaches_the_vocoder():
    task = make_task()
    sum(task(make_batch()).terms.values()).backward()
    for name, parameter in task.vocoder.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_crops_are_aligned_and_short_ones_go_on_in_silence():
    task = make_task().eval()
    mel, wav = task._crop(make_batch())
    assert mel.shape == (3, 20, 80) and wav.shape == (3, 20 * 320)
    assert mel.isfinite().all() and wav.abs().max() < 1
    # frames whose window lies inside the crop have the mel of the crop's own samples
    torch.testing.assert_close(log_mel(wav, AUDIO)[:2, 2:-2], mel[:2, 2:-2], atol=1e-3, rtol=0)
    assert not wav[2, 10 * 320 :].any() and mel[2, 10:].max() < -11


@pytest.mark.parametrize("crops, expected", [(None, 3), (7, 7)])
def test_number_of_crops(crops, expected):
    mel, wav = make_task(crops=crops)._crop(make_batch())
    assert len(mel) == len(wav) == expected


def test_evaluation_is_repeatable_and_training_is_seeded():
    task, batch = make_task(), make_batch()
    for training in (True, False):
        task.train(training)
        values = []
        for _ in range(2):
            torch.manual_seed(3)
            values.append(task(batch).terms["mel"].item())
        assert values[0] == values[1]


def test_phases_and_parameters():
    task = make_task()
    assert task.phases == ("generator",)
    small = DiscriminatorConfig(fft_samples=(256,), channels=4, layers=2)
    task = make_task(adversarial=True, adversarial_from=0.5, discriminator=small)
    batch = make_batch()
    assert task.phases == ("generator", "discriminator")
    early, late = StepInfo(progress=0.49), StepInfo(progress=0.5)
    assert not task(batch, "discriminator", early).terms
    assert "adversarial" not in task(batch, "generator", early).terms
    terms = task(batch, "generator", late).terms
    (terms["adversarial"] + terms["features"]).backward()
    assert all(p.grad is None for p in task.discriminator.parameters())
    assert task.vocoder.head.weight.grad.abs().sum() > 0
    task.zero_grad()
    task(batch, "discriminator", late).terms["discriminator"].backward()
    assert all(p.grad is not None for p in task.discriminator.parameters())
    assert all(p.grad is None for p in task.vocoder.parameters())
    ours = {id(p) for p in task.parameters_of("generator")}
    assert not ours & {id(p) for p in task.parameters_of("discriminator")}
    assert not task.eval()(batch, "discriminator").terms


def test_saves_the_vocoder_alone():
    task = make_task(adversarial=True)
    Vocoder(SMALL, **RATES).load_state_dict(task.state_to_save())


def test_overfits_one_clip():
    task, batch = make_task(crops=2, crop_frames=20), make_batch((40,))
    optimiser = torch.optim.AdamW(task.parameters_of("generator"), 3e-3)
    task.eval()
    with torch.no_grad():
        before = task(batch)
    task.train()
    for _ in range(60):
        loss = sum(task(batch).terms.values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters_of("generator"), 1.0)
        optimiser.step()
    task.eval()
    with torch.no_grad():
        after = task(batch)
    assert after.terms["convergence"] < 0.5 * before.terms["convergence"]
    assert after.terms["mel"] < 0.7 * before.terms["mel"]
    assert after.metrics["pitch_cents"] < 50


def test_bad_input():
    with pytest.raises(UserError, match="no recordings"):
        make_task()(replace(make_batch(), wav=None))
    with pytest.raises(UserError, match=r"vocoder\.fft_samples"):
        build_vocoder(SMALL, AudioConfig(hop_samples=400, window_samples=1200, frames_per_token=2))
