"""Write a corrected copy of a data directory, without the faults that validation finds.

IN -> OUT: sorted, the same ids in every file; utterances that cannot be kept are listed with file,
line and reason in OUT/left_out.tsv. With --wav_dir audio of another rate or of several channels is
not left out but converted, and segments become files of their own. IN is not changed (e2etts
validate --policy skip repairs a directory in place).

examples:
  python utils/fix_data_dir.py data/raw data/train --rate 24000
  python utils/fix_data_dir.py data/raw data/train --rate 16000 --wav_dir data/wav
"""

import argparse
import sys
from pathlib import Path

from e2etts.cli import tool
from e2etts.data.edit import (
    check_output,
    report_left_out,
    say_lost_prompts,
    say_not_carried,
)
from e2etts.data.recordings import converted
from e2etts.data.validate import LOST_PROMPT, OUT_OF_ORDER, Limits, faultless


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="data directory to read")
    parser.add_argument("out", type=Path, metavar="OUT", help="data directory to write")
    parser.add_argument("--rate", type=int, default=Limits().sample_rate_hz, metavar="HZ",
                        help="required sample rate (default: %(default)s)")
    parser.add_argument("--wav_dir", type=Path, metavar="DIR",
                        help="convert audio that does not fit into DIR (16-bit wav)")
    parser.add_argument("--headers", action="store_true",
                        help="check only audio headers: finds no clipping or damage")
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="processes that read audio (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    check_output(args.out, [args.source])
    convert = args.wav_dir is not None
    limits = Limits(sample_rate_hz=None if convert else args.rate,
                    channels=None if convert else 1, samples=not args.headers)
    data, findings = faultless(args.source, limits, workers=args.workers)
    say_not_carried(args.source)
    kept = data.text.keys()
    rows = [(f.utt, f"{Path(f.path).name}:{f.line}", f.reason)
            for f in findings if f.utt not in kept or f.reason.startswith(LOST_PROMPT)]
    if convert and data.wav:
        found = data
        data, wrong = converted(found, args.wav_dir, args.rate, args.workers)
        say_lost_prompts(found, {str(args.out): data})
        rows += [(utt, "audio", reason) for utt, reason in wrong.items()]
    data.save(args.out)
    unsorted = sum(f.reason.startswith(OUT_OF_ORDER) for f in findings if f.utt in kept)
    print(f"{args.out}: {len(data)} utterances, {unsorted} lines sorted")
    report_left_out(args.out / "left_out.tsv", rows)


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
