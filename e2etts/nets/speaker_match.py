"""Speaker loss without classes: which speaker embedding of the batch belongs to an utterance.

Legend: B batch, D input size, X size of a speaker embedding.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

MAX_SCALE = 100.0  # of the cosines, as in arXiv 2103.00020


class SpeakerMatch(nn.Module):
    """The angular prototypical loss of arXiv 2003.11982, between an embedding predicted
    from the tokens of an utterance and embeddings by the speaker encoder of other speech: the
    speaker's own must be nearer than those of the other speakers in the batch. No parameter belongs
    to a speaker, so that any number of them can be learned from.

    The speaker encoder's embeddings are targets without gradient: it must not become easy to
    predict. It learns from the FM, which reads what it says of the voice.
    """

    def __init__(self, dim: int, embedding_dim: int):
        super().__init__()
        self.project = nn.Linear(dim, embedding_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, X) predicted speaker embeddings of length 1."""
        return F.normalize(self.project(x).float(), dim=-1)

    def distance(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(B,) 1 - cosine, from 0 to 2, of x (B, D) from target (B, X), of length 1."""
        return 1 - (self(x) * target.detach().float()).sum(-1)

    def loss(self, x: torch.Tensor, speaker: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over the rows that have a rival, 0 where none has. x: (B, D);
        speaker: (B,) labels, rows with -1 are speakers of their own; target: (B, X) speaker
        embeddings of length 1."""
        # Summed here, because autocast would round the cosines of a matrix product.
        cosine = (self(x).unsqueeze(1) * target.detach().float()).sum(-1)
        own = torch.eye(len(x), dtype=torch.bool, device=x.device)
        same = (speaker[:, None] == speaker) & (speaker >= 0)[:, None] & ~own
        logits = (self.log_scale.exp().clamp_max(MAX_SCALE) * cosine).masked_fill(same, -torch.inf)
        loss = F.cross_entropy(logits, torch.arange(len(x), device=x.device), reduction="none")
        return loss.sum() / (~(same | own)).any(1).sum().clamp_min(1)
