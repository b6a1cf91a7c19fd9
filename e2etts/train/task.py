"""What the training loop asks of a task: named losses for a batch, and nothing about data."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from e2etts.data.batch import Batch


@dataclass(frozen=True)
class Losses:
    """Named scalars of one batch.

    terms: differentiable; the loop trains on the sum of weight[name] * term.
    metrics: only logged, averaged over batches like the terms; see ``Task.summarise``.
    seam: tensors at which the gradient of each term is measured now and then.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    seam: tuple[Tensor, ...] = ()


class Task(nn.Module):
    """A training stage as seen by the loop.

    phases: one optimiser each, run in this order in every step; a phase that returns no terms
        (for instance a discriminator that is not on yet) is left out of that step.
    selection: names of the terms or metrics whose weighted sum on the dev set decides which
        checkpoint is the best; None means all terms of the first phase. Only these are watched
        for jumps; None means all.
    progress: 0 to 1, set by the loop before every step.
    muted: terms whose weight is 0 in this step, set with it: they need not be returned, nor what
        gives them be run. Not in evaluation: the best checkpoint is chosen by the same sum
        throughout.
    observed: set by the loop; whether metrics that cost time are wanted of this batch.
    speaks: whether ``sample_metrics`` has anything to say.
    """

    phases: tuple[str, ...] = ("main",)
    selection: tuple[str, ...] | None = None
    progress: float = 0.0
    muted: frozenset[str] = frozenset()
    observed: bool = True
    speaks: bool = False

    def forward(self, batch: Batch, phase: str = "main") -> Losses:
        """Losses of one batch in one phase."""
        raise NotImplementedError

    def wanted(self, losses: set[str]) -> set[str]:
        """Those of ``losses`` that this pass is about."""
        return losses - self.muted if self.training else losses

    def parameters_of(self, phase: str) -> list[nn.Parameter]:
        """Parameters that ``phase`` trains; asked once, before the first step."""
        return [p for p in self.parameters() if p.requires_grad]

    def summarise(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Averaged terms and metrics -> scalars to log; override where a metric is a vector."""
        return means

    def sample_metrics(self, batch: Batch, utts: int) -> dict[str, Tensor]:
        """Metrics of what the model itself says for the first ``utts`` rows of a dev batch."""
        return {}

    def state_to_save(self) -> dict[str, torch.Tensor]:
        """Tensors of ``model.safetensors``; override to leave out frozen or auxiliary parts."""
        return dict(self.state_dict())
