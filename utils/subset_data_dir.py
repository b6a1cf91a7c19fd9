"""Part of a data directory: utterances, speakers or languages, or a number drawn by a seed.

IN -> OUT; conditions are combined. What is left out is listed in OUT/left_out.tsv.

examples:
  python utils/subset_data_dir.py data/train data/train_1k --count 1000
  python utils/subset_data_dir.py data/train data/few --speaker anna --speaker ben --per_speaker 20
  python utils/subset_data_dir.py data/train data/good --utts good.txt
"""

import argparse
import sys
from pathlib import Path

from e2etts.cli import tool
from e2etts.data.datadir import DataDir
from e2etts.data.edit import (
    check_output,
    chosen,
    report_left_out,
    say_lost_prompts,
    say_not_carried,
)
from e2etts.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="data directory to read")
    parser.add_argument("out", type=Path, metavar="OUT", help="data directory to write")
    parser.add_argument("--utts", type=Path, metavar="FILE",
                        help="a list of utterances, the first word of each line")
    parser.add_argument("--speaker", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--lang", action="append", metavar="LANG", help="may be repeated")
    parser.add_argument("--per_speaker", type=int, metavar="N", help="at most so many a speaker")
    parser.add_argument("--count", type=int, metavar="N", help="at most so many in all")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    check_output(args.out, [args.source])
    data = DataDir.load(args.source)
    say_not_carried(args.source)
    utts, rows = set(data.text), []
    if args.utts:
        listed = _listed(args.utts)
        rows = [(u, str(args.utts), f"not in {args.source}") for u in sorted(listed - utts)]
        utts &= listed
    for wanted, labels in ((args.speaker, data.utt2spk), (args.lang, data.utt2lang)):
        unknown = set(wanted or ()) - set(labels.values())
        if unknown:
            raise UserError(f"{args.source}: has no '{min(unknown)}'; it has: "
                            f"{', '.join(sorted(set(labels.values()))[:20])}")
        utts = {u for u in utts if not wanted or labels[u] in wanted}
    part, left_out = chosen(data, utts, count=args.count, per_speaker=args.per_speaker,
                            seed=args.seed)
    part.save(args.out)
    print(f"{args.out}: {len(part)} utterances")
    say_lost_prompts(data, {str(args.out): part})
    rows += [(utt, str(args.source), why) for utt, why in sorted(left_out.items())]
    report_left_out(args.out / "left_out.tsv", rows)


def _listed(path: Path) -> set[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
        return {line.split()[0] for line in lines if line.strip()}
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot read the list: {e}") from e


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
