"""Random checkpoints in the form of published ones, small."""

import re
from pathlib import Path

import torch

from e2etts.score.judges.ssl_encoders import SSLConfig
from e2etts.score.judges.utmos22 import UTMOS
from e2etts.score.judges.wavlm_sv import WavLMSpeaker

SMALL = SSLConfig(channels=16, dim=32, ffn_dim=48, heads=4, layers=3, position_kernel=16,
                  position_groups=4)
SMALL_BASE = SSLConfig(**{**vars(SMALL), "norm_first": False, "relative": False})


def randomise(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights and running statistics, so that nothing passes by being 0 or 1."""
    torch.manual_seed(seed)
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if value.is_floating_point():
            value.data = 0.3 * torch.randn_like(value)
            if "running_var" in name or "original0" in name:
                value.data = value.data.abs() + 0.5
    return net.eval()


def fairseq_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weight norm under the names of the time when the checkpoints were made."""
    names = {"parametrizations.weight.original0": "weight_g",
             "parametrizations.weight.original1": "weight_v"}
    pattern = re.compile("|".join(map(re.escape, names)))
    return {pattern.sub(lambda m: names[m[0]], k): v for k, v in state.items()}


def write_wavlm_sv(path: Path, seed: int = 0) -> WavLMSpeaker:
    """wavlm_large_finetune.pth in small, with the classifier that only training used."""
    net = randomise(WavLMSpeaker(SMALL, channels=16, merged=24, embedding=8), seed)
    state = fairseq_keys(net.state_dict())
    state["loss_calculator.projection.weight"] = torch.zeros(3, 8)
    torch.save({"model": state}, path)
    return net


def write_utmos(path: Path) -> UTMOS:
    """utmos22_strong_step7459_v1.pt in small."""
    net = randomise(UTMOS(SMALL_BASE, given=4, hidden=8, wide=16))
    torch.save(fairseq_keys(net.state_dict()), path)
    return net
