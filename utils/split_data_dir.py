"""Split a data directory into sets that share no utterance, drawn by a seed.

IN -> OUT/NAME for every --part and for --rest. Numbers are utterances, of which every speaker
keeps at least one in the rest; with --by_speaker they are speakers, each whole in one set. With
--unique_text equal texts stay together, so that a part may get fewer than requested; by speaker
texts are left out instead, and listed in OUT/left_out.tsv.

examples:
  python utils/split_data_dir.py data/all data --part dev=100 --part test=100
  python utils/split_data_dir.py data/all data --part test=10 --by_speaker --unique_text --seed 1
"""

import argparse
import re
import sys
from pathlib import Path

from e2etts.cli import tool
from e2etts.data.datadir import DataDir
from e2etts.data.edit import (
    check_output,
    report_left_out,
    say_lost_prompts,
    say_not_carried,
    split,
)
from e2etts.errors import UserError

_SET = re.compile(r"\w[\w.-]*")  # names a folder within OUT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="data directory to split")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the new directories")
    parser.add_argument("--part", action="append", required=True, metavar="NAME=N",
                        help="a set and its number of utterances or speakers; may be repeated")
    parser.add_argument("--rest", default="train", metavar="NAME",
                        help="the set of all others (default: %(default)s)")
    parser.add_argument("--by_speaker", action="store_true", help="no speaker in two sets")
    parser.add_argument("--unique_text", action="store_true",
                        help="no text in two sets (letters and digits compared, without case)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    parts = dict(map(_part, args.part))
    if not _SET.fullmatch(args.rest):
        raise UserError(f"--rest {args.rest}: write a name, such as train")
    if len(parts) < len(args.part) or args.rest in parts:
        raise UserError("--part, --rest: two sets have one name")
    for name in (*parts, args.rest):
        check_output(args.out / name, [args.source])
    data = DataDir.load(args.source)
    say_not_carried(args.source)
    sets, left_out = split(data, parts, args.rest, by_speaker=args.by_speaker,
                           unique_text=args.unique_text, seed=args.seed)
    for name, chosen in sets.items():
        chosen.save(args.out / name)
        requested = f" ({parts[name]} requested)" if name in parts else ""
        print(f"{args.out / name}: {len(chosen)} utterances of "
              f"{len(set(chosen.utt2spk.values()))} speakers{requested}")
    say_lost_prompts(data, sets)
    report_left_out(args.out / "left_out.tsv",
                    [(utt, str(args.source), why) for utt, why in sorted(left_out.items())])


def _part(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not _SET.fullmatch(name) or not number.isdecimal() or int(number) < 1:
        raise UserError(f"--part {text}: write NAME=N, such as dev=100")
    return name, int(number)


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
