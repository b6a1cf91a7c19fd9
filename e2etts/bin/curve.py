"""Word error rate against training time: speak and score every checkpoint kept along a run.

Keep checkpoints by stages.<stage>.train.keep_every (in steps). Time is that of the stage so far
and of all stages before it; the end of a stage is the weights that it hands on, those of its lowest
dev loss. Writes exp/TAG/curve.json and curve.svg; a point is measured once.

examples:
  e2etts curve --config conf/long.yaml
  e2etts curve --config conf/long.yaml --stage lm,joint corpus.sentences=[]
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from e2etts.ablation.figures import curve
from e2etts.ablation.plan import chain
from e2etts.bin.main import add_recipe_arguments, experiment_folder
from e2etts.bin.synthesize import Job
from e2etts.config import fingerprint, to_dict
from e2etts.errors import UserError
from e2etts.files import read_json, write_text
from e2etts.infer.pipeline import Synthesizer
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.score.results import score_experiment

HEARD = {"lm", "fm"}  # what they learn is heard in speech from text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", default="joint", metavar="STAGE",
                        help="last stage of the run (default: %(default)s)")
    parser.add_argument("--stage", metavar="NAMES",
                        help="stages whose checkpoints speak, with commas (default: those that "
                             "train LM or FM)")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.config, args.overrides)
    recipe = replace(recipe, synthesis=replace(recipe.synthesis, prompt_clips=0),
                     score=replace(recipe.score, metrics=("wer",)))
    root = experiment_folder(args)
    stages = args.stage.split(",") if args.stage else None
    rows = []
    for seconds, checkpoint in checkpoints(recipe, root, args.system, stages):
        rows.append({"seconds": seconds, **measure(recipe, root, checkpoint)})
        write_text(root / "curve.json", json.dumps(rows, indent=1) + "\n")
        rates = " ".join(f"{k} {100 * v['wer']:.1f}" for k, v in rows[-1]["tts"].items())
        print(f"{rows[-1]['checkpoint']}: {seconds:.0f} s of training: WER {rates}")
    curve(rows, root / "curve.svg")
    print(root / "curve.svg")


def checkpoints(recipe: RecipeConfig, root: Path, last: str,
                only: list[str] | None = None) -> list[tuple[float, Path]]:
    """(seconds of training, folder) of the kept checkpoints and the end of each stage that leads
    to ``last``. Raises UserError where a stage is not finished, or nothing was kept."""
    found, before = [], 0.0
    for name in chain(recipe, last):
        folder, stage = root / name, recipe.stage(name)
        summary = read_json(folder / "summary.json")
        if summary is None:
            raise UserError(f"{folder}/summary.json: absent: train stage '{name}' to its end first")
        if name in only if only else HEARD & set(stage.trainable):
            kept = sorted(folder.glob("kept/*/meta.json"), key=lambda p: int(p.parent.name))
            found += [(before + json.loads(p.read_text())["seconds"], p.parent) for p in kept]
            found.append((before + summary["seconds"], folder / "best"))
        before += summary["seconds"]
    if not any(path.parent.name == "kept" for _, path in found):
        raise UserError(f"{root}: no checkpoints were kept: set train.keep_every of the stages")
    return found


def measure(recipe: RecipeConfig, root: Path, checkpoint: Path) -> dict[str, Any]:
    """WER by system and set of one checkpoint, measured unless it has been."""
    folder = root / "curve" / str(checkpoint.relative_to(root)).replace("/", "-")
    sets = [*recipe.corpus.tests, *recipe.corpus.sentences]
    stamp = fingerprint({
        "checkpoint": json.loads((checkpoint / "meta.json").read_text())["fingerprint"],
        "step": checkpoint.name, "sets": sets, "synthesis": to_dict(recipe.synthesis),
        "score": to_dict(recipe.score)})
    done = read_json(folder / "point.json")
    if done is None or done["stamp"] != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        synthesizer = Synthesizer.load(checkpoint, root / "vocoder" / "best",
                                       recipe.corpus.dump_dir, recipe.synthesis)
        job = Job(recipe, synthesizer, folder / "wavs")
        job.every_set()
        scored = score_experiment(folder, recipe.score, recipe.seed, "e2etts curve")["systems"]
        done = {"stamp": stamp, "checkpoint": str(checkpoint.relative_to(root)), **{
            system: {s: {k: scored[system][s][k] for k in ("wer", "wer_ci", "n")}
                     for s in sets if s in scored[system]} for system in ("copy", "tts")}}
        write_text(folder / "point.json", json.dumps(done) + "\n")
    return done
