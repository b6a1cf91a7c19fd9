"""Mel -> encoder -> FSQ -> q: the tokenizer that is trained jointly with its readers.

Legend: B batch, F mel frames, T = F / frames_per_token tokens, M mel bands, H encoder size,
D digits of a code, Q size of q.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import nn

from e2etts.nets.fsq import FSQ
from e2etts.nets.sequence import length_mask
from e2etts.nets.tokenizer import SpeechTokenizer, Tokens, stack_frames
from e2etts.nets.transformer import Transformer, TransformerConfig
from e2etts.nets.whisper_encoder import WhisperEncoder, WhisperEncoderConfig

# Where tanh has lost all but 4 % of its slope.
SATURATED = 0.98


@dataclass(frozen=True, kw_only=True)
class Config:
    """encoder: sizes of a transformer that is trained from nothing, or the encoder of a published
    Whisper model (``{published: openai/whisper-base}``). causal: the transformer sees no later
    tokens. levels, bound: the code grid and how it is bounded (``FSQ``). q_dim: size of q."""

    reads_codes: ClassVar[bool] = False

    kind: Literal["fsq"] = "fsq"
    encoder: TransformerConfig | WhisperEncoderConfig = field(default_factory=TransformerConfig)
    causal: bool = False
    levels: tuple[int, ...] = (8, 5, 5, 5)
    bound: Literal["tanh", "sigmoid"] = "tanh"
    q_dim: int = 256

    def __post_init__(self):
        if self.causal and isinstance(self.encoder, WhisperEncoderConfig):
            raise ValueError("a published encoder sees the whole recording: leave causal off")

    def build(self, *, mel_bands: int, frames_per_token: int) -> "FSQTokenizer":
        return FSQTokenizer(self, mel_bands=mel_bands, frames_per_token=frames_per_token)


class MelEncoder(nn.Module):
    """Mel -> one vector a token, by our own transformer.

    frames_per_position: mel frames that one vector stands for."""

    def __init__(self, config: TransformerConfig, *, mel_bands: int, frames_per_token: int,
                 causal: bool):
        super().__init__()
        self.frames_per_position = frames_per_token
        self.stem = nn.Linear(frames_per_token * mel_bands, config.dim)
        self.trunk = Transformer(config, causal=causal)

    def forward(self, mel: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """mel: (B, F, M), lens: (B,) frames -> (B, F / frames_per_position, H)."""
        x = self.stem(stack_frames(mel, self.frames_per_position))
        return self.trunk(x, lens=lens // self.frames_per_position)


class FSQTokenizer(SpeechTokenizer):
    """One token for every ``frames_per_token`` mel frames; its gradient passes the rounding
    straight through."""

    has_soft_targets = has_statistics = True

    def __init__(self, config: Config, *, mel_bands: int, frames_per_token: int):
        super().__init__()
        self.frames_per_token, self.digit_levels = frames_per_token, config.levels
        if isinstance(config.encoder, WhisperEncoderConfig):
            self.encoder = WhisperEncoder(config.encoder, mel_bands=mel_bands)
        else:
            self.encoder = MelEncoder(config.encoder, mel_bands=mel_bands,
                                      frames_per_token=frames_per_token, causal=config.causal)
        if frames_per_token % self.encoder.frames_per_position:
            raise ValueError(f"a token lasts {frames_per_token} mel frames, a position of the "
                             f"encoder {self.encoder.frames_per_position}: set encoder.conv_stride "
                             "to false")
        self.stacked = frames_per_token // self.encoder.frames_per_position
        self.down = nn.Linear(self.stacked * config.encoder.dim, len(config.levels))
        self.fsq = FSQ(config.levels, config.bound)
        self.codebook_size = self.fsq.codebook_size
        self.up = nn.Linear(len(config.levels), config.q_dim, bias=False)
        nn.init.normal_(self.up.weight, std=len(config.levels) ** -0.5)

    def forward(self, mel: torch.Tensor, mel_lens: torch.Tensor) -> Tokens:
        lens = mel_lens // self.frames_per_token
        u = self.down(stack_frames(self.encoder(mel, mel_lens), self.stacked))
        code, index, bounded = self.fsq(u, length_mask(lens, u.shape[1]))
        return Tokens(self.up(code), index, lens, bounded)

    def freeze_statistics(self) -> None:
        self.fsq.eval()

    def embed(self, index: torch.Tensor) -> torch.Tensor:
        return self.up(self.fsq.to_code(index).to(self.up.weight.dtype))

    def codebook(self) -> torch.Tensor:
        """(V, Q) embedding of every code: C = G W_up^T, G the grid."""
        return self.up(self.fsq.table().to(self.up.weight.dtype))

    def digits(self) -> torch.Tensor:
        return self.fsq.to_digits(torch.arange(self.codebook_size, device=self.up.weight.device))

    @torch.no_grad()
    def health(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        """saturated: share of pre-quantisation values where the bound is flat; pre_quant_rms:
        their size before normalisation, from the running statistics of FSQ. Tokens from files have
        none."""
        if tokens.bounded is None:
            return {}
        valid = tokens.bounded[length_mask(tokens.lens, tokens.index.shape[1])]
        return {"saturated": (valid.abs() > SATURATED).float().mean(),
                "pre_quant_rms": (self.fsq.mean.square() + self.fsq.var).mean().sqrt()}

    def soft_mean(self, values: torch.Tensor, tokens: Tokens, temperature: float) -> torch.Tensor:
        return self.fsq.soft_mean(values, tokens.bounded, temperature)
