"""What tasks that train parts of the system have in common."""

import torch
from torch import nn

from e2etts.nets.system import System
from e2etts.synthesis_config import SamplingConfig
from e2etts.train.task import Task


class SystemTask(Task):
    """A task around ``system``, of which some parts are trainable, for ``losses``. sampling: how
    the LM generates the samples of ``sample_metrics``, as it will in synthesis."""

    system: System
    losses: set[str]
    sampling: SamplingConfig = SamplingConfig()

    def parts(self) -> dict[str, nn.Module]:
        """Those of the system that learn."""
        return {name: getattr(self.system, name) for name in self.system.trainable}

    @property
    def needs_mel(self) -> bool:
        """Whether a loss reads the mel of the utterance itself, besides the tokenizer."""
        return any(name.partition("_")[0] in ("fm", "coarse") for name in self.losses)

    def state_to_save(self) -> dict[str, torch.Tensor]:
        """The whole system, frozen parts included, and nothing else: a stage can start from one
        checkpoint."""
        return dict(self.system.state_dict())
