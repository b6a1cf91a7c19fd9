"""Word error rate against training time, from the kept checkpoints of a run."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from e2etts.config import fingerprint, to_dict
from e2etts.errors import UserError
from e2etts.files import read_json, write_text
from e2etts.infer.pipeline import Synthesizer
from e2etts.recipe import RecipeConfig, StageConfig, load_recipe
from e2etts.score.results import score_experiment
from e2etts.stages.start import checkpoint_folder
from e2etts.stages.synthesize import SetSynthesizer

SPOKEN = {"lm", "fm"}  # parts whose training changes speech from text


def wer_curve(recipe: RecipeConfig, root: Path, last: str, vocoder: str,
              only: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Points of the curve, see ``kept_checkpoints`` and ``measure_checkpoint``, each of which is
    written to ``root/curve.json``; vocoder: its source."""
    recipe = replace(recipe, corpus=replace(recipe.corpus, zero_shot=()),
                     synthesis=replace(recipe.synthesis, prompt_clips=0, vocoded_clips=0),
                     score=replace(recipe.score, metrics=("wer",)))
    points, vocoder_folder = [], checkpoint_folder(vocoder, recipe, root, "vocoder")
    for seconds, checkpoint in kept_checkpoints(recipe, root, last, only):
        points.append({"seconds": seconds, **measure_checkpoint(recipe, root, checkpoint,
                                                                vocoder_folder)})
        write_text(root / "curve.json", json.dumps(points, indent=1) + "\n")
        yield points[-1]


def kept_checkpoints(recipe: RecipeConfig, root: Path, last: str,
                     only: list[str] | None = None) -> list[tuple[float, Path]]:
    """(seconds of training, folder) of the kept checkpoints and the end of each stage that leads
    to ``last``. Raises UserError where a stage is not finished, or nothing was kept."""
    found, before = [], 0.0
    for folder, stage in _trained_before(recipe, root, last).items():
        name = folder.name
        summary = read_json(folder / "summary.json")
        if summary is None:
            raise UserError(f"{folder}/summary.json: absent: train stage '{name}' to its end first")
        if name in only if only else SPOKEN & set(stage.trainable):
            kept = sorted(folder.glob("kept/*/meta.json"), key=lambda p: int(p.parent.name))
            found += [(before + json.loads(p.read_text())["seconds"], p.parent) for p in kept]
            found.append((before + summary["seconds"], folder / "best"))
        before += summary["seconds"]
    if not any(path.parent.name == "kept" for _, path in found):
        raise UserError(f"{root}: no checkpoints were kept: set train.keep_every of the stages")
    return found


def _trained_before(recipe: RecipeConfig, root: Path, last: str) -> dict[Path, StageConfig]:
    """The folder of stage ``last`` after those of all that it starts from, of this run and of the
    runs whose stages are named by their folders."""
    found: dict[Path, StageConfig] = {}
    for name in recipe.stages_to(last, judges=False):
        for source in dict.fromkeys(recipe.stage(name).sources.values()):
            folder = Path(source)
            folder = folder.parent if folder.name == "best" else folder
            if source not in recipe.stages and (folder / "config.yaml").is_file() \
                    and (folder / "summary.json").is_file():
                other = load_recipe(folder / "config.yaml")
                found |= _trained_before(other, folder.parent, folder.name)
        found[root / name] = recipe.stage(name)
    return found


def measure_checkpoint(recipe: RecipeConfig, root: Path, checkpoint: Path,
                       vocoder: Path) -> dict[str, Any]:
    """WER by system and set of one checkpoint, measured once."""
    stage = checkpoint.parent if checkpoint.name == "best" else checkpoint.parents[1]
    name = str(checkpoint.relative_to(stage.parent))
    folder = root / "curve" / name.replace("/", "-")
    sets = [*recipe.corpus.tests, *recipe.corpus.sentences]
    stamp = fingerprint({
        "checkpoint": json.loads((checkpoint / "meta.json").read_text())["fingerprint"],
        "step": checkpoint.name, "sets": sets, "synthesis": to_dict(recipe.synthesis),
        "score": to_dict(recipe.score)})
    done = read_json(folder / "point.json")
    if done is None or done["stamp"] != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        synthesizer = Synthesizer.load(checkpoint, vocoder, recipe.corpus.dump_dir,
                                       recipe.synthesis)
        SetSynthesizer(recipe, synthesizer, folder / "wavs").every_set()
        scored = score_experiment(folder, recipe.score, recipe.seed, "e2etts curve")["systems"]
        done = {"stamp": stamp, "checkpoint": name, **{
            system: {s: {k: scored[system][s][k] for k in ("wer", "wer_ci", "n")}
                     for s in sets if s in scored[system]} for system in ("copy", "tts")}}
        write_text(folder / "point.json", json.dumps(done) + "\n")
    return done
