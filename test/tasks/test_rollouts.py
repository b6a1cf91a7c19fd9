import pytest
import torch
from tiny import make_batch, make_system, wake

from e2etts.infer.sampling import Rollout
from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks.grpo import GRPOOptions, GRPOTask
from e2etts.tasks.rollouts import RewardConfig, RolloutOptions, longest_repeat, roll_outs

SHORT = SamplingConfig(min_ratio=1.0, max_tokens_per_text_token=2)


def make(**options):
    """A task, for the tokens of a batch, and options of roll-outs that end."""
    system = wake(make_system(text_input="aligned"), std=0.1).eval()
    system.train_only(["lm"])
    task = GRPOTask(system, GRPOOptions(), {"policy"}).eval()
    return system, task.recordings(make_batch()), RolloutOptions(
        **{"sampling": SHORT, "packed": False, **options})


def test_roll_outs_of_a_text_are_side_by_side_and_keep_its_condition():
    system, recorded, options = make()
    torch.manual_seed(0)
    made = roll_outs(system, recorded, options, 3, filtered=True)
    assert made.rewards.shape == (3, 3) and bool(made.kept.all())
    of_text = torch.arange(3).repeat_interleave(3)
    for name in ("text", "text_lens", "language", "speaker"):
        assert torch.equal(getattr(made.history.given, name),
                           getattr(recorded.given, name)[of_text])
    assert torch.equal(made.history.speaker, recorded.speaker[of_text])
    assert made.metrics["rollouts_kept"] == 1 and bool(made.history.ended.all())
    want = made.history.lens.sum() / (3 * recorded.lens.sum())
    torch.testing.assert_close(made.metrics["rollout_length_ratio"], want)


def test_a_share_of_the_texts_drawn_anew():
    system, recorded, options = make(rollout_rows=0.6)
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        made = roll_outs(system, recorded, options, 2, filtered=False)
        assert made.rewards.shape == (2, 2)
        lens = made.history.given.text_lens.tolist()
        assert lens[0] == lens[1] != lens[2] == lens[3]
        seen.add(tuple(sorted(lens[::2])))
    assert len(seen) == 3
    torch.manual_seed(7)
    again = roll_outs(system, recorded, options, 2, filtered=False)
    assert torch.equal(again.history.index, made.history.index)
    options = make(rollout_rows=0.01)[2]
    assert roll_outs(system, recorded, options, 2, filtered=False).rewards.shape == (1, 2)


def test_packed_decoding_is_of_the_same_lm():
    """Greedily, since chance would enlarge what half precision rounds."""
    greedy = {"sampling": SamplingConfig(temperature=0.0, min_ratio=1.0,
                                         max_tokens_per_text_token=2)}
    system, recorded, options = make(**greedy)
    a, b = (roll_outs(system, recorded, make(**greedy, packed=packed)[2], 1, filtered=False)
            for packed in (False, True))
    assert (a.history.index == b.history.index).float().mean() > 0.9
    with torch.autocast("cpu", dtype=torch.bfloat16):
        c = roll_outs(system, recorded, make(**greedy, packed=True)[2], 1, filtered=False)
    assert torch.equal(b.history.index, c.history.index)  # it brings its own precision


def test_reward_is_minus_the_weighted_losses_of_a_row():
    weights = {"ctc": 0.5, "attention": 0.25, "speaker": 2.0}
    system, recorded, options = make(reward=RewardConfig(**weights))
    made = roll_outs(system, recorded, options, 2, filtered=False)
    h = made.history
    for row in range(6):
        size, letters = int(h.lens[row]), int(h.given.text_lens[row])
        want = system.rm.losses(h.q[row : row + 1, :size], h.lens[row : row + 1],
                                h.given.text[row : row + 1, :letters],
                                h.given.text_lens[row : row + 1], h.speaker[row : row + 1],
                                h.emotion[row : row + 1])
        total = sum(w * want[name] for name, w in weights.items())
        torch.testing.assert_close(made.rewards.flatten()[row], -total)
    torch.testing.assert_close(made.metrics["reward"], made.rewards.mean())
    torch.testing.assert_close(made.metrics["reward_spread"], made.rewards.std(1).mean())


def test_what_is_discarded_is_worth_less_than_the_rest_of_its_group(monkeypatch):
    """A row that does not end and one that repeats; one that the text cannot fit into is kept for
    other losses, and has no reward."""
    system, recorded, options = make(longest_repeat=4, reward=RewardConfig(failure=2.0))
    index = torch.arange(12).repeat(6, 1)
    index[1] = 7
    lens = torch.tensor([12, 12, 5, 12, 2, 12])
    ended = torch.tensor([True, True, True, False, True, True])
    monkeypatch.setattr("e2etts.tasks.rollouts.roll_out",
                        lambda *a, **k: Rollout(index, lens, ended, torch.zeros_like(index)))
    made = roll_outs(system, recorded, options, 2, filtered=True)
    assert made.kept.tolist() == [True, False, True, False, True, True]
    assert made.history.lens.tolist() == lens.tolist()
    assert made.metrics["rollouts_kept"] == pytest.approx(4 / 6)
    for row in (0, 1):
        assert float(made.rewards[row, 0] - made.rewards[row, 1]) == pytest.approx(2.0, abs=1e-5)
    torch.testing.assert_close(made.metrics["reward"],
                               made.rewards.flatten()[made.kept].mean())
    torch.testing.assert_close(made.metrics["reward_spread"], made.rewards[2].std())
    lens[2] = 2  # the second text has 6 letters, for which 2 tokens of 2 labels are too few
    made = roll_outs(system, recorded, options, 2, filtered=True)
    assert made.kept[2] and made.rewards[1].tolist() == [-torch.inf] * 2
    whole = roll_outs(system, recorded, options, 2, filtered=False)
    assert bool(whole.kept.all()) and whole.rewards[0, 1].isfinite()
    ended[:] = False
    made = roll_outs(system, recorded, options, 2, filtered=True)
    assert not made.kept.any() and not made.rewards.isfinite().any()
    assert set(made.metrics) == {"rollouts_kept", "rollout_length_ratio"}


def test_longest_repeat_by_hand():
    index = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 1, 1, 1, 2, 3, 3, 4, 5],
                          [1, 2, 3, 1, 2, 3, 1, 2, 9], [7, 7, 7, 7, 7, 7, 7, 7, 7]])
    assert longest_repeat(index, torch.tensor([9, 9, 9, 4])).tolist() == [0, 3, 5, 3]
    assert longest_repeat(index[:, :1], torch.ones(4, dtype=torch.long)).tolist() == [0] * 4


@pytest.mark.parametrize(("make_options", "message"), [
    (lambda: RewardConfig(ctc=0.0), "one more than 0"),
    (lambda: RewardConfig(speaker=-1.0), "must not be negative"),
    (lambda: RewardConfig(failure=0.0), "reward.failure must be more than 0"),
    (lambda: RolloutOptions(group=0), "group must be at least 1"),
    (lambda: RolloutOptions(rollout_rows=0.0), "rollout_rows must be more than 0"),
    (lambda: RolloutOptions(rollout_rows=1.5), "rollout_rows must be .* at most 1")])
def test_senseless_numbers_are_refused(make_options, message):
    with pytest.raises(ValueError, match=message):
        make_options()
