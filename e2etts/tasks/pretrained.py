"""Initialises the LM from a published text LM of the Qwen3 form (arXiv 2505.09388)."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from e2etts.errors import UserError
from e2etts.hub import published_folder
from e2etts.nets.lm import LM

FILES = ["config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
_INDEX = "model.safetensors.index.json"
# Key of config.json -> key of our trunk.
_SIZES = {"hidden_size": "dim", "num_hidden_layers": "layers", "num_attention_heads": "heads",
          "num_key_value_heads": "kv_heads", "head_dim": "head_dim",
          "intermediate_size": "hidden_dim", "rms_norm_eps": "norm_eps"}
_TABLE, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


@torch.no_grad()
def start_from_published(lm: LM, source: str, where: str) -> None:
    """Fill trunk and text embedding of ``lm`` from the folder or hub repository ``source``.

    The head over text is ignored: the LM predicts speech tokens. Rows of the embedding past
    the tokenizer's last id, with which tables are padded, are ignored too. where: the configuration
    key to name in errors. Raises UserError for a model of another kind or other sizes, and for
    files that are missing or broken.
    """
    folder = published_folder(source, FILES)
    _check_config(folder / "config.json", lm, where)
    wanted = {f"model.{name}": p for name, p in lm.trunk.named_parameters()}
    missing, unknown = {*wanted, _TABLE}, []
    for name, tensor in _tensors(folder):
        if name == _TABLE:
            _text_rows(lm, tensor, folder, where)
        elif name in wanted:
            if tensor.shape != wanted[name].shape:
                raise UserError(f"{folder}: {name} has shape {tuple(tensor.shape)}, expected "
                                f"{tuple(wanted[name].shape)}: the files do not fit config.json")
            wanted[name].copy_(tensor)
        elif name != _HEAD:
            unknown.append(name)
        missing.discard(name)
    for names, what in ((sorted(missing), "lacks"), (unknown, "has, unknown to Qwen3,")):
        if names:
            raise UserError(f"{folder}: {what} {len(names)} tensors, such as {names[0]}: expected "
                            "the safetensors of a Qwen3 text model")


def _check_config(path: Path, lm: LM, where: str) -> None:
    stated = _json(path)
    if stated.get("model_type") != "qwen3":
        raise UserError(f"{path}: model_type {stated.get('model_type')!r}, expected 'qwen3': "
                        "choose a text model of that form")
    trunk = lm.config.trunk
    theirs = {ours: stated.get(key) for key, ours in _SIZES.items()}
    # Since version 5 the transformers library writes rope_theta inside rope_parameters.
    rope = stated.get("rope_parameters") or {}
    theirs["rope_base"] = stated.get("rope_theta") or rope.get("rope_theta")
    theirs["qk_norm"] = True
    mine = {key: getattr(trunk, key) for key in theirs}
    mine["kv_heads"] = trunk.kv_heads or trunk.heads
    wrong = [f"model.lm.trunk.{k}={theirs[k]} (is {mine[k]})" for k in theirs
             if theirs[k] != mine[k]]
    if wrong:
        raise UserError(f"{where}: {path} has other sizes: set {' '.join(wrong)}")


def _text_rows(lm: LM, table: Tensor, folder: Path, where: str) -> None:
    rows = len(lm.text.weight)
    if len(table) < rows:
        raise UserError(f"{where}: {rows} text tokens, but the embedding of {folder} has "
                        f"{len(table)} rows: set text.published to the same model, and prepare "
                        "again (--stage 2)")
    lm.text.weight.copy_(table[:rows])


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor, one file at a time, so that large models need no second copy in memory."""
    files = ["model.safetensors"]
    if (folder / _INDEX).is_file():
        files = sorted(set(_json(folder / _INDEX)["weight_map"].values()))
    for name in files:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise UserError(f"{path}: no such file of the published model; fetch "
                            f"{', '.join(FILES)}")
        try:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a mapping)
                    yield key, file.get_tensor(key)
        except SafetensorError as e:
            raise UserError(f"{path}: broken ({e}); fetch it again") from e


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); fetch {', '.join(FILES)}") from e
