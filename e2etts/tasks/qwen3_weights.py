"""Text LMs in the form in which Qwen3 is published (arXiv 2505.09388): load one, save one."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from e2etts.errors import UserError
from e2etts.files import replaced_folder
from e2etts.hub import published_folder
from e2etts.nets.lm import LM
from e2etts.nets.transformer import Transformer
from e2etts.tasks.published_weights import (
    FILES,
    copy_into,
    fill_from_published,
    read_published_json,
)

# Key of config.json -> key of our trunk.
_SIZES = {"hidden_size": "dim", "num_hidden_layers": "layers", "num_attention_heads": "heads",
          "num_key_value_heads": "kv_heads", "head_dim": "head_dim",
          "intermediate_size": "hidden_dim", "rms_norm_eps": "norm_eps"}
_TABLE, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
TEXT_MODEL = "text.model"  # the text tokenizer of a text LM that is trained here


def load_qwen3_lm(lm: LM, source: str, where: str, text_model: Path | None = None) -> None:
    """Fill trunk and text embedding of ``lm`` from the folder or hub repository ``source``.

    The head over text is ignored: the LM predicts speech tokens. Rows of the embedding past
    the tokenizer's last id, with which tables are padded, are ignored too. where: the configuration
    key to name in errors. text_model: of a recipe with text tokens of its own, with which the text
    LM must have been trained. Raises UserError for a model of another kind, of other sizes or other
    text tokens, and for files that are missing or broken.
    """
    folder = published_folder(source, FILES)
    if text_model and not _same(folder / TEXT_MODEL, text_model):
        raise UserError(f"{where}: {folder / TEXT_MODEL} is not {text_model}: the rows of its "
                        "embedding are of other text tokens: train it on this recipe's texts "
                        "(utils/text_lm.py)")
    _check_config(folder / "config.json", lm, where)
    wanted = {f"model.{name}": copy_into(p, f"model.{name}", folder)
              for name, p in lm.trunk.named_parameters()}
    wanted[_TABLE] = lambda table: _text_rows(lm, table, folder, where)
    fill_from_published(folder, "Qwen3 text", wanted, (_HEAD,))


def save_qwen3_lm(folder: Path, trunk: Transformer, embedding: nn.Embedding, head: nn.Linear,
                  text_model: Path) -> None:
    """Write a text LM for ``load_qwen3_lm``, with a copy of its text tokenizer."""
    config = trunk.config
    sizes = {key: getattr(config, ours) for key, ours in _SIZES.items()}
    sizes["num_key_value_heads"] = config.kv_heads or config.heads
    tensors = {f"model.{name}": p for name, p in trunk.named_parameters()}
    tensors |= {_TABLE: embedding.weight, _HEAD: head.weight}
    with replaced_folder(folder) as part:
        (part / "config.json").write_text(json.dumps({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **sizes,
            "vocab_size": len(embedding.weight), "rope_theta": config.rope_base,
            "tie_word_embeddings": False}, indent=1) + "\n")
        (part / TEXT_MODEL).write_bytes(text_model.read_bytes())
        save_file({k: v.detach().contiguous() for k, v in tensors.items()},
                  part / "model.safetensors", {"format": "pt"})


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def _check_config(path: Path, lm: LM, where: str) -> None:
    stated = read_published_json(path)
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
