"""Who moves the tokens: each loss's share of the gradient at q, and weights that give it one."""

from collections.abc import Mapping
from typing import Any

from e2etts.errors import UserError
from e2etts.train.config import LossWeight

EVERY_STEPS = 20  # between measurements where a weight follows from them
NEWEST = 0.2  # least share of the newest measurement in the mean norm


class Balance:
    """Gradient norms of the losses at the token embeddings q over a stage.

    The dose of a loss is the sum over steps of learning rate times the norm of its weighted
    gradient at q. A loss whose ``LossWeight`` names a share gets the weight with which it has this
    share of the sum of all weighted norms; the others keep theirs. As the balancer of arXiv
    2210.13438 (section 3.4) at the output of a decoder, but at q, so that the models that read q
    are trained on their own losses as before.

    norms: mean norm of the unweighted gradient, by loss; the last measurements count most.
    """

    def __init__(self, weights: Mapping[str, float | LossWeight], title: str):
        """Raises UserError for shares that leave nothing to the losses without one."""
        self.title = title
        self.weights = {k: w for k, w in weights.items()
                        if isinstance(w, LossWeight) and w.share is not None}
        if sum(w.share for w in self.weights.values()) >= 1:
            raise UserError(f"{title}: weights: the shares of {', '.join(self.weights)} leave "
                            "nothing to the other losses: their sum must be less than 1")
        self.norms: dict[str, float] = {}
        self.measured: dict[str, int] = {}
        self.doses: dict[str, float] = {}
        self.before: dict[str, float] = {}  # dose of all losses when one joined
        self.lr_sum = 0.0  # since the last measurement
        self.owed: dict[str, float] = {}  # the same, of measured steps without a loss

    def due(self, step: int, on: Mapping[str, float]) -> bool:
        """Whether ``step`` must be measured for the weights of the losses that are ``on``."""
        mine = [k for k in self.weights if on.get(k)]
        return bool(mine) and (step % EVERY_STEPS == 0 or any(not self.norms.get(k) for k in mine))

    def applied(self, now: dict[str, float]) -> dict[str, float]:
        """Weights ``now``, with those that follow from shares replaced; a loss that has not been
        measured keeps its own."""
        wanted = {k: w.share * now[k] / w.weight for k, w in self.weights.items()
                  if now.get(k) and self.norms.get(k)}
        fixed = sum(w * self.norms[k] for k, w in now.items()
                    if k in self.norms and k not in wanted)
        if not wanted or not fixed:
            return now
        total = fixed / (1 - sum(wanted.values()))
        return now | {k: share * total / self.norms[k] for k, share in wanted.items()}

    def add(self, lr: float, used: Mapping[str, float], grads: Mapping[str, float] | None) -> None:
        """One step with weights ``used`` of the losses that it has. grads: norms of the weighted
        gradients at q, those that do not reach it left out; None where this step was not measured.

        Raises UserError where a loss with a share does not reach q."""
        self.lr_sum += lr
        if grads is None:
            return
        lost = [k for k in self.weights if used.get(k) and k not in grads and k not in self.norms]
        if lost and grads:
            raise UserError(f"{self.title}: weights.{lost[0]}.share: this loss has no gradient at "
                            "q: give it a plain weight, or let its gradient pass (options)")
        total = sum(self.doses.values())
        for name in self.doses.keys() - used.keys():
            self.owed[name] = self.owed.get(name, 0.0) + self.lr_sum
        for name, grad in grads.items():
            # A net whose output layer starts at zero gives q no gradient in the first step.
            count = self.measured[name] = self.measured.get(name, 0) + (grad > 0)
            norm, old = grad / used[name], self.norms.get(name, 0.0)
            self.norms[name] = old + max(1 / max(count, 1), NEWEST) * (norm - old)
            self.before.setdefault(name, total)
            lr_sum = self.lr_sum + self.owed.pop(name, 0.0)
            self.doses[name] = self.doses.get(name, 0.0) + lr_sum * grad
        self.lr_sum = 0.0

    def shares(self) -> dict[str, float]:
        """Share of each loss in the dose of the whole stage so far; {} before a measurement."""
        total = sum(self.doses.values())
        return {k: dose / total for k, dose in self.doses.items()} if total else {}

    def to_log(self) -> dict[str, float]:
        """q_share_<loss>: share of each loss in the dose since it joined, from its second
        measurement on."""
        total = sum(self.doses.values())
        return {f"q_share_{k}": dose / (total - self.before[k]) for k, dose in self.doses.items()
                if self.measured[k] > 1 and total > self.before[k]}

    def state_dict(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in _KEPT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in _KEPT:
            setattr(self, name, state.get(name, getattr(self, name)))


_KEPT = ("norms", "measured", "doses", "before", "lr_sum", "owed")
