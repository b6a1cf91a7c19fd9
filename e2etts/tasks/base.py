"""The contract between tasks and the training loop; it lives with the loop, which is below."""

from e2etts.train.task import Losses, Task

__all__ = ["Losses", "Task"]
