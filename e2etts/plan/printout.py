"""The tables of ``e2etts plan``."""

import math
from dataclasses import astuple
from pathlib import Path

from tqdm import tqdm

from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.plan.costs import PartCost, StageCost, StageEstimator, part_costs
from e2etts.plan.resources import GIB, USABLE, Cluster, CorpusSize
from e2etts.recipe import RecipeConfig
from e2etts.tables import table

MEMORY = ("weights", "gradients", "optimiser", "EMA", "buckets", "activations")


def planned_vocab(recipe: RecipeConfig, text_tokens: int | None, speakers: int) -> Vocab:
    """The labels of the prepared data, or made-up ones where there are none or ``text_tokens`` is
    given: so many text tokens (else text.vocab_size) and ``speakers``."""
    if text_tokens is None and (Path(recipe.corpus.dump_dir) / "vocab.json").is_file():
        return Vocab.load(recipe.corpus.dump_dir)
    weighed = {k for s in recipe.stages.values() for k, w in s.weights.items() if w}
    return Vocab(
        speakers=[str(i) for i in range(speakers)], languages=["a", "b"],
        emotions=[str(i) for i in range(8)] if "emotion" in weighed else [], mel_mean=0.0,
        mel_std=1.0, text_size=text_tokens or recipe.text.vocab_size, space=[],
        mean_tokens_per_text_token=2.0)


def print_plan(recipe: RecipeConfig, vocab: Vocab, corpus: CorpusSize, cluster: Cluster) -> None:
    """Print parts and stages. Raises UserError, with what would fit, where a stage needs more
    memory than a GPU has."""
    print(_parts(part_costs(recipe, vocab, cluster)))
    print(f"\nfor {corpus.hours:g} hours in utterances of {corpus.utterance_seconds:g} s with "
          f"{corpus.text_tokens_a_second:g} text tokens a second, of {vocab.text_size}; "
          f"{cluster.gpus} GPUs of {cluster.gib:g} GiB and {cluster.tflops:g} TFLOP/s, "
          f"{cluster.utilisation:.0%} of it used; sharding: {cluster.sharding}\n")
    estimators = [StageEstimator(recipe, name, vocab, corpus, cluster)
                for name, stage in recipe.stages.items() if stage.trains_system]
    costs = [estimator.cost() for estimator in tqdm(estimators, unit="stage", leave=False)]
    print(_stages(costs))
    known = [c.days for c in costs if c.days is not None]
    print(f"\n{sum(known):.1f} days in all" + (
        "" if len(known) == len(costs) else ", without stages that minutes bound"))
    problems = [_problem(estimator, cost.total_gib)
                for estimator, cost in zip(estimators, costs, strict=True)
                if cost.total_gib > cluster.gib * USABLE]
    if problems:
        raise UserError("; ".join(problems))


def _parts(parts: dict[str, PartCost]) -> str:
    total = PartCost(*map(sum, zip(*map(astuple, parts.values()), strict=True)))
    return "\n".join(table(
        ["part", "M parameters", "GiB frozen", "GiB learning"],
        [[name, f"{p.parameters / 1e6:,.1f}", f"{p.frozen_bytes / GIB:.2f}",
          f"{p.learning_bytes / GIB:.2f}"] for name, p in {**parts, "all": total}.items()]))


def _stages(costs: list[StageCost]) -> str:
    kinds = [k for k in MEMORY if any(c.memory_bytes.get(k) for c in costs)]
    rows = [[c.name, *(f"{c.memory_bytes.get(k, 0) / GIB:.1f}" for k in kinds),
             f"{c.total_gib:.1f}", f"{c.host_bytes / GIB:.1f}", f"{c.disk_bytes / GIB:.1f}",
             f"{c.batch_seconds:g}", f"{c.flops / 1e12:,.1f}",
             *("???" if c.steps is None else (f"{c.steps:,}", f"{c.passes:.2f}", f"{c.days:.2f}"))]
            for c in costs]
    return "\n".join(table(["stage", *kinds, "GiB", "host GiB", "disk GiB", "batch s",
                            "TFLOP a step", "steps", "passes", "days"], rows))


def _problem(estimator: StageEstimator, gib: float) -> str:
    """The stage that does not fit, and what would."""
    name, usable = estimator.name, estimator.cluster.gib * USABLE
    needs = f"stage {name} needs {gib:.1f} GiB of {usable:.1f} usable"
    rows = estimator.largest_batch(estimator.rows)
    if rows:
        seconds = rows * estimator.corpus.utterance_seconds
        return f"{needs}: stages.{name}.train.batch_seconds={seconds:g} fits"
    return (f"{needs}, and not even one utterance fits: train fewer parts at a time "
            f"(stages.{name}.trainable), make them smaller, or take GPUs of at least "
            f"{math.ceil(estimator.cost(1).total_gib / USABLE)} GiB")
