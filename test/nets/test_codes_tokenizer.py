"""Tokens from files: the embedding table of the kind ``codes``."""

import pytest
import torch
from tiny import BANDS, LEVELS, Q, make_batch, make_system

from e2etts.config import build
from e2etts.errors import UserError
from e2etts.nets.system import SystemConfig
from e2etts.nets.tokenizer import digits_of
from e2etts.nets.tokenizers.codes import CodesTokenizer, Config

V = 36


def make(levels=LEVELS) -> CodesTokenizer:
    torch.manual_seed(0)
    config = Config(kind="codes", codebook_size=V, levels=levels, q_dim=Q)
    return config.build(mel_bands=BANDS, frames_per_token=2)


def test_tokens_are_the_codes_of_the_batch():
    net, codes = make(), torch.randint(0, V, (3, 10))
    out = net.known(codes, torch.tensor([10, 3, 7]))
    assert out.q.shape == (3, 10, Q) and out.lens.tolist() == [10, 3, 7] and out.bounded is None
    for b, n in enumerate(out.lens.tolist()):
        assert torch.equal(out.index[b, :n], codes[b, :n])
        assert torch.equal(out.q[b, :n], net.codebook()[codes[b, :n]])
        assert torch.equal(out.q[b, :n], net.embed(codes[b, :n]))
    assert net.codebook().shape == (V, Q) and net.codebook_size == V
    assert net.reads_codes and not net.has_soft_targets and net.health(out) == {}


def test_padding_may_be_no_code_and_changes_nothing():
    net, codes, lens = make(), torch.randint(0, V, (2, 6)), torch.tensor([6, 2])
    garbage = codes.clone()
    garbage[1, 2:] = torch.tensor([-7, V, 10 ** 9, 3])
    plain, other = net.known(codes, lens), net.known(garbage, lens)
    assert torch.equal(plain.q, other.q) and torch.equal(plain.index, other.index)
    alone = net.known(codes[1:, :2], lens[1:])
    assert torch.equal(alone.q[0], plain.q[1, :2])


def test_gradient_reaches_the_rows_of_the_codes_that_occur():
    net, codes = make(), torch.tensor([[3, 3, 8], [5, 11, 30]])
    out = net.known(codes, torch.tensor([3, 2]))
    sum(out.q[b, :n].square().sum() for b, n in enumerate(out.lens)).backward()
    used = net.table.weight.grad.abs().sum(1) > 0
    assert used.nonzero().flatten().tolist() == [3, 5, 8, 11]


def test_codes_are_needed_and_stay_inside_of_the_codebook():
    net = make()
    with pytest.raises(ValueError, match="come from files, and this batch has none"):
        net(torch.randn(1, 4, BANDS), torch.tensor([4]))
    for wrong in (-1, V):
        with pytest.raises(IndexError):
            net.embed(torch.tensor([[0, wrong]]))
        with pytest.raises(IndexError):
            net.known(torch.tensor([[0, wrong]]), torch.tensor([2]))
    assert net.embed(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, Q)


def test_digits_are_those_of_the_levels_the_first_fastest():
    digits = make().digits()
    assert digits.shape == (V, len(LEVELS)) and digits[1].tolist() == [1, 0, 0]
    assert torch.equal(digits, digits_of(torch.arange(V), LEVELS))
    weights = torch.tensor([1, LEVELS[0], LEVELS[0] * LEVELS[1]])
    assert torch.equal((digits * weights).sum(1), torch.arange(V))
    assert make(levels=None).digits() is None


@pytest.mark.parametrize(("section", "message"), [
    ({"codebook_size": 36, "levels": [4, 3]}, "make 12 codes, codebook_size is 36"),
    ({"codebook_size": 1}, "codebook_size must be at least 2"),
    ({"codebook_size": 36, "ark": "sub/codes"}, "without a folder"),
    ({"codebook_size": 36, "ark": ""}, "without a folder"),
    ({}, "model.tokenizer.codebook_size': Field required"),
    ({"codebook_size": 36, "bound": "tanh"}, "unknown configuration key 'model.tokenizer.bound'"),
    ({"codebook_size": 36, "kind": "code"}, "no kind 'code'; kinds: fsq, codes")])
def test_configurations_that_do_not_fit_are_refused(section, message):
    with pytest.raises(UserError) as e:
        build(SystemConfig, {"tokenizer": {"kind": "codes", **section}}, "model")
    assert message in str(e.value)


def test_a_system_has_it_as_its_tokenizer():
    system, batch = make_system(kind="codes"), make_batch(codes=True)
    tokens = system.encode(None, batch.mel_lens, batch.codes)
    for b, n in enumerate(tokens.lens.tolist()):
        assert n == batch.mel_lens[b] // 2 and torch.equal(tokens.index[b, :n], batch.codes[b, :n])
