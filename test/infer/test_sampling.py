from dataclasses import replace

import pytest
import torch
from tiny import SPEAKER_DIM, TEXT, make_system, wake

from e2etts.infer.sampling import TokenPrompt, advance, pick, roll_out, sample_tokens
from e2etts.nets.lm import LMCondition
from e2etts.nets.packed import PackedLM
from e2etts.synthesis_config import SamplingConfig

PLAIN = SamplingConfig(top_p=1.0, top_k=1000, repeat_share=2.0)
EMPTY = torch.full((1, 10), -1)


def picks(logits, config, history=EMPTY, n=4000):
    """Counts of n picks of the same row."""
    rows = pick(logits.expand(n, -1), history.expand(n, -1), config,
                torch.Generator().manual_seed(0))
    return torch.bincount(rows, minlength=len(logits))


def test_unbounded_picks_follow_softmax_at_a_temperature():
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5])
    for temperature in (1.0, 0.5, 3.0):
        p = (logits / temperature).softmax(-1)
        counts = picks(logits, replace(PLAIN, temperature=temperature), n=20000)
        assert ((counts - 20000 * p).square() / (20000 * p)).sum() < 16.3  # 3 degrees, 1 in 1000


def test_zero_temperature_takes_the_most_likely():
    assert picks(torch.tensor([0.0, 0.1, -0.1]), replace(PLAIN, temperature=0.0))[1] == 4000


def test_top_k():
    counts = picks(torch.tensor([0.0, 3.0, 1.0, 2.0, -1.0]), replace(PLAIN, top_k=3))
    assert (counts > 0).tolist() == [False, True, True, True, False]
    assert picks(torch.tensor([0.0, 0.5]), replace(PLAIN, top_k=1))[1] == 4000


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.85, 3),
                                             (0.99, 4)])
def test_top_p_keeps_the_fewest_that_reach_it(top_p, kept):
    p = torch.tensor([0.05, 0.5, 0.15, 0.3])
    counts = picks(p.log(), replace(PLAIN, top_p=top_p - 1e-4))
    order = p.argsort(descending=True)
    assert (counts[order] > 0).tolist() == [i < kept for i in range(4)]


def test_frequent_token_is_banned_at_the_share_and_not_before():
    logits = torch.tensor([5.0, 0.0, 0.0, 0.0])
    config = SamplingConfig(top_p=0.5, repeat_window=10, repeat_share=0.3)
    for count in (0, 1, 2, 3, 9):
        history = torch.full((1, 10), -1)
        history[0, 10 - count :] = 0
        counts = picks(logits, config, history)
        assert counts[0] == (4000 if count < 3 else 0), count
        if count >= 3:  # drawn again from the whole distribution, not from the nucleus
            assert (counts[1:] > 1000).all()
    old = torch.full((1, 14), -1)
    old[0, :4] = 0  # before the window
    assert picks(logits, config, old)[0] == 4000


def test_no_window_means_no_ban(system):
    logits = torch.tensor([5.0, 0.0])
    config = SamplingConfig(top_p=0.5, repeat_window=0)
    assert picks(logits, config, torch.zeros(1, 0, dtype=torch.long))[0] == 4000
    assert len(sample(system, config=config)) == 3


def test_ban_leaves_what_is_impossible_impossible():
    """All probability on the banned token, and the end token masked."""
    logits = torch.tensor([200.0, 1.0, 3.0, -torch.inf])
    config = SamplingConfig(repeat_share=0.1)
    counts = picks(logits, config, torch.zeros(1, 10, dtype=torch.long))
    assert counts[0] == 0 and counts[3] == 0 and counts[2] > counts[1] > 0


def test_rows_are_judged_each_by_its_own_history():
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0]])
    history = torch.tensor([[-1] * 10, [0] * 10])
    assert pick(logits, history, SamplingConfig(top_p=0.5)).tolist() == [0, 1]


def given(rows=3):
    g = torch.Generator().manual_seed(1)
    return LMCondition(
        torch.randint(0, TEXT, (rows, 6), generator=g), torch.tensor([4, 6, 2])[:rows],
        torch.tensor([0, 1, 0])[:rows], torch.randn(rows, SPEAKER_DIM, generator=g))


def sample(system, seed=0, given=given(), config=SamplingConfig(), **more):  # noqa: B008
    return sample_tokens(system, given, config, generator=torch.Generator().manual_seed(seed),
                         **more)


@pytest.fixture
def system():
    return wake(make_system(text_stride=1.5), std=0.05).eval()


def force_end(system, value):
    """Make the end token certain, or impossible."""
    head = system.lm.head
    head.register_forward_hook(lambda m, i, out: out.index_fill(
        -1, torch.tensor([system.lm.end]), value))


def test_tokens_are_codes_and_the_generator_decides(system):
    a, b, c = (sample(system, seed) for seed in (0, 0, 1))
    assert len(a) == 3
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert any(len(x) != len(y) or not torch.equal(x, y) for x, y in zip(a, c, strict=True))
    for row in a:
        assert row.dtype == torch.long and ((row >= 0) & (row < system.lm.end)).all()


def test_lengths_are_held_between_the_ratios(system):
    config = SamplingConfig(min_ratio=1.5, max_ratio=3.0)
    for value, want in ((1e4, [6, 9, 3]), (-1e4, [12, 18, 6])):
        forced = wake(make_system(), std=0.05).eval()
        force_end(forced, value)
        assert [len(t) for t in sample(forced, config=config)] == want
    # The text of a prompt is not counted.
    prompt = TokenPrompt(torch.tensor([1, 2]), None, text_tokens=1)
    assert [len(t) for t in sample(forced, config=config, prompt=prompt)] == [9, 15, 4]


def of_labels(system, labels: int):
    """The system with so many CTC labels a speech token."""
    rm = replace(system.config.rm, labels_per_token=labels)
    system.config = replace(system.config, rm=rm)
    return system


@pytest.mark.parametrize(("ratios", "labels", "want"), [
    (None, 2, (0.5, 4.0, 20)),  # a checkpoint of an earlier version
    ([1.02, 4.2], 2, (0.51, 8.4, 20)),  # phonemes, 25 tokens a second
    ([0.6, 1.8], 2, (0.5, 3.6, 20)),  # the CTC must be able to read the text
    ([3.6, 12.3], 1, (1.8, 24.6, 49)),  # subwords
    ([1.2, 12.3], 1, (1.0, 24.6, 49))])
def test_limits_follow_the_ratio_of_the_data(ratios, labels, want):
    system = of_labels(make_system(ratios=ratios), labels)
    assert SamplingConfig().limits(system) == pytest.approx(want)


def test_numbers_that_are_set_mean_what_they_say():
    system = of_labels(make_system(ratios=[3.6, 12.3]), 1)
    config = SamplingConfig(min_ratio=0.0, max_ratio=4.0, max_tokens_per_text_token=7)
    assert config.limits(system) == (0.0, 4.0, 7)
    assert SamplingConfig(max_ratio=4.0).limits(system) == pytest.approx((1.8, 4.0, 49))


def test_subwords_of_many_tokens_are_not_cut():
    """A system whose data have 7.4 speech tokens a text token generates as many."""
    made = {}
    for ratios in (None, [3.7, 12.0]):
        forced = wake(make_system(ratios=ratios), std=0.05).eval()
        force_end(forced, -1e4)
        rolled = roll_out(forced, given(), SamplingConfig())
        made[str(ratios)] = rolled.lens.tolist()
    assert made == {"None": [16, 24, 8], "[3.7, 12.0]": [96, 144, 48]}


def test_end_token_ends_its_row_and_is_cut(system):
    ends = torch.tensor([2, 5, 3])
    sizes = []

    def head(module, inputs, out):
        t = len(sizes)
        sizes.append(len(out))
        rows = torch.arange(3) if len(out) == 3 else torch.tensor([1])
        out = out.clone()
        out[:, system.lm.end] = torch.where(ends[rows] == t, 1e4, -1e4)
        return out
    system.lm.head.register_forward_hook(head)
    rows = sample(system, config=SamplingConfig(min_ratio=0.0, max_ratio=4.0))
    assert [len(r) for r in rows] == [2, 5, 3]
    # Rows that ended are left behind, and nothing is computed past the last end.
    assert sizes == [3, 3, 3, 3, 1, 1]
    assert all(((r >= 0) & (r < system.lm.end)).all() for r in rows)


def test_what_is_sampled_is_what_the_lm_reads(system):
    """Greedy sampling equals arg-max over teacher-forced logits of its own output."""
    config = replace(PLAIN, temperature=0.0, min_ratio=3.0, max_ratio=3.0)
    condition = given()
    before = torch.randint(0, system.lm.end, (4,))
    for prompt in (None, TokenPrompt(before, None, text_tokens=0)):
        rows = sample(system, config=config, prompt=prompt)
        first = before if prompt else before[:0]
        for b, row in enumerate(rows):
            q = system.tokenizer.embed(torch.cat([first, row]))[None]
            n = int(condition.text_lens[b])
            alone = condition.select(slice(b, b + 1))
            with torch.no_grad():
                logits = system.lm(alone._replace(text=alone.text[:, :n]), q,
                                   torch.tensor([q.shape[1]])).logits[0]
            logits[:, system.lm.end] = -torch.inf
            assert len(row) == 3 * n
            assert torch.equal(logits[len(first) : -1].argmax(-1), row)


@pytest.mark.parametrize("lm_input", ["q", "table"])
@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
def test_packed_lm_says_the_same_tokens(text_input, lm_input):
    system = wake(make_system(text_input=text_input, lm_input=lm_input), std=0.3).eval()
    config = replace(PLAIN, temperature=0.0, max_ratio=6.0)
    plain, packed = (sample(system, config=config, packed=p) for p in (None, PackedLM(system.lm)))
    assert len(set(torch.cat(plain).tolist())) > 3
    assert all(torch.equal(a, b) for a, b in zip(plain, packed, strict=True))


def test_candidates_of_one_text_lie_next_to_each_other(system):
    greedy = replace(PLAIN, temperature=0.0)
    one, many = sample(system, config=greedy), sample(system, config=greedy, candidates=3)
    assert len(many) == 9
    assert all(torch.equal(many[3 * b + k], one[b]) for b in range(3) for k in range(3))
    free = sample(system, candidates=4)
    assert len({tuple(r.tolist()) for r in free[:4]}) > 1


@pytest.mark.parametrize(("end", "lens", "ended"), [
    (1e4, [6, 18, 4], [True, False, True]), (-1e4, [12, 18, 6], [False, False, False])])
def test_roll_out_says_whether_a_row_ended_and_where_it_read(monkeypatch, end, lens, ended):
    moves = iter([0, 0, 1, 2, 0, 1, 1, *[0] * 20])
    monkeypatch.setattr("e2etts.infer.sampling.advance",
                        lambda logits, *_: torch.full((len(logits),), next(moves)))
    aligned = wake(make_system(text_input="aligned"), std=0.05).eval()
    force_end(aligned, end)
    made = roll_out(aligned, given(), SamplingConfig(max_ratio=3.0))
    assert made.lens.tolist() == lens and made.ended.tolist() == ended
    # Before the text, then at its tokens; only one that is at the last may end.
    assert made.position[1].tolist() == [-1, -1, -1, 0, 2, 2, 3, *[4] * 11]
    assert made.position[0, :6].tolist() == [-1, -1, -1, 0, 2, 2]


def test_very_short_text_still_gets_room(system):
    force_end(system, -1e4)
    short = given(1)
    short = short._replace(text=short.text[:, :1], text_lens=torch.tensor([1]))
    rows = sample_tokens(system, short, SamplingConfig(max_ratio=1.0))
    assert len(rows[0]) == 4


def test_repetition_rule_breaks_a_loop(system):
    """An LM that wants one token for ever must not get it more than its share."""
    def head(module, inputs, out):
        out = out.clone()
        out[:, 3] += 20
        out[:, system.lm.end] = -1e4
        return out
    system.lm.head.register_forward_hook(head)
    config = SamplingConfig(max_ratio=10.0, repeat_window=10, repeat_share=0.3)
    for row in sample(system, config=config):
        counts = (row == 3).float().unfold(0, 10, 1).sum(-1)
        assert counts.max() <= 3


def aligned(move: int):
    """A system that always moves its text position by ``move``, and would end at once."""
    system = wake(make_system(text_input="aligned"), std=0.05).eval()
    force_end(system, 1e4)
    logits = torch.full((5,), -1e4).index_fill(0, torch.tensor([move]), 1e4)
    system.lm.advance.register_forward_hook(lambda m, i, out: logits.expand_as(out))
    return system


def test_aligned_text_input_ends_when_all_is_read_and_not_before():
    config = SamplingConfig(min_ratio=0.0, max_ratio=4.0)
    # Texts of 4, 6 and 2 tokens, read from place -1 to the last.
    assert [len(t) for t in sample(aligned(1), config=config)] == [4, 6, 2]
    assert [len(t) for t in sample(aligned(2), config=config)] == [2, 3, 1]
    never = replace(config, max_tokens_per_text_token=100)
    assert [len(t) for t in sample(aligned(0), config=never)] == [16, 24, 8]


def test_aligned_text_input_stays_nowhere_for_too_long():
    """An LM that would neither go on nor end: three tokens at each place, that before the text
    and the last among them."""
    stuck = aligned(0)
    force_end(stuck, -1e4)
    config = SamplingConfig(min_ratio=0.0, max_ratio=40.0, max_tokens_per_text_token=3)
    assert [len(t) for t in sample(stuck, config=config)] == [3 * (1 + n) for n in (4, 6, 2)]
    late = replace(config, min_ratio=8.0)  # the least length holds all the same
    assert [len(t) for t in sample(stuck, config=late)] == [32, 48, 16]


def test_aligned_text_input_continues_from_the_position_of_the_prompt():
    config = SamplingConfig(min_ratio=0.0, max_ratio=4.0)
    for position, want in (([0, 1], [2, 4, 0]), ([-1, 0], [3, 5, 1])):
        prompt = TokenPrompt(torch.zeros(2, dtype=torch.long), torch.tensor(position), 0)
        assert [len(t) for t in sample(aligned(1), config=config, prompt=prompt)] == want


def test_advance_follows_softmax_at_a_temperature():
    logits = torch.tensor([1.0, 0.0, -1.0])
    rows = advance(logits.expand(20000, -1), replace(PLAIN, temperature=0.5),
                   torch.Generator().manual_seed(0))
    p = (logits / 0.5).softmax(-1)
    counts = torch.bincount(rows, minlength=3)
    assert ((counts - 20000 * p).square() / (20000 * p)).sum() < 13.8  # 2 degrees, 1 in 1000
