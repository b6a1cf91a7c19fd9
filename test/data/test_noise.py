from itertools import islice

import numpy as np
import pytest
import soundfile
import torch
import yaml
from made_corpus import AUDIO, make_dump

from e2etts.audio import load_wav, log_mel
from e2etts.data.dataset import DataConfig, MelDataset
from e2etts.data.loader import dev_batches, training_stream
from e2etts.data.noise import Noise, NoiseConfig, coloured, loop, scaled
from e2etts.data.sampler import Element
from e2etts.errors import UserError
from e2etts.recipe import load_recipe


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    return make_dump(tmp_path_factory.mktemp("corpus"))


def noisy(dump, name="train", with_wav=False, **noise):
    config = DataConfig(concat_probability=0.5, concat_max_seconds=3,
                        noise=NoiseConfig(**noise) if noise else None)
    return MelDataset(dump / name, AUDIO, config=config, with_wav=with_wav)


def power(wav):
    return float(np.mean(np.square(wav, dtype=np.float64)))


def no_clip(random):
    raise AssertionError("only babble needs clips")


def test_noise_has_the_requested_snr():
    random = np.random.default_rng(0)
    speech = random.standard_normal(16000) * 0.1
    for snr_db in (-5.0, 0.0, 20.0):
        noise = scaled(random.standard_normal(16000) * 7, speech, snr_db)
        assert 10 * np.log10(power(speech) / power(noise)) == pytest.approx(snr_db, abs=1e-3)
    assert not scaled(random.standard_normal(100), np.zeros(100), 0.0).any()
    maker = Noise(NoiseConfig(probability=1.0, snr_db=(3, 8), kinds=("white", "pink")), 16000)
    drawn = [10 * np.log10(power(speech) / power(maker.draw(speech, random, no_clip)))
             for _ in range(200)]
    assert 2.99 < min(drawn) < 3.5 and 7.5 < max(drawn) < 8.01


def test_pink_noise_falls_by_three_decibels_an_octave_and_white_does_not():
    for exponent in (0.0, 1.0):
        spectrum = np.abs(np.fft.rfft(coloured(1 << 18, np.random.default_rng(1), exponent))) ** 2
        octaves = [spectrum[1 << k : 2 << k].mean() for k in range(8, 16)]
        steps = 10 * np.diff(np.log10(octaves))
        assert steps.mean() == pytest.approx(-3.01 * exponent, abs=0.3)


def test_short_recordings_are_repeated_and_long_ones_cropped():
    random = np.random.default_rng(0)
    assert loop(np.arange(3), 7, random).tolist() == [0, 1, 2, 0, 1, 2, 0]
    starts = {int(loop(np.arange(10), 4, random)[0]) for _ in range(200)}
    assert starts == set(range(7))


def test_features_are_of_the_mixture_and_other_fields_unchanged(dump):
    clean = noisy(dump, with_wav=True)
    loud = noisy(dump, with_wav=True, probability=1.0, snr_db=(10, 10), kinds=("white",))
    row = Element((4, 6), 5)
    a, b = clean[row], loud[row]
    assert torch.equal(a.wav, b.wav) and torch.equal(a.reference_mel, b.reference_mel)
    assert torch.equal(a.text, b.text) and a.mel.shape == b.mel.shape
    added = (b.mel.exp() - a.mel.exp()).clamp_min(0)
    assert float(added.mean()) > 0 and not torch.allclose(a.mel, b.mel, atol=0.1)
    # In the quiet bands the mixture is the noise: as loud as white noise of that power is.
    random = np.random.default_rng(0)
    wanted = torch.from_numpy(scaled(random.standard_normal(len(a.wav)), a.wav.numpy(), 10.0))
    top = slice(-2, None)
    got, want = (m.exp()[:, top].mean() for m in (b.mel, log_mel(wanted, AUDIO)))
    assert float(got / want) == pytest.approx(1.0, abs=0.2)


def test_some_rows_stay_exactly_clean(dump):
    clean, half = noisy(dump), noisy(dump, probability=0.5)
    same = [torch.equal(clean[Element((i % 24,), i)].mel, half[Element((i % 24,), i)].mel)
            for i in range(100)]
    assert 30 < sum(same) < 70


def test_noise_depends_on_the_row_and_not_on_the_worker(dump):
    def first(workers, cursor=(0, 0), seed=4):
        data = noisy(dump, probability=1.0)
        return list(islice(training_stream(data, 5.0, seed=seed, workers=workers)(cursor), 9))
    here, there = first(0), first(2)
    assert all(torch.equal(a.mel, b.mel) for (a, _), (b, _) in zip(here, there, strict=True))
    resumed = first(1, here[3][1])
    assert all(torch.equal(a.mel, b.mel) for (a, _), (b, _) in
               zip(here[4:], resumed, strict=False))
    data = noisy(dump, probability=1.0)
    assert not torch.equal(data[Element((0,), 1)].mel, data[Element((0,), 2)].mel)
    dev = dev_batches(noisy(dump, "dev", probability=1.0), 5.0)
    assert all(torch.equal(a.mel, b.mel) for a, b in zip(dev(), dev(), strict=True))


def test_babble_comes_from_other_speakers(dump, monkeypatch):
    data = noisy(dump, probability=1.0, kinds=("babble",), babble_clips=3)
    pools = []
    read = MelDataset._wav

    def watched(self, parts, frames):
        pools.append([self.speakers[i] for i, _, _ in parts])
        return read(self, parts, frames)
    monkeypatch.setattr(MelDataset, "_wav", watched)
    data[Element((0, 2), 3)]
    own = data.speakers[0]
    assert pools[0] == [own, own] and len(pools) == 4
    assert all(len(s) == 1 and s[0] != own for s in pools[1:])


def test_noise_from_files(dump, tmp_path):
    hum = 0.1 * np.sin(np.arange(8000) * 2 * np.pi * 3000 / 16000)
    soundfile.write(tmp_path / "hum.wav", hum, 16000)
    data = noisy(dump, probability=1.0, snr_db=(0, 0), kinds=("files",), folder=str(tmp_path))
    clean = noisy(dump)[Element((1,), 0)].mel
    louder = (data[Element((1,), 0)].mel - clean).mean(0)
    band = int(log_mel(torch.from_numpy(hum).float(), AUDIO).mean(0).argmax())
    assert int(louder.argmax()) == band
    soundfile.write(tmp_path / "hum.wav", hum, 8000)
    with pytest.raises(UserError, match=r"hum\.wav: 8000 samples at 8000 Hz, expected some at 16"):
        data[Element((1,), 0)]
    with pytest.raises(UserError, match=r"nothing: no \.wav"):
        noisy(dump, kinds=("files",), folder=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="need each other"):
        NoiseConfig(kinds=("files",))


def test_noise_is_rejected_in_a_generative_stage(tmp_path):
    def stage(**weights):
        path = tmp_path / "c.yaml"
        path.write_text(yaml.safe_dump({"corpus": {}, "stages": {"rm": {
            "task": "first_order", "trainable": ["rm"], "weights": weights,
            "data": {"noise": {"snr_db": [5, 15]}}, "train": {"max_steps": 1}}}}))
        return load_recipe(path)
    assert stage(ctc=1.0, fm=0.0).stages["rm"].data.noise.snr_db == (5, 15)
    with pytest.raises(UserError, match=r"stages\.rm\.data\.noise: .*weights"):
        stage(ctc=1.0, fm=1.0)


def test_a_recording_is_not_read_without_noise(dump):
    data = noisy(dump)
    assert not data.wavs and data[Element((0,), 0)].wav is None
    wav = load_wav(noisy(dump, with_wav=True).wavs[0], 16000)
    torch.testing.assert_close(data[Element((0,), 0)].mel[: int(data.frames[0])],
                               log_mel(torch.from_numpy(wav), AUDIO))
