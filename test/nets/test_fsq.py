import math

import pytest
import torch

from e2etts.nets.fsq import FSQ

LEVELS = [(2,), (3,), (8, 5, 5, 5), (4, 3, 2), (7, 5)]


@pytest.mark.parametrize("levels", LEVELS)
def test_index_code_and_table_agree(levels):
    fsq = FSQ(levels)
    index = torch.arange(fsq.codebook_size)
    table = fsq.table()
    assert fsq.codebook_size == math.prod(levels) and table.shape == (len(index), len(levels))
    assert torch.equal(fsq.to_code(index), table)
    assert table.unique(dim=0).shape[0] == len(index)
    assert (table.amin(0) == -1).all() and (table.amax(0) == 1).all()
    for d, count in enumerate(levels):  # evenly spaced
        values = table[:, d].unique()
        torch.testing.assert_close(values, torch.linspace(-1, 1, count))
    shape = index.view(1, -1)
    assert torch.equal(fsq.to_code(shape)[0], table)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("bound", ["tanh", "sigmoid"])
def test_forward_returns_codes_of_its_indices_on_the_grid(levels, bound):
    fsq = FSQ(levels, bound).eval()
    u = torch.cat([torch.randn(1, 400, len(levels)) * 3,
                   torch.tensor([-1e6, 1e6, 0.0]).view(1, 3, 1).expand(-1, -1, len(levels))], 1)
    out = fsq(u, torch.ones(1, 403, dtype=torch.bool))
    torch.testing.assert_close(out.code, fsq.to_code(out.index))
    assert out.index.min() >= 0 and out.index.max() < fsq.codebook_size
    assert out.bounded.abs().max() <= 1
    assert out.index[0, -3] == 0 and out.index[0, -2] == fsq.codebook_size - 1


def test_index_out_of_range_is_refused():
    fsq = FSQ((4, 3))
    for bad in (-1, 12):
        with pytest.raises(IndexError):
            fsq.to_code(torch.tensor([0, bad]))


def test_bad_settings_are_refused():
    for levels in ((), (1, 4)):
        with pytest.raises(ValueError, match="levels"):
            FSQ(levels)
    with pytest.raises(ValueError, match="bound"):
        FSQ((4,), "relu")


@pytest.mark.parametrize("bound", ["tanh", "sigmoid"])
def test_gradient_is_that_of_the_value_before_rounding(bound):
    levels = (8, 5, 2)
    fsq = FSQ(levels, bound).eval()
    u = torch.randn(1, 50, 3, requires_grad=True)
    weight = torch.randn(1, 50, 3)
    (fsq(u, torch.ones(1, 50, dtype=torch.bool)).code * weight).sum().backward()
    v = u.detach().clone().requires_grad_()
    count = torch.tensor(levels)
    inner = v / math.sqrt(1 + 1e-5)
    squashed = torch.tanh(inner) if bound == "tanh" else 2 * torch.sigmoid(1.6 * inner) - 1
    (squashed * 0.999 * count / (count - 1) * weight).sum().backward()
    torch.testing.assert_close(u.grad, v.grad)


def test_training_normalises_over_valid_tokens_only():
    fsq = FSQ((8, 5)).train()
    u = torch.randn(3, 20, 2) * torch.tensor([5.0, 0.1]) + torch.tensor([3.0, -40.0])
    mask = torch.arange(20) < torch.tensor([20, 7, 12])[:, None]
    out = fsq(u, mask)
    other = u.clone()
    other[~mask] = 1e4
    again = fsq(other, mask)
    assert torch.equal(out.index[mask], again.index[mask])
    z = torch.atanh(out.bounded[mask])
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(0, unbiased=False), torch.ones(2), atol=1e-2, rtol=0)


def test_running_statistics_are_kept_in_evaluation_and_used_there():
    fsq = FSQ((8, 5)).train()
    u = torch.randn(4, 200, 2) * 3 + 10
    mask = torch.ones(4, 200, dtype=torch.bool)
    for _ in range(1000):
        fsq(u, mask)
    torch.testing.assert_close(fsq.mean, u.mean((0, 1)), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(fsq.var, u.var((0, 1), unbiased=False), atol=1e-2, rtol=1e-2)
    fsq.eval()
    before = fsq.mean.clone(), fsq.var.clone()
    alone = torch.cat([fsq(row[None], mask[:1]).index for row in u])
    assert torch.equal(alone, fsq(u, mask).index)
    assert torch.equal(before[0], fsq.mean) and torch.equal(before[1], fsq.var)
    fsq.train()
    assert (fsq(u, mask).index == alone).float().mean() > 0.98


def test_normal_input_uses_the_codebook():
    fsq = FSQ((8, 5, 5)).train()
    index = fsq(torch.randn(8, 500, 3), torch.ones(8, 500, dtype=torch.bool)).index
    p = torch.bincount(index.flatten(), minlength=200) / index.numel()
    assert -(p * p.clamp_min(1e-12).log2()).sum() > 0.9 * math.log2(200)


def test_one_valid_token_is_no_nan():
    fsq = FSQ((4, 3)).train()
    u = torch.randn(1, 1, 2, requires_grad=True)
    out = fsq(u, torch.ones(1, 1, dtype=torch.bool))
    out.code.sum().backward()
    assert out.code.isfinite().all() and u.grad.isfinite().all() and fsq.var.isfinite().all()


def test_nan_stays_in_the_code_and_its_index_is_valid():
    fsq = FSQ((4, 3)).eval()
    u = torch.zeros(1, 3, 2)
    u[0, 1, 0] = torch.nan
    out = fsq(u, torch.ones(1, 3, dtype=torch.bool))
    assert out.code[0, 1].isnan().any() and out.code[0, [0, 2]].isfinite().all()
    assert ((out.index >= 0) & (out.index < fsq.codebook_size)).all()


@pytest.mark.parametrize("bound", ["tanh", "sigmoid"])
def test_soft_mean_weights_codes_by_distance(bound):
    """Against a softmax over the whole table, whose rows are in grid units."""
    levels, temperature = (4, 3, 2), 0.3
    fsq = FSQ(levels, bound).eval()
    u = torch.randn(2, 6, 3, requires_grad=True)
    values = torch.randn(2, 6, fsq.codebook_size)
    mask = torch.ones(2, 6, dtype=torch.bool)
    grads, means = [], []
    out = fsq(u, mask)
    digits = (out.bounded * 0.999 * torch.tensor(levels) + torch.tensor(levels) - 1) / 2
    codes = fsq.to_digits(torch.arange(fsq.codebook_size))
    away = (digits.unsqueeze(-2) - codes).square().sum(-1)
    for got in (fsq.soft_mean(values, out.bounded, temperature),
                ((-away / temperature).softmax(-1) * values).sum(-1)):
        means.append(got)
        grads.append(torch.autograd.grad(got.sum(), u, retain_graph=True)[0])
    torch.testing.assert_close(means[0], means[1])
    torch.testing.assert_close(grads[0], grads[1])
    assert grads[0].abs().min() > 0
    sharp = fsq.soft_mean(values, out.bounded, 1e-4)
    torch.testing.assert_close(sharp, values.gather(-1, out.index.unsqueeze(-1)).squeeze(-1),
                               atol=1e-2, rtol=0)
