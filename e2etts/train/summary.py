"""What summary.json says of a finished stage."""

import math
from typing import Any

from e2etts.provenance import peak_gib


def run_summary(trainer: Any, seconds: float) -> dict[str, Any]:
    """The summary of a ``Trainer`` that has trained for ``seconds``."""
    has_best = math.isfinite(trainer.best_loss)
    return {
        "steps": trainer.step, "seconds": round(seconds, 1),
        "audio_seconds": round(trainer.audio_seconds, 1), "peak_gib": round(peak_gib(), 3),
        "best_loss": trainer.best_loss if has_best else None,
        "best_step": trainer.best_step if has_best else None,
        "parameters": sum(p.numel() for p in trainer.stepper.trainable),
        "q_shares": trainer.stepper.balance.shares(),
        "skipped_steps": trainer.skipped, "recoveries": trainer.recovery.done,
        "warnings": trainer.warnings}
