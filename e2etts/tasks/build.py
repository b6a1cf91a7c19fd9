"""From a recipe's configuration to the task of a stage."""

from typing import Any

import torch

from e2etts.audio import AudioConfig
from e2etts.config import build, to_dict
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.nets.system import Sizes, System
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.recipe import RecipeConfig
from e2etts.tasks.first_order import FirstOrderTask
from e2etts.tasks.second_order import SecondOrderTask
from e2etts.tasks.vocoder import VocoderTask
from e2etts.train.checkpoint import restore
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
    recipe: RecipeConfig, stage: str, vocab: Vocab, start: dict[str, torch.Tensor] | None = None
) -> Task:
    """The task of ``stage``, its weights from the tensors ``start`` or, without, from the seed.

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
        raise UserError(str(e)) from e
    if start is not None:
        restore(system, start, f"stages.{stage}.init")
    system.train_only(config.trainable)
    losses = {name for name, weight in config.weights.items() if weight}
    try:
        return cls(system, options, losses)
    except ValueError as e:
        raise UserError(f"stages.{stage}.weights: {e}") from e
