"""What the reward model teaches the LM through its samples: the right direction, and to improve."""

import pytest
import torch
from tiny import make_batch, make_system, wake

from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks.second_order import SecondOrderOptions, SecondOrderTask


def taught(text_input="prefix"):
    """A system whose RM has learnt that a token says the first digit of its code, with noise on q:
    a reward that has seen nothing between the codes has an arbitrary gradient there."""
    system = make_system(decoder_layers=0, text_input=text_input)
    table, lens = system.tokenizer.codebook().detach(), torch.full((16,), 8)
    optimiser = torch.optim.AdamW(system.rm.parameters(), lr=1e-2)
    for _ in range(40):
        index = torch.randint(0, len(table), (16, 8))
        q = table[index] + 0.6 * torch.randn(16, 8, table.shape[1])
        loss = system.rm.ctc_loss(system.rm.encode(q, lens), lens, index % 4, lens).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.8
    system.train_only(["lm"])
    return system


def test_gradient_agrees_with_the_score_function():
    """The straight-through gradient of the expected reward in the LM's logits, against REINFORCE
    with the mean reward as baseline: 8,000 token rows of the LM a text, scored one by one."""
    system, seen, count = taught(), {}, 8000
    batch = make_batch(frames=(16,) * 4, letters=(8,) * 4)
    batch.text[:] = torch.tensor([[0, 3, 0, 3, 0, 3, 0, 3], [2, 0, 3, 1, 2, 0, 3, 1],
                                  [3, 1, 0, 2, 0, 3, 1, 3], [1, 2, 1, 3, 0, 2, 0, 2]])
    wake(system.lm, std=0.1)
    task = SecondOrderTask(system, SecondOrderOptions(samples=128), {"ctc"}).train()
    system.lm.head.register_forward_hook(
        lambda m, i, out: out.retain_grad() or seen.update(logits=out))
    torch.manual_seed(0)
    task(batch).terms["ctc"].backward()
    through = -seen["logits"].grad[:, :-1, : system.lm.end]
    p = seen["logits"].detach()[:, :-1, : system.lm.end].softmax(-1)
    score, lens = torch.zeros_like(p), torch.full((count,), 8)
    for row, text in enumerate(batch.text):
        index = torch.multinomial(p[row], count, replacement=True)
        with torch.no_grad():
            q = system.tokenizer.codebook()[index.T]
            reward = -system.rm.ctc_loss(system.rm.encode(q, lens), lens, text.expand(count, -1),
                                         lens)
        # d log p(k) / d logits = onehot(k) - p, and the rewards less their mean sum to 0.
        gain = (reward - reward.mean()).expand(8, -1)
        score[row].scatter_add_(1, index, gain / count)

    def cosine(a, b):
        return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))
    assert cosine(through, score) > 0.6
    # The measure can tell: what is true of a token is not true of the one before.
    assert cosine(through.roll(1, 1), score) < 0.3


@pytest.mark.parametrize(("history", "text_input"), [
    ("teacher-forced", "prefix"), ("teacher-forced", "aligned"), ("free-running", "aligned")])
def test_ten_steps_raise_the_reward_of_fresh_samples(history, text_input):
    """The LM, taught by the RM alone through hard samples, says more of its text than before."""
    batch = make_batch(frames=(16, 16), letters=(8, 8))
    batch.text[0], batch.text[1] = 1, 2
    options = SecondOrderOptions(
        samples=16, history=history,
        sampling=SamplingConfig(top_p=1.0, top_k=100, repeat_window=0, max_tokens_per_text_token=2,
                                min_ratio=1.0))
    losses = {"ctc", "ce", "advance"} if text_input == "aligned" else {"ctc"}
    task = SecondOrderTask(taught(text_input), options, losses).train()

    @torch.no_grad()
    def reward_loss():
        torch.manual_seed(99)  # the noise of these samples is never seen in training
        return float(task(batch).terms["ctc"])
    before = reward_loss()
    optimiser = torch.optim.AdamW(task.parameters_of("main"), lr=2e-2)
    for step in range(10):
        torch.manual_seed(step)
        optimiser.zero_grad()
        task(batch).terms["ctc"].backward()
        optimiser.step()
    after = reward_loss()
    assert after < 0.5 * before, (before, after)
