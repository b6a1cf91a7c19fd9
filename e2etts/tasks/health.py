"""What shows whether tokens, LM and reward are well: numbers that are logged, not trained on.

Legend: B batch, T tokens, V codes, L text tokens.
"""

import math

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import edit_distance

from e2etts.data.batch import Batch
from e2etts.infer.config import SamplingConfig
from e2etts.infer.sampling import sample_tokens
from e2etts.nets.fsq import FSQ
from e2etts.nets.reward import RM
from e2etts.nets.sequence import length_mask
from e2etts.nets.system import System
from e2etts.nets.tokenizer import Tokens

# Where tanh has lost all but 4 % of its slope.
SATURATED = 0.98


@torch.no_grad()
def token_metrics(tokens: Tokens, fsq: FSQ) -> dict[str, Tensor]:
    """token_shares: (V,) how often each code is used; saturated: share of pre-quantisation values
    where the bound is flat; pre_quant_rms: their size before they are normalised, as FSQ's
    running statistics have it."""
    mask = length_mask(tokens.lens, tokens.index.shape[1])
    counts = torch.bincount(tokens.index[mask], minlength=fsq.codebook_size).float()
    return {
        "token_shares": counts / counts.sum().clamp_min(1),
        "saturated": (tokens.bounded[mask].abs() > SATURATED).float().mean(),
        "pre_quant_rms": (fsq.mean.square() + fsq.var).mean().sqrt(),
    }


def with_usage(means: dict[str, Tensor], fsq: FSQ) -> dict[str, Tensor]:
    """``means`` with token_shares replaced by what they say: entropy in bits, joint
    (token_entropy_bits) and of each dimension (token_entropy_bits_0, ...); the joint one, and the
    least of the dimensions', as shares of the largest possible; used_share of the codebook.

    Entropies are of the shares as they are, hence too low where tokens are fewer than codes."""
    if "token_shares" not in means:
        return means
    out = {k: v for k, v in means.items() if k != "token_shares"}
    shares = means["token_shares"]
    # The first dimension varies fastest with the index.
    grid = shares.view(*reversed(fsq.levels))
    axes = range(len(fsq.levels))
    bits = [entropy_bits(grid.sum([a for a in axes if a != d]) if len(axes) > 1 else grid)
            for d in reversed(axes)]
    joint = entropy_bits(shares)
    out |= {"token_entropy_bits": joint, "token_entropy_share": joint / math.log2(len(shares)),
            "used_share": (shares > 0).double().mean()}
    out |= {f"token_entropy_bits_{d}": b for d, b in enumerate(bits)}
    out["least_dimension_share"] = torch.stack(
        [b / math.log2(n) for b, n in zip(bits, fsq.levels, strict=True)]).min()
    return out


def entropy_bits(shares: Tensor) -> Tensor:
    """Entropy of a distribution of any shape."""
    return torch.special.entr(shares).sum() / math.log(2)


@torch.no_grad()
def lm_metrics(logits: Tensor, targets: Tensor, end: int) -> dict[str, Tensor]:
    """logits: (B, T + 1, V + 1), targets as of ``lm_targets``. Accuracy, entropy in nats, and the
    probability of the end token where the recording ends and, on average, where it goes on."""
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
def sample_metrics(system: System, batch: Batch, utts: int, judge: RM | None) -> dict[str, Tensor]:
    """What the LM says by itself for the texts of the first ``utts`` rows, by default sampling.

    length_ratio: its tokens by those of the recordings. rm_error: text tokens that the RM's CTC
    head hears otherwise in the samples, per text token; rm_nats: its loss on them; judge_error:
    the errors of an RM that no loss of this stage asks. Each error also of the recordings' own
    tokens (..._recording): how well that listener hears at all.
    """
    text, text_lens = batch.text[:utts], batch.text_lens[:utts]
    tokens = system.encode(batch.mel[:utts], batch.mel_lens[:utts])
    voice = system.voice(batch.voice_mel[:utts], batch.voice_lens[:utts])
    said = sample_tokens(system, text, text_lens, batch.language[:utts], voice, SamplingConfig(),
                         style=system.style(batch.emotion[:utts]))
    said = [s if len(s) else s.new_zeros(1) for s in said]
    lens = torch.tensor([len(s) for s in said], device=text.device)
    q = system.tokenizer.embed(pad_sequence(said, batch_first=True))
    given = (text, text_lens)
    out = {"length_ratio": lens.sum() / tokens.lens.sum(),
           "rm_nats": system.rm.ctc_loss(system.rm.encode(q, lens), lens, *given).mean()}
    for name, listener in (("rm", system.rm), ("judge", judge)):
        if listener is not None:
            out[f"{name}_error"] = ctc_error(listener, q, lens, *given)
            out[f"{name}_error_recording"] = ctc_error(listener, tokens.q, tokens.lens, *given)
    return out


@torch.no_grad()
def ctc_error(rm: RM, q: Tensor, lens: Tensor, text: Tensor, text_lens: Tensor) -> Tensor:
    """Edits between text (B, L) and the RM's greedy CTC reading of q, per text token."""
    rows = zip(rm.read_ctc(rm.encode(q, lens), lens), text.tolist(), text_lens.tolist(),
               strict=True)
    edits = sum(edit_distance(heard.tolist(), said[:count]) for heard, said, count in rows)
    return torch.tensor(edits / int(text_lens.sum()), device=q.device)
