import pytest
import torch

from e2etts.nets.bridge import BridgeConfig, bridge


def onehot_formula(logits, codebook, config, seed):
    """(onehot + s - sg(s)) C with the same noise, written out."""
    torch.manual_seed(seed)
    score = logits.log_softmax(-1)
    if config.noise:
        score = score - torch.empty_like(score).exponential_().log()
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
