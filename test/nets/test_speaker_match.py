import math
import re

import pytest
import torch
import torch.nn.functional as F
from tiny import SPEAKER_DIM, Q, trunk, unreached, wake

from e2etts.nets.reward import MOST_CLASSES, RM, RMConfig
from e2etts.nets.speaker_match import SpeakerMatch


def rows(count=4, seed=1):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(count, 6, generator=g),
            F.normalize(torch.randn(count, 5, generator=g), dim=-1))


def test_loss_by_hand():
    """Rows 0 and 2 are of one speaker, and no rivals; the rows without a label are of two."""
    torch.manual_seed(0)
    match, (x, target) = SpeakerMatch(6, 5), rows(5)
    speaker = torch.tensor([1, 0, 1, -1, -1])
    rivals = {0: [1, 3, 4], 1: [0, 2, 3, 4], 2: [1, 3, 4], 3: [0, 1, 2, 4], 4: [0, 1, 2, 3]}
    cosine = 10.0 * F.normalize(match.project(x), dim=-1) @ target.T
    want = sum(torch.logsumexp(cosine[i, [i, *others]], 0) - cosine[i, i]
               for i, others in rivals.items()) / 5
    torch.testing.assert_close(match.loss(x, speaker, target), want)
    assert match(x).shape == (5, 5)
    torch.testing.assert_close(match(x).norm(dim=-1), torch.ones(5))


def test_a_batch_of_one_speaker_teaches_nothing():
    match, (x, target) = SpeakerMatch(6, 5), rows()
    x.requires_grad_()
    loss = match.loss(x, torch.tensor([2, 2, 2, 2]), target)
    loss.backward()
    assert loss == 0 and not x.grad.any() and x.grad.isfinite().all()
    # One row of another speaker: it and the four others are told apart, as a mean over all.
    speaker = torch.tensor([2, 2, 2, 0])
    one = sum(match.loss(x[[i, 3]], speaker[[i, 3]], target[[i, 3]]) for i in range(3))
    assert match.loss(x, speaker, target) > 0 and one > 0


def test_targets_have_no_gradient_and_all_else_has():
    match, (x, target) = SpeakerMatch(6, 5), rows()
    x.requires_grad_()
    target.requires_grad_()
    match.loss(x, torch.arange(4), target).backward()
    assert target.grad is None and not unreached(match)
    assert (x.grad.abs().sum(1) > 0).all()


def test_scale_is_limited():
    match, (x, target) = SpeakerMatch(6, 5), rows()
    losses = []
    for scale in (100.0, 1e4):
        with torch.no_grad():
            match.log_scale.fill_(math.log(scale))
        losses.append(match.loss(x, torch.arange(4), target))
    torch.testing.assert_close(*losses)


def test_rounding_of_autocast_does_not_reach_the_cosines():
    match, (x, target) = SpeakerMatch(6, 5), rows()
    with torch.autocast("cpu", torch.bfloat16):
        low = match.loss(x, torch.arange(4), target)
        predicted = match(x)
    with torch.no_grad():
        cosine = (predicted[:, None] * target).sum(-1).double()
        want = F.cross_entropy(10.0 * cosine, torch.arange(4))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), want, atol=1e-5, rtol=1e-5)


def test_speakers_are_learned_and_told_apart_in_new_utterances():
    """Embeddings of 40 speakers, 8 in a batch, hidden in noisy inputs; there is no class of any."""
    g = torch.Generator().manual_seed(0)
    speakers = F.normalize(torch.randn(40, 8, generator=g), dim=-1)
    hide = torch.randn(8, 12, generator=g)
    torch.manual_seed(0)
    match = SpeakerMatch(12, 8)
    optimizer = torch.optim.Adam(match.parameters(), lr=0.03)

    def batch():
        who = torch.randperm(40, generator=g)[:8]
        return speakers[who] @ hide + 0.1 * torch.randn(8, 12, generator=g), who, speakers[who]
    first = float(match.loss(*batch()).detach())
    for _ in range(120):
        optimizer.zero_grad()
        match.loss(*batch()).backward()
        optimizer.step()
    assert first > 1.0 and float(match.loss(*batch()).detach()) < 0.2


def make(speakers=3, **changes):
    torch.manual_seed(0)
    config = RMConfig(trunk=trunk(), speaker_loss="embedding", **changes)
    return wake(RM(config, q_dim=Q, text_vocab=6, speakers=speakers, emotions=0,
                   speaker_dim=SPEAKER_DIM)).eval()


def given():
    g = torch.Generator().manual_seed(1)
    embedding = F.normalize(torch.randn(3, SPEAKER_DIM, generator=g), dim=-1)
    return dict(q=torch.randn(3, 9, Q, generator=g), lens=torch.tensor([9, 4, 6]),
                text=torch.tensor([[1, 2, 3], [2, 2, 0], [5, 4, 3]]),
                text_lens=torch.tensor([3, 2, 3]), speaker=torch.tensor([0, 2, 1]),
                emotion=torch.zeros(3, dtype=torch.long), speaker_embedding=embedding)


def test_rm_compares_embeddings_and_padding_changes_nothing():
    rm, batch = make(), given()
    assert not rm.classifies("speaker") and rm.no_speaker_loss is None
    q = batch["q"].requires_grad_()
    batch["speaker_embedding"].requires_grad_()
    loss = rm.losses(**batch)["speaker"]
    more = {**batch, "q": F.pad(q, (0, 0, 0, 4), value=7.0)}
    torch.testing.assert_close(rm.losses(**more)["speaker"], loss, atol=1e-5, rtol=1e-5)
    h = rm.encode(q, batch["lens"])
    vectors = rm.speaker_vector(h, batch["lens"])
    assert vectors.shape == (3, SPEAKER_DIM)
    want = F.cross_entropy(rm.heads["speaker"].log_scale.exp() * vectors
                           @ batch["speaker_embedding"].T, torch.arange(3))
    torch.testing.assert_close(loss, want)
    loss.backward()
    assert batch["speaker_embedding"].grad is None
    for row, n in enumerate(batch["lens"].tolist()):
        assert q.grad[row, :n].any() and not q.grad[row, n:].any()
    others = ("split.", "ctc.", "pools.speaker.score.bias")
    assert all(n.startswith(others) for n in unreached(rm))


def test_the_number_of_speakers_changes_no_tensor():
    few, many = (make(speakers=n).state_dict() for n in (2, 10 * MOST_CLASSES))
    assert {k: v.shape for k, v in few.items()} == {k: v.shape for k, v in many.items()}
    assert not any("speaker" in k for k in make(speakers=1).state_dict())


@pytest.mark.parametrize(("speakers", "said"), [
    (1, "the data have one speaker"), (MOST_CLASSES, None),
    (MOST_CLASSES + 1, "10001 speakers are too many classes .*speaker_loss: embedding")])
def test_classes_are_for_so_many_speakers(speakers, said):
    with torch.device("meta"):
        rm = RM(RMConfig(trunk=trunk()), q_dim=Q, text_vocab=6, speakers=speakers, emotions=0,
                speaker_dim=SPEAKER_DIM)
    assert rm.classifies("speaker") == (speakers > 1)
    if said is None:
        assert rm.no_speaker_loss is None
    else:
        assert re.match(said, rm.no_speaker_loss)
