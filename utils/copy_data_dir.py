"""Copy a data directory, with prefixes for its ids or new roots of its audio paths.

examples:
  python utils/copy_data_dir.py data/train data/train_b --prefix b- --speaker_prefix b-
  python utils/copy_data_dir.py data/train here/train --path /disk1/corpus=/disk2/corpus
"""

import argparse
import sys
from pathlib import Path

from e2etts.cli import tool
from e2etts.data.datadir import DataDir
from e2etts.data.edit import check_output, renamed, say_not_carried
from e2etts.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="data directory to read")
    parser.add_argument("out", type=Path, metavar="OUT", help="data directory to write")
    parser.add_argument("--prefix", default="", help="of utterances and recordings")
    parser.add_argument("--speaker_prefix", default="", metavar="PREFIX", help="of speakers")
    parser.add_argument("--path", default="=", metavar="OLD=NEW",
                        help="replace the beginning of every path of wav.scp")


def run(args: argparse.Namespace) -> None:
    check_output(args.out, [args.source])
    old, equals, new = args.path.partition("=")
    if not equals:
        raise UserError(f"--path {args.path}: write OLD=NEW")
    data = DataDir.load(args.source)
    say_not_carried(args.source)
    copy = renamed(data, prefix=args.prefix, speaker_prefix=args.speaker_prefix, path=(old, new))
    copy.save(args.out)
    print(f"{args.out}: {len(copy)} utterances")


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
