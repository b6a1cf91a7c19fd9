"""Check data directories and print every finding with file, line and reason.

examples:
  e2etts validate data/train data/dev
  e2etts validate --policy skip data/train
  e2etts validate --headers --rate 24000 data/train   a large set: no audio is decoded
"""

import argparse
import sys

from e2etts.data.validate import Limits, clean_directory, validate
from e2etts.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``e2etts validate``."""
    parser.add_argument("directories", nargs="+", metavar="DIR")
    parser.add_argument("--policy", choices=("fail", "skip"), default="fail",
                        help="fail: exit 2 on a finding; skip: write the set without the faulty "
                             "utterances and list them in DIR/skipped.tsv (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=Limits().sample_rate_hz, metavar="HZ",
                        help="required sample rate (default: %(default)s)")
    parser.add_argument("--characters_per_second", nargs=2, type=float, metavar=("LOW", "HIGH"),
                        default=Limits().characters_per_second,
                        help="range of speaking rates (default: %(default)s)")
    parser.add_argument("--headers", action="store_true",
                        help="check only audio headers: rate, channels and length, but not "
                             "clipping or damage (prepare reports what it cannot read)")
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="processes that read audio (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Validate every directory, then raise UserError if one has findings under policy fail."""
    limits = Limits(sample_rate_hz=args.rate, samples=not args.headers,
                    characters_per_second=tuple(args.characters_per_second))
    faulty = []
    for directory in args.directories:
        skip = args.policy == "skip"
        findings = (clean_directory(directory, limits, "skip", workers=args.workers) if skip
                    else validate(directory, limits, workers=args.workers))
        for finding in findings:
            print(finding, file=sys.stderr)
        if findings and not skip:
            faulty.append(f"{directory} ({len(findings)})")
        elif not findings:
            print(f"{directory}: good")
    if faulty:
        raise UserError(f"findings in {', '.join(faulty)}, listed above; correct them or use "
                        "--policy skip")
