import math

import pytest
import torch
import torch.nn.functional as F
from tiny import trunk, unreached, wake

from e2etts.nets.transformer import KVCache, RMSNorm, Transformer, TransformerConfig, attend


def make(causal=True, condition_dim=None, **changes):
    torch.manual_seed(0)
    return wake(Transformer(trunk(**changes), causal=causal, condition_dim=condition_dim)).eval()


def test_parameter_names_match_qwen3():
    names = {n for n, _ in make(layers=1).named_parameters()}
    assert names == {"norm.weight"} | {f"layers.0.{n}.weight" for n in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "self_attn.q_norm", "self_attn.k_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        "input_layernorm", "post_attention_layernorm")}


def qwen3_by_hand(net, x):
    """One sequence (T, D), written out head by head and position by position."""
    c, w = net.config, dict(net.named_parameters())

    def norm(v, weight):
        return v / torch.sqrt((v * v).mean(-1, keepdim=True) + c.norm_eps) * weight

    def rope(v, position):
        half = c.head_dim // 2
        out = v.clone()
        for i in range(half):
            angle = position / c.rope_base ** (2 * i / c.head_dim)
            a, b = v[i], v[i + half]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + half] = b * math.cos(angle) + a * math.sin(angle)
        return out

    kv, k_size = c.kv_heads or c.heads, c.head_dim
    for layer in range(c.layers):
        p = {n.split(f"layers.{layer}.")[1]: v for n, v in w.items() if f"layers.{layer}." in n}
        h = norm(x, p["input_layernorm.weight"])
        q, k, v = ((h @ p[f"self_attn.{n}_proj.weight"].T).view(len(x), -1, k_size) for n in "qkv")
        heads = []
        for head in range(c.heads):
            g = head // (c.heads // kv)
            rows = []
            for t in range(len(x)):
                query = rope(norm(q[t, head], p["self_attn.q_norm.weight"]), t)
                keys = [rope(norm(k[s, g], p["self_attn.k_norm.weight"]), s) for s in range(t + 1)]
                score = torch.stack([query @ key for key in keys]) / k_size**0.5
                rows.append(score.softmax(0) @ v[: t + 1, g])
            heads.append(torch.stack(rows))
        x = x + torch.cat(heads, dim=-1) @ p["self_attn.o_proj.weight"].T
        h = norm(x, p["post_attention_layernorm.weight"])
        gate = h @ p["mlp.gate_proj.weight"].T
        hidden = gate * torch.sigmoid(gate) * (h @ p["mlp.up_proj.weight"].T)
        x = x + hidden @ p["mlp.down_proj.weight"].T
    return norm(x, w["norm.weight"])


@pytest.mark.parametrize("kv_heads", [1, 2, None])
def test_computation_matches_qwen3(kv_heads):
    net = make(heads=4, kv_heads=kv_heads, rope_base=1e6)
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        want = torch.stack([qwen3_by_hand(net, row) for row in x])
        torch.testing.assert_close(net(x), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("condition_dim", [None, 5])
def test_padding_changes_nothing(causal, condition_dim):
    net = make(causal, condition_dim)
    lens = [7, 3, 5]
    x = torch.randn(3, 7, 16) * 3
    condition = torch.randn(3, 5) if condition_dim else None
    batched = net(x, lens=torch.tensor(lens), condition=condition)
    assert batched.shape == x.shape and batched.isfinite().all()
    for b, n in enumerate(lens):
        alone = net(x[b : b + 1, :n], condition=None if condition is None else condition[b : b + 1])
        torch.testing.assert_close(batched[b, :n], alone[0], atol=1e-5, rtol=1e-5)


def test_only_a_causal_stack_ignores_later_positions():
    x = torch.randn(1, 8, 16)
    other = x.clone()
    other[:, 5:] += 1
    for causal in (True, False):
        net = make(causal)
        same = torch.allclose(net(x)[:, :5], net(other)[:, :5], atol=1e-6)
        assert same == causal


@pytest.mark.parametrize("chunks", [(1,) * 9, (4, 1, 1, 1, 1, 1), (4, 3, 2), (1, 8)])
def test_cached_steps_match_one_pass(chunks):
    net = make(heads=4, kv_heads=2)
    x = torch.randn(2, 9, 16)
    cache = KVCache(9)
    parts = [net(part, cache=cache) for part in x.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), net(x), atol=1e-5, rtol=1e-5)
    assert cache.length == 9
    with pytest.raises(ValueError, match="full"):
        net(x[:, :1], cache=cache)


def test_left_padding_changes_nothing():
    net = make()
    lens, size = [6, 2, 4], 6
    x = torch.randn(3, size, 16)
    first = torch.tensor([size - n for n in lens])
    positions = (torch.arange(size) - first[:, None]).clamp_min(0)
    cache = KVCache(size + 2)
    out = net(x, positions=positions, cache=cache, first=first)
    more = torch.randn(3, 2, 16)
    for step in range(2):
        at = torch.tensor(lens)[:, None] + step
        later = net(more[:, step : step + 1], positions=at, cache=cache, first=first)
        for b, n in enumerate(lens):
            whole = net(torch.cat([x[b : b + 1, size - n :], more[b : b + 1]], dim=1))
            torch.testing.assert_close(out[b, size - n :], whole[0, :n], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(later[b, 0], whole[0, n + step], atol=1e-5, rtol=1e-5)


def test_rotary_positions_may_be_fractional_and_are_relative():
    net = make(causal=False)
    x = torch.randn(1, 4, 16)
    at = torch.tensor([[0.0, 1.5, 3.0, 4.5]])
    torch.testing.assert_close(net(x, positions=at), net(x, positions=at + 7.25),
                               atol=1e-4, rtol=1e-4)
    assert not torch.allclose(net(x, positions=at), net(x), atol=1e-3)


def test_condition_has_no_effect_at_first_but_learns():
    torch.manual_seed(0)
    net = Transformer(trunk(), causal=False, condition_dim=5)
    x = torch.randn(2, 4, 16)
    torch.testing.assert_close(net(x, condition=torch.randn(2, 5)), net.norm(x))
    wake(net)
    net(x, condition=torch.randn(2, 5)).square().sum().backward()
    assert not unreached(net)


def test_gradient_reaches_every_parameter():
    net = make()
    (net(torch.randn(2, 5, 16)) * torch.randn(16)).sum().backward()
    assert not unreached(net)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="kv_heads"):
        TransformerConfig(heads=4, kv_heads=3)
    with pytest.raises(ValueError, match="even"):
        TransformerConfig(head_dim=7)


def test_bf16_autocast_stays_near_float32():
    net, x = make(), torch.randn(2, 6, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
    assert (out.float() - net(x)).abs().mean() < 0.05


@pytest.mark.parametrize(("t", "s", "kind"), [
    (5, 5, "causal"), (401, 401, "causal"), (5, 5, "mask"), (1, 6, "mask"), (401, 401, "mask"),
    (1, 6, "free")])
def test_explicit_attention_matches_the_kernel(t, s, kind):
    q, k, v = (torch.randn(2, 2, n, 8, requires_grad=True) for n in (t, s, s))
    mask = None
    if kind == "mask":
        mask = (torch.arange(s) < torch.tensor([s, s // 2])[:, None])[:, None, None]
    grads = []
    for function in (attend, lambda q, k, v, mask, causal: F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal)):
        out = function(q, k, v, mask, kind == "causal")
        grads.append((out, *torch.autograd.grad((out * out.detach().cos()).sum(), (q, k, v))))
    torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_qwen3_weights_give_qwen3_logits(kv_heads):
    """A random small Qwen3 of the transformers library, loaded by parameter name."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    peer = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        vocab_size=23, hidden_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=kv_heads, head_dim=10, intermediate_size=40,
        tie_word_embeddings=False)).eval()
    rope = getattr(peer.config, "rope_parameters", None) or {}
    net = Transformer(TransformerConfig(
        dim=24, layers=3, heads=2, kv_heads=kv_heads, head_dim=10, hidden_dim=40,
        rope_base=rope.get("rope_theta") or peer.config.rope_theta,
        norm_eps=peer.config.rms_norm_eps), causal=True)
    stored = {k.removeprefix("model."): v for k, v in peer.state_dict().items()}
    head, table = stored.pop("lm_head.weight"), stored.pop("embed_tokens.weight")
    net.load_state_dict(stored)
    ids = torch.randint(0, 23, (2, 17))
    with torch.no_grad():
        torch.testing.assert_close(net(table[ids]) @ head.T, peer(ids).logits, atol=1e-4,
                                   rtol=1e-4)


@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(3, 5, 16), (2, 3, 2, 8)])
def test_rms_norm_and_its_gradient_match_torch(shape, dtype, close):
    g = torch.Generator().manual_seed(0)
    norm = RMSNorm(shape[-1], eps=1e-2)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(shape[-1], generator=g) + 0.5)
    x, grad = (torch.randn(shape, generator=g).to(dtype) for _ in range(2))
    found = []
    for run in (norm, lambda x: F.rms_norm(x.float(), shape[-1:], norm.weight, 1e-2).to(dtype)):
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        assert y.dtype == dtype
        found.append((y, *torch.autograd.grad(y, (leaf, norm.weight), grad)))
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).detach().abs().max() / theirs.detach().abs().max()) < close
