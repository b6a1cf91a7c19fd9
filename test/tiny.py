"""Tiny systems and batches, small enough to train in a test."""

import math

import torch
from torch import nn

from e2etts.data.batch import Batch
from e2etts.nets.flow import FlowConfig
from e2etts.nets.fm import FMConfig
from e2etts.nets.lm import LMConfig
from e2etts.nets.reward import RMConfig
from e2etts.nets.speaker import SpeakerConfig
from e2etts.nets.system import Sizes, StyleConfig, System, SystemConfig
from e2etts.nets.tokenizers.codes import Config as CodesConfig
from e2etts.nets.tokenizers.fsq import Config as FSQConfig
from e2etts.nets.transformer import TransformerConfig

BANDS, TEXT, LANGUAGES, SPEAKERS, EMOTIONS, LEVELS = 6, 9, 2, 3, 2, (4, 3, 3)
SPEAKER_DIM, Q = 8, 10


def trunk(**changes) -> TransformerConfig:
    return TransformerConfig(**{"dim": 16, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 8,
                                "hidden_dim": 24, **changes})


def system_config(*, kind: str = "fsq", text_stride: float = 0.0, text_input: str = "prefix",
                  speaker_embedding: bool = True,
                  lm_input: str = "q",
                  coarse: bool = True, patch_frames: int = 2, decoder_layers: int = 1,
                  causal: bool = False, flow: FlowConfig | None = None,
                  speaker_loss: str = "classes",
                  style: StyleConfig | None = None) -> SystemConfig:
    tokenizer = FSQConfig(encoder=trunk(), levels=LEVELS, q_dim=Q, causal=causal)
    if kind == "codes":
        tokenizer = CodesConfig(kind="codes", codebook_size=math.prod(LEVELS), levels=LEVELS,
                                q_dim=Q)
    return SystemConfig(
        tokenizer=tokenizer,
        lm=LMConfig(trunk=trunk(), text_stride=text_stride, input=lm_input,
                    speaker_embedding=speaker_embedding, text_input=text_input,
                    text_encoder_layers=1),
        fm=FMConfig(trunk=trunk(), encoder_layers=1, coarse=coarse, patch_frames=patch_frames,
                    flow=flow or FlowConfig()),
        rm=RMConfig(trunk=trunk(), decoder_layers=decoder_layers, speaker_loss=speaker_loss),
        speaker=SpeakerConfig(embedding_dim=SPEAKER_DIM, dim=12, dilations=(1, 2)), style=style)


def sizes(**changes) -> Sizes:
    return Sizes(**{"mel_bands": BANDS, "frames_per_token": 2, "text_vocab": TEXT,
                    "languages": LANGUAGES, "speakers": SPEAKERS, "emotions": EMOTIONS,
                    "mel_mean": -4.0, "mel_std": 2.0, **changes})


def make_system(seed: int = 0, ratios: list[float] | None = None, **changes) -> System:
    """ratios: speech tokens per text token of the data, low and high."""
    torch.manual_seed(seed)
    return System(system_config(**changes), sizes(tokens_per_text_token=ratios))


def make_batch(seed: int = 0, frames: tuple[int, ...] = (24, 16, 20),
               letters: tuple[int, ...] = (4, 6, 3), codes: bool = False) -> Batch:
    """Ragged, with finite garbage in the padding; ``codes``: with tokens from files."""
    g = torch.Generator().manual_seed(seed)
    rows, size = len(frames), max(frames)
    lens = torch.tensor(frames)
    tokens = None
    if codes:
        tokens = torch.arange(rows * (size // 2)).view(rows, -1) % math.prod(LEVELS)
        tokens[torch.arange(size // 2) >= lens[:, None] // 2] = 999
    return Batch(
        utts=[f"utt{seed}-{i}" for i in range(rows)],
        mel=torch.randn(rows, size, BANDS, generator=g) * 2 - 4, mel_lens=lens,
        text=torch.randint(0, TEXT, (rows, max(letters)), generator=g),
        text_lens=torch.tensor(letters),
        language=torch.randint(0, LANGUAGES, (rows,), generator=g),
        speaker=torch.arange(rows) % SPEAKERS, emotion=torch.arange(rows) % EMOTIONS,
        reference_mel=torch.randn(rows, size, BANDS, generator=g) * 2 - 4, reference_lens=lens,
        codes=tokens)


def wake(module: nn.Module, seed: int = 1, std: float = 0.3) -> nn.Module:
    """Nothing stays at zero: zero-initialised layers would hide what passes through them."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=g) * std)
    return module


def reached(module: nn.Module) -> bool:
    """Has any gradient arrived in the module?"""
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def unreached(module: nn.Module) -> list[str]:
    """Parameters that no gradient has arrived at."""
    return [n for n, p in module.named_parameters()
            if p.grad is None or not bool(p.grad.abs().sum() > 0)]
