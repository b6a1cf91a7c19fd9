"""Fast single-token LM decoding: weights are fused and packed once, and tables are computed before
the first step. It computes the same function as ``LM.step``.

Legend: B rows in lockstep, D model size, H heads, G key/value heads, K head size, N steps.
"""

import torch
import torch.nn.functional as F

from e2etts.nets.lm import LM, Decoding, LMOutput
from e2etts.nets.transformer import Block, RMSNorm, rotary_tables

# Up to this batch size, FBGEMM with float16 weights is faster on CPU than bfloat16.
FEW_ROWS = 32


class PackedLinear:
    """x W^T + b for small batches, float32 input and output. On CPU the weights are stored in half
    precision, since decoding is memory-bound: a third to a fifth of the time of float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        self.weight = weight.detach().clone()
        self.bias = None if bias is None else bias.detach().clone()
        self.packed = None
        if weight.device.type == "cpu":
            if "fbgemm" in torch.backends.quantized.supported_engines:
                self.packed = torch.ops.quantized.linear_prepack_fp16(
                    self.weight.float(), None if bias is None else self.bias.float())
            self.weight = self.weight.bfloat16()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(B, I) -> (B, O)."""
        if self.packed is not None and len(x) <= FEW_ROWS:
            return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        y = F.linear(x.to(self.weight.dtype), self.weight).float()
        return y if self.bias is None else y + self.bias


class _Norm:
    """RMSNorm with its weight folded into the next linear layer: x / sqrt(|x|^2 + D eps), in three
    operations; rms_norm uses six on CPU."""

    def __init__(self, dim: int, eps: float, device: torch.device):
        self.floor = torch.tensor((dim * eps) ** 0.5, device=device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.floor)


def _scale(norm: RMSNorm) -> torch.Tensor:
    """The factor that ``_Norm`` omits: weight times sqrt(D)."""
    return norm.weight.detach() * len(norm.weight) ** 0.5


class _PackedBlock:
    """One pre-norm block of a causal transformer (``transformer.Block``)."""

    def __init__(self, block: Block, norm: _Norm, eps: float):
        attn, mlp = block.self_attn, block.mlp
        self.norm, self.heads, self.kv_heads = norm, attn.heads, attn.kv_heads
        joined = torch.cat([attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight])
        self.qkv = PackedLinear(joined * _scale(block.input_layernorm))
        self.out = PackedLinear(attn.o_proj.weight)
        joined = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        self.gate_up = PackedLinear(joined * _scale(block.post_attention_layernorm))
        self.down = PackedLinear(mlp.down_proj.weight)
        self.qk_norm = None
        if isinstance(attn.q_norm, RMSNorm):
            self.qk_norm = _Norm(attn.head_dim, eps, joined.device)
            self.qk_scale = torch.cat([_scale(attn.q_norm).expand(attn.heads, -1),
                                       _scale(attn.k_norm).expand(attn.kv_heads, -1)]).unsqueeze(1)

    def __call__(self, x, cos, sin, mask, cache, layer):
        """x: (B, D) -> (B, D); cos, sin: (B or 1, 1, 1, K); mask: (B, 1, 1, S) to add, or None."""
        rows, g = len(x), self.kv_heads
        qkv = self.qkv(self.norm(x)).view(rows, self.heads + 2 * g, 1, -1)
        qk, v = qkv.split((self.heads + g, g), dim=1)
        if self.qk_norm is not None:
            qk = self.qk_norm(qk) * self.qk_scale
        q, k = torch.addcmul(qk * cos, qk.roll(qk.shape[-1] // 2, -1), sin).split(
            (self.heads, g), dim=1)
        k, v = cache.append(layer, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=self.heads != g)
        x = x + self.out(y.view(rows, -1))
        gate, up = self.gate_up(self.norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class _Tables:
    """Precomputed tables of one decoding: RoPE by step, and the padding mask."""

    def __init__(self, state: Decoding, head_dim: int, base: float):
        cache = state.cache
        self.start = cache.length
        steps = torch.arange(cache.capacity - cache.length, device=state.positions.device)
        positions = state.positions
        if bool((positions == positions[:1]).all()):
            positions = positions[:1]
        cos, sin = rotary_tables(positions + steps, head_dim, base)
        sin = torch.cat([-sin[..., : head_dim // 2], sin[..., head_dim // 2 :]], dim=-1)
        self.cos, self.sin = (x.permute(2, 0, 1, 3).unsqueeze(3) for x in (cos, sin))
        self.mask = None
        if bool(state.first.any()):
            seen = torch.arange(cache.capacity, device=steps.device) >= state.first[:, None]
            self.mask = torch.zeros(seen.shape, device=steps.device).masked_fill(
                ~seen, -torch.inf)[:, None, None]

    def at(self, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """cos, sin (B or 1, 1, 1, K) and mask (B, 1, 1, length + 1) after ``length`` positions."""
        step = length - self.start
        mask = None if self.mask is None else self.mask[..., : length + 1]
        return self.cos[step], self.sin[step], mask


class PackedLM:
    """Single-token decoding step of an LM. It copies the weights: create it after training."""

    def __init__(self, lm: LM):
        config = lm.config.trunk
        self.lm, self.head_dim, self.base = lm, config.head_dim, config.rope_base
        self.norm = _Norm(config.dim, config.norm_eps, lm.speech_start.device)
        with torch.no_grad():
            self.blocks = [_PackedBlock(b, self.norm, config.norm_eps) for b in lm.trunk.layers]
            self.speech = PackedLinear(lm.speech.weight, lm.speech.bias)
            head, bias = lm.head.joined(), None
            self.classes = len(head)
            if lm.aligned:
                head = torch.cat([head, lm.advance.weight])
                bias = F.pad(lm.advance.bias, (self.classes, 0))
            self.head = PackedLinear(head * _scale(lm.trunk.norm), bias)

    def step(
        self, state: Decoding, q: torch.Tensor, text_position: torch.Tensor | None = None
    ) -> LMOutput:
        """As ``LM.step``."""
        if state.tables is None:
            state.tables = _Tables(state, self.head_dim, self.base)
        cache = state.cache
        x = self.speech(q)
        if text_position is not None:
            x = x + state.encoded[torch.arange(len(q), device=q.device), text_position + 1]
            state.text_position = text_position
        cos, sin, mask = state.tables.at(cache.length)
        for layer, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask, cache, layer)
        cache.length += 1
        state.positions = state.positions + 1
        x = self.head(self.norm(x))
        state.out = LMOutput(x[:, : self.classes],
                             x[:, self.classes :] if self.lm.aligned else None)
        return state.out
