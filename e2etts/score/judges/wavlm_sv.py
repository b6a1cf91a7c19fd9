"""Speaker verification with WavLM under ECAPA-TDNN (arXiv 2110.13900, 2005.07143), as fine-tuned
for microsoft/UniSpeech and used by seed-tts-eval.

Loads the published wavlm_large_finetune.pth. Legend: B batch, C channels, T frames.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from e2etts.errors import UserError
from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import locate_file
from e2etts.score.judges.ssl_encoders import SpeechEncoder, SSLConfig
from e2etts.score.meter import (
    JUDGE_RATE_HZ,
    CheckpointMeter,
    Measure,
    WavJob,
    each,
    pack,
    read_samples,
)

KEY, FILE = "wavlm-sv", "wavlm_large_finetune.pth"
REMEDY = (f"fetch {FILE} (README of downstreams/speaker_verification in microsoft/UniSpeech links "
          "to it) into that folder")
SCALE = 8  # groups of Res2Net
BOTTLENECK = 128


class ConvReluNorm(nn.Module):
    """(B, C, T) -> (B, C', T); the norm comes last."""

    def __init__(self, in_channels: int, channels: int, kernel: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(F.relu(self.conv(x)))


class Res2Conv(nn.Module):
    """Each group of channels is convolved with the result of the one before; the last passes."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        width = channels // SCALE
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
                                   for _ in range(SCALE - 1))
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(SCALE - 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        groups = x.chunk(SCALE, 1)
        out, last = [], 0
        for conv, bn, group in zip(self.convs, self.bns, groups, strict=False):
            last = bn(F.relu(conv(last + group)))
            out.append(last)
        return torch.cat([*out, groups[-1]], 1)


class Squeeze(nn.Module):
    """Squeeze-and-excitation: channels weighted by the mean over the clip."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear1 = nn.Linear(channels, BOTTLENECK)
        self.linear2 = nn.Linear(BOTTLENECK, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.linear2(F.relu(self.linear1(x.mean(2)))).sigmoid().unsqueeze(2)


class SERes2Block(nn.Module):
    """SE-Res2Block; named as in the checkpoint."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.Conv1dReluBn1 = ConvReluNorm(channels, channels)
        self.Res2Conv1dReluBn = Res2Conv(channels, dilation)
        self.Conv1dReluBn2 = ConvReluNorm(channels, channels)
        self.SE_Connect = Squeeze(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.SE_Connect(self.Conv1dReluBn2(self.Res2Conv1dReluBn(
            self.Conv1dReluBn1(x))))


class StatisticsPool(nn.Module):
    """(B, C, T) -> (B, 2 C): mean and standard deviation under attention."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear1 = nn.Conv1d(channels, BOTTLENECK, 1)
        self.linear2 = nn.Conv1d(BOTTLENECK, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.linear2(self.linear1(x).tanh()).softmax(2)
        mean = (weight * x).sum(2)
        variance = (weight * x**2).sum(2) - mean**2
        return torch.cat([mean, variance.clamp_min(1e-9).sqrt()], 1)


class Upstream(nn.Module):
    """Holds the encoder under its name in the checkpoint."""

    def __init__(self, config: SSLConfig):
        super().__init__()
        self.model = SpeechEncoder(config)


class WavLMSpeaker(nn.Module):
    """Samples -> speaker embedding."""

    def __init__(self, config: SSLConfig, *, channels: int = 512, merged: int = 1536,
                 embedding: int = 256):
        super().__init__()
        self.feature_extract = Upstream(config)
        self.feature_weight = nn.Parameter(torch.zeros(config.layers + 1))
        self.layer1 = ConvReluNorm(config.dim, channels, 5)
        self.layer2, self.layer3, self.layer4 = (SERes2Block(channels, d) for d in (2, 3, 4))
        self.conv = nn.Conv1d(3 * channels, merged, 1)
        self.pooling = StatisticsPool(merged)
        self.bn = nn.BatchNorm1d(2 * merged)
        self.linear = nn.Linear(2 * merged, embedding)

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        """(B, S) float samples at 16 kHz, all of one length -> (B, X)."""
        states = self.feature_extract.model(F.layer_norm(wav, wav.shape[1:]))
        weight = self.feature_weight.softmax(0)
        x = sum(w * s for w, s in zip(weight, states, strict=True)).transpose(1, 2) + 1e-6
        x = self.layer1(F.instance_norm(x))
        blocks = [x := layer(x) for layer in (self.layer2, self.layer3, self.layer4)]
        return self.linear(self.bn(self.pooling(F.relu(self.conv(torch.cat(blocks, 1))))))


def load(path: Path) -> WavLMSpeaker:
    """The net of a checkpoint ``{"model": tensors}``; sizes are those of its tensors.

    Tensors that only training used are left alone. Raises UserError for a file of another form.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
        up = "feature_extract.model."
        dim, channels = stored[f"{up}post_extract_proj.weight"].shape
        config = SSLConfig(
            dim=dim, channels=channels, layers=len(stored["feature_weight"]) - 1,
            heads=stored[f"{up}encoder.layers.0.self_attn.grep_a"].shape[1],
            ffn_dim=len(stored[f"{up}encoder.layers.0.fc1.bias"]),
            position_kernel=stored[f"{up}encoder.pos_conv.0.weight_v"].shape[2],
            position_groups=dim // stored[f"{up}encoder.pos_conv.0.weight_v"].shape[1])
        net = WavLMSpeaker(config, channels=len(stored["layer1.conv.bias"]),
                           merged=len(stored["conv.bias"]), embedding=len(stored["linear.bias"]))
        missing = net.load_state_dict(stored, strict=False).missing_keys
    except Exception as e:  # a file of another form can fail in many ways
        raise UserError(f"{path}: not a checkpoint of WavLM with ECAPA-TDNN: "
                        f"{type(e).__name__}: {' '.join(str(e).split())[:200]}") from e
    if missing:
        raise UserError(f"{path}: lacks {len(missing)} tensors, the first {missing[0]}")
    return net.eval()


def first_channel_16k(path: Path) -> np.ndarray:
    """(samples,) float32: the first channel, resampled as seed-tts-eval does (torchaudio)."""
    from torchaudio.functional import resample

    wav, rate = read_samples(path)
    return resample(torch.from_numpy(wav[:, 0].copy()), rate, JUDGE_RATE_HZ).numpy()


@dataclass(frozen=True)
class WavLMMeter(CheckpointMeter):
    """Unit speaker embedding of a whole wav, packed. One clip at a time: its statistics are taken
    over all frames."""

    name: str = "sim"
    kind, title = KEY, "WavLM + ECAPA-TDNN"

    def load(self, job: WavJob) -> np.ndarray:
        return first_channel_16k(job.path)

    def open(self, device: str) -> Measure:
        net = load(Path(self.checkpoint)).to(device)

        @torch.no_grad()
        def measure(wav: np.ndarray, lang: str) -> str:
            vector = net(torch.from_numpy(wav)[None].to(device))[0]
            return pack(F.normalize(vector, dim=0).cpu().numpy())

        return each(measure)


def find(config: ScoreConfig) -> WavLMMeter:
    """The checkpoint of ``score.models.wavlm-sv``, else from the cache. Raises Unavailable."""
    return WavLMMeter.of(locate_file(KEY, FILE, config.models.get(KEY), [], REMEDY))
