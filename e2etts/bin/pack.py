"""Export a trained system as one folder, and as an archive with --out (stage 11).

examples:
  e2etts pack --config conf/default.yaml --tag default
  e2etts pack --config conf/default.yaml --out mini.tar.gz
  e2etts pack --unpack mini.tar.gz --out mini

The folder exp/TAG/pack holds config.yaml, text.model, vocab.json, joint/ and vocoder/ (each
model.safetensors and meta.json), results.json, README.md and SHA256SUMS, which
`sha256sum -c SHA256SUMS` checks.
"""

import argparse
from pathlib import Path

from e2etts.cli import add_recipe_arguments, experiment_folder
from e2etts.errors import UserError
from e2etts.stages.packs import SUMS, archive_pack, make_pack, unpack_archive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``e2etts pack``."""
    add_recipe_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="PATH",
                        help="also write this .tar.gz archive; with --unpack: the folder to make")
    parser.add_argument("--unpack", type=Path, metavar="FILE.tar.gz",
                        help="check an archive and unpack it into the folder --out")


def run(args: argparse.Namespace) -> None:
    """Pack or unpack, and print what was written."""
    if args.unpack:
        if args.out is None:
            raise UserError("--unpack: name the folder to make with --out")
        unpack_archive(args.unpack, args.out)
        print(f"{args.out}: unpacked and checked against {SUMS}")
        return
    from e2etts.recipe import load_recipe  # loads torch, which --unpack need not

    corpus = load_recipe(args.config, args.overrides).corpus
    exp = experiment_folder(args)
    if args.out is not None and not args.out.name.endswith(".tar.gz"):
        raise UserError(f"{args.out}: the archive's name must end in .tar.gz")
    folder = make_pack(exp, Path(corpus.dump_dir), Path(corpus.data_dir))
    size_mb = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    print(f"{folder}: {size_mb:.1f} MB")
    if args.out is not None:
        archive_pack(folder, args.out)
        print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
