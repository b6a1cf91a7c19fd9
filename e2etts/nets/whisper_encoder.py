"""Encoder of a published Whisper model (arXiv 2212.04356) over our mel, for the speech tokenizer.

Legend: B batch, F mel frames, M mel bands, N positions, D model size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from e2etts.nets.sequence import length_mask

# Whisper reads (log10 of mel power + 4) / 4, clipped to 8 below its maximum. On speech that has
# mean 0 and standard deviation 0.5, and grows by 0.45 where our normalised mel grows by 1.
ADAPTER_SCALE = 0.45


@dataclass(frozen=True, kw_only=True)
class WhisperEncoderConfig:
    """Which model, and its sizes (default: whisper-base), so that a checkpoint needs no other file.

    published: folder or hub name of the weights. layers: how many of its lower layers are used.
    mel_bands: bands that it takes. max_positions: the most that one recording may have.
    conv_stride: the second convolution halves the rate, as published: 100 Hz mel to 50 Hz
    positions. Without it, each mel frame has a position, which suits 50 Hz mel. trainable: False
    keeps the published weights fixed; the adapter still learns.
    """

    published: str
    dim: int = 512
    heads: int = 8
    hidden_dim: int = 2048
    layers: int = 6
    mel_bands: int = 80
    max_positions: int = 1500
    conv_stride: bool = True
    trainable: bool = True

    def __post_init__(self):
        sizes = (self.dim, self.heads, self.hidden_dim, self.layers, self.mel_bands,
                 self.max_positions)
        if min(sizes) < 1:
            raise ValueError("sizes must be at least 1")
        if self.dim % self.heads or self.dim % 2:
            raise ValueError("dim must be even and a multiple of heads")


class WhisperEncoder(nn.Module):
    """Affine adapter from our mel bands, then Whisper's convolutions and lower layers.

    Dropout is off. Weights are random until ``load_whisper_encoder`` fills them. Weights that never
    learn are buffers, so that making all parameters of the tokenizer trainable does not reach them.
    """

    def __init__(self, config: WhisperEncoderConfig, *, mel_bands: int):
        super().__init__()
        # A large package that only this net needs.
        from transformers.models.whisper import WhisperConfig, modeling_whisper

        self.config = config
        self.frames_per_position = 2 if config.conv_stride else 1
        self.adapter = nn.Linear(mel_bands, config.mel_bands)
        # Another number of bands is interpolated; the same number gives the identity.
        bands = F.interpolate(torch.eye(mel_bands)[None], size=config.mel_bands, mode="linear",
                              align_corners=True)
        with torch.no_grad():
            self.adapter.weight.copy_(ADAPTER_SCALE * bands[0].T)
        nn.init.zeros_(self.adapter.bias)
        self.whisper = modeling_whisper.WhisperEncoder(WhisperConfig(
            d_model=config.dim, encoder_attention_heads=config.heads,
            encoder_ffn_dim=config.hidden_dim, encoder_layers=config.layers,
            num_mel_bins=config.mel_bands, max_source_positions=config.max_positions,
            dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, encoder_layerdrop=0.0,
            attn_implementation="sdpa"))
        self.whisper.conv2.stride = (self.frames_per_position,)
        # The table of sinusoids never learns, as published.
        _fix(self.whisper.embed_positions if config.trainable else self.whisper)

    def forward(self, mel: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """mel: (B, F, M) natural-log, normalised; lens: (B,) valid frames. F and lens are multiples
        of frames_per_position. Returns (B, N, D) with N = F / frames_per_position.

        Raises ValueError for other F, and for more than max_positions.
        """
        frames, positions = mel.shape[1], mel.shape[1] // self.frames_per_position
        if frames % self.frames_per_position:
            raise ValueError(f"{frames} mel frames are not a multiple of "
                             f"{self.frames_per_position}")
        if positions > self.config.max_positions:
            raise ValueError(f"{positions} positions, but Whisper has {self.config.max_positions}")
        net = self.whisper
        # Padding is zero before each convolution, as what lies beyond the ends of a recording.
        valid = length_mask(lens, frames).unsqueeze(1)
        x = self.adapter(mel).transpose(1, 2) * valid
        x = F.gelu(net.conv1(x)) * valid
        x = F.gelu(net.conv2(x)).transpose(1, 2)
        x = x + net.embed_positions.weight[:positions]
        mask = length_mask(lens // self.frames_per_position, positions)[:, None, None, :]
        for layer in net.layers:
            out = layer(x, mask)
            x = out[0] if isinstance(out, tuple) else out  # the first releases of transformers 5
        return net.layer_norm(x)


def _fix(module: nn.Module) -> None:
    """Turn the parameters of ``module`` into buffers of the same names."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
