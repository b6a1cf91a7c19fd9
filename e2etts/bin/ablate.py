"""Train and compare many systems in one resumable experiment.

The YAML defines systems as overrides of one recipe, seeds and comparisons. Training stages that
systems share are trained once and every run is measured once. ablation.json, ABLATION.md and
figures/ are updated after every run. Needs the recipe's prepared data (stages 1 and 2).

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

from e2etts.cli import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="conf/ablation.yaml", metavar="FILE",
                        help="the experiment (default: %(default)s)")
    parser.add_argument("--tag", metavar="NAME",
                        help="work goes to exp/NAME (default: the configuration's file name)")
    parser.add_argument("--results", metavar="FOLDER",
                        help="folder of ablation.json and ABLATION.md (default: exp/NAME)")
    parser.add_argument("--hours", type=float, metavar="H",
                        help="stop after H hours: training is interrupted at a checkpoint")
    parser.add_argument("--only", metavar="RUNS",
                        help="only these runs, in this order: names such as cascade-seed1, or "
                             "patterns such as 'stage*-seed1', separated by commas (default: all)")
    parser.add_argument("--status", action="store_true",
                        help="show finished and remaining work, and exit")
    parser.add_argument("--recipe", action="store_true",
                        help="print the path of the recipe's configuration, and exit")
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    from e2etts.ablation.experiment import load_experiment, recipe_path
    from e2etts.ablation.markdown import write_ablation
    from e2etts.ablation.session import (
        Session,
        TimeIsUp,
        check_buildable,
        check_prepared,
        in_process_of_its_own,
        locked,
    )
    from e2etts.ablation.store import Results, Store, experiment_status

    if args.recipe:
        print(recipe_path(args.config))
        return
    experiment = load_experiment(args.config, args.overrides)
    store = Store(args.tag or Path(args.config).stem)
    folder = Path(args.results) if args.results else store.root
    results = Results(folder / "ablation.json")
    chosen = experiment.only(args.only.split(",")) if args.only else experiment
    if args.status:
        speeds = experiment.config.speeds_from
        print(experiment_status(chosen, store, results, Path(speeds) if speeds else None))
        return
    check_prepared(experiment)
    check_buildable(experiment)
    publish = partial(write_ablation, experiment, results, folder, command(args, store.tag))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to stop, as Ctrl-C is
    with locked(store.root) as lock:
        for name in results.outdated(chosen):
            print(f"ablate: {name}: stored results are of other settings or data: measuring again")
        session = Session(chosen, store, results, call=in_process_of_its_own(lock), publish=publish,
                          hours=args.hours, say=partial(print, flush=True))
        try:
            session.go()
        except TimeIsUp:
            print(f"ablate: {args.hours:g} hours are over; the same command resumes")
        publish()
    print(folder / "ABLATION.md")


def command(args: argparse.Namespace, tag: str) -> str:
    """The command that writes the tables again, for their page."""
    front = ["./run_ablation.sh"] if Path("run_ablation.sh").is_file() else ["e2etts", "ablate"]
    return shlex.join([*front, "--config", args.config, "--tag", tag, *args.overrides])
