"""The configuration of a recipe: one YAML shows the whole system."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from e2etts.audio import AudioConfig
from e2etts.config import build, merge, parse_overrides, read_yaml, to_dict, unknown_key
from e2etts.data.dataset import DataConfig
from e2etts.errors import UserError
from e2etts.nets.system import PARTS, SystemConfig
from e2etts.nets.vocoder import VocoderConfig
from e2etts.score.config import ScoreConfig
from e2etts.synthesis_config import SynthesisConfig
from e2etts.text import TextConfig
from e2etts.train.config import LossWeight, TrainConfig, weight_at


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Folders and set names, relative to the recipe's folder. enrol: recordings that give the
    voices of test speakers whom the training set lacks."""

    data_dir: str = "data"
    dump_dir: str = "dump"
    train: str = "train"
    dev: str = "dev"
    tests: tuple[str, ...] = ()
    enrol: str | None = None
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One training stage: which parts learn, from which losses, starting from which stage.

    task: first_order (losses on the tokens of recordings), second_order (losses on the LM's own
    samples) or vocoder. weights: of the losses, by name; one left out or 0 is off. options: the
    task's own settings. data: how batches are made.
    fresh: parts that begin anew and not as ``init`` left them. judge: of second_order, a stage
    whose RM hears the LM's samples beside the one that teaches it; an error rate that falls for
    the one and not for the other is reward hacking. For instance
    ``judge: {task: first_order, init: tokenizer, trainable: [rm], fresh: [rm], weights: {ctc: 1}}``
    pretrained_lm: folder or hub name of a published Qwen3 text model; the LM takes its trunk and
    text embedding from there, whatever ``init`` brings for it.
    """

    task: Literal["first_order", "second_order", "vocoder"]
    init: str | None = None
    fresh: list[str] = field(default_factory=list)
    judge: str | None = None
    pretrained_lm: str | None = None
    trainable: list[str] = field(default_factory=list)
    weights: dict[str, float | LossWeight]
    options: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class ExtendsConfig:
    """A trained system that gets more languages, speakers or symbols: the folder of its prepared
    data and that of its checkpoint. Its vocabularies come first in those of this recipe, its mel
    scalars stay, and the stages without ``init`` start from it (not the vocoder)."""

    dump: str
    checkpoint: str


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """Every setting of a recipe; ``corpus_data`` belongs to the corpus's own local/ scripts."""

    seed: int = 0
    corpus: CorpusConfig
    corpus_data: dict[str, Any] = field(default_factory=dict)
    extends: ExtendsConfig | None = None
    audio: AudioConfig = field(default_factory=AudioConfig)
    text: TextConfig = field(default_factory=TextConfig)
    model: SystemConfig = field(default_factory=SystemConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    stages: dict[str, StageConfig]
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def stage(self, name: str) -> StageConfig:
        """The stage ``name``. Raises UserError when there is none."""
        if name not in self.stages:
            raise UserError(f"no stage '{name}' in this configuration; "
                            f"stages: {', '.join(self.stages)}")
        return self.stages[name]

    def dump(self, name: str) -> Path:
        """Folder of a prepared set."""
        return Path(self.corpus.dump_dir) / name


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> RecipeConfig:
    """Read a recipe's YAML, lay ``key=value`` overrides over it, and check all of it.

    Raises UserError for anything unknown, missing or of the wrong type.
    """
    return recipe_from(read_yaml(path), parse_overrides(overrides or []))


def recipe_from(tree: dict[str, Any], laid_over: dict[str, Any]) -> RecipeConfig:
    """``load_recipe`` for settings that are already read, and what is laid over them."""
    stages, named = tree.get("stages"), laid_over.get("stages")
    if isinstance(stages, dict) and isinstance(named, dict):
        # The file says which stages there are: an override that names another is a slip.
        for name in named:
            if name not in stages:
                raise unknown_key("stages", name, stages)
    recipe = build(RecipeConfig, merge(tree, laid_over))
    for name in recipe.stages:
        _check_stage(recipe, name)
        _check_places(recipe, name)
    return recipe


def _check_stage(recipe: RecipeConfig, name: str) -> None:
    stage = recipe.stages[name]
    for key in ("init", "judge"):
        other = getattr(stage, key)
        if other is not None and other not in recipe.stages:
            raise UserError(f"stages.{name}.{key}: no stage '{other}'; "
                            f"stages: {', '.join(recipe.stages)}")
    if stage.judge is not None and stage.task != "second_order":
        raise UserError(f"stages.{name}.judge: only second_order has samples to judge: "
                        "leave it out")
    for key in ("trainable", "fresh"):
        unknown = [p for p in getattr(stage, key) if p not in PARTS]
        if unknown and stage.task != "vocoder":
            raise UserError(f"stages.{name}.{key}: no part '{unknown[0]}'; "
                            f"parts: {', '.join(PARTS)}")
    speaking = [w for w in ("lm", "ce", "fm", "coarse", "fm_q", "coarse_q")
                if weight_at(stage.weights.get(w, 0.0))]
    if stage.data.noise and speaking:
        raise UserError(f"stages.{name}.data.noise: LM and FM would learn to make noise, which "
                        f"is for stages that train the RM: set weights.{speaking[0]} to 0")
    if stage.pretrained_lm and stage.task != "first_order":
        raise UserError(f"stages.{name}.pretrained_lm: only a first_order stage starts so: "
                        "leave it out")
    if stage.pretrained_lm and recipe.text.published is None:
        raise UserError(f"stages.{name}.pretrained_lm: its text embedding has the rows of its "
                        "own tokenizer: set text.model_type=published, and text.published")


def _check_places(recipe: RecipeConfig, name: str) -> None:
    """An LM that reads aligned is told its places by the RM, which must have learned to hear."""
    speaks = any(weight_at(recipe.stages[name].weights.get(w, 0.0)) for w in ("lm", "ce"))
    if recipe.model.lm.reading != "aligned" or recipe.extends or not speaks:
        return
    before: list[str | None] = [name]
    while before[-1] is not None and before[-1] not in before[:-1]:
        stage = recipe.stages[before[-1]]
        if "rm" in stage.trainable and weight_at(stage.weights.get("ctc", 0.0)):
            return
        before.append(stage.init)
    raise UserError(f"stages.{name}.init: the LM reads aligned (model.lm.reading), at places that "
                    "the RM's CTC hears, and no stage up to here trains it: give ctc a weight "
                    "where the tokenizer learns, or train a stage with rm and ctc before this one")


def resolved(recipe: RecipeConfig) -> dict[str, Any]:
    """The configuration as a plain mapping, every default written out."""
    return to_dict(recipe)
