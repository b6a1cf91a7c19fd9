"""The stages and runs of an experiment, each of which is trained once.

A run is one system at one seed. It consists of units, its training stages. A unit is identified by
a hash of all that determines its result; runs with the same unit share it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from e2etts.config import build, fingerprint, merge, parse_overrides, read_yaml, to_dict
from e2etts.errors import UserError
from e2etts.nets.system import PARTS
from e2etts.recipe import RecipeConfig, StageConfig, recipe_from
from e2etts.tasks.first_order import HAT, READERS
from e2etts.train.config import weight_at

_FREE = ("log_every", "save_every", "keep_every", "workers")  # of train: change no result
# Of score: the place of a model, the number of workers and what is shown change no result.
_NO_SCORE = ("recognizer", "workers", "report_clips", "bootstrap_samples", "seed")


@dataclass(frozen=True, kw_only=True)
class SystemSpec:
    """about: one line for the tables. speaks: the stage whose system is evaluated, and by its
    ``init`` determines all that are trained. overrides: differences from the recipe. seeds: default
    those of the experiment."""

    about: str
    speaks: str
    seeds: tuple[int, ...] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """recipe: the configuration that all systems are based on, beside this file. shared: overrides
    of every system. comparisons: pairs of systems; the first ``leading`` are the question of the
    experiment. P-values of each group, the leading ones and the others, are corrected for its size.
    speeds_from: results.json of a scored run, by its path from the recipe's folder, for estimates
    of time before any are measured."""

    recipe: str
    seeds: tuple[int, ...] = (0, 1, 2)
    shared: dict[str, Any] = field(default_factory=dict)
    systems: dict[str, SystemSpec]
    comparisons: tuple[tuple[str, str], ...]
    leading: int = 1
    speeds_from: str | None = None

    def __post_init__(self):
        for name in (None, *self.systems):
            seeds = self.seeds if name is None else self.seeds_of(name)
            if not seeds or len(set(seeds)) < len(seeds):
                raise ValueError(f"{f'systems.{name}.' if name else ''}seeds must be different "
                                 "numbers, at least one")
        if not 1 <= self.leading <= len(self.comparisons):
            raise ValueError("comparisons must name at least one pair of systems, and as many as "
                             "leading")
        unknown = [s for pair in self.comparisons for s in pair if s not in self.systems]
        if unknown:
            raise ValueError(f"comparisons: no system '{unknown[0]}'; systems: "
                             f"{', '.join(self.systems)}")


    def seeds_of(self, system: str) -> tuple[int, ...]:
        return self.seeds if self.systems[system].seeds is None else self.systems[system].seeds

    @property
    def every_seed(self) -> tuple[int, ...]:
        """Those of all systems, in the order in which they are run."""
        return tuple(dict.fromkeys(
            seed for some in (self.seeds, *map(self.seeds_of, self.systems)) for seed in some))


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One stage of training. kind: its hash without the seed, the same at every seed."""

    stage: str
    seed: int
    key: str
    kind: str
    config: StageConfig

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.key}"

    @property
    def audio_seconds(self) -> float:
        """Budget: at most so many seconds of audio; inf where only minutes limit it."""
        train = self.config.train
        limits = [train.max_audio_seconds or float("inf"),
                  (train.max_steps or float("inf")) * train.batch_seconds * train.accumulation]
        return min(limits)


@dataclass(frozen=True, kw_only=True)
class SystemRun:
    """One system at one seed. units: in the order of training, the vocoder first."""

    system: str
    seed: int
    speaks: str
    recipe: RecipeConfig
    units: tuple[StageRun, ...]
    key: str

    @property
    def name(self) -> str:
        return f"{self.system}-seed{self.seed}"


@dataclass(frozen=True)
class Experiment:
    """config: what was read; runs: seed by seed, so that comparisons come early."""

    config: AblationConfig
    runs: tuple[SystemRun, ...]

    @property
    def units(self) -> dict[str, StageRun]:
        """Every unit once, by name, in the order of training."""
        return {unit.name: unit for run in self.runs for unit in run.units}

    def only(self, patterns: Sequence[str]) -> "Experiment":
        """The runs whose names match shell patterns, in the order of the patterns.

        Raises UserError for a pattern that no run matches."""
        chosen: dict[str, SystemRun] = {}
        for pattern in patterns:
            found = {run.name: run for run in self.runs if fnmatchcase(run.name, pattern)}
            if not found:
                raise UserError(f"no run is called '{pattern}'; runs: "
                                f"{', '.join(run.name for run in self.runs)}")
            chosen = {**chosen, **found}
        return replace(self, runs=tuple(chosen.values()))


def load_experiment(path: str | Path, overrides: list[str] | None = None) -> Experiment:
    """Read an experiment's YAML; ``overrides`` (key=value) are laid over every system's recipe.

    Raises UserError for anything unknown, missing or of the wrong type, in any system.
    """
    path = Path(path)
    config = build(AblationConfig, read_yaml(path))
    base, laid_over = read_yaml(path.parent / config.recipe), parse_overrides(overrides or [])
    recipes: dict[str, RecipeConfig] = {}
    for name, spec in config.systems.items():
        changes = merge(merge(config.shared, spec.overrides), laid_over)
        try:
            recipes[name] = recipe_from(base, changes)
        except UserError as e:
            raise UserError(f"{path}: system '{name}': {e}") from e
        first = next(iter(recipes.values()))
        for key in ("tests", "zero_shot", "sentences"):
            if getattr(recipes[name].corpus, key) != getattr(first.corpus, key):
                raise UserError(f"{path}: system '{name}': corpus.{key} are not those of the other "
                                "systems, with which it is compared: set them in shared")
    runs = tuple(_run(name, seed, recipes[name], spec.speaks) for seed in config.every_seed
                 for name, spec in config.systems.items() if seed in config.seeds_of(name))
    return Experiment(config, runs)


def recipe_path(path: str | Path) -> Path:
    """The configuration that an experiment starts from."""
    return Path(path).parent / build(AblationConfig, read_yaml(path)).recipe


def exposure(recipe: RecipeConfig, speaks: str,
             spent: dict[str, float] | None = None) -> dict[str, float]:
    """Seconds of audio that each part is trained on until ``speaks``: as stages have used, where
    that is known, else by their budgets."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for name in recipe.stages_to(speaks, judges=False):
        stage = recipe.stage(name)
        budget = StageRun(stage=name, seed=0, key="", kind="", config=stage).audio_seconds
        budget = (spent or {}).get(name, budget)
        for part in stage.trainable:
            shares = [_share_seen(stage, loss) for loss, weight in stage.weights.items()
                      if weight_at(weight) and _teaches(stage, loss, part)]
            seconds[part] += budget * max(shares, default=0.0)
    return seconds


def _share_seen(stage: StageConfig, loss: str) -> float:
    """Share of a stage's audio on which a loss is computed: after its delay, in some steps, on some
    rows."""
    weight, rows = stage.weights[loss], 1.0
    if loss in READERS["lm"]:
        rows = stage.options.get("lm_rows", 1.0)
    elif loss == "fm":
        rows = stage.options.get("flow_rows", 1.0)
    return rows * (1 - getattr(weight, "delay", 0.0)) / getattr(weight, "every", 1)


def _teaches(stage: StageConfig, loss: str, part: str) -> bool:
    """Whether a loss of the stage reaches a part that is trainable there."""
    samples = stage.reads_samples or loss.endswith(HAT)
    if part == "tokenizer" or (part == "lm" and samples):
        return True
    return loss.removesuffix("_q") in READERS["fm" if part == "speaker" else part]


def _run(system: str, seed: int, recipe: RecipeConfig, speaks: str) -> SystemRun:
    data = tables_hash(recipe, (recipe.corpus.train, recipe.corpus.dev))
    units: list[StageRun] = []
    # No comparison includes the vocoder: all seeds share one.
    for name in ["vocoder", *recipe.stages_to(speaks)]:
        stage = recipe.stage(name)
        before = {u.stage: u for u in units if u.stage in (*stage.sources.values(), stage.judge)}
        facts = _facts(recipe, name, data)
        own = seed if stage.trains_system else recipe.seed
        units.append(StageRun(
            stage=name, seed=own, config=stage,
            key=fingerprint({**facts, "seed": own, "init": {k: u.key for k, u in before.items()}}),
            kind=fingerprint({**facts, "init": {k: u.kind for k, u in before.items()}})))
    scoring = to_dict(recipe.score)
    key = fingerprint({
        "units": [u.key for u in units], "synthesis": to_dict(recipe.synthesis),
        "score": {k: v for k, v in scoring.items() if k not in _NO_SCORE},
        "sets": to_dict(recipe.corpus),
        "texts": tables_hash(recipe, (*recipe.corpus.tests, *recipe.corpus.zero_shot,
                                      *recipe.corpus.sentences))})
    return SystemRun(system=system, seed=seed, speaks=speaks, recipe=recipe, units=tuple(units),
                     key=key)


def _facts(recipe: RecipeConfig, name: str, data: str) -> dict[str, Any]:
    """All that determines the result of a stage besides its seed and its start."""
    stage = to_dict(recipe.stage(name))
    stage["train"] = {k: v for k, v in stage["train"].items() if k not in _FREE}
    nets = {"vocoder": to_dict(recipe.vocoder)}
    if recipe.stage(name).trains_system:
        nets = {"model": to_dict(recipe.model), "text": to_dict(recipe.text),
                "extends": recipe.extends and to_dict(recipe.extends)}
    return {"name": name, "stage": stage, "audio": to_dict(recipe.audio), "data": data, **nets}


def tables_hash(recipe: RecipeConfig, sets: tuple[str, ...]) -> str:
    """Hash of prepared sets by texts, speakers and lengths, so that the same data prepared again
    have the same hash. Missing files count as empty."""
    total = hashlib.sha256()
    for name in sets:
        for table in ("text_ids", "utt2spk", "utt2num_frames"):
            path = recipe.dump(name) / table
            content = path.read_bytes() if path.is_file() else b""
            total.update(f"{name} {table} {len(content)} ".encode() + content)
    return total.hexdigest()[:16]
