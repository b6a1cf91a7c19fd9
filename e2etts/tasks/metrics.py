"""Metrics of tokens, LM and reward that are logged and not trained on.

Legend: B batch, T tokens, V codes, L text tokens.
"""

import math

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import edit_distance

from e2etts.data.batch import Batch
from e2etts.infer.sampling import sample_tokens
from e2etts.nets.reward import RM
from e2etts.nets.sequence import length_mask
from e2etts.nets.system import System
from e2etts.nets.tokenizer import SpeechTokenizer, Tokens
from e2etts.synthesis_config import SamplingConfig


@torch.no_grad()
def token_metrics(tokens: Tokens, tokenizer: SpeechTokenizer) -> dict[str, Tensor]:
    """token_shares: (V,) how often each code is used; and what the kind of tokenizer adds."""
    mask = length_mask(tokens.lens, tokens.index.shape[1])
    counts = torch.bincount(tokens.index[mask], minlength=tokenizer.codebook_size).float()
    return {"token_shares": counts / counts.sum().clamp_min(1), **tokenizer.health(tokens)}


def with_usage(means: dict[str, Tensor], tokenizer: SpeechTokenizer) -> dict[str, Tensor]:
    """``means`` with token_shares replaced by statistics: joint entropy in bits
    (token_entropy_bits) and as a share of the largest possible, used_share of the codebook; where
    codes are made of digits, the entropy of each digit (token_entropy_bits_0, ...) and the least
    of them as a share of the largest possible (least_dimension_share).

    Entropies are of the shares as they are, hence too low where tokens are fewer than codes."""
    if "token_shares" not in means:
        return means
    out = {k: v for k, v in means.items() if k != "token_shares"}
    shares = means["token_shares"]
    joint = entropy_bits(shares)
    out |= {"token_entropy_bits": joint, "token_entropy_share": joint / math.log2(len(shares)),
            "used_share": (shares > 0).double().mean()}
    if tokenizer.digit_levels is None:
        return out
    # The first digit varies fastest with the index.
    levels = tokenizer.digit_levels
    grid = shares.view(*reversed(levels))
    axes = range(len(levels))
    bits = [entropy_bits(grid.sum([a for a in axes if a != d]) if len(axes) > 1 else grid)
            for d in reversed(axes)]
    out |= {f"token_entropy_bits_{d}": b for d, b in enumerate(bits)}
    out["least_dimension_share"] = torch.stack(
        [b / math.log2(n) for b, n in zip(bits, levels, strict=True)]).min()
    return out


def entropy_bits(shares: Tensor) -> Tensor:
    """Entropy of a distribution of any shape."""
    return torch.special.entr(shares).sum() / math.log(2)


@torch.no_grad()
def lm_metrics(logits: Tensor, targets: Tensor, end: int) -> dict[str, Tensor]:
    """logits: (B, T + 1, V + 1), targets as of ``lm_targets``. Accuracy, entropy in nats, and the
    probability of the end token where the recording ends and, on average, where it continues."""
    valid = targets >= 0
    log_p, wanted = logits[valid].float().log_softmax(-1), targets[valid]
    ends, p_end = wanted == end, log_p[:, end].exp()
    return {
        "lm_accuracy": (log_p.argmax(-1) == wanted).float().mean(),
        "lm_entropy": -(log_p.exp() * log_p).sum(-1).mean(),
        "end_probability": p_end[ends].mean(),
        "early_end_probability": (p_end * ~ends).sum() / (~ends).sum().clamp_min(1),
    }


@torch.no_grad()
def sample_metrics(system: System, batch: Batch, utts: int, judge: RM | None,
                   sampling: SamplingConfig) -> dict[str, Tensor]:
    """What the LM generates for the texts of the first ``utts`` rows.

    length_ratio: its tokens by those of the recordings. rm_error: edits between the text and the
    RM's greedy CTC hypothesis on the samples, per text token; rm_nats: its loss on them;
    judge_error: the errors of an RM that no loss of this stage uses. Each error also on the
    recordings' own tokens (..._recording): the error rate of that recogniser itself.
    """
    batch = batch.select(slice(utts))
    text = (batch.text, batch.text_lens)
    tokens = system.encode(batch.mel, batch.mel_lens, batch.codes)
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    given = system.lm_condition(batch, speaker)
    generated = sample_tokens(system, given, sampling)
    generated = [s if len(s) else s.new_zeros(1) for s in generated]
    lens = torch.tensor([len(s) for s in generated], device=speaker.device)
    q = system.tokenizer.embed(pad_sequence(generated, batch_first=True))
    out = {"length_ratio": lens.sum() / tokens.lens.sum(),
           "rm_nats": system.rm.ctc_loss(system.rm.encode(q, lens), lens, *text).mean()}
    for name, recogniser in (("rm", system.rm), ("judge", judge)):
        if recogniser is not None:
            out[f"{name}_error"] = ctc_error(recogniser, q, lens, *text)
            out[f"{name}_error_recording"] = ctc_error(recogniser, tokens.q, tokens.lens, *text)
    return out


@torch.no_grad()
def ctc_error(rm: RM, q: Tensor, lens: Tensor, text: Tensor, text_lens: Tensor) -> Tensor:
    """Edits between text (B, L) and the RM's greedy CTC hypothesis, per text token."""
    rows = zip(rm.read_ctc(rm.encode(q, lens), lens), text.tolist(), text_lens.tolist(),
               strict=True)
    edits = sum(edit_distance(hyp.tolist(), ref[:count]) for hyp, ref, count in rows)
    return torch.tensor(edits / int(text_lens.sum()), device=q.device)
