import pytest
import torch

from e2etts.nets.bridge import BridgeConfig, bridge, gumbel_noise, restrict


def onehot_formula(logits, codebook, config, seed):
    """(onehot + s - sg(s)) C with the same noise, written out."""
    torch.manual_seed(seed)
    score = logits.log_softmax(-1)
    if config.noise:
        score = score + gumbel_noise(score)
    soft = (score / config.temperature).softmax(-1)
    hard = torch.nn.functional.one_hot(score.argmax(-1), logits.shape[-1]).to(soft)
    return (hard + soft - soft.detach()) @ codebook


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hard_forward_gives_rows_of_the_table_exactly(dtype):
    logits, codebook = torch.randn(3, 7, 20), (torch.randn(20, 4) * 10).to(dtype)
    q = bridge(logits, codebook, BridgeConfig())
    assert q.shape == (3, 7, 4) and q.dtype == dtype
    assert (q.unsqueeze(2) == codebook).all(-1).any(-1).all()


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_gradients_are_those_of_the_straight_through_formula(noise, temperature):
    config = BridgeConfig(noise=noise, temperature=temperature)
    weight = torch.randn(4)
    grads = []
    for function in (bridge, lambda *a: onehot_formula(*a, seed=5)):
        torch.manual_seed(1)
        logits = torch.randn(6, 20, requires_grad=True)
        codebook = torch.randn(20, 4, requires_grad=True)
        torch.manual_seed(5)
        (function(logits, codebook, config) * weight).sum().backward()
        grads.append((logits.grad, codebook.grad))
    torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-4)
    assert grads[0][0].abs().sum() > 0


def test_hard_gradient_is_the_soft_gradient():
    grads = []
    for hard in (True, False):
        torch.manual_seed(1)
        logits, codebook = torch.randn(6, 20, requires_grad=True), torch.randn(20, 4)
        bridge(logits, codebook, BridgeConfig(hard=hard)).sum().backward()
        grads.append(logits.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_gumbel_frequencies_are_those_of_softmax():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, -3.0])
    n, p = 20000, logits.softmax(-1)
    for temperature in (0.3, 2.0):  # how soft the sample is does not change which code is picked
        q = bridge(logits.expand(n, -1), torch.eye(6), BridgeConfig(temperature=temperature))
        chi2 = ((q.sum(0) - n * p).square() / (n * p)).sum()
        assert chi2 < 20.5, chi2  # 5 degrees of freedom: one in a thousand is above


def test_no_noise_takes_the_most_likely_code():
    logits = torch.randn(5, 9)
    q = bridge(logits, torch.eye(9), BridgeConfig(noise=False))
    assert torch.equal(q.argmax(-1), logits.argmax(-1))


def test_cold_mixture_is_a_code_and_hot_mixture_is_their_mean():
    logits, codebook = torch.randn(5, 9), torch.randn(9, 3)
    cold = bridge(logits, codebook, BridgeConfig(hard=False, noise=False, temperature=1e-4))
    torch.testing.assert_close(cold, codebook[logits.argmax(-1)], atol=1e-4, rtol=0)
    hot = bridge(logits, codebook, BridgeConfig(hard=False, noise=False, temperature=1e4))
    torch.testing.assert_close(hot, codebook.mean(0).expand(5, -1), atol=1e-2, rtol=0)


def test_samples_are_finite_with_extreme_logits():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], requires_grad=True)
    q = bridge(logits.expand(5000, 2, 3), torch.eye(3), BridgeConfig(temperature=0.1))
    q.sum().backward()
    assert q.isfinite().all() and logits.grad.isfinite().all()


P = torch.tensor([0.1, 0.4, 0.3, 0.15, 0.05])


@pytest.mark.parametrize(("changes", "kept"), [
    ({"top_p": 0.35}, [1]), ({"top_p": 0.5}, [1, 2]), ({"top_p": 0.75}, [1, 2, 3]),
    ({"top_k": 2}, [1, 2]), ({"top_k": 9}, [0, 1, 2, 3, 4]), ({"top_k": 3, "top_p": 0.5}, [1, 2]),
    ({"sampling_temperature": 0.5, "top_p": 0.5}, [1]), ({}, [0, 1, 2, 3, 4])])
def test_what_is_sampled_can_be_restricted_as_in_decoding(changes, kept):
    config = BridgeConfig(**changes)
    assert config.restricted == bool(changes)
    logits = (P.log() + 3.0).requires_grad_()
    p = restrict(logits, config).softmax(-1)
    want = torch.zeros(5)
    want[kept] = P[kept] ** (1 / config.sampling_temperature)
    torch.testing.assert_close(p, want / want.sum())
    torch.manual_seed(0)
    q = bridge(logits.expand(4000, -1), torch.eye(5), config)
    torch.testing.assert_close(q.detach().mean(0), p.detach(), atol=0.04, rtol=0)
    (q * torch.randn(5)).sum().backward()
    left_out = sorted(set(range(5)) - set(kept))
    assert logits.grad.isfinite().all() and not logits.grad[left_out].any()
    assert len(kept) == 1 or logits.grad[kept].abs().min() > 0


def test_annealing_goes_geometrically_and_changes_the_gradient_alone():
    config = BridgeConfig(temperature=1.0, final_temperature=0.25)
    assert [config.temperature_at(x) for x in (0, 0.5, 1, 1.2)] == [1.0, 0.5, 0.25, 0.25]
    assert BridgeConfig(temperature=0.7).temperature_at(0.9) == 0.7
    made = []
    for progress, like in ((0.5, BridgeConfig(temperature=0.5)), (0.0, BridgeConfig())):
        for c in (config, like):
            torch.manual_seed(3)
            logits = torch.randn(6, 20, requires_grad=True)
            q = bridge(logits, torch.randn(20, 4), c, progress)
            q.square().sum().backward()
            made.append((q.detach(), logits.grad))
    torch.testing.assert_close(made[0], made[1])
    torch.testing.assert_close(made[2], made[3])
    assert torch.equal(made[0][0], made[2][0]) and not torch.allclose(made[0][1], made[2][1])


def test_noise_given_what_it_picked_is_the_noise_that_picks_it():
    """Sampling first and drawing the noise to it is, jointly, drawing the noise and looking."""
    n = 40000
    torch.manual_seed(0)
    log_p = P.log().expand(n, -1)
    picked = torch.multinomial(P, n, replacement=True)
    after, before = gumbel_noise(log_p, picked), gumbel_noise(log_p)
    assert torch.equal((log_p + after).argmax(-1), picked)

    def moments(noise):
        s = ((log_p + noise) / 0.7).softmax(-1)
        chosen = (log_p + noise).argmax(-1)
        return torch.stack([noise.mean(0), noise.var(0), s.mean(0), s.square().mean(0),
                            torch.stack([s[chosen == k].amax(-1).mean() for k in range(5)])])
    torch.testing.assert_close(moments(after), moments(before), atol=0.05, rtol=0)


@pytest.mark.parametrize("noise", [True, False])
def test_samples_made_elsewhere_are_read_as_they_are(noise):
    logits, codebook = torch.randn(3, 7, 20, requires_grad=True), torch.randn(20, 4)
    logits.data[0, 0, 5] = -200.0
    picked = torch.randint(0, 20, (3, 7))
    picked[0, 0] = 5
    q = bridge(logits, codebook, BridgeConfig(noise=noise), picked=picked)
    assert torch.equal(q, codebook[picked])
    (q * torch.randn(4)).sum().backward()
    assert logits.grad.isfinite().all() and (logits.grad[1:].abs().sum(-1) > 0).all()


def test_bad_settings_are_refused():
    for name in ("temperature", "final_temperature", "sampling_temperature", "top_p"):
        with pytest.raises(ValueError, match=name):
            BridgeConfig(**{name: 0.0})
