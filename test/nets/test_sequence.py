import torch

from e2etts.nets.sequence import cut, join, length_mask, masked_mean, pad_in_front


def test_join_concatenates_valid_parts():
    left, right = torch.randn(3, 4, 2), torch.randn(3, 5, 2)
    a, c = [4, 1, 0], [2, 5, 3]
    out = join(left, torch.tensor(a), right, torch.tensor(c))
    assert out.shape == (3, 6, 2)
    for b in range(3):
        want = torch.cat([left[b, : a[b]], right[b, : c[b]]])
        assert torch.equal(out[b, : a[b] + c[b]], want)


def test_join_passes_gradient_to_valid_parts_only():
    left, right = (torch.randn(2, 3, 2, requires_grad=True) for _ in range(2))
    a, c = torch.tensor([2, 3]), torch.tensor([3, 1])
    out = join(left, a, right, c)
    out[length_mask(a + c, out.shape[1])].sum().backward()
    assert torch.equal(left.grad[..., 0], length_mask(a, 3).float())
    assert torch.equal(right.grad[..., 0], length_mask(c, 3).float())


def test_cut():
    x = torch.arange(10.0).view(1, 5, 2).expand(3, -1, -1)
    out = cut(x, torch.tensor([0, 2, 4]), 3)
    assert torch.equal(out[..., 0], torch.tensor([[0.0, 2, 4], [4, 6, 8], [8, 8, 8]]))


def test_right_padding_becomes_left_padding():
    x = torch.arange(10.0).view(1, 5, 2).expand(3, -1, -1)
    out, first, source = pad_in_front(x, torch.tensor([5, 3, 1]))
    assert torch.equal(out[..., 0], torch.tensor([[0.0, 2, 4, 6, 8], [0, 0, 0, 2, 4], [0.0] * 5]))
    assert first.tolist() == [0, 2, 4]
    assert torch.equal(out, x.gather(1, source.unsqueeze(-1).expand_as(x)))


def test_masked_mean():
    x = torch.tensor([[1.0, 2.0, 100.0], [3.0, 100.0, 100.0]])
    mask = length_mask(torch.tensor([2, 1]), 3)
    assert masked_mean(x, mask) == 2
    assert masked_mean(torch.stack([x, x + 2], dim=-1), mask) == 3
    assert masked_mean(x, mask & False) == 0
