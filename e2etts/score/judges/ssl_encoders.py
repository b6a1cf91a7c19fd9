"""Self-supervised speech encoders of published judges: WavLM (arXiv 2110.13900) and
wav2vec 2.0 (arXiv 2006.11477), with the parameter names of their published checkpoints.

Legend: B batch, S samples, T frames of 20 ms, D encoder size, H heads.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

STRIDES = ((10, 5), *((3, 2),) * 4, *((2, 2),) * 2)  # kernel, stride of each convolution


@dataclass(frozen=True, kw_only=True)
class SSLConfig:
    """Defaults: WavLM large. norm_first: LayerNorm before each sublayer, and after each
    convolution (else after, and GroupNorm after the first one). relative: the gated relative
    position bias of WavLM."""

    channels: int = 512
    dim: int = 1024
    ffn_dim: int = 4096
    heads: int = 16
    layers: int = 24
    norm_first: bool = True
    relative: bool = True
    position_kernel: int = 128
    position_groups: int = 16


BASE = SSLConfig(dim=768, ffn_dim=3072, heads=12, layers=12, norm_first=False, relative=False)
BUCKETS, FARTHEST = 320, 800


class ChannelNorm(nn.Sequential):
    """LayerNorm over the channels of (B, C, T); names its parameters as the checkpoints do."""

    def __init__(self, channels: int):
        super().__init__(nn.Identity(), nn.LayerNorm(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[1](x.transpose(1, 2)).transpose(1, 2)


class Convolutions(nn.Module):
    """(B, S) samples at 16 kHz -> (B, C, T)."""

    def __init__(self, config: SSLConfig):
        super().__init__()
        size = config.channels
        self.conv_layers = nn.ModuleList()
        for i, (kernel, stride) in enumerate(STRIDES):
            conv = nn.Conv1d(size if i else 1, size, kernel, stride, bias=False)
            norm = [ChannelNorm(size)] if config.norm_first else \
                [nn.GroupNorm(size, size)] if i == 0 else []
            self.conv_layers.append(nn.Sequential(conv, nn.Identity(), *norm, nn.GELU()))

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        x = wav.unsqueeze(1)
        for layer in self.conv_layers:
            x = layer(x)
        return x


def buckets(frames: int, device: torch.device) -> torch.Tensor:
    """(T, T) bucket of each distance key - query: exact when near, logarithmic when far, as in T5
    (arXiv 1910.10683)."""
    place = torch.arange(frames, device=device)
    distance = place[None] - place[:, None]
    half = BUCKETS // 2
    exact = half // 2
    near = distance.abs()
    far = (near.clamp_min(1).float() / exact).log() / math.log(FARTHEST / exact) * (half - exact)
    far = (exact + far.long()).clamp_max(half - 1)
    return torch.where(near < exact, near, far) + (distance > 0) * half


class GatedAttention(nn.Module):
    """Self-attention; in WavLM each query opens or closes a gate on the bias of its position."""

    def __init__(self, config: SSLConfig, first: bool):
        super().__init__()
        dim, self.heads = config.dim, config.heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(dim, dim))
        self.relative_attention_bias = self.grep_linear = None
        if config.relative:
            self.grep_linear = nn.Linear(dim // self.heads, 8)
            self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))
            if first:  # one table serves all layers
                self.relative_attention_bias = nn.Embedding(BUCKETS, self.heads)

    def position_bias(self, frames: int) -> torch.Tensor:
        """(H, T, T)."""
        table = self.relative_attention_bias
        return table(buckets(frames, table.weight.device)).permute(2, 0, 1)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        gated = None
        if bias is not None:  # arXiv 2110.13900, section 3.2
            update, reset = self.grep_linear(split(x)).unflatten(-1, (2, 4)).sum(-1).sigmoid() \
                .split(1, -1)
            gated = (update * (reset * self.grep_a - 1.0) + 2.0) * bias
        out = F.scaled_dot_product_attention(
            split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x)), attn_mask=gated)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and feed-forward net, each with its residual."""

    def __init__(self, config: SSLConfig, first: bool):
        super().__init__()
        self.norm_first = config.norm_first
        self.self_attn = GatedAttention(config, first)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, config.dim)
        self.final_layer_norm = nn.LayerNorm(config.dim)

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self.norm_first:
            x = x + self.self_attn(self.self_attn_layer_norm(x), bias)
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.self_attn_layer_norm(x + self.self_attn(x, bias))
        return self.final_layer_norm(x + self.feed_forward(x))


class Encoder(nn.Module):
    """Convolutional positions and the layers."""

    def __init__(self, config: SSLConfig):
        super().__init__()
        kernel = config.position_kernel
        conv = nn.Conv1d(config.dim, config.dim, kernel, padding=kernel // 2,
                         groups=config.position_groups)
        self.pos_conv = nn.Sequential(weight_norm(conv, dim=2))
        self.layers = nn.ModuleList(Layer(config, i == 0) for i in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.dim)
        self.norm_first = config.norm_first

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, T, D) -> what enters each layer, and what leaves the last."""
        place = self.pos_conv(x.transpose(1, 2))[..., : x.shape[1]]  # an even kernel adds a frame
        x = x + F.gelu(place).transpose(1, 2)
        if not self.norm_first:
            x = self.layer_norm(x)
        attention = self.layers[0].self_attn
        bias = None if attention.relative_attention_bias is None else \
            attention.position_bias(x.shape[1])
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], bias))
        if self.norm_first:
            states[-1] = self.layer_norm(states[-1])
        return states


class SpeechEncoder(nn.Module):
    """Samples -> hidden states of every layer."""

    def __init__(self, config: SSLConfig):
        super().__init__()
        self.feature_extractor = Convolutions(config)
        self.layer_norm = nn.LayerNorm(config.channels)
        self.post_extract_proj = nn.Linear(config.channels, config.dim)
        self.mask_emb = nn.Parameter(torch.zeros(config.dim))  # of its training; not used
        self.encoder = Encoder(config)

    def forward(self, wav: torch.Tensor) -> list[torch.Tensor]:
        """(B, S) float samples at 16 kHz -> layers + 1 times (B, T, D)."""
        x = self.feature_extractor(wav).transpose(1, 2)
        return self.encoder(self.post_extract_proj(self.layer_norm(x)))
