import math

import pytest
import torch
from tiny import SPEAKER_DIM, Q, trunk, unreached, wake

from e2etts.nets.reward import RM, AttentionPool, RMConfig

TEXT = 6


def make(decoder_layers=1, speakers=3, emotions=2, **changes):
    torch.manual_seed(0)
    config = RMConfig(trunk=trunk(), decoder_layers=decoder_layers, **changes)
    return wake(RM(config, q_dim=Q, text_vocab=TEXT, speakers=speakers, emotions=emotions,
                   speaker_dim=SPEAKER_DIM)).eval()


def given():
    g = torch.Generator().manual_seed(1)
    return dict(q=torch.randn(3, 9, Q, generator=g), lens=torch.tensor([9, 4, 6]),
                text=torch.tensor([[1, 2, 3, 4, 5], [2, 2, 0, 5, 1], [5, 4, 3, 1, 1]]),
                text_lens=torch.tensor([5, 2, 3]), speaker=torch.tensor([0, 2, 1]),
                emotion=torch.tensor([1, 0, 1]))


def one(batch, b):
    row = {k: v[b : b + 1] for k, v in batch.items()}
    return {**row, "q": row["q"][:, : row["lens"]], "text": row["text"][:, : row["text_lens"]]}


def test_padding_changes_nothing():
    rm, batch = make(), given()
    got = rm.losses(**batch)
    alone = [rm.losses(**one(batch, b)) for b in range(3)]
    for name in ("ctc", "speaker", "emotion"):
        want = sum(a[name] for a in alone) / 3
        torch.testing.assert_close(got[name], want, atol=1e-5, rtol=1e-5)
    weights = batch["text_lens"] + 1
    want = sum(a["attention"] * w for a, w in zip(alone, weights, strict=True)) / weights.sum()
    torch.testing.assert_close(got["attention"], want, atol=1e-5, rtol=1e-5)
    text = batch["text"].clone()
    text[1, 2:], text[2, 3:] = 4, 0
    other = rm.losses(**{**batch, "text": text})
    for name in got:
        torch.testing.assert_close(got[name], other[name])


def test_ctc_is_the_sum_over_alignments():
    """All paths of four frames, written out."""
    rm = make(labels_per_token=2)
    q, lens = torch.randn(1, 2, Q), torch.tensor([2])
    h = rm.encode(q, lens)
    logits = rm.ctc_logits(h)
    assert logits.shape == (1, 4, TEXT + 1)
    p = logits[0].detach().softmax(-1)
    for text in ([3], [1, 2], [2, 2]):
        total = 0.0
        for path in torch.cartesian_prod(*[torch.arange(TEXT + 1)] * 4).tolist():
            merged = [k for i, k in enumerate(path) if i == 0 or k != path[i - 1]]
            if [k for k in merged if k != rm.blank] == text:
                total += math.prod(float(p[t, k]) for t, k in enumerate(path))
        got = rm.ctc_loss(h, lens, torch.tensor([text]), torch.tensor([len(text)]))
        assert abs(float(got.detach()) + math.log(total) / len(text)) < 1e-4


def test_labels_per_token_keeps_time_order():
    rm = make(labels_per_token=3)
    h = torch.randn(1, 4, 16)
    out = rm.ctc_logits(h)
    h2 = h.clone()
    h2[:, 2] += 1
    changed = (rm.ctc_logits(h2) - out).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [False] * 6 + [True] * 3 + [False] * 3


def test_text_that_cannot_fit_trains_nothing_and_says_so():
    rm = make(labels_per_token=1)
    h = torch.randn(4, 4, 16, requires_grad=True)
    lens = torch.tensor([4, 4, 4, 2])
    text = torch.tensor([[1, 2, 3, 4, 5], [1, 1, 2, 2, 0], [1, 2, 3, 4, 4], [1, 1, 1, 1, 1]])
    text_lens = torch.tensor([5, 4, 4, 1])  # too long; two blanks needed; just fits; fits
    loss = rm.ctc_loss(h, lens, text, text_lens, impossible=torch.inf)
    assert loss.isinf().tolist() == [True, True, False, False]
    loss = rm.ctc_loss(h, lens, text, text_lens)
    assert (loss[:2] == 0).all() and (loss[2:] > 0).all()
    loss.sum().backward()
    assert h.grad.isfinite().all() and not h.grad[:2].any() and h.grad[2].any()


def test_a_certain_text_is_not_an_impossible_one():
    """A likelihood that rounds to exactly 1 is the best score, not the worst."""
    rm = make(labels_per_token=1)
    with torch.no_grad():
        rm.split.weight.copy_(torch.eye(16))
        rm.split.bias.zero_()
        rm.ctc.weight.zero_()
        rm.ctc.bias.zero_()
        rm.ctc.weight[2, 0] = 200.0
    h = torch.zeros(1, 1, 16)
    h[0, 0, 0] = 5.0
    got = rm.ctc_loss(h, torch.tensor([1]), torch.tensor([[2]]), torch.tensor([1]), torch.inf)
    assert got == 0


@pytest.mark.parametrize("missing", [[0], [0, 1, 2]])
def test_missing_labels_contribute_nothing(missing):
    rm, batch = make(), given()
    for task in ("speaker", "emotion"):
        label = batch[task].clone()
        label[missing] = -1
        got = rm.losses(**{**batch, task: label})[task]
        rest = [b for b in range(3) if b not in missing]
        want = sum(rm.losses(**one(batch, b))[task] for b in rest) / max(1, len(rest))
        torch.testing.assert_close(got, torch.as_tensor(want, dtype=torch.float32))
        rm.zero_grad()
        got.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in rm.parameters())
        assert rm.heads[task].weight.grad.any() == bool(rest)


def test_heads_that_have_nothing_to_tell_apart_are_left_out():
    rm, batch = make(decoder_layers=0, speakers=1, emotions=0), given()
    assert set(rm.losses(**batch)) == {"ctc"}
    assert rm.decoder is None and not rm.heads


def test_attention_decoder_reads_speech_and_past_text_only():
    rm, batch = make(), given()
    h = rm.encode(batch["q"], batch["lens"])

    def read(text, h=h):
        rm._attention_loss(h[:1], batch["lens"][:1], text[None], torch.tensor([5]))
    logits = []
    rm.head.register_forward_hook(lambda m, i, o: logits.append(o))
    text = batch["text"][0]
    other = text.clone()
    other[3] = 0
    read(text)
    read(other)
    torch.testing.assert_close(logits[0][:, :4], logits[1][:, :4], atol=1e-6, rtol=0)
    assert not torch.allclose(logits[0][:, 4], logits[1][:, 4], atol=1e-4)
    read(text, h + 1)
    assert not torch.allclose(logits[0][:, 0], logits[2][:, 0], atol=1e-4)


def test_attention_loss_by_hand():
    rm, batch = make(), given()
    h = rm.encode(batch["q"], batch["lens"])
    logits = []
    rm.head.register_forward_hook(lambda m, i, o: logits.append(o))
    loss = rm._attention_loss(h, batch["lens"], batch["text"], batch["text_lens"])
    log_p, total, count = logits[0].log_softmax(-1), 0.0, 0
    for b, n in enumerate(batch["text_lens"].tolist()):
        wanted = [*batch["text"][b, :n].tolist(), TEXT]
        total -= sum(log_p[b, i, k] for i, k in enumerate(wanted))
        count += n + 1
    torch.testing.assert_close(loss, total / count)


def test_gradient_reaches_every_parameter_and_valid_q_only():
    rm, batch = make(), given()
    q = batch["q"].requires_grad_()
    losses = rm.losses(**batch)
    assert set(losses) == {"ctc", "attention", "speaker", "emotion"}
    for name, loss in losses.items():
        dq = torch.autograd.grad(loss, q, retain_graph=True)[0]
        for b, n in enumerate(batch["lens"].tolist()):
            assert dq[b, :n].any() and not dq[b, n:].any(), name
    sum(losses.values()).backward()
    assert not [n for n in unreached(rm) if n != "pools.emotion.score.bias"
                and n != "pools.speaker.score.bias"]  # a bias on all scores cancels in softmax


def test_pool_is_a_mean_over_valid_positions():
    pool = AttentionPool(4)
    x = torch.randn(2, 5, 4)
    mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
    with torch.no_grad():
        pool.score.weight.zero_()
    torch.testing.assert_close(pool(x, mask)[1], x[1, :2].mean(0))


def test_alignment_is_the_best_ctc_path():
    """Against all paths of six frames, for a text with a repeat."""
    rm = make(labels_per_token=2)
    q, lens, text = torch.randn(1, 3, Q), torch.tensor([3]), [2, 2, 4]
    log_p = rm.ctc_logits(rm.encode(q, lens))[0].detach().log_softmax(-1)
    best, read = -math.inf, None
    for path in torch.cartesian_prod(*[torch.arange(TEXT + 1)] * 6).tolist():
        begins = [k != rm.blank and (i == 0 or k != path[i - 1]) for i, k in enumerate(path)]
        if [k for k, b in zip(path, begins, strict=True) if b] == text:
            score = sum(float(log_p[i, k]) for i, k in enumerate(path))
            if score > best:
                best, read = score, [sum(begins[: 2 * t + 2]) - 1 for t in range(3)]
    got = rm.align(q, lens, torch.tensor([text]), torch.tensor([3]))
    assert got.tolist() == [read] and read[-1] == 2


def test_alignment_of_a_padded_row_is_that_of_the_row_alone():
    rm, batch = make(), given()
    keys = ("q", "lens", "text", "text_lens")
    got = rm.align(*[batch[k] for k in keys])
    for b, t in enumerate(batch["lens"].tolist()):
        alone = rm.align(*[one(batch, b)[k] for k in keys])
        assert got[b, :t].tolist() == alone[0].tolist()
        moves = alone[0].diff(prepend=torch.tensor([-1]))
        assert (moves >= 0).all() and (moves <= 2).all()
        assert alone[0, -1] == batch["text_lens"][b] - 1


def test_alignment_of_a_text_that_cannot_fit_is_even():
    got = make().align(torch.randn(1, 2, Q), torch.tensor([2]), torch.tensor([[1, 2, 3, 4, 5, 1]]),
                       torch.tensor([6]))
    assert got.tolist() == [[2, 5]]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_alignment_of_what_is_not_finite_is_even_and_leaves_other_rows_alone(value):
    rm, batch = make(), given()
    keys = ("q", "lens", "text", "text_lens")
    want = rm.align(*[batch[k] for k in keys])
    batch["q"][1] = value
    got = rm.align(*[batch[k] for k in keys])
    assert got[1, :4].tolist() == [-1, 0, 0, 1]
    assert got[[0, 2]].tolist() == want[[0, 2]].tolist()


def test_label_smoothing_spreads_its_share_over_all_classes():
    sharp, smooth, batch = make(), make(label_smoothing=0.2), given()
    smooth.load_state_dict(sharp.state_dict())
    batch["emotion"][1] = -1
    got = smooth.losses(**batch)
    torch.testing.assert_close(got["ctc"], sharp.losses(**batch)["ctc"])
    h = sharp.encode(batch["q"], batch["lens"])
    log_p = sharp.classify("emotion", h, batch["lens"]).log_softmax(-1)
    wanted = [-(0.8 * log_p[b, batch["emotion"][b]] + 0.2 * log_p[b].mean()) for b in (0, 2)]
    torch.testing.assert_close(got["emotion"], sum(wanted) / 2)
    logits = []
    smooth.head.register_forward_hook(lambda m, i, o: logits.append(o))
    loss = smooth._attention_loss(h, batch["lens"], batch["text"], batch["text_lens"])
    log_p, total, count = logits[0].log_softmax(-1), 0.0, 0
    for b, n in enumerate(batch["text_lens"].tolist()):
        for i, k in enumerate([*batch["text"][b, :n].tolist(), TEXT]):
            total -= 0.8 * log_p[b, i, k] + 0.2 * log_p[b, i].mean()
        count += n + 1
    torch.testing.assert_close(loss, total / count)


def test_ctc_reading_merges_repeats_and_drops_blanks(monkeypatch):
    rm = make()
    path = torch.tensor([[1, 1, 6, 1, 2, 2, 6, 6], [6, 6, 6, 6, 5, 5, 5, 5],
                         [3, 6, 3, 3, 0, 4, 4, 4]])
    monkeypatch.setattr(rm, "ctc_logits", lambda h: torch.eye(TEXT + 1)[path])
    got = rm.read_ctc(torch.zeros(3, 4, 16), torch.tensor([4, 2, 3]))
    assert [row.tolist() for row in got] == [[1, 1, 2], [], [3, 3, 0, 4]]


def test_attention_reading_is_the_teacher_forced_argmax_of_each_row_alone():
    rm, batch = make(decoder_layers=2), given()
    longest = torch.tensor([7, 3, 0])
    got = rm.read_attention(rm.encode(batch["q"], batch["lens"]), batch["lens"], longest)
    logits = []
    rm.head.register_forward_hook(lambda m, i, o: logits.append(o))
    for b, most in enumerate(longest.tolist()):
        row, said = one(batch, b), []
        h = rm.encode(row["q"], row["lens"])
        while len(said) < most:
            rm._attention_loss(h, row["lens"], torch.tensor([said], dtype=torch.long),
                               torch.tensor([len(said)]))
            token = int(logits[-1][0, -1].argmax())
            if token == TEXT:
                break
            said.append(token)
        assert got[b].tolist() == said
    assert len(got[0]) and len(got[1])  # else nothing was compared


def test_attention_reading_ends_at_the_end_token():
    rm, batch = make(), given()
    with torch.no_grad():
        rm.head.bias[TEXT] = 1e4
    h = rm.encode(batch["q"], batch["lens"])
    assert [len(t) for t in rm.read_attention(h, batch["lens"], torch.full((3,), 5))] == [0, 0, 0]
