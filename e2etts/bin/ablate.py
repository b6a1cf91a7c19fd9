"""Train and compare many systems: one experiment, which may be stopped and goes on.

The YAML names systems as overrides of one recipe, seeds and comparisons. Stages of training that
systems share are trained once, every run is measured once, and ablation.json, ABLATION.md and
figures/ are written as runs come. Needs the recipe's prepared data (stages 1 and 2).

examples:
  e2etts ablate --status
  e2etts ablate --hours 2.5
  e2etts ablate --only 'stage*-seed1,cascade-seed1'
  e2etts ablate --tag choose corpus.tests=[dev] corpus.sentences=[]
"""

import argparse
import shlex
import signal
from functools import partial
from pathlib import Path

from e2etts.ablation.figures import draw
from e2etts.ablation.plan import Plan, load_plan, recipe_path
from e2etts.ablation.record import Results
from e2etts.ablation.run import (
    Session,
    Store,
    TimeIsUp,
    check_buildable,
    in_process_of_its_own,
    locked,
)
from e2etts.ablation.status import status
from e2etts.ablation.tables import markdown
from e2etts.bin.main import add_overrides
from e2etts.errors import UserError
from e2etts.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="conf/ablation.yaml", metavar="FILE",
                        help="the experiment (default: %(default)s)")
    parser.add_argument("--tag", metavar="NAME",
                        help="work goes to exp/NAME (default: the configuration's file name)")
    parser.add_argument("--results", metavar="FOLDER",
                        help="where ablation.json and ABLATION.md are (default: exp/NAME)")
    parser.add_argument("--hours", type=float, metavar="H",
                        help="stop after so long: a training is interrupted at a checkpoint")
    parser.add_argument("--only", metavar="RUNS",
                        help="these runs alone and in this order: names such as cascade-seed1, or "
                             "patterns such as 'stage*-seed1', with commas (default: all)")
    parser.add_argument("--status", action="store_true",
                        help="show what is done and left, and end")
    parser.add_argument("--recipe", action="store_true",
                        help="print the name of the recipe's configuration, and end")
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    if args.recipe:
        print(recipe_path(args.config))
        return
    plan = load_plan(args.config, args.overrides)
    store = Store(args.tag or Path(args.config).stem)
    folder = Path(args.results) if args.results else store.root
    results = Results(folder / "ablation.json")
    chosen = plan.only(args.only.split(",")) if args.only else plan
    if args.status:
        speeds = plan.config.speeds_from
        print(status(chosen, store, results, Path(speeds) if speeds else None))
        return
    for recipe in {id(r.recipe): r.recipe for r in plan.runs}.values():
        sets = (recipe.corpus.train, recipe.corpus.dev, *recipe.corpus.tests,
                *recipe.corpus.sentences)
        absent = [s for s in sets if not (recipe.dump(s) / "text_ids").is_file()]
        if absent:
            raise UserError(f"{recipe.dump(absent[0])}: not prepared: run stages 1 and 2 first")
    check_buildable(plan)
    front = ["./run_ablation.sh"] if Path("run_ablation.sh").is_file() else ["e2etts", "ablate"]
    words = [*front, "--config", args.config, "--tag", store.tag, *args.overrides]
    publish = partial(write_tables, plan, results, folder, shlex.join(words))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to stop: as by Ctrl-C
    with locked(store.root) as lock:
        for name in results.outdated(chosen):
            print(f"ablate: {name}: what is stored is of other settings or data: measured anew")
        session = Session(chosen, store, results, call=in_process_of_its_own(lock), publish=publish,
                          hours=args.hours, say=partial(print, flush=True))
        try:
            session.go()
        except TimeIsUp:
            print(f"ablate: {args.hours:g} hours are over; the same command goes on")
        publish()
    print(folder / "ABLATION.md")


def write_tables(plan: Plan, results: Results, folder: Path, command: str) -> None:
    """ABLATION.md and figures, from what has been measured so far."""
    write_text(folder / "ABLATION.md",
               markdown(plan, results, command, draw(plan, results, folder)))
