"""From a recipe's configuration to the task of a stage."""

import copy
from typing import Any

import torch

from e2etts.audio import AudioConfig
from e2etts.config import build, to_dict
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.nets.reward import RM
from e2etts.nets.system import Sizes, System
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.recipe import RecipeConfig
from e2etts.seeds import mix
from e2etts.tasks.first_order import FirstOrderTask
from e2etts.tasks.second_order import SecondOrderTask
from e2etts.tasks.vocoder import VocoderTask
from e2etts.train.checkpoint import restore
from e2etts.train.config import weight_at
from e2etts.train.task import Task

TASKS = {"first_order": FirstOrderTask, "second_order": SecondOrderTask, "vocoder": VocoderTask}


def system_sizes(recipe: RecipeConfig, vocab: Vocab) -> Sizes:
    """What the prepared data decide of the system."""
    return Sizes(
        mel_bands=recipe.audio.mel_bands, frames_per_token=recipe.audio.frames_per_token,
        text_vocab=vocab.text_size, languages=len(vocab.languages),
        speakers=len(vocab.speakers), emotions=len(vocab.emotions),
        mel_mean=vocab.mel_mean, mel_std=vocab.mel_std)


def model_config(recipe: RecipeConfig, stage: str, vocab: Vocab) -> dict[str, Any]:
    """What a checkpoint of ``stage`` must agree in to be loaded: stored in its meta.json."""
    shared = {"audio": to_dict(recipe.audio)}
    if recipe.stage(stage).task == "vocoder":
        return {**shared, "vocoder": to_dict(recipe.vocoder)}
    return {**shared, "text": to_dict(recipe.text), "model": to_dict(recipe.model),
            "sizes": to_dict(system_sizes(recipe, vocab))}


def build_vocoder(config: VocoderConfig, audio: AudioConfig) -> Vocoder:
    """A vocoder for mels of ``audio``. Raises UserError where their sizes do not fit."""
    try:
        return Vocoder(config, sample_rate_hz=audio.sample_rate_hz,
                       hop_samples=audio.hop_samples, mel_bands=audio.mel_bands)
    except ValueError as e:
        raise UserError(f"configuration section 'vocoder': {e}") from e


def build_task(
    recipe: RecipeConfig, stage: str, vocab: Vocab, start: dict[str, torch.Tensor] | None = None,
    judge: dict[str, torch.Tensor] | None = None,
) -> Task:
    """The task of ``stage``, its weights from the tensors ``start`` or, without, from the seed.
    judge: tensors of a system whose RM is to be the judge.

    Raises UserError for options, losses or parts that the stage's task does not have, and for
    tensors that do not fit.
    """
    config = recipe.stage(stage)
    cls = TASKS[config.task]
    options = build(cls.Options, config.options, f"stages.{stage}.options")
    torch.manual_seed(recipe.seed)
    if config.task == "vocoder":
        task = cls(build_vocoder(recipe.vocoder, recipe.audio), recipe.audio, options)
        if start is not None:
            restore(task.vocoder, start, f"stages.{stage}.init")
        return task
    try:
        system = System(recipe.model, system_sizes(recipe, vocab))
    except ValueError as e:
        raise UserError(f"configuration section 'model': {e}") from e
    if start is not None:
        restore(system, {**start, **_fresh(recipe, stage, vocab)}, f"stages.{stage}.init")
    system.train_only(config.trainable)
    losses = {name for name, weight in config.weights.items() if weight_at(weight)}
    try:
        task = cls(system, options, losses)
    except ValueError as e:
        raise UserError(f"stages.{stage}.{e}") from e
    if judge is not None:
        task.judge = _judge(system, judge, f"stages.{stage}.judge")
    return task


def _fresh(recipe: RecipeConfig, stage: str, vocab: Vocab) -> dict[str, torch.Tensor]:
    """Tensors of the parts that the stage begins anew: others than the seed alone gives, which
    every stage before may have had."""
    if not recipe.stage(stage).fresh:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(recipe.seed, "fresh", stage))
        tensors = System(recipe.model, system_sizes(recipe, vocab)).state_dict()
    return {k: v for k, v in tensors.items() if k.partition(".")[0] in recipe.stage(stage).fresh}


def _judge(system: System, tensors: dict[str, torch.Tensor], where: str) -> RM:
    """The RM of ``tensors``, frozen. Raises UserError where it has learned from other tokens."""
    own = {k: v for k, v in system.state_dict().items() if k.startswith("tokenizer.")}
    if any(not torch.equal(v, tensors[k]) for k, v in own.items()):
        raise UserError(f"{where}: it has learned from the tokens of another tokenizer: start it "
                        "from a stage with the tokenizer of this one, and leave that frozen")
    rm = copy.deepcopy(system.rm)
    restore(rm, {k.removeprefix("rm."): v for k, v in tensors.items() if k.startswith("rm.")},
            where)
    return rm.requires_grad_(False).eval()
