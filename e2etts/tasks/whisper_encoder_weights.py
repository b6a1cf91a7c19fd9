"""A speech tokenizer's encoder that starts from a published Whisper model (arXiv 2212.04356)."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from e2etts.errors import UserError
from e2etts.hub import published_folder
from e2etts.nets.whisper_encoder import WhisperEncoder, WhisperEncoderConfig

FILES = ["config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
_INDEX = "model.safetensors.index.json"
# Key of config.json -> key of our encoder. Of the layers, we may use fewer.
_SIZES = {"d_model": "dim", "encoder_attention_heads": "heads", "encoder_ffn_dim": "hidden_dim",
          "num_mel_bins": "mel_bands", "max_source_positions": "max_positions"}
_LAYERS = "encoder_layers"


def load_whisper_encoder(encoder: WhisperEncoder, source: str, where: str) -> None:
    """Fill all but the adapter from the folder or hub repository ``source``.

    Where only lower layers are used, the final norm keeps its initial values: the published ones
    belong to the last layer. where: the configuration key of the encoder, to name in errors.
    Raises UserError for a model of another kind or other sizes, and for files that are missing or
    broken. Pickled weights are never read.
    """
    folder = published_folder(source, FILES)
    layers = _check_config(folder / "config.json", encoder.config, where)
    upper = [f"encoder.layers.{i}." for i in range(encoder.config.layers, layers)]
    unused = ("decoder.", "proj_out.", *upper, *(["encoder.layer_norm."] if upper else []))
    wanted = {f"encoder.{name}": tensor for name, tensor in encoder.whisper.state_dict().items()
              if not f"encoder.{name}".startswith(unused)}
    missing, unknown = set(wanted), []
    for path in _weight_files(folder):
        try:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a mapping)
                    name = key.removeprefix("model.")
                    if name in wanted:
                        _copy(wanted[name], file.get_tensor(key), f"{folder}: {key}")
                        missing.discard(name)
                    elif not name.startswith(unused):
                        unknown.append(key)
        except SafetensorError as e:
            raise UserError(f"{path}: broken ({e}); fetch it again") from e
    for names, what in ((sorted(missing), "lacks"), (unknown, "has, unknown to Whisper,")):
        if names:
            raise UserError(f"{folder}: {what} {len(names)} tensors, such as {names[0]}: expected "
                            "the safetensors of a Whisper model")


def _check_config(path: Path, config: WhisperEncoderConfig, where: str) -> int:
    """Number of layers that the published encoder has."""
    published = _json(path)
    for key, expected in (("model_type", "whisper"), ("activation_function", "gelu")):
        if published.get(key) != expected:
            raise UserError(f"{path}: {key} {published.get(key)!r}, expected {expected!r}: choose "
                            "a Whisper model")
    layers = published.get(_LAYERS)
    if not isinstance(layers, int):
        raise UserError(f"{path}: {_LAYERS} is {layers!r}, expected a number")
    wrong = [f"{where}.{ours}={published.get(key)} (is {getattr(config, ours)})"
             for key, ours in _SIZES.items() if published.get(key) != getattr(config, ours)]
    if config.layers > layers:
        wrong.append(f"{where}.layers={layers} or fewer (is {config.layers})")
    if wrong:
        raise UserError(f"{where}: {path} has other sizes: set {' '.join(wrong)}")
    return layers


@torch.no_grad()
def _copy(into: Tensor, tensor: Tensor, name: str) -> None:
    if tensor.shape != into.shape:
        raise UserError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(into.shape)}: "
                        "the files do not fit config.json")
    into.copy_(tensor)


def _weight_files(folder: Path) -> list[Path]:
    names = ["model.safetensors"]
    if (folder / _INDEX).is_file():
        names = sorted(set(_json(folder / _INDEX).get("weight_map", {}).values()))
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file of the published model; fetch "
                            f"{', '.join(FILES)}")
    return [folder / name for name in names]


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); fetch {', '.join(FILES)}") from e
