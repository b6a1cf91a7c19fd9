"""Measure synthesised sets, of a recipe or of any system: error rates, similarity, quality, more.

In a recipe: reads exp/TAG/wavs/SYSTEM/SET/manifest.jsonl; writes exp/TAG/results.json,
scores.jsonl (every clip) and RESULTS.md. Of any folder: --wavs; the same files go to --out.
Measurements are cached (score_cache.json). A metric that cannot run is listed with its remedy.

wer uses the recogniser score.recognizer: faster-whisper, transformers, funasr, pocketsphinx or rm,
with :MODEL; sim uses the speaker model score.speaker: resemblyzer, wavlm-sv or ecapa. Models are
taken from a path or another hub model (score.models.NAME=WHERE), the cache, or the hub unless
HF_HUB_OFFLINE=1. --metrics seed_tts_eval means both metrics of that protocol.

examples:
  e2etts score
  e2etts score --tag mine score.recognizer=models/whisper-base
  e2etts score score.metrics=[wer] score.workers=4
  e2etts score --wavs out/en --list seedtts_testset/en/meta.lst --lang en --metrics seed_tts_eval
  e2etts score --wavs out --refs recordings --list texts.lst --lang en --metrics wer,mcd,f0
  e2etts score --wavs out --metrics dnsmos,utmos score.devices=[cuda:0,cuda:1]
"""

import argparse
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

from e2etts.cli import add_recipe_arguments, experiment_folder
from e2etts.config import read_yaml
from e2etts.files import write_text
from e2etts.recipe import load_recipe
from e2etts.report.results_markdown import results_markdown
from e2etts.report.sections import summary_lines
from e2etts.score.config import config_of
from e2etts.score.metrics.registry import DEFAULT_METRICS, REGISTRY
from e2etts.score.metrics.style import labelled_recordings
from e2etts.score.results import score_experiment, score_folder
from e2etts.score.unseen_voices import training_voices

SEED_TTS_EVAL = "seed_tts_eval"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    width = max(map(len, REGISTRY))
    parser.epilog = "\n".join([f"metrics (default: {', '.join(DEFAULT_METRICS)}):", *(
        line for name, metric in REGISTRY.items() for line in textwrap.wrap(
            metric.about, 98, initial_indent=f"  {name:<{width}}  ",
            subsequent_indent=" " * (width + 4)))])
    add_recipe_arguments(parser)
    parser.add_argument("--wavs", type=Path, metavar="DIR",
                        help="score this folder: DIR/UTT.wav for each line of --list")
    parser.add_argument("--list", type=Path, metavar="FILE", help="texts of the wavs, one "
                        "per line: utt|prompt_text|prompt_wav|text[|recording], "
                        "utt|text|prompt_wav or utt|text")
    parser.add_argument("--lang", metavar="CODE", help="language of the list, such as en or zh")
    parser.add_argument("--refs", type=Path, metavar="DIR",
                        help="recordings of the same texts, DIR/UTT.wav, for mcd, f0, duration")
    parser.add_argument("--emotions", type=Path, metavar="FILE",
                        help="'utt label' lines, for emotion")
    parser.add_argument("--times", type=Path, metavar="FILE",
                        help="'utt seconds' lines, synthesis times, for rtf")
    parser.add_argument("--metrics", metavar="A,B",
                        help="the same as score.metrics=[A,B]; seed_tts_eval: its two")
    parser.add_argument("--name", help="name of the system (default: the folder's)")
    parser.add_argument("--set", metavar="NAME", help="name of the set (default: the list's)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="output folder (default: DIR_scores beside the wavs)")


def run(args: argparse.Namespace) -> None:
    if args.metrics:
        args.overrides.append(f"score.metrics=[{_expanded(args.metrics)}]")
    exp, results = _folder(args) if args.wavs else _recipe(args)
    write_text(exp / "RESULTS.md", results_markdown(results))
    print("\n".join([*summary_lines(results), f"{results['scored']} clips scored of "
                     f"{results['expected']} expected; {exp / 'results.json'}, "
                     f"{exp / 'RESULTS.md'}"]))


def _expanded(names: str) -> str:
    both = ",".join(name for name in REGISTRY if name.startswith(SEED_TTS_EVAL))
    return ",".join(both if name == SEED_TTS_EVAL else name for name in names.split(","))


def _recipe(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    recipe, exp = load_recipe(args.config, args.overrides), experiment_folder(args)
    command = shlex.join(["./run.sh", "--config", args.config, "--tag",
                          str(exp.relative_to("exp")), *args.overrides])
    train = recipe.dump(recipe.corpus.train)
    return exp, score_experiment(exp, recipe.score, recipe.seed, command, say,
                                 labelled_recordings(train), training_voices(train))


def _folder(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Settings are those of the score section of --config, where there is such a file."""
    tree = read_yaml(args.config) if Path(args.config).is_file() else {}
    return score_folder(
        args.wavs, config_of(tree.get("score", {}), args.overrides, "--wavs"),
        shlex.join(["e2etts", *sys.argv[1:]]), lang=args.lang or "", name=args.name or "",
        listed=args.list, set_name=args.set or "", refs=args.refs, emotions=args.emotions,
        times=args.times, out=args.out, say=say)


def say(line: str) -> None:
    print(line, file=sys.stderr)
