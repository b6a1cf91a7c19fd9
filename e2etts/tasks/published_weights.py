"""Weights of published models: safetensors in one file or in shards, beside a config.json."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from e2etts.errors import UserError

FILES = ["config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
_INDEX = "model.safetensors.index.json"


def read_published_json(path: Path) -> dict:
    """The content of a JSON file of a published model. Raises UserError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); fetch {', '.join(FILES)}") from e


@torch.no_grad()
def fill_from_published(folder: Path, kind: str, wanted: dict[str, Callable[[Tensor], None]],
                        unused: tuple[str, ...] = (), prefix: str = "") -> None:
    """Hand each tensor of ``folder`` to the function of its name, less ``prefix``, in ``wanted``.

    One tensor at a time, so that large models need no second copy in memory; those whose name
    begins with one of ``unused`` are not read. kind: of model, to name in errors. Raises UserError
    for files that are missing or broken, and for tensors that are missing or unknown.
    """
    missing, unknown = set(wanted), []
    for path in _weight_files(folder):
        try:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a mapping)
                    name = key.removeprefix(prefix)
                    if name in wanted:
                        wanted[name](file.get_tensor(key))
                        missing.discard(name)
                    elif not name.startswith(unused):
                        unknown.append(key)
        except SafetensorError as e:
            raise UserError(f"{path}: broken ({e}); fetch it again") from e
    for names, what in ((sorted(missing), "lacks"), (unknown, f"has, unknown to {kind},")):
        if names:
            raise UserError(f"{folder}: {what} {len(names)} tensors, such as {names[0]}: expected "
                            f"the safetensors of a {kind} model")


def copy_into(parameter: Tensor, name: str, folder: Path) -> Callable[[Tensor], None]:
    """A function for ``fill_from_published`` that copies a tensor of the same shape."""
    def copy(tensor: Tensor) -> None:
        if tensor.shape != parameter.shape:
            raise UserError(f"{folder}: {name} has shape {tuple(tensor.shape)}, expected "
                            f"{tuple(parameter.shape)}: the files do not fit config.json")
        parameter.copy_(tensor)
    return copy


def _weight_files(folder: Path) -> list[Path]:
    names = ["model.safetensors"]
    if (folder / _INDEX).is_file():
        names = sorted(set(read_published_json(folder / _INDEX).get("weight_map", {}).values()))
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file of the published model; fetch "
                            f"{', '.join(FILES)}")
    return [folder / name for name in names]
