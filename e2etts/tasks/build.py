"""From a recipe's configuration to the task of a stage."""

import copy

import torch

from e2etts.audio import AudioConfig
from e2etts.config import build
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.nets.reward import RM
from e2etts.nets.system import PARTS, Sizes, System
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.recipe import RecipeConfig
from e2etts.seeds import mix
from e2etts.tasks.dpo import DPOTask
from e2etts.tasks.first_order import FirstOrderTask
from e2etts.tasks.grpo import GRPOTask
from e2etts.tasks.second_order import SecondOrderTask
from e2etts.tasks.vocoder import VocoderTask
from e2etts.train.checkpoint import restore
from e2etts.train.task import Task

TASKS = {"first_order": FirstOrderTask, "second_order": SecondOrderTask, "grpo": GRPOTask,
         "dpo": DPOTask, "vocoder": VocoderTask}
Tensors = dict[str, torch.Tensor]


def system_sizes(recipe: RecipeConfig, vocab: Vocab) -> Sizes:
    """What the prepared data decide of the system."""
    auto = recipe.model.lm.text_stride == "auto"
    return Sizes(
        mel_bands=recipe.audio.mel_bands, frames_per_token=recipe.audio.frames_per_token,
        text_vocab=vocab.text_size, languages=len(vocab.languages),
        speakers=len(vocab.speakers), emotions=len(vocab.emotions),
        mel_mean=vocab.mel_mean, mel_std=vocab.mel_std,
        tokens_per_text_token=vocab.tokens_per_text_token,
        text_stride=vocab.mean_tokens_per_text_token if auto else None)


def build_system(recipe: RecipeConfig, vocab: Vocab) -> System:
    """A system with weights from torch's seed. Raises UserError for sizes that do not fit, and
    for a package that one of its nets needs and that is missing."""
    try:
        return System(recipe.model, system_sizes(recipe, vocab))
    except ValueError as e:
        raise UserError(f"configuration section 'model': {e}") from e
    except ModuleNotFoundError as e:
        raise UserError(f"configuration section 'model': it needs the Python package '{e.name}': "
                        "run tools/install.sh --extras whisper") from e


def build_vocoder(config: VocoderConfig, audio: AudioConfig) -> Vocoder:
    """A vocoder for mels of ``audio``. Raises UserError where their sizes do not fit."""
    try:
        return Vocoder(config, sample_rate_hz=audio.sample_rate_hz,
                       hop_samples=audio.hop_samples, mel_bands=audio.mel_bands)
    except ValueError as e:
        raise UserError(f"configuration section 'vocoder': {e}") from e


def build_task(recipe: RecipeConfig, stage: str, vocab: Vocab, start: Tensors | None = None,
               judge: Tensors | None = None) -> Task:
    """The task of ``stage``, with the tensors of ``start`` and, of parts that it lacks, weights
    from the seed. judge: tensors of a system whose RM is to be the judge.

    Raises UserError for options, losses or parts that the stage's task does not have, and for
    tensors that do not fit.
    """
    config = recipe.stage(stage)
    cls = TASKS[config.task]
    options = build(cls.Options, config.options, f"stages.{stage}.options")
    torch.manual_seed(recipe.seed)
    if not config.trains_system:
        task = cls(build_vocoder(recipe.vocoder, recipe.audio), recipe.audio, options)
        if start:
            restore(task.vocoder, start, f"stages.{stage}.init")
        return task
    system = build_system(recipe, vocab)
    if start:
        restore(system, {**_fresh(recipe, stage, vocab, start), **start}, f"stages.{stage}.init")
    system.train_only(config.trainable)
    losses = {name for name in config.weights if config.weight(name)}
    try:
        task = cls(system, options, losses)
    except ValueError as e:
        raise UserError(f"stages.{stage}.{e}") from e
    task.sampling = recipe.synthesis.sampling
    if judge is not None:
        task.judge = _judge(system, judge, f"stages.{stage}.judge")
    return task


def _fresh(recipe: RecipeConfig, stage: str, vocab: Vocab, start: Tensors) -> Tensors:
    """Tensors of the parts that ``start`` lacks: others than the seed alone gives, which every
    stage before may have had."""
    missing = set(PARTS) - {name.partition(".")[0] for name in start}
    if not missing:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(recipe.seed, "fresh", stage))
        tensors = build_system(recipe, vocab).state_dict()
    return {k: v for k, v in tensors.items() if k.partition(".")[0] in missing}


def _judge(system: System, tensors: Tensors, where: str) -> RM:
    """The RM of ``tensors``, frozen. Raises UserError where it was trained on other tokens."""
    own = {k: v for k, v in system.state_dict().items() if k.startswith("tokenizer.")}
    if any(not torch.equal(v, tensors[k]) for k, v in own.items()):
        raise UserError(f"{where}: it was trained on the tokens of another tokenizer: start it "
                        "from a stage with the tokenizer of this one, and leave that frozen")
    rm = copy.deepcopy(system.rm)
    restore(rm, {k.removeprefix("rm."): v for k, v in tensors.items() if k.startswith("rm.")},
            where)
    return rm.requires_grad_(False).eval()
