"""Which run a folder holds: what decides its result, and what may change when it resumes."""

import json
from typing import Any

from e2etts.config import to_dict, with_defaults
from e2etts.train.checkpoint import require_same
from e2etts.train.config import LIMITS, LossWeight, TrainConfig

# Settings of a run that may change when it goes on. Limits may only be raised.
_FREE = (*LIMITS, "log_every", "save_every", "keep_every", "validate_every", "validations",
         "workers", "health")


def run_identity(config: TrainConfig, weights: dict[str, float | LossWeight], seed: int,
                 more: dict[str, Any]) -> dict[str, Any]:
    """Nested mapping of everything that decides the result of a run."""
    return {**more, "seed": seed, "train": to_dict(config), "weights": {
        k: to_dict(w) if isinstance(w, LossWeight) else w for k, w in weights.items()}}


def require_same_run(stored: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Raise UserError naming the keys for which ``wanted`` cannot resume ``stored``. Options that
    were added to the program since have their defaults in ``stored``."""
    stored, wanted = (json.loads(json.dumps(i)) for i in (stored, wanted))
    stored["train"] = with_defaults(TrainConfig, stored["train"])
    stored["weights"] = with_defaults(dict[str, float | LossWeight], stored["weights"])
    for name in LIMITS:
        old, new = stored["train"].get(name), wanted["train"][name]
        if new is not None and (old is None or new < old):
            require_same({f"train.{name}": old}, {f"train.{name}": new}, where)
    for identity in (stored, wanted):
        for name in _FREE:
            identity["train"].pop(name, None)
    require_same(stored, wanted, where)
