"""Our own cases: the training step of every stage, and nets alone for comparison with peers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from e2etts.bench.batches import made_batches, made_vocab
from e2etts.recipe import RecipeConfig
from e2etts.tasks.build import build_task
from e2etts.train.step import Stepper


@dataclass(frozen=True)
class Case:
    """run: one pass over its batches. audio_seconds, flops: of one run; padding: share of frames;
    parameters: that are trained."""

    run: Callable[[], object]
    audio_seconds: float
    flops: int
    padding: float
    parameters: int


def stage_step(recipe: RecipeConfig, stage: str, batches: int = 3) -> Case:
    """The whole optimiser step of a stage, every loss of it on, from random weights."""
    config = recipe.stage(stage)
    made, padding = made_batches(recipe, stage, batches)
    task = build_task(recipe, stage, made_vocab())
    stepper = Stepper(task, config.train, config.weights, Accelerator(), stage)
    made = [b.to(stepper.accelerator.device) for b in made]
    task.to(stepper.accelerator.device).train()

    def run() -> None:
        for number, batch in enumerate(made):
            stepper.step([batch], number, 0.99)
    seconds = sum(float(b.mel_lens.sum()) for b in made) / recipe.audio.frame_rate_hz
    return Case(run, seconds, counted_flops(run), padding,
                sum(p.numel() for p in stepper.trainable))


def counted_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of all matrix products and convolutions that ``run`` does,
    forward and backward: nothing is computed twice, so these are the model's own."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def net_step(module: nn.Module, loss: Callable[[], torch.Tensor], lr: float = 1e-4
             ) -> Callable[[], None]:
    """Forward under bf16 autocast, backward and AdamW: the same for our nets and for peers."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, fused=True)
    kind = next(module.parameters()).device.type

    def run() -> None:
        with torch.autocast(kind, torch.bfloat16):
            value = loss()
        value.float().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return run
