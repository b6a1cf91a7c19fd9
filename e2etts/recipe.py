"""The configuration of a recipe: one YAML shows the whole system."""

from collections.abc import Iterable
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
from e2etts.train.config import LossWeight, TrainConfig


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Folders and set names, relative to the recipe's folder. enrol: recordings that give the
    voices of test speakers whom the training set lacks. zero_shot: sets of voices that the training
    set lacks, each text spoken from a prompt of its own, see ``e2etts/data/zero_shot.py``."""

    data_dir: str = "data"
    dump_dir: str = "dump"
    train: str = "train"
    dev: str = "dev"
    tests: tuple[str, ...] = ()
    zero_shot: tuple[str, ...] = ()
    enrol: str | None = None
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One training stage: which parts learn, from which losses, starting from which weights.

    task: first_order (losses on the tokens of recordings), second_order (losses on the LM's own
    samples), grpo or dpo (rewards of these), or vocoder. weights: of the losses, by name; one left
    out or 0 is off. options: the task's own settings. data: how batches are made.
    init: what the stage starts from. A source is a stage of this run, the folder of a stage or
    checkpoint of any run, or a pack. One source gives all parts; a mapping of parts to sources, as
    in ``{tokenizer: exp/default/tokenizer, rm: exp/default/rm}``, gives these, and the parts that
    it leaves out are initialised anew. The speaker encoder comes with the tokenizer unless named.
    judge: of second_order, grpo and dpo, a source whose RM evaluates the LM's samples beside the
    one that rewards them; an error rate that falls for the one and not for the other is reward
    hacking. For instance
    ``judge: {task: first_order, init: {tokenizer: tokenizer}, trainable: [rm], weights: {ctc: 1}}``
    pretrained_lm: folder or hub name of a published Qwen3 text model, or the folder of one that
    utils/text_lm.py trains; the LM takes its trunk and text embedding from there, whatever
    ``init`` brings for it.
    """

    task: Literal["first_order", "second_order", "grpo", "dpo", "vocoder"]
    init: str | dict[str, str] | None = None
    judge: str | None = None
    pretrained_lm: str | None = None
    trainable: list[str] = field(default_factory=list)
    weights: dict[str, float | LossWeight]
    options: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig

    @property
    def trains_system(self) -> bool:
        """Whether it trains parts of the system, and not the vocoder."""
        return self.task != "vocoder"

    @property
    def reads_samples(self) -> bool:
        """Whether it trains the LM by what it generates."""
        return self.task in ("second_order", "grpo", "dpo")

    @property
    def sources(self) -> dict[str, str]:
        """Part -> source; of the vocoder, its one part."""
        if self.init is None:
            return {}
        if isinstance(self.init, str):
            return dict.fromkeys(PARTS if self.trains_system else ("vocoder",), self.init)
        sources = dict(self.init)
        if "tokenizer" in sources:
            sources.setdefault("speaker", sources["tokenizer"])
        return {part: sources[part] for part in PARTS if part in sources}

    def weight(self, loss: str) -> float:
        """Weight of a loss without its schedule, 0 for one that is off."""
        weight = self.weights.get(loss, 0.0)
        return weight.weight if isinstance(weight, LossWeight) else weight


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

    def stages_to(self, last: str, judges: bool = True) -> list[str]:
        """Stages of this run that lead to ``last``, first one first, and itself; with
        ``judges`` also those that lead to a judge. Raises UserError for a circle."""
        order: list[str] = []

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise UserError(f"stages.{name}.init: leads back to '{name}'")
            stage = self.stage(name)
            for source in (*stage.sources.values(), stage.judge if judges else None):
                if source in self.stages and source not in order:
                    visit(source, (*path, name))
            order.append(name)
        visit(last, ())
        return order

    def training_order(self) -> list[str]:
        """All training stages, as the file lists them but each after those it starts from."""
        order: list[str] = []
        for name in self.stages:
            order += [s for s in self.stages_to(name) if s not in order]
        return order

    def cached(self, name: str) -> tuple[str, ...]:
        """What stage ``name`` reads from the token cache: "tokens" of a frozen tokenizer that
        encodes recordings, "positions" that a frozen RM gives an LM with aligned text_input."""
        stage = self.stage(name)
        if not stage.data.cached_tokens:
            return ()
        aligned = self.model.lm.text_input == "aligned" and (
            stage.weight("lm") or stage.weight("ce"))
        return (*(() if self.codes else ("tokens",)),
                *(("positions",) if aligned and "rm" not in stage.trainable else ()))

    @property
    def codes(self) -> tuple[str, int] | None:
        """Name and codebook size of the ark that tokens are read from; None where the tokenizer
        encodes recordings."""
        tokenizer = self.model.tokenizer
        return (tokenizer.ark, tokenizer.codebook_size) if tokenizer.reads_codes else None


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
        _check_alignment(recipe, name)
    if both := sorted(set(recipe.corpus.zero_shot) & set(recipe.corpus.tests)):
        raise UserError(f"corpus.zero_shot: '{both[0]}' is in corpus.tests too: name it in one")
    if recipe.codes and recipe.score.rm_snr_db:
        raise UserError("score.rm_snr_db: tokens from files do not change with noise: leave it out")
    return recipe


def _check_stage(recipe: RecipeConfig, name: str) -> None:
    stage = recipe.stages[name]
    if isinstance(stage.init, dict):
        if not stage.trains_system:
            raise UserError(f"stages.{name}.init: the vocoder is one part: name one source")
        _check_parts(f"stages.{name}.init", stage.init)
    if stage.trains_system:
        _check_parts(f"stages.{name}.trainable", stage.trainable)
    if not any(stage.weight(loss) for loss in stage.weights):
        raise UserError(f"stages.{name}.weights: no loss has a weight, so that nothing would be "
                        "learned: give one a weight, or leave the stage out (stages."
                        f"{name}: null)")
    for key, sources in (("init", stage.sources.values()), ("judge", (stage.judge,))):
        for source in sources:
            if source is not None and source not in recipe.stages and not Path(source).exists():
                raise UserError(f"stages.{name}.{key}: '{source}' is neither a stage of this "
                                f"configuration ({', '.join(recipe.stages)}) nor a folder that "
                                "exists: name a stage, the folder of a stage or checkpoint, or a "
                                "pack")
    recipe.stages_to(name)
    if stage.judge is not None and not stage.reads_samples:
        raise UserError(f"stages.{name}.judge: task {stage.task} has no samples to judge: "
                        "leave it out")
    generated = [w for w in stage.weights if stage.weight(w) and w not in ("ctc", "attention",
                                                                           "speaker", "emotion")]
    if stage.data.noise and generated:
        raise UserError(f"stages.{name}.data.noise: LM and FM would learn to generate noise, which "
                        f"is for stages that train the RM: set weights.{generated[0]} to 0")
    if stage.data.noise and recipe.codes:
        raise UserError(f"stages.{name}.data.noise: tokens from files do not change with it: leave "
                        "it out")
    if stage.data.cached_tokens:
        _check_cache(recipe, name)
    if stage.pretrained_lm and stage.task != "first_order":
        raise UserError(f"stages.{name}.pretrained_lm: only a first_order stage starts so: "
                        "leave it out")
    own = stage.pretrained_lm and (Path(stage.pretrained_lm) / "text.model").is_file()
    if stage.pretrained_lm and recipe.text.published is None and not own:
        raise UserError(f"stages.{name}.pretrained_lm: its text embedding has the rows of its "
                        "own tokenizer: set text.model_type=published, and text.published; or name "
                        "the folder of a text LM that is trained on this recipe's texts "
                        "(utils/text_lm.py)")


def _check_cache(recipe: RecipeConfig, name: str) -> None:
    stage, key = recipe.stages[name], f"stages.{name}.data.cached_tokens"
    if not stage.trains_system or "tokenizer" in stage.trainable:
        raise UserError(f"{key}: only tokens of a frozen tokenizer can be cached: leave it out")
    if stage.data.noise:
        raise UserError(f"{key}: with data.noise, tokens are others in every step: leave one of "
                        "them out")
    if not recipe.cached(name):
        raise UserError(f"{key}: the tokens of this recipe come from files already, and this stage "
                        "reads no text positions by a frozen RM: leave it out")


def _check_parts(key: str, parts: Iterable[str]) -> None:
    for part in parts:
        if part not in PARTS:
            raise UserError(f"{key}: no part '{part}'; parts: {', '.join(PARTS)}")


def _check_alignment(recipe: RecipeConfig, name: str) -> None:
    """An LM with aligned text_input, or with guided attention, needs an RM whose CTC has been
    trained to align with."""
    stage = recipe.stages[name]
    needs = {"is guided (weights.guide)": stage.weight("guide")}
    if recipe.model.lm.text_input == "aligned":
        needs["reads its text aligned (model.lm.text_input)"] = (
            stage.weight("lm") or stage.weight("ce"))
    why = next((why for why, needed in needs.items() if needed), None)
    if why is None or recipe.extends:
        return
    while True:
        if "rm" in stage.trainable and stage.weight("ctc"):
            return
        source = stage.sources.get("rm")
        if source is not None and source not in recipe.stages:  # trained elsewhere
            return
        if source is None:
            break
        stage = recipe.stages[source]
    raise UserError(f"stages.{name}.init: the LM {why}, by the RM's CTC alignment, and no stage up "
                    "to here trains the RM: give ctc a weight where the tokenizer learns, or take "
                    "rm from a stage that trains it")


def resolved(recipe: RecipeConfig) -> dict[str, Any]:
    """The configuration as a plain mapping, every default written out."""
    return to_dict(recipe)
