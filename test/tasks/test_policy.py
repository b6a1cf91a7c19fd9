"""Rewards of roll-outs: advantages, pairs, and the score function against the exact gradient."""

import pytest
import torch
from every_rollout import every_rollout, smallest_system
from tiny import make_batch

from e2etts.nets.lm import LMOutput
from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks.grpo import GRPOOptions, GRPOTask
from e2etts.tasks.policy import advantages, divergence, pairs, reward_loss, score_function
from e2etts.tasks.rollouts import Rollouts
from e2etts.tasks.second_order import PolicyConfig, SecondOrderOptions, SecondOrderTask

NONE = -torch.inf


def rolled(rewards):
    rewards = torch.tensor(rewards)
    return Rollouts(None, rewards.flatten().isfinite(), rewards, {})


def test_advantages_by_hand():
    got = advantages(rolled([[1.0, 2.0, 6.0], [NONE, 3.0, 5.0], [NONE, 4.0, NONE]]), std=False)
    torch.testing.assert_close(got, torch.tensor([-3.0, -1.5, 4.5, 0, -2, 2, 0, 0, 0]))
    got = advantages(rolled([[1.0, 2.0, 6.0], [2.0, 2.0, 2.0]]), std=True)
    std = torch.tensor([1.0, 2.0, 6.0]).std()
    torch.testing.assert_close(got, torch.cat([torch.tensor([-3.0, -1.5, 4.5]) / std,
                                               torch.zeros(3)]), atol=1e-3, rtol=1e-3)


def test_pairs_are_best_and_worst_of_a_group():
    best, worst = pairs(rolled([[1.0, NONE, 6.0], [NONE, NONE, 3.0], [5.0, 5.0, 5.0],
                                [7.0, 8.0, NONE], [NONE, NONE, NONE]]))
    assert best.tolist() == [2, 10] and worst.tolist() == [0, 9]


def test_the_ratio_is_bounded_where_it_brings_more():
    before = torch.zeros(2, 3)
    log_p = torch.tensor([[0.5, -0.5, 0.0]] * 2, requires_grad=True)
    gain = score_function(log_p, torch.tensor([2.0, -2.0]), before, clip=0.2)
    want = [[2.4, 2 * 0.60653, 2.0], [-2 * 1.64872, -1.6, -2.0]]
    torch.testing.assert_close(gain.detach(), torch.tensor(want), atol=1e-4, rtol=1e-4)
    gain.sum().backward()
    assert (log_p.grad != 0).tolist() == [[False, True, True], [True, False, True]]


def test_the_loss_is_the_reward_and_its_gradient_that_of_the_gain():
    log_p = torch.zeros(2, 3, requires_grad=True)
    of = rolled([[1.0, 3.0]])
    loss = reward_loss(of, score_function(log_p, advantages(of, False)).sum(1))
    assert float(loss.detach()) == -2.0
    loss.backward()
    torch.testing.assert_close(log_p.grad, torch.tensor([[1.0] * 3, [-1.0] * 3]))


def test_divergence_by_hand_with_and_without_moves():
    g = torch.Generator().manual_seed(0)
    lens = torch.tensor([3, 1])
    out, ref = (LMOutput(*(torch.randn(2, 4, n, generator=g) for n in (5, 3))) for _ in range(2))

    def kl(a, b):
        p, q = a.softmax(-1), b.softmax(-1)
        return (p * (p / q).log()).sum(-1)
    tokens, moves = (kl(a, b) for a, b in zip(out, ref, strict=True))
    total = tokens[0].sum() + tokens[1, :2].sum()
    torch.testing.assert_close(divergence(out, ref, lens), total / 6)
    total = total + moves[0, :3].sum() + moves[1, 0]
    torch.testing.assert_close(divergence(out, ref, lens, moves=True), total / 6)


# The score function against the exact gradient

LETTERS, STAY = 2, 2
SAMPLING = {"aligned": SamplingConfig(top_p=1.0, top_k=0, repeat_window=0, min_ratio=1.0,
                                      temperature=1.3, max_tokens_per_text_token=STAY),
            "prefix": SamplingConfig(top_p=1.0, top_k=0, repeat_window=0, min_ratio=1.0,
                                     max_ratio=2.0)}


def one_text_batch():
    batch = make_batch(frames=(8,), letters=(LETTERS,))
    batch.text[:] = torch.tensor([1, 2])
    return batch


def lm_gradient(system, loss):
    system.zero_grad(set_to_none=True)
    loss.backward()
    return torch.cat([p.grad.flatten() if p.grad is not None else torch.zeros(p.numel())
                      for p in system.lm.parameters()])


def exact_gradient(task, batch, tokens, text_input):
    """Of the expected reward of a roll-out, by the sum over all of them; without ``tokens`` of that
    part which goes through ends and advances."""
    system, sampling = task.system, task.options.sampling
    longest = 4 if text_input == "prefix" else 8
    made = every_rollout(LETTERS, LETTERS, longest, STAY if text_input == "aligned" else None)
    if text_input == "aligned":
        made = type(made)(*(x[made.ended] for x in made))
    rows = torch.zeros(len(made.lens), dtype=torch.long)
    history = task.recordings(batch).select(rows)._replace(
        q=system.tokenizer.embed(made.index), index=made.index, lens=made.lens,
        position=made.position, ended=made.ended)
    given = history.given
    reward = -system.rm.row_losses(history.q, history.lens, given.text, given.text_lens,
                                   history.speaker, history.emotion)["ctc"]
    choices = history.log_probs(history.predicted_by(system.lm), sampling.with_limits(system))
    p = choices.joint().sum(1).exp().detach()
    assert float(p.sum()) == pytest.approx(1, abs=1e-4)
    mean = (p * reward).sum()
    return lm_gradient(system, -(p * (reward - mean) * choices.joint(tokens).sum(1)).sum()), mean


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("text_input", ["aligned", "prefix"])
def test_the_policy_term_has_the_gradient_of_the_expected_reward(text_input, tokens):
    """Over all roll-outs there can be, against groups that are drawn. Where a roll-out may be cut
    before its end, in evaluation, which keeps these."""
    system = smallest_system(text_input)
    system.train_only(["lm"])
    losses = {"policy", "ce"} | ({"advance"} if text_input == "aligned" else set())
    options = SecondOrderOptions(group=4000, policy=PolicyConfig(tokens=tokens),
                                 sampling=SAMPLING[text_input])
    task = SecondOrderTask(system, options, losses).train(text_input == "aligned")
    batch = one_text_batch()
    want, mean = exact_gradient(task, batch, tokens, text_input)
    got, rewards = torch.zeros_like(want), []
    for seed in range(5):
        torch.manual_seed(seed)
        out = task(batch)
        assert out.metrics["rollouts_kept"] == 1
        got += lm_gradient(system, out.terms["policy"]) / 5
        rewards.append(-float(out.terms["policy"].detach()))
    assert sum(rewards) / 5 == pytest.approx(float(mean), abs=0.02)
    error = float((got - want).norm() / want.norm())
    assert error < 0.05, error


def test_groups_of_two_are_unbiased_too():
    """Exactly: the mean over all pairs of roll-outs, each as likely as it is."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, generator=g, dtype=torch.float64, requires_grad=True)
    reward = torch.randn(5, generator=g, dtype=torch.float64)
    log_p = logits.log_softmax(-1)
    (want,) = torch.autograd.grad((log_p.exp() * reward).sum(), logits, retain_graph=True)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            two = torch.tensor([i, j])
            of = Rollouts(None, torch.ones(2, dtype=torch.bool), reward[two][None], {})
            loss = reward_loss(of, score_function(log_p[two, None], advantages(of, False)).sum(1))
            total = total + (log_p[i] + log_p[j]).exp().detach() * loss
    (got,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(got, -want)


@pytest.mark.parametrize("text_input", ["aligned", "prefix"])
def test_grpo_with_one_update_is_reinforce_with_the_baseline_of_its_group(text_input):
    """The gradient of the second order's policy term for all choices, on the same roll-outs."""
    system = smallest_system(text_input)
    system.train_only(["lm"])
    kept = {"ce", "advance"} if text_input == "aligned" else {"ce"}
    common = {"group": 6, "sampling": SAMPLING[text_input], "packed": False}
    second = SecondOrderTask(system, SecondOrderOptions(
        **common, history="free-running", policy=PolicyConfig(tokens=True)),
        {"policy", *kept}).train()
    grpo = GRPOTask(system, GRPOOptions(**common, std=False, per_token=False),
                    {"policy", *kept}).train()
    grads = []
    for task in (second, grpo):
        torch.manual_seed(0)
        out = task(one_text_batch())
        grads.append(lm_gradient(system, out.terms["policy"]))
    torch.testing.assert_close(*grads)
    assert grads[0].abs().max() > 1e-4
