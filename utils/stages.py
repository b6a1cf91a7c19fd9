"""Helpers of the recipe driver: facts of a configuration, and the log of stages.

    python utils/stages.py facts conf/default.yaml seed=2
    python utils/stages.py record exp/default/stages.json 5 lm --seconds 312.5
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from e2etts.cli import fail
from e2etts.errors import UserError


def facts(config: str, overrides: list[str]) -> str:
    """Shell assignments of data_dir, dump_dir, train_set, sample_rate_hz; of training_order, the
    training stages, each after those it starts from; and of the array sources, which holds for
    each of them what it starts from, a line each. Checks every key of the recipe.

    Raises UserError for an unreadable configuration or an unknown key.
    """
    from e2etts.recipe import load_recipe  # loads torch, which `record` need not

    recipe = load_recipe(config, overrides)
    corpus = recipe.corpus
    values = {"data_dir": corpus.data_dir, "dump_dir": corpus.dump_dir, "train_set": corpus.train,
              "sample_rate_hz": str(recipe.audio.sample_rate_hz)}
    pairs = []
    for name, stage in recipe.stages.items():
        sources = [*stage.sources.values(), *([stage.judge] if stage.judge else [])]
        if not sources and recipe.extends and stage.trains_system:
            sources = [recipe.extends.checkpoint]
        lines = "\n".join(dict.fromkeys(sources))
        pairs.append(f"[{shlex.quote(name)}]={shlex.quote(lines)}")
    return "\n".join([*(f"{k}={shlex.quote(v)}" for k, v in values.items()),
                      f"training_order=({shlex.join(recipe.training_order())})",
                      f"declare -A sources=({' '.join(pairs)})"])


def record(path: Path, stage: int, name: str, seconds: float) -> None:
    """Note in the log of stages what a stage takes: the most of this run, of earlier runs, and of
    the training time in its summary. So a resumed or finished run keeps all.
    """
    entries = {e["stage"]: e for e in json.loads(path.read_text("utf-8"))} if path.exists() else {}
    summary = path.parent / name / "summary.json"
    trained = json.loads(summary.read_text("utf-8"))["seconds"] if summary.exists() else 0.0
    before = entries.get(stage, {}).get("seconds", 0.0)
    entries[stage] = {"stage": stage, "name": name,
                      "seconds": round(max(seconds, trained, before), 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps([entries[n] for n in sorted(entries)], indent=1) + "\n", "utf-8")
    part.rename(path)


def main() -> int:
    """Run one of the two helpers; exit status 2 for a user's error."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    read = verbs.add_parser("facts")
    read.add_argument("config")
    read.add_argument("overrides", nargs="*")
    log = verbs.add_parser("record")
    log.add_argument("path", type=Path)
    log.add_argument("stage", type=int)
    log.add_argument("name")
    log.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    try:
        if args.verb == "facts":
            print(facts(args.config, args.overrides))
        else:
            record(args.path, args.stage, args.name, args.seconds)
            print(f"stage {args.stage} {args.name}: done in {args.seconds:.0f} s", flush=True)
    except UserError as e:
        return fail(None, str(e))
    return 0


if __name__ == "__main__":
    sys.exit(main())
