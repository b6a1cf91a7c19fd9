from dataclasses import replace

import pytest
import torch
from test_lm import DIGITS, TEXT_INPUTS, V, condition, make, ragged
from tiny import LANGUAGES, SPEAKER_DIM, TEXT, Q, trunk, wake

from e2etts.nets.lm import LM, LMConfig
from e2etts.nets.packed import FEW_ROWS, PackedLinear, PackedLM

# Weights of 11 bits (float16) or, for many rows, 8 (bfloat16).
CLOSE = {"few": 2e-3, "many": 3e-2}


def start(lm, tokens=6, rows=3):
    batch = ragged(rows)
    return lm.start(condition(batch), tokens)


def decode(step, state, aligned, tokens=5):
    """Logits and advances (tokens, B, ...) of steps fed with a fixed row of embeddings."""
    g, out = torch.Generator().manual_seed(1), []
    for t in range(tokens):
        position = torch.tensor([0, 0, 0]) if aligned else None
        step_out = step(state, torch.randn(len(state.positions), Q, generator=g), position)
        out.append(torch.cat([x for x in step_out if x is not None], dim=-1))
        assert state.out is step_out and state.cache.length == state.cache.capacity - 6 + t + 1
    return torch.stack(out)


@torch.no_grad()
def apart(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("rows", ["few", "many"])
@pytest.mark.parametrize("text_input", TEXT_INPUTS)
@torch.no_grad()
def test_packed_steps_match_plain_steps(text_input, rows, monkeypatch):
    if rows == "many":
        monkeypatch.setattr("e2etts.nets.packed.FEW_ROWS", 0)
    lm = make(text_input)
    plain = decode(lm.step, start(lm), lm.aligned)
    packed = decode(PackedLM(lm).step, start(lm), lm.aligned)
    assert apart(packed, plain) < CLOSE[rows]


@pytest.mark.parametrize("sizes", [dict(kv_heads=1), dict(qk_norm=False), dict(norm_eps=0.1)])
@torch.no_grad()
def test_every_kind_of_attention_is_packed(sizes):
    torch.manual_seed(0)
    lm = wake(LM(LMConfig(trunk=replace(trunk(), **sizes)), text_vocab=TEXT, languages=LANGUAGES,
                 codes=V, digits=DIGITS, q_dim=Q, speaker_dim=SPEAKER_DIM, advances=1)).eval()
    plain = decode(lm.step, start(lm), False)
    assert apart(decode(PackedLM(lm).step, start(lm), False), plain) < CLOSE["few"]


@torch.no_grad()
def test_selected_rows_continue_unchanged():
    lm = make("prefix")
    state, chosen = start(lm), torch.tensor([2, 0])
    packed = PackedLM(lm)
    packed.step(state, torch.ones(3, Q))
    state.select(chosen)
    with_three = start(lm)
    packed.step(with_three, torch.ones(3, Q))
    torch.testing.assert_close(packed.step(state, torch.ones(2, Q)).logits,
                               packed.step(with_three, torch.ones(3, Q)).logits[chosen],
                               rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_packed_weights_are_a_copy():
    lm = make("prefix")
    packed = PackedLM(lm)
    before = packed.step(start(lm), torch.ones(3, Q)).logits
    state = start(lm)
    for p in lm.trunk.parameters():
        p.add_(1.0)
    torch.testing.assert_close(packed.step(state, torch.ones(3, Q)).logits, before)


@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_linear(rows, bias):
    torch.manual_seed(0)
    linear = torch.nn.Linear(24, 40, bias=bias)
    x = torch.randn(rows, 24)
    close = CLOSE["few"] if rows <= FEW_ROWS else CLOSE["many"]
    assert apart(PackedLinear(linear.weight, linear.bias)(x), linear(x)) < close
