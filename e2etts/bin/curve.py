"""Word error rate against training time: synthesizes and scores all kept checkpoints of a run.

Keep checkpoints with stages.<stage>.train.keep_every (in steps). Time is that of the stage so far
and of all stages before it, of this run and of others whose folders are sources of its stages.
The last point of a stage is its best checkpoint, by dev loss, from which the next stage starts.
Writes exp/TAG/curve.json and curve.svg; a point is measured once.

examples:
  e2etts curve --config conf/long.yaml
  e2etts curve --config conf/long.yaml --stage lm,joint corpus.sentences=[]
"""

import argparse

from e2etts.cli import add_recipe_arguments, experiment_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", default="joint", metavar="STAGE",
                        help="last stage of the run (default: %(default)s)")
    parser.add_argument("--vocoder", default="vocoder", metavar="SOURCE",
                        help="stage of this run, or folder of a stage, checkpoint or pack "
                             "(default: %(default)s)")
    parser.add_argument("--stage", metavar="NAMES",
                        help="stages whose checkpoints are scored, separated by commas (default: "
                             "those that train LM or FM)")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from e2etts.ablation.figures import draw_wer_curve
    from e2etts.ablation.wer_curve import wer_curve
    from e2etts.recipe import load_recipe

    root = experiment_folder(args)
    stages = args.stage.split(",") if args.stage else None
    points = []
    for point in wer_curve(load_recipe(args.config, args.overrides), root, args.system,
                           args.vocoder, stages):
        points.append(point)
        rates = " ".join(f"{name} {100 * v['wer']:.1f}" for name, v in point["tts"].items())
        print(f"{point['checkpoint']}: {point['seconds']:.0f} s of training: WER {rates}")
    draw_wer_curve(points, root / "curve.svg")
    print(root / "curve.svg")
