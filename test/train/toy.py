"""Tiny tasks and streams for the tests of the training loop."""

import json
import os

import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from e2etts.data.batch import Batch
from e2etts.train.config import HealthConfig, SpikeConfig, TrainConfig
from e2etts.train.loop import Trainer
from e2etts.train.task import EVALUATION, Losses, StepInfo, Task

ROWS, FRAMES, BANDS = 4, 8, 4


def make_batch(seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    mel = torch.randn(ROWS, FRAMES, BANDS, generator=g)
    lens, labels = torch.full((ROWS,), FRAMES), torch.zeros(ROWS, dtype=torch.long)
    return Batch(utts=[f"utt{seed}-{i}" for i in range(ROWS)], mel=mel, mel_lens=lens,
                 text=torch.zeros(ROWS, 1, dtype=torch.long), text_lens=torch.ones_like(lens),
                 language=labels, speaker=labels, emotion=labels, reference_mel=mel,
                 reference_lens=lens)


class Regression(Task):
    """Learns a fixed linear map of the mel; dropout and noise make it depend on the seeding."""

    def __init__(self, noise: float = 0.1, depth: int = 16):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(BANDS, depth), nn.Tanh(), nn.Linear(depth, BANDS))
        self.norm = nn.BatchNorm1d(BANDS)
        self.noise = noise

    def forward(self, batch: Batch, phase: str = "main", info: StepInfo = EVALUATION) -> Losses:
        target = batch.mel.flip(-1) * 0.5
        noise = self.noise * torch.randn_like(target)
        if self.training:
            self.norm(batch.mel.flatten(0, 1))
        error = (self.net(batch.mel) - target - noise).square().mean()
        return Losses({"error": error}, {"size": batch.mel.abs().mean()})


class TwoPhases(Regression):
    """A generator and a critic of it, each with an optimiser of its own."""

    phases = ("generator", "discriminator")

    def __init__(self):
        super().__init__()
        self.critic = nn.Linear(BANDS, 1)

    def parameters_of(self, phase: str) -> list[nn.Parameter]:
        return list((self.net if phase == "generator" else self.critic).parameters())

    def forward(self, batch: Batch, phase: str = "generator",
                info: StepInfo = EVALUATION) -> Losses:
        made = self.net(batch.mel + 0.1 * torch.randn_like(batch.mel))
        if phase == "generator":
            return Losses({"error": (made - batch.mel).square().mean(),
                           "fool": (self.critic(made) - 1).square().mean()})
        if info.progress < 0.2:
            return Losses()
        real, fake = self.critic(batch.mel), self.critic(made.detach())
        return Losses({"critic": (real - 1).square().mean() + fake.square().mean()})


class Reader(Task):
    """Two readers of one q; the use of its codes collapses half way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.far = nn.Linear(BANDS, 3), nn.Linear(3, 2)
        self.drop = nn.Dropout(0.2)

    def forward(self, batch, phase="main", info=EVALUATION):
        q = self.encoder(batch.mel)
        near, far = q.mean() * 2, self.far(self.drop(q)).square().mean()
        share = torch.tensor(0.8 if info.progress < 0.5 else 0.1)
        return Losses({"error": near, "fool": far}, {"token_entropy_share": share},
                      (q,) if q.requires_grad else ())


def epoch_of(seed: int, epoch: int, count: int = 5) -> list[Batch]:
    return [make_batch(seed + 100 * epoch + i) for i in range(count)]


def stream(cursor, rank=0, ranks=1, poison=lambda n: False, on_batch=lambda n: None, count=5,
           scale=lambda n: 1.0):
    """Random batches, five an epoch; ``poison(n)`` makes the n-th batch not a number, and it is
    ``scale(n)`` times as large as it should be."""
    epoch, position = cursor
    while True:
        batches = epoch_of(7, epoch, count)
        while position < count:
            batch, number = batches[position], epoch * count + position
            position += 1
            if poison(number):
                batch.mel[0, 0, 0] = float("nan")
            batch.mel.mul_(scale(number))
            on_batch(number)
            yield batch, (epoch, position)
        epoch, position = epoch + 1, 0


def make_trainer(task: Task, folder, *, train=stream, weights=None, identity=None, seed: int = 1,
                 dev_batches: int = 2, **options) -> Trainer:
    config = TrainConfig(**{
        "lr": 1e-2, "warmup_steps": 3, "max_steps": 12, "precision": "no", "log_every": 1,
        "validate_every": 4, "validations": 0, "save_every": 100, "ema_decay": 0.9, **options})
    return Trainer(task, config, folder=folder, train=train,
                   dev=lambda: [make_batch(1000 + i) for i in range(dev_batches)],
                   weights=weights or {"error": 1.0, "fool": 0.1, "critic": 1.0},
                   frame_rate_hz=50.0, seed=seed, identity=identity)


def records(folder, split: str) -> list[dict]:
    """What a run has logged of one kind."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r for r in lines if r["split"] == split]


def quick_spikes(**changes) -> HealthConfig:
    """Jumps are seen within a few steps."""
    return HealthConfig(spike=SpikeConfig(**{
        "window_steps": 24, "sustained_steps": 6, "snapshot_every": 8, "snapshot_share": 1.0,
        **changes}))


def shared_stream(cursor, rank=0, ranks=1, **changes):
    """``stream`` with each batch's rows shared between the ranks."""
    for batch, after in stream(cursor, **changes):
        rows = slice(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
        yield batch.select(rows), after


def train_as_rank(rank: int, folder: str, port: int) -> None:
    """One of two processes that train together on the CPU."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    AcceleratorState._reset_state(reset_partial_state=True)  # forked from a test that ran alone
    make_trainer(Regression(noise=0.0), f"{folder}/one", train=shared_stream).run()
    make_trainer(TwoPhases(), f"{folder}/two", train=shared_stream, accumulation=2).run()
    make_trainer(Reader(), f"{folder}/seam", train=shared_stream,
                 health=HealthConfig(observe_every=1)).run()
    task = Regression(noise=0.0)  # one process alone sees data that are wrong
    make_trainer(task, f"{folder}/spike", max_steps=50, health=quick_spikes(),
                 train=lambda c, rank, ranks: shared_stream(
                     c, rank, ranks, scale=lambda n: 30.0 if rank and 30 <= n < 35 else 1.0)).run()
    torch.save(dict(task.net.state_dict()), f"{folder}/rank{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def tensors_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
