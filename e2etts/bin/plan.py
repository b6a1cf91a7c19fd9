"""What training a configuration would take: parameters, memory of a GPU, operations, days.

Every stage's real step is run on shapes alone, without weights or data, on this machine. Memory
is that of one GPU in the precision of each stage; activations are the most that a step holds of
a full batch of equally long utterances. Days are operations over --gpu_tflops times --utilisation:
loading, validation and waiting are in that share. The vocoder is counted, not planned. Exit status
2, with what would fit, where a stage needs more than 90 % of a GPU.

examples:
  e2etts plan conf/paper.yaml --hours 100000 --gpus 64
  e2etts plan conf/default.yaml --hours 585 --gpu_tflops 312 --gpu_gib 80 --utilisation 0.3
  e2etts plan conf/paper.yaml --hours 100000 --gpus 64 stages.lm.train.batch_seconds=120
"""

import argparse
import math
from dataclasses import astuple
from pathlib import Path

from tqdm import tqdm

from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.plan.stages import (
    GIB,
    SHARDING,
    USABLE,
    Machine,
    PartPlan,
    StagePlan,
    StagePlanner,
    Work,
    plan_parts,
)
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.tables import table

MEMORY = ("weights", "gradients", "optimiser", "EMA", "buckets", "activations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="FILE", help="recipe configuration")
    parser.add_argument("--hours", type=float, required=True, help="of speech in the corpus")
    parser.add_argument("--gpus", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--gpu_tflops", type=float, default=Machine.tflops, metavar="N",
                        help="1e12 operations a second of one GPU (default: %(default)s, H20 bf16)")
    parser.add_argument("--gpu_gib", type=float, default=Machine.gib, metavar="N",
                        help="memory of one GPU (default: %(default)s, H20)")
    parser.add_argument("--utilisation", type=float, default=Machine.utilisation, metavar="SHARE",
                        help="share of the rate that training reaches (default: %(default)s)")
    parser.add_argument("--sharding", choices=SHARDING, default="none",
                        help="states divided over the GPUs; the training loop itself keeps all on "
                             "each (default: %(default)s)")
    parser.add_argument("--utterance_seconds", type=float, default=Work.utterance_seconds,
                        metavar="N", help="length of each row of a batch (default: %(default)s)")
    parser.add_argument("--text_tokens_a_second", type=float, metavar="N",
                        help="default: 13 for letters and phonemes, 4 for subwords")
    parser.add_argument("--text_vocab", type=int, metavar="N",
                        help="text tokens (default: those of the prepared data, else "
                             "text.vocab_size)")
    parser.add_argument("--speakers", type=int, default=1000, metavar="N",
                        help="that the RM tells apart, where no data are prepared "
                             "(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    for name in ("hours", "gpus", "gpu_tflops", "gpu_gib", "utilisation", "utterance_seconds"):
        if getattr(args, name) <= 0:
            raise UserError(f"--{name} {getattr(args, name)}: want more than 0")
    recipe = load_recipe(args.config, args.overrides)
    vocab = _vocab(recipe, args)
    work = Work(hours=args.hours, utterance_seconds=args.utterance_seconds,
                text_tokens_a_second=args.text_tokens_a_second or (
                    13.0 if recipe.text.model_type == "char" else 4.0))
    machine = Machine(gpus=args.gpus, tflops=args.gpu_tflops, gib=args.gpu_gib,
                      utilisation=args.utilisation, sharding=args.sharding)
    print(_parts(plan_parts(recipe, vocab, machine)))
    print(f"\nfor {args.hours:g} hours in utterances of {work.utterance_seconds:g} s with "
          f"{work.text_tokens_a_second:g} text tokens a second, of {vocab.text_size}; "
          f"{machine.gpus} GPUs of {machine.gib:g} GiB and {machine.tflops:g} TFLOP/s, "
          f"{machine.utilisation:.0%} of it used; sharding: {machine.sharding}\n")
    planners = [StagePlanner(recipe, name, vocab, work, machine)
                for name, stage in recipe.stages.items() if stage.task != "vocoder"]
    plans = [planner.plan() for planner in tqdm(planners, unit="stage", leave=False)]
    print(_table(plans))
    known = [p.days for p in plans if p.days is not None]
    print(f"\n{sum(known):.1f} days in all" + (
        "" if len(known) == len(plans) else ", without stages that minutes bound"))
    problems = [_problem(planner, plan.total_gib)
                for planner, plan in zip(planners, plans, strict=True)
                if plan.total_gib > machine.gib * USABLE]
    if problems:
        raise UserError("; ".join(problems))


def _vocab(recipe: RecipeConfig, args: argparse.Namespace) -> Vocab:
    """The labels of the prepared data, or made-up ones of the sizes asked for."""
    if args.text_vocab is None and (Path(recipe.corpus.dump_dir) / "vocab.json").is_file():
        return Vocab.load(recipe.corpus.dump_dir)
    weighed = {k for s in recipe.stages.values() for k, w in s.weights.items() if w}
    return Vocab(
        speakers=[str(i) for i in range(args.speakers)], languages=["a", "b"],
        emotions=[str(i) for i in range(8)] if "emotion" in weighed else [], mel_mean=0.0,
        mel_std=1.0, text_size=args.text_vocab or recipe.text.vocab_size, space=[])


def _parts(parts: dict[str, PartPlan]) -> str:
    total = PartPlan(*map(sum, zip(*map(astuple, parts.values()), strict=True)))
    return "\n".join(table(
        ["part", "M parameters", "GiB frozen", "GiB learning"],
        [[name, f"{p.parameters / 1e6:,.1f}", f"{p.frozen_bytes / GIB:.2f}",
          f"{p.learning_bytes / GIB:.2f}"] for name, p in {**parts, "all": total}.items()]))


def _table(plans: list[StagePlan]) -> str:
    kinds = [k for k in MEMORY if any(p.memory_bytes.get(k) for p in plans)]
    rows = [[p.name, *(f"{p.memory_bytes.get(k, 0) / GIB:.1f}" for k in kinds),
             f"{p.total_gib:.1f}", f"{p.batch_seconds:g}", f"{p.flops / 1e12:,.1f}",
             *("???" if p.steps is None else (f"{p.steps:,}", f"{p.passes:.2f}", f"{p.days:.2f}"))]
            for p in plans]
    return "\n".join(table(["stage", *kinds, "GiB", "batch s", "TFLOP a step", "steps", "passes",
                            "days"], rows))


def _problem(planner: StagePlanner, gib: float) -> str:
    """Which stage does not fit, and what would."""
    name, usable = planner.name, planner.machine.gib * USABLE
    said = f"stage {name} needs {gib:.1f} GiB of {usable:.1f} usable"
    rows = planner.largest_batch(planner.rows)
    if rows:
        seconds = rows * planner.work.utterance_seconds
        return f"{said}: stages.{name}.train.batch_seconds={seconds:g} fits"
    return (f"{said}, and not even one utterance fits: train fewer parts at a time "
            f"(stages.{name}.trainable), make them smaller, or take GPUs of at least "
            f"{math.ceil(planner.plan(1).total_gib / USABLE)} GiB")
