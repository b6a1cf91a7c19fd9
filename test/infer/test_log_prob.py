from collections import Counter

import pytest
import torch
from every_rollout import every_rollout, one_text, smallest_system

from e2etts.infer.log_prob import log_probs
from e2etts.infer.sampling import Rollout, pick, roll_out
from e2etts.nets.lm import LMOutput
from e2etts.nets.packed import PackedLM
from e2etts.synthesis_config import SamplingConfig

PLAIN = {"top_p": 1.0, "top_k": 0, "repeat_window": 0}


def scored(system, given, made, config):
    """(R,) log-probability of roll-outs of one text."""
    rows = given.select(torch.zeros(len(made.lens), dtype=torch.long))
    q = system.tokenizer.embed(made.index)
    out = system.lm(rows, system.lm.reads(q, made.index), made.lens, made.position)
    return log_probs(out, made, rows.text_lens, config.with_limits(system))


@pytest.mark.parametrize(("text_input", "letters", "config"), [
    ("prefix", 2, {"min_ratio": 1.0, "max_ratio": 3.0}),
    ("prefix", 2, {"min_ratio": 0.5, "temperature": 0.6}),
    ("aligned", 2, {"min_ratio": 1.0, "max_tokens_per_text_token": 2}),
    ("aligned", 3, {"min_ratio": 2.0, "max_tokens_per_text_token": 2}),
    ("aligned", 2, {"min_ratio": 0.5, "max_ratio": 2.0, "temperature": 1.4})])
def test_the_probabilities_of_all_roll_outs_sum_to_one(text_input, letters, config):
    """With lengths, moves and ends that limits exclude and force."""
    system = smallest_system(text_input).eval()
    config = SamplingConfig(**PLAIN, **config).with_limits(system)
    made = every_rollout(letters, int(letters * config.min_ratio),
                         max(4, int(letters * config.max_ratio)),
                         None if text_input == "prefix" else config.max_tokens_per_text_token)
    p = scored(system, one_text(letters), made, config).joint().sum(1).exp()
    assert len(p) > 40 and abs(float(p.sum().detach()) - 1) < 1e-4
    assert float(p.detach().max()) < 0.9


@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
@pytest.mark.parametrize("packed", [False, True])
def test_roll_outs_are_as_frequent_as_their_probability_says(text_input, packed):
    """Those of decoding with everything on: nucleus, repetitions drawn again, limits."""
    config = SamplingConfig(temperature=0.8, top_p=0.9, top_k=2, repeat_window=3, repeat_share=0.6,
                            min_ratio=1.0, max_ratio=3.0, max_tokens_per_text_token=2)
    system, count = smallest_system(text_input, std=0.1).eval(), 20000
    torch.manual_seed(0)
    made = roll_out(system, one_text(), config, candidates=count,
                    packed=PackedLM(system.lm) if packed else None)
    log_p = scored(system, one_text(), made, config).joint().sum(1).detach()
    keys = []
    for row, size in enumerate(made.lens.tolist()):
        path = () if made.position is None else made.position[row, :size].tolist()
        keys.append((tuple(made.index[row, :size].tolist()), bool(made.ended[row]), tuple(path)))
    found = Counter(keys)
    p = dict(zip(keys, log_p.exp().tolist(), strict=True))
    assert len(p) >= 10 and sum(p.values()) == pytest.approx(1, abs=0.01)
    often = [key for key in p if count * p[key] > 20]
    chi = sum((found[key] - count * p[key]) ** 2 / (count * p[key]) for key in often)
    assert chi < len(often) + 4 * (2 * len(often)) ** 0.5


def next_choices(logits, history, config):
    """(V + 1,) log-probability of each code, and last the end, after the tokens ``history``."""
    codes, size = len(logits) - 1, len(history) + 1
    index = torch.tensor(history, dtype=torch.long).expand(codes + 1, -1)
    last = torch.arange(codes + 1).clamp_max(codes - 1)[:, None]
    ended = torch.arange(codes + 1) == codes
    made = Rollout(torch.cat([index, last], dim=1), size - ended.long(), ended, None)
    out = LMOutput(logits.expand(codes + 1, size + 1, -1), None)
    each = log_probs(out, made, torch.ones(codes + 1, dtype=torch.long), config)
    return each.joint()[:, size - 1], each


@pytest.mark.parametrize("history", [[0, 0, 0, 1], [0, 1, 0, 1, 1, 0], [2, 3], [0, 0, 0, 2, 2, 2],
                                     [4, 4, 4, 4, 4, 4, 4, 4, 1, 1, 1]])
@pytest.mark.parametrize("options", [
    {"top_p": 0.8}, {"top_p": 1.0, "top_k": 3}, {"top_p": 0.7, "top_k": 0, "temperature": 0.5},
    {"top_p": 0.3}])
def test_choices_are_those_of_pick(history, options):
    logits = torch.tensor([1.5, 1.0, 0.6, 0.1, -0.6, 0.4])
    config = SamplingConfig(min_ratio=0.0, **options)
    log_p, _ = next_choices(logits, history, config)
    window = torch.full((1, 10), -1)
    recent = history[-10:]
    window[0, : len(recent)] = torch.tensor(recent)
    count = 30000
    picks = torch.bincount(pick(logits.expand(count, -1), window.expand(count, -1), config,
                                torch.Generator().manual_seed(0)), minlength=6)
    drawn = picks > 0
    p = log_p.exp()[drawn]
    assert float(p.sum()) == pytest.approx(1, abs=2e-3)
    expected = count * p
    assert ((picks[drawn] - expected).square() / expected.clamp_min(5)).sum() < 25


def test_end_and_token_are_two_choices():
    """p(k) is that of going on times that of k, given that it goes on."""
    logits = torch.tensor([0.5, -0.2, 1.0])
    config = SamplingConfig(**PLAIN, min_ratio=0.0)
    joint, each = next_choices(logits, [], config)
    torch.testing.assert_close(joint, logits.log_softmax(-1))
    torch.testing.assert_close(each.token[:2, 0], logits[:2].log_softmax(-1))
    p_end = logits.softmax(-1)[2]
    torch.testing.assert_close(each.end[:, 0].exp(), torch.stack([1 - p_end, 1 - p_end, p_end]))
    assert each.token[2, 0] == 0 and each.advance is None
    torch.testing.assert_close(each.joint(tokens=False), each.end)


def test_what_is_certain_has_no_gradient_and_nothing_is_infinite():
    """Of an end that the limits exclude, of a nucleus of one, and of a token that only rounding
    keeps out of it."""
    logits = torch.tensor([9.0, 2.0, -3.0, 8.0], requires_grad=True)
    config = SamplingConfig(top_p=0.5, min_ratio=1.0, repeat_window=0)
    joint, each = next_choices(logits, [], config)
    assert joint[0] == 0 and each.end[0, 0] == 0  # a text of one token must not end yet
    joint[0].backward(retain_graph=True)
    assert not logits.grad.any()
    assert float(joint[1].detach()) == pytest.approx(-7.0, abs=0.01)
    joint[1].backward()
    assert logits.grad.isfinite().all() and logits.grad[1] > 0


def test_padding_changes_nothing():
    system, config = smallest_system("aligned").eval(), SamplingConfig(min_ratio=1.0)
    made = every_rollout(2, 2, 4, 20)
    got = scored(system, one_text(), made, config).joint()
    rows = (made.lens == 2).nonzero().squeeze(1)
    short = Rollout(made.index[rows, :2], made.lens[rows], made.ended[rows],
                    made.position[rows, :2])
    torch.testing.assert_close(scored(system, one_text(), short, config).joint(), got[rows, :3])
    noisy = made._replace(index=torch.where(torch.arange(4) < made.lens[:, None], made.index, 1))
    torch.testing.assert_close(scored(system, one_text(), noisy, config).joint(), got)
    assert not got[rows, 3:].any()
