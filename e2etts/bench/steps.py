"""Our own cases: the training step of every stage, and single nets for comparison with peers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from e2etts.bench.batches import made_batches, made_vocab
from e2etts.bench.machine import device, median_seconds
from e2etts.recipe import RecipeConfig
from e2etts.tasks.build import build_task
from e2etts.train.step import Stepper


@dataclass(frozen=True)
class _Shape:
    """A tensor but for its values."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def made_up(self) -> torch.Tensor:
        extent = 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        values = torch.randn(extent, device=device()).to(self.dtype)
        return values.as_strided(self.size, self.stride)


@dataclass(frozen=True)
class _Product:
    """One call of a matrix product, convolution or attention; equal calls take equal time."""

    func: Callable
    leaves: tuple
    structure: TreeSpec = field(compare=False)

    @classmethod
    def of(cls, func: Callable, args: tuple, kwargs: dict) -> "_Product":
        leaves, structure = tree_flatten((args, kwargs))
        return cls(func, tuple(_Shape(tuple(x.shape), x.stride(), x.dtype)
                               if isinstance(x, torch.Tensor) else x for x in leaves), structure)

    def seconds(self) -> float:
        """Alone, its operands in the caches."""
        args, kwargs = tree_unflatten(
            [x.made_up() if isinstance(x, _Shape) else x for x in self.leaves], self.structure)
        return median_seconds(lambda: self.func(*args, **kwargs), 5)


@dataclass(frozen=True)
class Work:
    """What a run does, forward and backward, for a roofline. flops: of its products, convolutions
    and attention (nothing is computed twice, so these are the model's own). products: these calls,
    and how often. traffic_bytes: read and written by all other operations, each tensor once a
    call."""

    flops: int
    products: Counter[_Product]
    traffic_bytes: int

    def products_seconds(self) -> float:
        """Every product at the speed that it has alone: small ones are far below the machine's
        limit, whoever calls them."""
        return sum(count * product.seconds() for product, count in self.products.items())


@dataclass(frozen=True)
class Case:
    """run: one pass over its batches. audio_seconds, work: of one run; padding: share of frames;
    parameters: that are trained."""

    run: Callable[[], object]
    audio_seconds: float
    work: Work
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
    return Case(run, seconds, counted_work(run), padding,
                sum(p.numel() for p in stepper.trainable))


def counted_work(run: Callable[[], object]) -> Work:
    """Call ``run`` once, and count."""
    with FlopCounterMode(display=False) as flops, _Counting() as counting:
        run()
    return Work(flops.get_total_flops(), counting.products, counting.traffic_bytes)


_FREE = {torch.ops.aten._unsafe_view, torch.ops.aten.detach}  # a new name for the same memory


class _Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.products: Counter[_Product] = Counter()
        self.traffic_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        kind = func.overloadpacket
        if kind in flop_registry:
            self.products[_Product.of(func, args, kwargs or {})] += 1
        elif not (func.is_view or kind in _FREE):
            for x in tree_leaves((args, kwargs, out)):
                if isinstance(x, torch.Tensor):
                    self.traffic_bytes += x.numel() * x.element_size()
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
