"""Measure spoken sets, of a recipe or of any system: error rates, similarity, quality, and more.

In a recipe: reads exp/TAG/wavs/SYSTEM/SET/manifest.jsonl; writes exp/TAG/results.json,
scores.jsonl (every clip) and RESULTS.md. Of any folder: --wavs; the same files go to --out. Nothing
that was measured before is measured again (score_cache.json). A metric that cannot run is listed
with how to get what it lacks.

metrics: wer sim dnsmos style utmos mcd f0 duration emotion tokens rtf seed_tts_eval_wer
seed_tts_eval_sim; seed_tts_eval means the last two. wer is heard by score.recognizer:
faster-whisper, transformers, funasr, pocketsphinx or rm, with :MODEL; sim compares the voices of
score.speaker: resemblyzer, wavlm-sv or ecapa. Models are taken from a path or a hub model of one's
own (score.models.NAME=WHERE), the cache, or the hub unless HF_HUB_OFFLINE=1.

examples:
  e2etts score
  e2etts score --tag mine score.recognizer=models/whisper-base
  e2etts score score.metrics=[wer] score.workers=4
  e2etts score --wavs out/en --list seedtts_testset/en/meta.lst --lang en --metrics seed_tts_eval
  e2etts score --wavs out --refs recordings --list texts.lst --lang en --metrics wer,mcd,f0
  e2etts score --wavs out --metrics dnsmos,utmos score.devices=[cuda:0,cuda:1]
"""

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from e2etts.cli import add_recipe_arguments
from e2etts.config import build, merge, parse_overrides, read_yaml
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.recipe import load_recipe
from e2etts.score.config import METRICS, ScoreConfig
from e2etts.score.lists import read_folder
from e2etts.score.results import score_clips, score_experiment
from e2etts.score.sections import COLUMNS, figure, further_rows, systems_of
from e2etts.score.style import labelled_recordings
from e2etts.score.tables import results_markdown

SEED_TTS_EVAL = "seed_tts_eval"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument("--wavs", type=Path, metavar="DIR",
                        help="score this folder: DIR/UTT.wav for each line of --list")
    parser.add_argument("--list", type=Path, metavar="FILE", help="what the wavs should say, a "
                        "line each: utt|prompt_text|prompt_wav|text[|recording], "
                        "utt|text|prompt_wav or utt|text")
    parser.add_argument("--lang", metavar="CODE", help="language of the list, such as en or zh")
    parser.add_argument("--refs", type=Path, metavar="DIR",
                        help="recordings of the same texts, DIR/UTT.wav, for mcd, f0, duration")
    parser.add_argument("--emotions", type=Path, metavar="FILE",
                        help="'utt label' lines, for emotion")
    parser.add_argument("--times", type=Path, metavar="FILE",
                        help="'utt seconds' lines, how long synthesis took, for rtf")
    parser.add_argument("--metrics", metavar="A,B", help="the same as score.metrics=[A,B]")
    parser.add_argument("--name", help="name of the system (default: the folder's)")
    parser.add_argument("--set", metavar="NAME", help="name of the set (default: the list's)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="where results go (default: DIR_scores beside the wavs)")


def run(args: argparse.Namespace) -> None:
    if args.metrics:
        args.overrides.append(f"score.metrics=[{_expanded(args.metrics)}]")
    exp, results = _folder(args) if args.wavs else _recipe(args)
    write_text(exp / "RESULTS.md", results_markdown(results))
    for system, sets in systems_of(results).items():
        for name, cell in sets.items():
            told = [f"{title}: {show(cell[key])}" for title, key, show in COLUMNS
                    if cell[key] is not None]
            if told:
                expected = results["details"][system][name]["expected"]
                print(f"{system} {name}: {'; '.join(told)} ({cell['n']} scored of {expected} "
                      "expected)")
    for metric, rows in further_rows(results).items():
        for name, system, figures in rows:
            told = " ".join(f"{k} {figure(v)}" for k, v in figures.items()
                            if k not in ("scored", "expected"))
            print(f"{system} {name}: {metric}: {told} ({figures['scored']} scored of "
                  f"{figures['expected']} expected)")
    print(f"{results['scored']} clips scored of {results['expected']} expected; "
          f"{exp / 'results.json'}, {exp / 'RESULTS.md'}")


def _expanded(names: str) -> str:
    both = ",".join(m for m in METRICS if m.startswith(SEED_TTS_EVAL))
    return ",".join(both if name == SEED_TTS_EVAL else name for name in names.split(","))


def _recipe(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    recipe = load_recipe(args.config, args.overrides)
    tag = args.tag or Path(args.config).stem
    exp = Path("exp") / tag
    words = ["./run.sh", "--config", args.config, "--tag", tag, *args.overrides]
    return exp, score_experiment(exp, recipe.score, recipe.seed, shlex.join(words), say,
                                 labelled_recordings(recipe.dump(recipe.corpus.train)))


def _folder(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Settings are those of the score section of --config, where there is such a file."""
    tree = read_yaml(args.config) if Path(args.config).is_file() else {}
    over = parse_overrides(args.overrides)
    other = sorted(set(over) - {"score"})
    if other:
        raise UserError(f"'{other[0]}': with --wavs only score.KEY=VALUE can be set")
    config = build(ScoreConfig, merge(tree.get("score", {}), over.get("score", {})), "score")
    if args.list and not args.lang:
        raise UserError("--list needs --lang, the language of its texts, such as --lang en")
    if args.lang and not re.fullmatch("[a-z]{2,3}", args.lang):
        raise UserError(f"--lang {args.lang}: want a code of two or three letters, such as en, zh")
    clips = read_folder(args.wavs, name=args.name or args.wavs.resolve().name,
                        lang=args.lang or "", listed=args.list, set_name=args.set or "",
                        refs=args.refs, emotions=args.emotions, times=args.times, say=say)
    exp = args.out or args.wavs.resolve().with_name(f"{args.wavs.resolve().name}_scores")
    exp.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["e2etts", *sys.argv[1:]])
    return exp, score_clips(clips, exp, config, config.seed, command, say)


def say(line: str) -> None:
    print(line, file=sys.stderr)
