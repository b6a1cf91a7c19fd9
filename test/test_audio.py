import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from e2etts.audio import LOG_FLOOR, AudioConfig, load_wav, load_wav_as, log_mel, save_wav
from e2etts.errors import UserError


def test_rates_are_derived():
    config = AudioConfig()
    assert (config.frame_rate_hz, config.token_rate_hz) == (50, 25)


@pytest.mark.parametrize("wrong", [
    {"hop_samples": 300}, {"frames_per_token": 3}, {"mel_high_hz": 9000.0}, {"hop_samples": 0},
    {"window_samples": 1023}, {"window_samples": 256}, {"mel_low_hz": 8000.0}])
def test_inconsistent_rates_are_rejected(wrong):
    with pytest.raises(ValueError):
        AudioConfig(**wrong)


@pytest.mark.parametrize("samples", [320, 639, 640, 16000, 16100])
def test_frames_are_whole_hops(samples):
    config = AudioConfig()
    mel = log_mel(torch.randn(2, samples) * 0.1, config)
    assert mel.shape == (2, samples // 320, 80) and mel.isfinite().all()
    assert log_mel(torch.zeros(samples), config).max() == pytest.approx(np.log(LOG_FLOOR))


def test_batch_matches_single_rows():
    wav = torch.randn(2, 3, 3200) * 0.1
    mel = log_mel(wav, AudioConfig())
    torch.testing.assert_close(mel[1, 2], log_mel(wav[1, 2], AudioConfig()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hz", [200.0, 1000.0, 4000.0])
def test_tone_is_loudest_in_its_band(hz):
    t = torch.arange(16000) / 16000
    band = log_mel(torch.sin(2 * torch.pi * hz * t) * 0.5, AudioConfig()).mean(0).argmax()
    # Slaney's scale: linear below 1 kHz, 27 marks a factor of 6.4 above.
    def mel_of(f):
        return f * 3 / 200 if f < 1000 else 15 + np.log(f / 1000) / (np.log(6.4) / 27)
    assert abs(float(band) - (mel_of(hz) / mel_of(8000) * 81 - 1)) < 1.5


def test_mel_is_the_spectral_magnitude_by_bands():
    config = AudioConfig()
    wav = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    bank = torchaudio.functional.melscale_fbanks(513, 0.0, 8000.0, 80, 16000, "slaney", "slaney")
    start = 3 * config.hop_samples - (config.window_samples - config.hop_samples) // 2
    frame = wav[start : start + config.window_samples] * torch.hann_window(config.window_samples)
    want = (torch.fft.rfft(frame).abs() @ bank).clamp_min(LOG_FLOOR).log()
    torch.testing.assert_close(log_mel(wav, config)[3], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("silent", [slice(0, 0), slice(0, 2000), slice(0, 4000)])
def test_gradient_is_that_of_the_magnitude_and_finite_in_silence(silent):
    wav = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    wav[silent] = 0
    wav.requires_grad_()
    log_mel(wav, AudioConfig()).sum().backward()
    assert wav.grad.isfinite().all()
    if silent.stop < 4000:  # at one sample the slope is what a small step finds
        step = torch.zeros(4000)
        step[3000] = 5e-3
        with torch.no_grad():
            up, down = (log_mel(wav + s * step, AudioConfig()).double().sum() for s in (1, -1))
        assert float(up - down) / 1e-2 == pytest.approx(float(wav.grad[3000]), rel=2e-2)


def test_frame_is_centred_on_the_middle_of_its_hop():
    wav = torch.zeros(3200)
    wav[5 * 320 + 160] = 1.0
    level = log_mel(wav, AudioConfig()).mean(-1)
    assert level.argmax() == 5
    torch.testing.assert_close(level[4], level[6], atol=0.02, rtol=0)


def test_wav_round_trip_clips_and_leaves_no_part(tmp_path):
    wav = np.sin(np.arange(1000) / 10).astype(np.float32) * 1.5
    path = tmp_path / "deep/er/a.wav"
    save_wav(path, wav, 16000)
    assert [p.name for p in path.parent.iterdir()] == ["a.wav"]
    assert soundfile.info(str(path)).subtype == "PCM_16"
    np.testing.assert_allclose(load_wav(path, 16000), wav.clip(-1, 1), atol=1e-4)


def test_wav_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a.wav"):
        save_wav(tmp_path / "file" / "a.wav", np.zeros(10, np.float32), 16000)
    (tmp_path / "b.wav").mkdir()
    with pytest.raises(UserError, match="b.wav"):
        save_wav(tmp_path / "b.wav", np.zeros(10, np.float32), 16000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.wav", "file"]


@pytest.mark.parametrize(("make", "message"), [
    (lambda p: None, "cannot read"), (lambda p: p.write_bytes(b"no wav"), "cannot read"),
    (lambda p: soundfile.write(p, np.zeros((50, 2)), 16000), "2 channels"),
    (lambda p: soundfile.write(p, np.zeros(50), 8000), "8000 Hz, expected 16000")])
def test_bad_wav_is_named(tmp_path, make, message):
    make(tmp_path / "x.wav")
    with pytest.raises(UserError, match=f"x.wav: .*{message}"):
        load_wav(tmp_path / "x.wav", 16000)


def test_a_prompt_is_mixed_down_and_resampled(tmp_path):
    t = np.arange(24000) / 24000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "p.wav", np.stack([tone, tone], 1), 24000)
    wav = load_wav_as(tmp_path / "p.wav", 16000)
    assert wav.shape == (16000,) and wav.dtype == np.float32
    want = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(wav - want)[200:-200].max() < 0.01
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 24000)
    with pytest.raises(UserError, match="empty.wav: no audio"):
        load_wav_as(tmp_path / "empty.wav", 16000)
    with pytest.raises(UserError, match="q.wav"):
        load_wav_as(tmp_path / "q.wav", 16000)
