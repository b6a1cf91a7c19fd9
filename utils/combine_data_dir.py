"""Combine data directories into one.

An utterance that two of them name is an error. Where one has a segments file, the others get
segments that span their files.

examples:
  python utils/combine_data_dir.py data/train data/train_clean data/train_other
"""

import argparse
import sys
from pathlib import Path

from e2etts.cli import tool
from e2etts.data.datadir import DataDir
from e2etts.data.edit import check_output, combine, say_not_carried
from e2etts.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="data directory to write")
    parser.add_argument("sources", nargs="+", metavar="IN", help="data directories to read")


def run(args: argparse.Namespace) -> None:
    check_output(args.out, args.sources)
    if len(set(args.sources)) < len(args.sources):
        raise UserError("one of the directories is given twice")
    sets = {name: DataDir.load(name) for name in args.sources}
    say_not_carried(*args.sources)
    whole = combine(sets)
    whole.save(args.out)
    parts = " + ".join(str(len(data)) for data in sets.values())
    print(f"{args.out}: {parts} = {len(whole)} utterances")


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
