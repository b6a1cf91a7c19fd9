"""Guided attention of a prefix LM."""

import math

import pytest
import torch
from test_lm import condition, make, one, ragged
from tiny import trunk

from e2etts.nets.guide import AttentionGuide, GuideConfig

POSITION = torch.tensor([[-1, 0, 0, 2, 3, 9, 9, 9], [1, 3, 5, 9, 9, 9, 9, 9],
                         [-1, -1, 0, 0, 0, 0, 0, 0]])
LENS, TEXT_LENS = torch.tensor([5, 3, 8]), torch.tensor([4, 6, 1])
WANTED = [[0, 0, 0, 2, 3, 3], [1, 3, 5, 5], [0] * 9]  # of valid rows, the end last


def guide(**changes) -> AttentionGuide:
    return AttentionGuide(GuideConfig(layers=(1,), **changes), POSITION, LENS, TEXT_LENS)


def test_what_each_row_is_to_read_by_hand():
    got = guide().wanted
    assert [row[: len(want)].tolist() for row, want in zip(got, WANTED, strict=True)] == WANTED


START = TEXT_LENS + 2  # two conditions before the text


def attention(shift: int):
    """Queries and keys (B, 2, S, K) with which row t attends to one key: in the first head
    ``shift`` after that of its text token, in the second the first of all."""
    size = int(START.max()) + 9
    k = 20 * torch.eye(size).expand(3, 2, -1, -1)
    q = torch.zeros(3, 2, size, size)
    for b, row in enumerate(WANTED):
        for t, text in enumerate(row):
            key = int(START[b] - TEXT_LENS[b]) + text + shift
            q[b, 0, START[b] + t, key] = q[b, 1, START[b] + t, 0] = 20 * math.sqrt(size)
    return q, k


@pytest.mark.parametrize(("shift", "width", "right"), [
    (0, 0, True), (0, 1, True), (1, 0, False), (2, 1, False), (-1, 0, False)])
def test_attention_on_the_aligned_token_alone_has_no_loss(shift, width, right):
    one_head = guide(width=width)
    one_head.watch(START)(1, *attention(shift))
    assert (float(one_head.loss) < 1e-4) == right
    both = guide(width=width, heads=2)
    both.watch(START)(1, *attention(shift))
    assert float(both.loss) > 100  # the second head looks elsewhere


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_neighbour_counts_only_within_the_text(shift):
    """Those of a text of one token are a condition and the start of speech."""
    q, k = (x[2:] for x in attention(shift))
    last = AttentionGuide(GuideConfig(layers=(1,)), POSITION[2:], LENS[2:], TEXT_LENS[2:])
    last.watch(START[2:])(1, q, k)
    assert float(last.loss) > 100


def test_loss_is_that_of_attention_written_out():
    """-log of the share of causal softmax attention, row by row."""
    torch.manual_seed(0)
    size, heads = int(START.max()) + 9, 2
    q, k = torch.randn(2, 3, heads, size, 6)
    term, found = guide(heads=2, width=1), []
    term.watch(START)(0, q, k)  # another layer
    assert not term.terms
    term.watch(START)(1, q, k)
    for b, row in enumerate(WANTED):
        first = int(START[b] - TEXT_LENS[b])
        for t, text in enumerate(row):
            at = int(START[b]) + t
            for h in range(heads):
                p = (k[b, h, : at + 1] @ q[b, h, at] / 6**0.5).softmax(0)
                near = [i for i in range(text - 1, text + 2) if 0 <= i < TEXT_LENS[b]]
                found.append(-p[[first + i for i in near]].sum().log())
    torch.testing.assert_close(term.loss, torch.stack(found).mean())


def guided(lm, batch, **changes):
    """The loss, and the LM's logits."""
    config = GuideConfig(**{"layers": (0, 1), "heads": 2, **changes})
    found = AttentionGuide(config, batch["position"], batch["lens"], batch["text_lens"])
    out = lm(condition(batch), batch["q"], batch["lens"], None, found)
    return found.loss, out.logits


@pytest.mark.parametrize("text_input", ["prefix", "stride"])
def test_padding_changes_nothing(text_input):
    lm, batch = make(text_input), ragged()
    loss, logits = guided(lm, batch)
    alone = [guided(lm, one(batch, b))[0] for b in range(3)]
    rows = batch["lens"] + 1.0
    torch.testing.assert_close(loss, (torch.stack(alone) * rows).sum() / rows.sum())
    assert loss > 0.1 and torch.equal(logits, lm(condition(batch), batch["q"],
                                                 batch["lens"]).logits)


def test_gradient_reaches_the_queries_and_keys_of_the_layer_and_what_is_below():
    lm, batch = make(), ragged()
    batch["q"].requires_grad_()
    guided(lm, batch, layers=(1,))[0].backward()
    reached = {n for n, p in lm.named_parameters() if p.grad is not None and p.grad.any()}
    below = {n for n, _ in lm.named_parameters() if n.startswith("trunk.layers.0.")}
    own = {f"trunk.layers.1.{n}.weight" for n in (
        "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.q_norm",
        "self_attn.k_norm")}
    inputs = {n for n, _ in lm.named_parameters() if not n.startswith(("trunk.", "head."))}
    assert reached == below | own | inputs
    for b, n in enumerate(batch["lens"].tolist()):
        assert batch["q"].grad[b, : n - 1].any() and not batch["q"].grad[b, n:].any()


@pytest.mark.parametrize(("changes", "message"), [
    ({"layers": (0, 2)}, r"guide\.layers: the LM has no layer 2: choose from 0 to 1"),
    ({"layers": (-1,)}, "no layer -1"), ({"layers": (0,), "heads": 3}, "has 2 heads a layer")])
def test_what_the_trunk_lacks_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GuideConfig(**changes).require_fit(trunk())
    for bad in ({"layers": ()}, {"heads": 0}, {"width": -1}):
        with pytest.raises(ValueError, match="guide needs"):
            GuideConfig(**bad)
