"""Our own cases: the training step of every stage, and nets alone for comparison with peers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from e2etts.bench.batches import made_batches, made_vocab
from e2etts.recipe import RecipeConfig
from e2etts.tasks.build import build_task
from e2etts.train.step import Stepper


@dataclass(frozen=True)
class Case:
    """run: one pass over its batches. audio_seconds, flops, traffic_bytes: of one run; padding:
    share of frames; parameters: that are trained."""

    run: Callable[[], object]
    audio_seconds: float
    flops: int
    traffic_bytes: int
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
    return Case(run, seconds, *counted_work(run), padding,
                sum(p.numel() for p in stepper.trainable))


def counted_work(run: Callable[[], object]) -> tuple[int, int]:
    """What ``run`` does, forward and backward, for a roofline: floating-point operations of its
    matrix products and convolutions (nothing is computed twice, so these are the model's own), and
    the bytes that all other operations move."""
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        run()
    return flops.get_total_flops(), traffic.bytes


_FREE = {torch.ops.aten._unsafe_view, torch.ops.aten.detach}  # a new name for the same memory


class _Traffic(TorchDispatchMode):
    """Bytes read and written by operations that are no products, each tensor once a call."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        kind = func.overloadpacket
        if not (func.is_view or kind in _FREE or kind in flop_registry):
            for x in tree_leaves((args, kwargs, out)):
                if isinstance(x, torch.Tensor):
                    self.bytes += x.numel() * x.element_size()
        return out


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
