"""A speech tokenizer's encoder that starts from a published Whisper model (arXiv 2212.04356)."""

from pathlib import Path

from e2etts.errors import UserError
from e2etts.hub import published_folder
from e2etts.nets.whisper_encoder import WhisperEncoder, WhisperEncoderConfig
from e2etts.tasks.published_weights import (
    FILES,
    copy_into,
    fill_from_published,
    read_published_json,
)

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
    wanted = {f"encoder.{name}": copy_into(tensor, f"encoder.{name}", folder)
              for name, tensor in encoder.whisper.state_dict().items()
              if not f"encoder.{name}".startswith(unused)}
    fill_from_published(folder, "Whisper", wanted, unused, prefix="model.")


def _check_config(path: Path, config: WhisperEncoderConfig, where: str) -> int:
    """Number of layers that the published encoder has."""
    published = read_published_json(path)
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
