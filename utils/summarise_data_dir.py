"""Summarise data directories: utterances, hours, lengths, speakers, languages, texts.

Lengths are read from the headers of the audio files.

examples:
  python utils/summarise_data_dir.py data/train data/dev data/test
  python utils/summarise_data_dir.py data/train --json summary.json
"""

import argparse
import json
import sys

from e2etts.cli import tool
from e2etts.data.datadir import DataDir
from e2etts.data.summary import summarise, summary_text
from e2etts.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directories", nargs="+", metavar="DIR", help="data directories to read")
    parser.add_argument("--no_audio", action="store_true", help="tables alone, no lengths")
    parser.add_argument("--speakers", type=int, default=8, metavar="N",
                        help="speakers to name (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="processes that read headers (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    numbers = {}
    for name in args.directories:
        numbers[name] = summarise(DataDir.load(name), audio=not args.no_audio,
                                  workers=args.workers)
        print(summary_text(name, numbers[name], args.speakers))
    if args.json:
        write_text(args.json, json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
