"""Parameters, memory, operations and time of a training stage, without allocating any of it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from e2etts.data.batch import Batch
from e2etts.data.vocab import Vocab
from e2etts.plan.resources import GIB, SHARDING, USABLE, Cluster, CorpusSize
from e2etts.plan.shapes import Shapes, run_on_shapes
from e2etts.recipe import RecipeConfig
from e2etts.tasks.build import build_task
from e2etts.tasks.sample_task import SampleTask
from e2etts.train.config import TrainConfig
from e2etts.train.optim import make_optimizers
from e2etts.train.task import Task

_LOW = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": None}


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """memory_bytes: of one GPU by kind. host_bytes: what saving weights adds to the memory of the
    first process. disk_bytes: at their most, of training states and checkpoints. flops: of one
    optimiser step on one GPU. passes: over the data. steps and days: None where the stage is
    bounded by minutes."""

    name: str
    memory_bytes: dict[str, float]
    host_bytes: float
    disk_bytes: float
    flops: float
    batch_seconds: float
    steps: int | None
    passes: float | None
    days: float | None

    @property
    def total_gib(self) -> float:
        return sum(self.memory_bytes.values()) / GIB


def count_parameters(module: nn.Module) -> int:
    """All of them, frozen ones included."""
    return sum(p.numel() for p in module.parameters())


@dataclass(frozen=True)
class PartCost:
    """One part of the system. Bytes on one GPU: of its weights, and of all its states while it
    learns as in the first stage that trains it (0 where none does)."""

    parameters: int
    frozen_bytes: float
    learning_bytes: float


def part_costs(recipe: RecipeConfig, vocab: Vocab, cluster: Cluster) -> dict[str, PartCost]:
    """The parts of the system, and the vocoder where a stage trains one."""
    costs: dict[str, PartCost] = {}
    for name, stage in recipe.stages.items():
        learning = set(stage.trainable) if stage.trains_system else {"vocoder"}
        learning -= {part for part, cost in costs.items() if cost.learning_bytes}
        if not learning:
            continue
        task = _meta_task(recipe, name, vocab)
        nets = (dict(task.system.named_children()) if stage.trains_system
                else {"vocoder": task.vocoder})
        for part, net in nets.items():
            if part in learning or part not in costs:
                held = state_bytes(net.requires_grad_(part in learning), stage.train, cluster)
                costs[part] = PartCost(count_parameters(net), held["weights"],
                                       sum(held.values()) if part in learning else 0.0)
    return costs


class StageEstimator:
    """Cost of one stage that trains parts of the system, with batches of equally long utterances.
    Roll-outs have their greatest length; of DPO the pairs are not counted."""

    def __init__(self, recipe: RecipeConfig, name: str, vocab: Vocab, corpus: CorpusSize,
                 cluster: Cluster):
        self.recipe, self.name, self.corpus, self.cluster = recipe, name, corpus, cluster
        self.stage = recipe.stage(name)
        self.task = _meta_task(recipe, name, vocab)
        self.states = state_bytes(self.task, self.stage.train, cluster)
        for parameter in self.task.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)  # counted with the states

    @property
    def rows(self) -> int:
        """Utterances that the stage's batch holds; at least one."""
        return max(1, int(self.stage.train.batch_seconds / self.corpus.utterance_seconds))

    def cost(self, rows: int | None = None) -> StageCost:
        """With the stage's own batch, or with ``rows`` utterances."""
        config, cluster = self.stage.train, self.cluster
        batch = shape_batch(self.recipe, self.name, self.corpus, rows or self.rows)
        with FlopCounterMode(display=False) as counter:
            activations = step_bytes(self.task, batch, self.stage.weights,
                                     _LOW[config.precision])
        seconds = float(batch.mel_lens.sum()) / self.recipe.audio.frame_rate_hz
        flops = counter.get_total_flops() * config.accumulation
        passes = days = None
        if config.max_steps is not None:
            step_seconds = seconds * config.accumulation * cluster.gpus
            passes = config.max_steps * step_seconds / (self.corpus.hours * 3600)
            rate = cluster.tflops * 1e12 * cluster.utilisation
            days = config.max_steps * flops / rate / 86400
        weights = sum(t.numel() * t.element_size() for t in self.task.state_to_save().values())
        return StageCost(name=self.name, memory_bytes={**self.states, "activations": activations},
                         host_bytes=weights, disk_bytes=self._disk_bytes(weights), flops=flops,
                         batch_seconds=seconds, steps=config.max_steps, passes=passes, days=days)

    def _disk_bytes(self, weights: float) -> float:
        """Of the states that ``train.states`` keeps, one more of which is being written, and of the
        checkpoints best, last, those that are kept, and one that is being written."""
        config = self.stage.train
        spike, states = config.health.spike, 2
        if spike.action == "recover":  # the newest is one of two snapshots, or a third
            states = 4 if config.save_every % spike.snapshot_every else 3
        kept = (config.max_steps or 0) // config.keep_every if config.keep_every else 0
        return states * saved_bytes(self.task, config) + (3 + kept) * weights

    def largest_batch(self, most: int) -> int:
        """Most utterances, up to ``most``, that fit on a GPU; 0 where not even one does."""
        limit, one = self.cluster.gib * USABLE, self.cost(1).total_gib
        each = (self.cost(most).total_gib - one) / max(1, most - 1)
        rows = min(most, 1 + int((limit - one) / each)) if one <= limit and each else 0
        while rows and self.cost(rows).total_gib > limit:  # memory is not quite linear
            rows -= 1
        return rows


def _meta_task(recipe: RecipeConfig, name: str, vocab: Vocab) -> Task:
    with Shapes():
        task = build_task(recipe, name, vocab).train()
    if isinstance(task, SampleTask):
        task.discards = False  # no roll-out ends where tokens have no values
    return task


def state_bytes(task: nn.Module, config: TrainConfig, cluster: Cluster) -> dict[str, float]:
    """Bytes that a GPU holds between steps, by kind. Weights, gradients, moments and average are
    float32; the autocast copies of weights are counted with the activations."""
    learning = [p for p in task.parameters() if p.requires_grad]
    count = sum(p.numel() for p in learning)
    held = Counter(
        weights=sum(t.numel() * t.element_size() for t in [*task.parameters(), *task.buffers()]),
        gradients=4 * count, EMA=4 * count if config.ema_decay else 0)
    for optimizer in make_optimizers(task, learning, config):
        moments = 1 if isinstance(optimizer, torch.optim.Muon) else 2
        for group in optimizer.param_groups:
            held["optimiser"] += sum(4 * moments * p.numel() for p in group["params"])
            # AdamW counts its steps in a tensor for each parameter.
            held["optimiser"] += 4 * len(group["params"]) if moments == 2 else 0
    for kind in SHARDING[cluster.sharding]:
        held[kind] /= cluster.gpus
    if cluster.gpus > 1 and cluster.sharding == "none":
        held["buckets"] = 4 * count  # in which DistributedDataParallel sums gradients
    return dict(held)


def saved_bytes(task: nn.Module, config: TrainConfig) -> float:
    """Bytes of a training state on disk: what training changes."""
    held = state_bytes(task, config, Cluster())
    learning = sum(p.numel() for p in task.parameters() if p.requires_grad)
    return 4 * learning + held["EMA"] + held["optimiser"]


def shape_batch(recipe: RecipeConfig, name: str, corpus: CorpusSize, rows: int) -> Batch:
    """``rows`` utterances of the same length, without values."""
    audio, stage = recipe.audio, recipe.stage(name)
    frames = max(1, round(corpus.utterance_seconds * audio.token_rate_hz)) * audio.frames_per_token
    letters = max(1, round(corpus.utterance_seconds * corpus.text_tokens_a_second))
    reference = max(1, round(stage.data.reference_max_seconds * audio.frame_rate_hz))

    def mel(size: int) -> torch.Tensor:
        return torch.empty(rows, size, audio.mel_bands, device="meta")

    def lengths(size: int) -> torch.Tensor:
        return torch.full((rows,), size)
    labels = torch.zeros(rows, dtype=torch.long)
    return Batch(
        utts=[""] * rows, mel=mel(frames), mel_lens=lengths(frames),
        text=torch.zeros(rows, letters, dtype=torch.long), text_lens=lengths(letters),
        language=labels, speaker=labels, emotion=labels, reference_mel=mel(reference),
        reference_lens=lengths(reference),
        codes=labels[:, None].expand(-1, frames // audio.frames_per_token)
        if recipe.codes else None)


def step_bytes(task: Task, batch: Batch, weights: dict[str, Any],
               low: torch.dtype | None) -> int:
    """Peak bytes of the losses of a batch and their gradients, besides the states."""
    def step() -> None:
        terms = task(batch).terms
        sum(v.float() for k, v in terms.items() if weights.get(k)).backward()
    return run_on_shapes(step, low)
