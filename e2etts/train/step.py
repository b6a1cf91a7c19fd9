"""One optimiser step: losses of every phase, their gradients, and whether they may be used."""

import contextlib
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from e2etts.data.batch import Batch
from e2etts.errors import UserError
from e2etts.train.balance import Balance
from e2etts.train.config import LossWeight, TrainConfig, times_in_step, weight_at
from e2etts.train.logging import Means
from e2etts.train.optim import Ema, learning_rate_ratio, make_optimizers
from e2etts.train.ranks import Ranks
from e2etts.train.task import Losses, StepInfo, Task


@dataclass
class Outcome:
    """What came of a step. values: losses, metrics and gradient norms to log.

    terms: the losses among them that have a weight, of all phases.
    refused: (phase, loss, gradient norm) that were not finite; then nothing was changed.
    """

    values: dict[str, Tensor | float] = field(default_factory=dict)
    terms: dict[str, Tensor] = field(default_factory=dict)
    refused: tuple[str, float, float] | None = None


class Stepper:
    """Optimisers of a task's phases, and the average of what they train."""

    def __init__(self, task: Task, config: TrainConfig, weights: dict[str, float | LossWeight],
                 accelerator: Accelerator, title: str):
        self.task, self.config, self.weights = task, config, weights
        self.accelerator, self.ranks, self.title = accelerator, Ranks(accelerator), title
        self.parameters = {phase: task.parameters_of(phase) for phase in task.phases}
        empty = [phase for phase, ps in self.parameters.items() if not ps]
        if empty:
            raise UserError(f"{title}: phase '{empty[0]}' has no trainable parameters: check the "
                            "stage's 'trainable'")
        self.trainable = list({id(p): p for ps in self.parameters.values() for p in ps}.values())
        self.optimizers = {
            phase: make_optimizers(task, ps, config, self._scales())
            for phase, ps in self.parameters.items()}
        # Buffers that are not saved are constants.
        self.statistics = [b for m in task.modules() for name, b in m.named_buffers(recurse=False)
                           if b.is_floating_point() and name not in m._non_persistent_buffers_set]
        device = accelerator.device.type
        # Scaled by hand: accelerate's wrapper unscales twice where a phase has two optimisers.
        self.scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")
        self.model = accelerator.prepare_model(task) if self.ranks.count > 1 else task
        self.ema = Ema(self.trainable, config.ema_decay)
        self.balance = Balance(weights, title)

    def _scales(self) -> dict[int, float]:
        """Id of a parameter -> multiplier of its learning rate. Raises UserError for a part that
        the task does not have."""
        parts = self.task.parts()
        unknown = sorted(self.config.lr_scales.keys() - parts.keys())
        if unknown:
            raise UserError(f"{self.title}: train.lr_scales: no part '{unknown[0]}'; parts: "
                            f"{', '.join(parts) or 'none'}")
        return {id(p): scale for name, scale in self.config.lr_scales.items()
                for p in parts[name].parameters()}

    def step(self, batches: list[Batch], number: int, progress: float, *, lr_scale: float = 1.0,
             observe: bool = False) -> Outcome:
        """One step in every phase on ``batches`` (accumulated). The caller seeds torch.

        observe: also measure what costs time; it changes nothing else. Losses or gradients that
        are not finite change nothing that later steps see, except what earlier phases of the same
        step have already learned.
        """
        self.prepare(progress)
        # Weights in the mean over steps, and in this one.
        self.mean_weights = self.balance.applied(self.weights_now)
        self.times = {k: times_in_step(w, number) for k, w in self.weights.items()}
        self.weights_used = {k: w * self.times[k] for k, w in self.mean_weights.items()}
        info = StepInfo(progress, frozenset(k for k, w in self.weights_used.items() if not w),
                        observe)
        ratio = lr_scale * learning_rate_ratio(number, progress, self.config.warmup_steps,
                                               self.config.final_lr_ratio)
        # Statistics kept in buffers are updated by the forward pass: a bad batch must not stay.
        buffers = [(b, b.clone()) for b in self.statistics]
        values: dict[str, Tensor | float] = {"lr": self.config.lr * ratio}
        measures_q = observe or self.balance.due(number, self.weights_used)
        self.q_norms: dict[str, Tensor] | None = {} if measures_q else None
        for place, phase in enumerate(self.task.phases):
            loss, norm = self._gradients(phase, batches, info, values)
            if loss is None:
                continue
            finite = self.ranks.all(torch.isfinite(loss) & torch.isfinite(norm))
            for optimizer in self.optimizers[phase]:
                for group in optimizer.param_groups:
                    # States of older runs have no scale.
                    group["lr"] = self.config.lr * ratio * group.get("scale", 1.0)
                if finite:
                    self.scaler.step(optimizer)
                optimizer.zero_grad(set_to_none=True)
            self.scaler.update()
            if not finite:
                for buffer, before in buffers:
                    buffer.copy_(before)
                return Outcome(refused=(phase, float(loss), float(norm)))
            suffix = "" if place == 0 else f"_{phase}"
            values |= {f"loss{suffix}": loss, f"grad_norm{suffix}": norm}
        self.ema.update()
        values |= self._balance(self.config.lr * ratio)
        return Outcome(values, {k: v for k, v in values.items() if self.weights_now.get(k)})

    def prepare(self, progress: float) -> None:
        """Weights of the losses at a training progress, and which losses they disable."""
        self.weights_now = {k: weight_at(w, progress) for k, w in self.weights.items()}
        self.disabled = frozenset(k for k, w in self.weights_now.items() if not w)

    def _gradients(self, phase: str, batches: list[Batch], info: StepInfo,
                   values: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        """Mean loss and clipped gradient's norm of one phase; Nones where it is not on."""
        if len(self.task.phases) > 1:
            mine = {id(p) for p in self.parameters[phase]}
            for parameter in self.trainable:
                parameter.requires_grad_(id(parameter) in mine)
        share, total, means = 1.0 / len(batches), torch.zeros(()), Means()
        for place, batch in enumerate(batches):
            whole = place == len(batches) - 1
            with contextlib.nullcontext() if whole else self.accelerator.no_sync(self.model):
                with self.autocast():
                    losses = self.model(batch, phase, info)
                loss = self._weighted(losses)
                if loss is None:
                    return None, None
                if self.q_norms is not None and place == 0 and losses.embeddings:
                    self.q_norms = self._gradients_at_q(losses, share)
                self.scaler.scale(loss * share).backward()
            total = total.to(loss.device) + loss.detach() * share
            means.add({**losses.terms, **losses.metrics})
        values |= means.tensors()
        for optimizer in self.optimizers[phase]:
            self.scaler.unscale_(optimizer)
        limit = self.config.grad_clip or float("inf")
        return total, torch.nn.utils.clip_grad_norm_(self.parameters[phase], limit)

    def _gradients_at_q(self, losses: Losses, share: float) -> dict[str, Tensor]:
        """Norm of the gradient of each weighted term at the token embeddings q, of those that
        reach it. Walks the graph
        from the term to q only, once per term; the parameters' gradients stay as they are."""
        # Scaled as the step's own backward pass is: no other scale is known to fit in fp16.
        out, scale = {}, self.scaler.get_scale() * share
        for name, term in losses.terms.items():
            if self.weights_used[name] and term.requires_grad:
                grads = torch.autograd.grad(
                    scale * self.weights_used[name] * term.float(), losses.embeddings,
                    retain_graph=True, allow_unused=True)
                norms = [g.float().norm() for g in grads if g is not None]
                if norms:
                    out[name] = torch.stack(norms).norm() / scale
        return out

    def _balance(self, lr: float) -> dict[str, float]:
        """Tell the balance of this step; what to log of it. Norms are means over processes, so
        that all weigh alike."""
        if self.q_norms is None:
            self.balance.add(lr, self.mean_weights, None)
            return {}
        names = sorted(self.weights)
        zero = torch.zeros((), device=self.accelerator.device)
        table = torch.stack([torch.stack([self.q_norms.get(k, zero) for k in names]),
                             torch.stack([zero + (k in self.q_norms) for k in names])])
        sums, counts = self.ranks.sum(table.double()).tolist()
        grads = {k: s / n / self.times[k] for k, s, n in zip(names, sums, counts, strict=True) if n}
        used = {k: w for k, w in self.mean_weights.items() if self.times[k]}
        self.balance.add(lr, used, grads)
        followed = {f"weight_{k}": used[k] for k in self.balance.weights if used.get(k)}
        return {f"q_grad_{k}": v for k, v in grads.items()} | self.balance.to_log() | followed

    def autocast(self) -> torch.autocast:
        """The precision of the forward pass."""
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        return torch.autocast(self.accelerator.device.type, kind, enabled=kind is not None)

    def _weighted(self, losses: Losses) -> Tensor | None:
        missing = sorted(losses.terms.keys() - self.weights.keys())
        if missing:
            raise UserError(f"{self.title}: no weight for the loss '{missing[0]}': add it to the "
                            "stage's weights (0 switches it off)")
        now = self.weights_used
        used = [now[k] * v.float() for k, v in losses.terms.items() if now[k]]
        return sum(used[1:], used[0]) if used else None

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": {phase: [o.state_dict() for o in optimizers]
                               for phase, optimizers in self.optimizers.items()},
                "ema": self.ema.state_dict(), "balance": self.balance.state_dict(),
                "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ema.load_state_dict(state["ema"])
        if "balance" in state:  # older runs did not measure it
            self.balance.load_state_dict(state["balance"])
        for phase, optimizers in self.optimizers.items():
            for optimizer, stored in zip(optimizers, state["optimizers"][phase], strict=True):
                optimizer.load_state_dict(stored)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
