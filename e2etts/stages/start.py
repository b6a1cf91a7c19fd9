"""What a stage starts from: weights of any run, as far as they fit this configuration."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from e2etts.audio import AudioConfig
from e2etts.config import build, differences, to_dict, with_defaults, without_training_options
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.nets.system import PARTS, SystemConfig
from e2etts.nets.vocoder import VocoderConfig
from e2etts.recipe import RecipeConfig
from e2etts.tasks.build import Tensors, build_task, system_sizes
from e2etts.tasks.extend_vocab import check_extends, extend_vocab
from e2etts.text import TextConfig
from e2etts.train.checkpoint import load_checkpoint

_SECTIONS = {"audio": AudioConfig, "text": TextConfig, "model": SystemConfig,
             "vocoder": VocoderConfig}
# What shapes the tensors of a part, or gives its inputs and outputs their meaning.
_MEL = ("audio", "sizes.mel_bands", "sizes.mel_mean", "sizes.mel_std")
_TOKENS = ("model.tokenizer.q_dim", "sizes.frames_per_token")
_SPEAKER = ("model.speaker.embedding_dim",)
_TEXT = ("text", "sizes.text_vocab")
NEEDS = {
    "mel": _MEL,
    "tokenizer": (*_MEL, *_TOKENS, "model.tokenizer"),
    "speaker": (*_MEL, "model.speaker"),
    "lm": (*_TOKENS, *_SPEAKER, *_TEXT, "model.lm", "model.style", "model.tokenizer",
           "model.rm.labels_per_token", "sizes.languages", "sizes.text_stride"),
    "fm": (*_MEL, *_TOKENS, *_SPEAKER, "model.fm", "model.style"),
    "rm": (*_TOKENS, *_TEXT, "model.rm", "sizes.speakers", "sizes.emotions"),
    "vocoder": ("audio", "vocoder")}


_NAMES = {"tokenizer": "tokenizer", "speaker": "speaker encoder"}


@dataclass
class Start:
    """tensors: of the parts that sources give. origin: part -> where from, fingerprint and step.
    warnings: of what fits and is hardly meant."""

    tensors: Tensors = field(default_factory=dict)
    origin: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def model_config(recipe: RecipeConfig, stage: str, vocab: Vocab) -> dict[str, Any]:
    """Everything that describes the nets of a checkpoint of ``stage``: stored in its meta.json."""
    if not recipe.stage(stage).trains_system:
        return {"audio": to_dict(recipe.audio), "vocoder": to_dict(recipe.vocoder)}
    return system_config(recipe, vocab)


def system_config(recipe: RecipeConfig, vocab: Vocab) -> dict[str, Any]:
    """``model_config`` of the stages that train parts of the system."""
    return {"audio": to_dict(recipe.audio), "text": to_dict(recipe.text),
            "model": to_dict(recipe.model), "sizes": to_dict(system_sizes(recipe, vocab))}


def deciding(config: dict[str, Any]) -> dict[str, Any]:
    """``model_config`` without what only limits the length of what is generated: it comes from the
    prepared data, and a run goes on when they are summarised anew."""
    sizes = dict(config.get("sizes", {}))
    sizes.pop("tokens_per_text_token", None)
    return {**config, "sizes": sizes} if sizes else config


def complete(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored ``model_config`` with the defaults of options that were added since."""
    return {k: with_defaults(_SECTIONS[k], v) if k in _SECTIONS else v for k, v in stored.items()}


def require_fit(stored: dict[str, Any], wanted: dict[str, Any], parts: tuple[str, ...],
                where: str) -> None:
    """Raise UserError, naming the keys, where ``parts`` of a checkpoint with the ``model_config``
    ``stored`` do not fit ``wanted``. Options that only training reads may differ."""
    stored, wanted = (_meaning(complete(c)) for c in (stored, wanted))
    keys = dict.fromkeys(key for part in parts for key in NEEDS[part])
    wrong = [d for key in keys for d in differences(_at(stored, key), _at(wanted, key), key)]
    if wrong:
        raise UserError(f"{where}: {', '.join(parts)} of another configuration (stored != wanted): "
                        f"{'; '.join(dict.fromkeys(wrong))}: use the stored values, another "
                        "--tag, or another source")


def _meaning(config: dict[str, Any]) -> dict[str, Any]:
    return {k: without_training_options(build(_SECTIONS[k], v, k)) if k in _SECTIONS
            else json.loads(json.dumps(v)) for k, v in config.items()}


def _at(tree: dict[str, Any], key: str) -> Any:
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def checkpoint_folder(source: str, recipe: RecipeConfig, root: Path, part: str = "",
                      which: str = "best") -> Path:
    """The checkpoint folder that a source names: the best weights of a stage of this run
    (``root`` / stage; or the last ones, by ``which``), or a folder (of a checkpoint, of a stage,
    or a pack).

    Raises UserError for a folder without a checkpoint."""
    if source in recipe.stages:
        return root / source / which
    packed = "vocoder" if part == "vocoder" else "joint"
    for folder in (Path(source), Path(source) / "best", Path(source) / packed):
        if (folder / "model.safetensors").is_file():
            return folder
    raise UserError(f"{source}: no checkpoint here: name the folder of a checkpoint (with "
                    "model.safetensors), of a stage (with best/), or of an unpacked pack (with "
                    f"{packed}/)")


def starting_point(recipe: RecipeConfig, name: str, root: Path, vocab: Vocab) -> Start:
    """Weights that stage ``name`` starts from.

    Raises UserError where a source is missing or does not fit, and for parts that were trained on
    other tokens or speaker embeddings than those they are now joined with."""
    stage, wanted = recipe.stage(name), model_config(recipe, name, vocab)
    if not stage.sources and recipe.extends and stage.trains_system:
        return extended(recipe, name, vocab)
    start, loaded, folders = Start(), {}, {}
    for part, source in stage.sources.items():
        folder = folders[part] = checkpoint_folder(source, recipe, root, part)
        if folder not in loaded:
            loaded[folder] = load_checkpoint(folder)
        tensors, meta = loaded[folder]
        where = f"stages.{name}.init: {folder}"
        require_fit(meta["config"], wanted, (part,), where)
        if stage.trains_system:
            _require_joint(recipe, part, tensors, start.tensors, where)
            tensors = {k: v for k, v in tensors.items() if k.startswith(f"{part}.")}
        start.tensors |= tensors
        start.origin[part] = {k: meta.get(k) for k in ("fingerprint", "step")}
    if stage.task == "second_order" and {"lm", "rm"} <= folders.keys():
        aligner, rm = ({k: v for k, v in tensors.items() if k.startswith("rm.")} for tensors in
                       (loaded[folders["lm"]][0], start.tensors))
        if recipe.model.lm.text_input == "aligned" and not _same(aligner, rm):
            start.warnings.append(
                f"stages.{name}.init: the LM of {folders['lm']} learned its text positions from "
                f"another RM than that of {folders['rm']}, which finds those of this stage and of "
                "voice prompts: let the LM's stage start from the RM's (init: rm)")
    return start


def _same(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def _require_joint(recipe: RecipeConfig, part: str, tensors: Tensors, others: Tensors,
                   where: str) -> None:
    """Raise UserError where ``part`` of ``tensors`` was trained with another tokenizer or speaker
    encoder than that of ``others``, or ``others`` lack it."""
    lm = recipe.model.lm
    used = {"lm": (*(["tokenizer"] if lm.input == "q" else []),
                   *(["speaker"] if lm.speaker_embedding else [])),
            "fm": ("tokenizer", "speaker"),
            "rm": ("tokenizer", *(["speaker"] if recipe.model.rm.speaker_loss == "embedding"
                                  else []))}.get(part, ())
    for other in used:
        mine = {k: v for k, v in others.items() if k.startswith(f"{other}.")}
        if not mine:
            raise UserError(f"{where}: its {part} was trained with a {_NAMES[other]}, of which "
                            f"init has no source: name one of '{other}' as well")
        if any(k not in tensors or not torch.equal(v, tensors[k]) for k, v in mine.items()):
            raise UserError(f"{where}: its {part} was trained with another {_NAMES[other]} than "
                            "the one this stage starts from: train it on that one, or take both "
                            "from one run")


def load_judge(recipe: RecipeConfig, name: str, root: Path, vocab: Vocab) -> Tensors | None:
    """Tensors of the system whose RM is the judge of stage ``name``; None without one."""
    source = recipe.stage(name).judge
    if source is None:
        return None
    folder = checkpoint_folder(source, recipe, root)
    tensors, meta = load_checkpoint(folder)
    require_fit(meta["config"], model_config(recipe, name, vocab), ("tokenizer", "rm"),
                f"stages.{name}.judge: {folder}")
    return tensors


def extended(recipe: RecipeConfig, name: str, vocab: Vocab) -> Start:
    """Weights for stage ``name`` from the system that the recipe extends.

    Raises UserError where anything but the vocabularies differs.
    """
    where, wanted = recipe.extends.checkpoint, model_config(recipe, name, vocab)
    tensors, meta = load_checkpoint(where)
    old = Vocab.load(recipe.extends.dump)
    check_extends(vocab, old, recipe.extends.dump)
    require_fit(meta["config"], {**wanted, "sizes": to_dict(system_sizes(recipe, old))}, PARTS,
                where)
    fresh = build_task(recipe, name, vocab).state_to_save()
    origin = {k: meta.get(k) for k in ("fingerprint", "step")}
    return Start(extend_vocab(tensors, fresh), dict.fromkeys(PARTS, origin))
