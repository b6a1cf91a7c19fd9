"""Collective operations between training processes; local if there is only one."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, reduce
from torch import Tensor

from e2etts.train.logging import Means


class Ranks:
    """rank: index of this process; count: number of processes."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.rank, self.count = accelerator.process_index, accelerator.num_processes

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes."""
        return values if self.count == 1 else reduce(values, "sum")

    def all(self, flag: bool | Tensor) -> bool:
        """Whether ``flag`` is true in every process."""
        return bool(flag) if self.count == 1 else self._votes(flag) > self.count - 0.5

    def any(self, flag: bool | Tensor) -> bool:
        """Whether ``flag`` is true in at least one process."""
        return bool(flag) if self.count == 1 else self._votes(flag) > 0

    def greatest(self, value: float) -> float:
        """Maximum of ``value`` over all processes."""
        if self.count == 1:
            return value
        mine = torch.tensor([value], device=self.accelerator.device)
        return float(self.accelerator.gather(mine).max())

    def take(self, means: Means, summarise: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
             ) -> dict[str, float]:
        """``Means.take`` over the values of all processes."""
        if self.count == 1:
            return means.take(summarise)
        joined = Means.joined(gather_object([means.plain()]))
        means.clear()
        return joined.take(summarise)

    def _votes(self, flag: bool | Tensor) -> float:
        mine = torch.as_tensor(flag, dtype=torch.float32, device=self.accelerator.device)
        return float(reduce(mine, "sum"))
