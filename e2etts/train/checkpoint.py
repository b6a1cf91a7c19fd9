"""Checkpoint folders: written whole or not at all, and loaded only where they fit exactly."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from e2etts.config import differences
from e2etts.errors import UserError
from e2etts.files import recover_folder, replaced_folder
from e2etts.provenance import running_commit

FORMAT = 2
_SHOWN = 5


def save_checkpoint(folder: str | Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and ``meta.json`` as one folder, replacing an older one.

    meta should hold "step", "config" (the full model configuration) and "metrics"; the format
    version and the commit are added. Raises UserError when the disk refuses.
    """
    meta = {"format": FORMAT, "commit": running_commit(), **meta}
    # A clone each, because safetensors refuses tensors that share memory (tied weights).
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    with replaced_folder(Path(folder)) as part:
        try:
            save_file(tensors, part / "model.safetensors")
        except SafetensorError as e:  # how it reports a full disk
            raise OSError(str(e)) from e
        (part / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")


def load_checkpoint(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and meta of a checkpoint folder.

    Raises UserError for a missing or broken folder, or another format version.
    """
    folder = Path(folder)
    recover_folder(folder)
    for name in ("model.safetensors", "meta.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such checkpoint file: run the stage that "
                            "writes it, or correct the path")
    try:
        meta = json.loads((folder / "meta.json").read_text())
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as e:
        raise UserError(f"{folder}: broken checkpoint ({e}): train the stage again") from e
    if meta.get("format") != FORMAT:
        raise UserError(f"{folder}/meta.json: checkpoint format {meta.get('format')}, this "
                        f"program reads {FORMAT}: train the stage again")
    return tensors, meta


def require_same(stored: dict, wanted: dict, where: str) -> None:
    """Raise UserError naming the keys in which two configurations differ."""
    wrong = differences(stored, json.loads(json.dumps(wanted)))
    if wrong:
        raise UserError(f"{where}: made with another configuration (stored != wanted): "
                        f"{_first(wrong)}: use the stored values, or another --tag, or delete it")


def restore(module: nn.Module, tensors: dict[str, Tensor], where: str,
            absent: Collection[str] = ()) -> None:
    """Load ``tensors`` into ``module``: every tensor must be there, with its shape, and no other.
    absent: names of those that are not there, and stay as they are.

    Raises UserError that lists the first few missing, unknown and mis-shaped tensors.
    """
    own = {k: v for k, v in module.state_dict().items() if k not in absent}
    wrong = [f"{k} is missing" for k in own if k not in tensors]
    wrong += [f"{k} is unknown" for k in tensors if k not in own]
    wrong += [f"{k} has shape {tuple(tensors[k].shape)}, expected {tuple(v.shape)}"
              for k, v in own.items() if k in tensors and tensors[k].shape != v.shape]
    if wrong:
        raise UserError(f"{where}: the checkpoint does not fit the model: {_first(wrong)}: "
                        "load one that was trained with this configuration")
    module.load_state_dict(tensors, strict=not absent)


def _first(items: list[str]) -> str:
    more = f"; and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(items[:_SHOWN]) + more
