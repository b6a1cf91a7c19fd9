"""Speaker models and UTMOS from random checkpoints in the form of the published ones."""

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from made_up import RATE_HZ, tone
from published_models import SMALL_BASE, write_utmos, write_wavlm_sv

from e2etts.config import build
from e2etts.errors import UserError
from e2etts.score.config import ScoreConfig
from e2etts.score.judges import ecapa, utmos22, wavlm_sv
from e2etts.score.judges.locate import Unavailable
from e2etts.score.meter import WavJob, unpack
from e2etts.score.metrics.sim import speaker_meter


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_wavlm_speaker_loads_the_published_form(tmp_path):
    net = write_wavlm_sv(tmp_path / "sv.pth")
    again = wavlm_sv.load(tmp_path / "sv.pth")
    wav = torch.randn(1, 8000)
    with torch.no_grad():
        torch.testing.assert_close(again(wav), net(wav))
        assert again(wav).shape == (1, 8)
        # Samples are normalised first: loudness changes nothing.
        torch.testing.assert_close(again(wav * 0.1), again(wav), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(again(torch.cat([wav, wav * 3])), again(wav).expand(2, -1),
                                   rtol=1e-3, atol=1e-4)


def test_the_head_weighs_layers_and_pools_as_published(tmp_path):
    """The head written out once more, from the formulas of arXiv 2005.07143."""
    net = write_wavlm_sv(tmp_path / "sv.pth")
    wav = torch.randn(1, 6000)
    p = dict(net.state_dict())

    def conv(x, name, **more):
        return F.conv1d(x, p[f"{name}.weight"], p[f"{name}.bias"], **more)

    def norm(x, name):
        return F.batch_norm(x, p[f"{name}.running_mean"], p[f"{name}.running_var"],
                            p[f"{name}.weight"], p[f"{name}.bias"])

    with torch.no_grad():
        states = torch.stack(net.feature_extract.model((wav - wav.mean())
                                                       / (wav.var(unbiased=False) + 1e-5).sqrt()))
        w = p["feature_weight"].exp() / p["feature_weight"].exp().sum()
        x = (w[:, None, None, None] * states).sum(0).transpose(1, 2) + 1e-6
        x = (x - x.mean(2, True)) / (x.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = norm(conv(x, "layer1.conv", padding=2).relu(), "layer1.bn")
        blocks = []
        for number, dilation in ((2, 2), (3, 3), (4, 4)):
            at = f"layer{number}"
            y = norm(conv(x, f"{at}.Conv1dReluBn1.conv").relu(), f"{at}.Conv1dReluBn1.bn")
            parts, out = y.split(2, 1), []
            for i in range(7):
                z = parts[i] + (out[-1] if out else 0)
                z = conv(z, f"{at}.Res2Conv1dReluBn.convs.{i}", padding=dilation,
                         dilation=dilation).relu()
                out.append(norm(z, f"{at}.Res2Conv1dReluBn.bns.{i}"))
            y = torch.cat([*out, parts[7]], 1)
            y = norm(conv(y, f"{at}.Conv1dReluBn2.conv").relu(), f"{at}.Conv1dReluBn2.bn")
            s = F.linear(y.mean(2), p[f"{at}.SE_Connect.linear1.weight"],
                         p[f"{at}.SE_Connect.linear1.bias"]).relu()
            s = F.linear(s, p[f"{at}.SE_Connect.linear2.weight"],
                         p[f"{at}.SE_Connect.linear2.bias"]).sigmoid()
            x = x + y * s[..., None]
            blocks.append(x)
        y = conv(torch.cat(blocks, 1), "conv").relu()
        a = conv(conv(y, "pooling.linear1").tanh(), "pooling.linear2").softmax(2)
        mean = (a * y).sum(2)
        std = ((a * y * y).sum(2) - mean**2).clamp_min(1e-9).sqrt()
        expected = F.linear(norm(torch.cat([mean, std], 1), "bn"), p["linear.weight"],
                            p["linear.bias"])
        torch.testing.assert_close(net(wav), expected, rtol=1e-3, atol=1e-4)


def test_a_checkpoint_that_lacks_tensors_is_refused(tmp_path):
    write_wavlm_sv(tmp_path / "sv.pth")
    stored = torch.load(tmp_path / "sv.pth", weights_only=True)
    del stored["model"]["layer2.SE_Connect.linear1.bias"]
    torch.save(stored, tmp_path / "half.pth")
    with pytest.raises(UserError, match=r"lacks 1 tensors.*SE_Connect"):
        wavlm_sv.load(tmp_path / "half.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(UserError, match="not a checkpoint"):
        wavlm_sv.load(tmp_path / "junk.pth")


def test_meter_takes_the_first_channel_resampled_and_gives_unit_vectors(tmp_path):
    net = write_wavlm_sv(tmp_path / "sv.pth")
    left, right = tone(1, 300)[:, None], tone(1, 500)[:, None]
    soundfile.write(tmp_path / "stereo.wav", np.hstack([left, right]), 24000, subtype="FLOAT")
    config = build(ScoreConfig, {"speaker": "wavlm-sv",
                                 "models": {"wavlm-sv": str(tmp_path / "sv.pth")}})
    meter = speaker_meter(config)
    wav = meter.load(WavJob(tmp_path / "stereo.wav", ""))
    from torchaudio.transforms import Resample

    expected = Resample(24000, 16000)(torch.from_numpy(left[:, 0]))
    np.testing.assert_allclose(wav, expected.numpy(), atol=1e-6)
    vector = unpack(meter.open("cpu")([wav], "")[0])
    with torch.no_grad():
        np.testing.assert_allclose(vector, F.normalize(net(expected[None]))[0].numpy(), atol=1e-4)


def test_utmos_loads_the_published_form(tmp_path):
    net = write_utmos(tmp_path / "utmos.pt")
    again = utmos22.load(tmp_path / "utmos.pt", SMALL_BASE, given=4, hidden=8, wide=16)
    wav = torch.from_numpy(tone(1, 300))[None]
    with torch.no_grad():
        torch.testing.assert_close(again(wav), net(wav))
        net.projection[2].weight.zero_()
        net.projection[2].bias.fill_(0.25)
        assert net(wav).item() == 3.5  # frames are averaged, then 2 x + 3
    with pytest.raises(UserError, match="not the checkpoint"):
        utmos22.load(tmp_path / "utmos.pt")  # the sizes of the published one


def test_ecapa_loads_the_published_form(tmp_path):
    pytest.importorskip("speechbrain")
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    torch.manual_seed(0)
    net = ECAPA_TDNN(80, channels=[16] * 4 + [48], kernel_sizes=[5, 3, 3, 3, 1],
                     dilations=[1, 2, 3, 4, 1], attention_channels=8, lin_neurons=12).eval()
    torch.save(net.state_dict(), tmp_path / ecapa.WEIGHTS)
    meter = ecapa.find(ScoreConfig(models={"ecapa": str(tmp_path)}))
    a, b = meter.open("cpu")([tone(1, 300), tone(1, 600, 1)], "")
    assert unpack(a).shape == (12,) and np.linalg.norm(unpack(a)) == pytest.approx(1)
    assert unpack(a) @ unpack(b) < 0.9999


@pytest.mark.parametrize(("find", "word"), [
    (wavlm_sv.find, "UniSpeech"), (utmos22.find, "SpeechMOS"), (ecapa.find, "hf download")])
def test_a_missing_model_has_a_remedy(nowhere, find, word):
    if find is ecapa.find:
        pytest.importorskip("speechbrain")
    with pytest.raises(Unavailable) as e:
        find(ScoreConfig())
    assert word in e.value.remedy and "score.models." in e.value.remedy


def test_a_named_file_must_be_there(nowhere):
    for name in ("no.pth", str(nowhere / "no.pth")):
        with pytest.raises(UserError, match="is neither a file nor the name of a hub model"):
            wavlm_sv.find(ScoreConfig(models={"wavlm-sv": name}))
    cached = nowhere / "torch" / "hub" / "checkpoints" / utmos22.FILE
    cached.parent.mkdir(parents=True)
    write_utmos(cached)
    assert utmos22.find(ScoreConfig()).checkpoint == str(cached)
    assert RATE_HZ == 16000


def test_a_file_may_be_of_a_hub_model(nowhere, monkeypatch):
    """By name, fetched where the network is allowed and kept where it was fetched before."""
    config = ScoreConfig(models={"wavlm-sv": "somebody/mirror"})
    with pytest.raises(Unavailable, match="somebody/mirror is not in the hub's cache.*OFFLINE"):
        wavlm_sv.find(config)
    write_wavlm_sv(nowhere / wavlm_sv.FILE)
    requests = []

    def download(repository, name, local_files_only):
        requests.append((repository, name, local_files_only))
        return str(nowhere / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: "cached")
    assert wavlm_sv.find(config).checkpoint == str(nowhere / wavlm_sv.FILE)
    assert requests == [("somebody/mirror", wavlm_sv.FILE, True)]
