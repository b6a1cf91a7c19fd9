"""What the training loop requires of a task: named losses for a batch, and nothing about data."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from e2etts.data.batch import Batch


@dataclass(frozen=True)
class StepInfo:
    """The state of training that a forward pass depends on.

    progress: of training, 0 to 1. disabled: losses whose weight is 0 in this step: they need not
    be returned, nor what gives them be run. In evaluation none is disabled, since the best
    checkpoint is chosen by the same sum throughout. measure: also compute metrics that cost time.
    """

    progress: float = 1.0
    disabled: frozenset[str] = frozenset()
    measure: bool = True


EVALUATION = StepInfo()  # of validation: the same throughout training


@dataclass(frozen=True)
class Losses:
    """Named scalars of one batch.

    terms: differentiable; the loop trains on the sum of weight[name] * term.
    metrics: only logged, averaged over batches like the terms; see ``Task.summarise``.
    embeddings: token embeddings q at which the gradient of each term is measured now and then.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    embeddings: tuple[Tensor, ...] = ()


class Task(nn.Module):
    """A training stage as seen by the loop.

    phases: one optimiser each, run in this order in every step; a phase that returns no terms
        (for instance a discriminator that is not on yet) is left out of that step.
    selection: names of the terms or metrics whose weighted sum on the dev set decides which
        checkpoint is the best; None means all terms of the first phase. Only these are watched
        for loss spikes; None means all.
    needs_wav: whether batches must hold samples.
    """

    phases: tuple[str, ...] = ("main",)
    selection: tuple[str, ...] | None = None
    needs_wav: bool = False

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        """Losses of one batch in one phase."""
        raise NotImplementedError

    def parameters_of(self, phase: str) -> list[nn.Parameter]:
        """Parameters that ``phase`` trains; called once, before the first step."""
        return [p for p in self.parameters() if p.requires_grad]

    def parts(self) -> dict[str, nn.Module]:
        """Name -> module that ``train.lr_scales`` may give a learning rate of its own."""
        return {}

    def summarise(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Averaged terms and metrics -> scalars to log; override where a metric is a vector."""
        return means

    def has_lm(self, disabled: frozenset[str]) -> bool:
        """Whether an LM is being trained, so that ``sample_metrics`` means something."""
        return False

    def sample_metrics(self, batch: Batch, utts: int) -> dict[str, Tensor]:
        """Metrics of what the LM generates for the first ``utts`` rows of a dev batch."""
        return {}

    def state_to_save(self) -> dict[str, torch.Tensor]:
        """Tensors of ``model.safetensors``; override to leave out frozen or auxiliary parts."""
        return dict(self.state_dict())
