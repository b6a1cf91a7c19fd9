"""The configuration of a recipe: one YAML shows the whole system."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from e2etts.audio import AudioConfig
from e2etts.config import build, merge, parse_overrides, read_yaml, to_dict
from e2etts.data.dataset import DataConfig
from e2etts.errors import UserError
from e2etts.infer.config import SynthesisConfig
from e2etts.nets.system import PARTS, SystemConfig
from e2etts.nets.vocoder import VocoderConfig
from e2etts.score.config import ScoreConfig
from e2etts.text import TextConfig
from e2etts.train.loop import TrainConfig


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
    samples) or vocoder. options: the task's own settings. data: how batches are made.
    """

    task: Literal["first_order", "second_order", "vocoder"]
    init: str | None = None
    trainable: list[str] = field(default_factory=list)
    weights: dict[str, float]
    options: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """Every setting of a recipe; ``corpus_data`` belongs to the corpus's own local/ scripts."""

    seed: int = 0
    corpus: CorpusConfig
    corpus_data: dict[str, Any] = field(default_factory=dict)
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
    tree, laid_over = read_yaml(path), parse_overrides(overrides or [])
    stages, named = tree.get("stages"), laid_over.get("stages")
    if isinstance(stages, dict) and isinstance(named, dict):
        # The file says which stages there are: an override that names another is a slip.
        for name in [n for n in named if n not in stages]:
            near = difflib.get_close_matches(str(name), [str(s) for s in stages], n=1, cutoff=0.0)
            raise UserError(f"unknown configuration key 'stages.{name}'; nearest known key: "
                            f"'stages.{near[0] if near else ''}'")
    recipe = build(RecipeConfig, merge(tree, laid_over))
    for name, stage in recipe.stages.items():
        if stage.init is not None and stage.init not in recipe.stages:
            raise UserError(f"stages.{name}.init: no stage '{stage.init}'; "
                            f"stages: {', '.join(recipe.stages)}")
        unknown = [p for p in stage.trainable if p not in PARTS]
        if unknown and stage.task != "vocoder":
            raise UserError(f"stages.{name}.trainable: no part '{unknown[0]}'; "
                            f"parts: {', '.join(PARTS)}")
    return recipe


def resolved(recipe: RecipeConfig) -> dict[str, Any]:
    """The configuration as a plain mapping, every default written out."""
    return to_dict(recipe)
