from collections import Counter
from itertools import islice

import numpy as np
import pytest

from e2etts.data.sampler import BatchSampler, Plan, speaker_repeats
from e2etts.errors import UserError
from e2etts.seeds import mix

BUDGET = 2000


def make_plan(count=400, seed=0, **changes) -> Plan:
    random = np.random.default_rng(seed)
    frames = random.integers(20, 400, count).tolist()
    return Plan(**{"utts": [f"u{i}" for i in range(count)], "frames": frames,
                   "groups": [f"s{i % 3}" for i in range(count)], "repeats": [1.0] * count,
                   "budget_frames": BUDGET, "round_to": 2, **changes})


JOINED = {"concat_probability": 0.7, "concat_max_frames": 600}


def used(batches) -> Counter:
    return Counter(u for batch in batches for row in batch for u in row.utts)


def size(sampler, batch) -> int:
    return len(batch) * max(sampler.row_frames(row.utts) for row in batch)


@pytest.mark.parametrize("changes", [{}, JOINED])
def test_every_utterance_once_within_budget_with_little_padding(changes):
    sampler = BatchSampler(make_plan(**changes), seed=1)
    for epoch in range(3):
        batches = sampler.epoch(epoch)
        assert used(batches) == Counter(range(400))
        assert all(0 < size(sampler, b) <= BUDGET for b in batches)
        padded = sum(size(sampler, b) for b in batches)
        valid = sum(sampler.row_frames(r.utts) for b in batches for r in b)
        assert 1 - valid / padded < 0.06
        assert valid > 0.8 * BUDGET * len(batches)


def test_same_seed_same_order_and_each_epoch_its_own():
    a, b = (BatchSampler(make_plan(**JOINED), seed=1) for _ in range(2))
    assert [a.epoch(e) for e in (2, 0)] == [b.epoch(e) for e in (2, 0)]
    assert a.epoch(0) != a.epoch(1)
    assert a.epoch(0) != BatchSampler(make_plan(**JOINED), seed=2).epoch(0)
    seeds = [row.seed for e in range(2) for batch in a.epoch(e) for row in batch]
    assert len(set(seeds)) == len(seeds)


def test_goes_on_from_any_cursor():
    sampler = BatchSampler(make_plan(60), seed=1)
    per_epoch = len(sampler.epoch(0))
    whole = list(islice(sampler.batches_from(0, 0), 3 * per_epoch))
    cursors = list(islice(sampler.cursors_from(0, 0), 3 * per_epoch))
    for used_up in (1, per_epoch - 1, per_epoch, per_epoch + 2):
        rest = islice(sampler.batches_from(*cursors[used_up - 1]), 3 * per_epoch - used_up)
        assert list(rest) == whole[used_up:]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_batches_equally(ranks):
    plan = make_plan()
    shares = [BatchSampler(plan, seed=1, rank=r, ranks=ranks).epoch(0) for r in range(ranks)]
    assert len({len(s) for s in shares}) == 1
    together = used([b for s in shares for b in s])
    assert set(together) == set(range(400))
    whole = len(BatchSampler(plan, seed=1).epoch(0))
    assert sum(map(len, shares)) == whole + -whole % ranks


def test_joined_utterances_are_of_one_group_and_within_the_limit():
    plan = make_plan(**JOINED)
    sampler = BatchSampler(plan, seed=1)
    rows = [row.utts for batch in sampler.epoch(0) for row in batch]
    joined = [r for r in rows if len(r) > 1]
    assert len(joined) > 50
    assert all(len({plan.groups[u] for u in r}) == 1 for r in joined)
    assert all(sampler.row_frames(r) <= 600 for r in joined)
    assert all(len(set(r)) == len(r) for r in rows)


def test_weights_say_how_often_an_epoch():
    repeats = [3.0] * 100 + [0.25] * 100 + [1.0] * 100 + [0.0] * 100
    sampler = BatchSampler(make_plan(repeats=repeats, **JOINED), seed=1)
    counts = sum((used(sampler.epoch(e)) for e in range(8)), Counter())
    assert all(counts[i] == 24 for i in range(100))
    assert 140 < sum(counts[i] for i in range(100, 200)) < 260  # 8 * 25 on average
    assert all(counts[i] == 8 for i in range(200, 300))
    assert all(i not in counts for i in range(300, 400))
    rows = [row.utts for e in range(8) for batch in sampler.epoch(e) for row in batch]
    assert all(len(set(r)) == len(r) for r in rows)


CURRICULUM = {"curriculum_frames": 60, "curriculum_epochs": 0.5}


def longest_rows(sampler, batches):
    return [max(sampler.row_frames(row.utts) for row in batch) for batch in batches]


@pytest.mark.parametrize("changes", [{}, JOINED])
def test_a_curriculum_begins_with_short_rows_and_loses_none(changes):
    plain, sampler = (BatchSampler(make_plan(**changes, **c), seed=1) for c in ({}, CURRICULUM))
    batches = sampler.epoch(0)
    assert used(batches) == Counter(range(400))
    together = [sorted(sorted(row.utts) for row in batch) for batch in batches]
    assert sorted(together) == sorted(
        [sorted(sorted(row.utts) for row in batch) for batch in plain.epoch(0)])
    rows = longest_rows(sampler, batches)
    left = sorted(rows)
    for place, longest in enumerate(rows):
        limit = 60 * (sampler.longest / 60) ** min(1, place / len(rows) / 0.5)
        assert longest <= max(limit, left[0]) + 1e-6  # the shortest where none is short enough
        left.remove(longest)
    assert rows != sorted(rows)
    assert np.mean(rows[: len(rows) // 4]) < 0.65 * np.mean(longest_rows(plain, plain.epoch(0)))
    assert sampler.epoch(1) == plain.epoch(1)


def test_passes_that_end_within_the_curriculum_leave_out_what_is_too_long():
    plan = make_plan(**JOINED, curriculum_frames=60, curriculum_epochs=3.0)
    sampler = BatchSampler(plan, seed=1)
    for epoch, share in ((0, 1 / 3), (1, 2 / 3), (2, 1)):
        limit = 60 * (600 / 60) ** share
        batches = sampler.epoch(epoch)
        assert used(batches) == Counter(i for i, n in enumerate(plan.frames) if n <= limit)
        assert max(longest_rows(sampler, batches)) <= limit + 1
    assert sampler.epoch(3) == BatchSampler(make_plan(**JOINED), seed=1).epoch(3)


@pytest.mark.parametrize("epochs", [0.5, 1.5])
def test_a_curriculum_goes_on_from_any_cursor_and_is_shared_by_ranks(epochs):
    plan = make_plan(**JOINED, curriculum_frames=60, curriculum_epochs=epochs)
    sampler = BatchSampler(plan, seed=1)
    total = sum(len(sampler.epoch(e)) for e in range(3))
    whole = list(islice(sampler.batches_from(0, 0), total))
    cursors = list(islice(sampler.cursors_from(0, 0), total))
    for used_up in (1, 7, len(sampler.epoch(0)), total - 3):
        again = BatchSampler(plan, seed=1)  # of a process that resumes
        rest = islice(again.batches_from(*cursors[used_up - 1]), total - used_up)
        assert list(rest) == whole[used_up:]
    shares = [BatchSampler(plan, seed=1, rank=r, ranks=2).epoch(0) for r in range(2)]
    assert len(shares[0]) == len(shares[1])
    assert [b for pair in zip(*shares, strict=True) for b in pair][: len(sampler.epoch(0))] \
        == sampler.epoch(0)


def test_a_curriculum_from_less_than_the_shortest_begins_with_it():
    sampler = BatchSampler(make_plan(40, curriculum_frames=1, curriculum_epochs=4.0), seed=1)
    assert set(used(sampler.epoch(0))) < set(range(40)) and used(sampler.epoch(0))


def test_patterns_of_speakers():
    speakers = ["asterisk-en", "flite-slt", "asterisk-fr", "espeak-en"]
    weights = {"asterisk-*": 3.0, "flite-*": 0.5}
    assert speaker_repeats(speakers, weights) == [3.0, 0.5, 3.0, 1.0]
    with pytest.raises(UserError, match="'asterix-.*' fits no speaker.*asterisk-en"):
        speaker_repeats(speakers, {"asterix-*": 2.0})
    with pytest.raises(UserError, match="negative"):
        speaker_repeats(speakers, {"flite-*": -1.0})


def test_utterances_over_the_budget_are_named():
    frames = [100] * 10 + [2001, 1999, 3000]
    with pytest.raises(UserError, match=r"^2 utterances.*u10 \(2001 frames\), u12 \(3000 frames\)"):
        BatchSampler(make_plan(13, frames=frames), seed=0)


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(UserError, match="no utterances"):
        BatchSampler(make_plan(0), seed=0)
    with pytest.raises(UserError, match="no utterances"):
        BatchSampler(make_plan(5, repeats=[0.0] * 5), seed=0)
    rare = BatchSampler(make_plan(5, repeats=[0.01] * 5), seed=0)
    assert len(list(islice(rare.batches_from(0, 0), 2))) == 2


def test_mix_is_fixed_and_spreads():
    assert mix(1, "epoch", 2) == mix(1, "epoch", 2) != mix(1, "epoch", 3)
    assert mix(12, 3) != mix(1, 23)
    assert all(0 <= mix(i) < 2**63 for i in range(100))
