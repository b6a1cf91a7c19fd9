"""Estimate the cost of training a configuration: parameters, GPU memory, operations, days.

Runs the real step of every stage on shapes alone, without weights or data, on this machine. Memory
is that of one GPU in the precision of each stage. Activations are the peak of a step on a full
batch of equally long utterances. Host and disk, in GiB, are what saving adds to the memory of the
first process, and what training states and checkpoints of the stage take at their most. Days are
operations over --gpu_tflops times --utilisation, which includes loading, validation and waiting. Of
the vocoder, only parameters are counted. Exit status 2 if a stage needs more than 90 % of a GPU;
the error states what would fit.

examples:
  e2etts plan conf/paper.yaml --hours 100000 --gpus 64
  e2etts plan conf/default.yaml --hours 585 --gpu_tflops 312 --gpu_gib 80 --utilisation 0.3
  e2etts plan conf/paper.yaml --hours 100000 --gpus 64 stages.lm.train.batch_seconds=120
"""

import argparse

from e2etts.errors import UserError
from e2etts.plan.resources import SHARDING, Cluster, CorpusSize


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="FILE", help="recipe configuration")
    parser.add_argument("--hours", type=float, required=True, help="hours of speech in the corpus")
    parser.add_argument("--gpus", type=int, default=1, help="number of GPUs (default: %(default)s)")
    parser.add_argument("--gpu_tflops", type=float, default=Cluster.tflops, metavar="N",
                        help="1e12 operations a second of one GPU (default: %(default)s, H20 bf16)")
    parser.add_argument("--gpu_gib", type=float, default=Cluster.gib, metavar="N",
                        help="memory of one GPU (default: %(default)s, H20)")
    parser.add_argument("--utilisation", type=float, default=Cluster.utilisation, metavar="SHARE",
                        help="share of --gpu_tflops that training reaches (default: %(default)s)")
    parser.add_argument("--sharding", choices=SHARDING, default="none",
                        help="states sharded over the GPUs; the training loop itself shards "
                             "nothing (default: %(default)s)")
    parser.add_argument("--utterance_seconds", type=float, default=CorpusSize.utterance_seconds,
                        metavar="N", help="length of each row of a batch (default: %(default)s)")
    parser.add_argument("--text_tokens_a_second", type=float, metavar="N",
                        help="default: 13 for letters and phonemes, 4 for subwords")
    parser.add_argument("--text_vocab", type=int, metavar="N",
                        help="text tokens (default: those of the prepared data, else "
                             "text.vocab_size)")
    parser.add_argument("--speakers", type=int, default=1000, metavar="N",
                        help="speakers that the RM classifies, where no data are prepared "
                             "(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    for name in ("hours", "gpus", "gpu_tflops", "gpu_gib", "utilisation", "utterance_seconds"):
        if getattr(args, name) <= 0:
            raise UserError(f"--{name} {getattr(args, name)}: must be more than 0")
    from e2etts.plan.printout import planned_vocab, print_plan
    from e2etts.recipe import load_recipe

    recipe = load_recipe(args.config, args.overrides)
    corpus = CorpusSize(hours=args.hours, utterance_seconds=args.utterance_seconds,
                        text_tokens_a_second=args.text_tokens_a_second or (
                            13.0 if recipe.text.model_type == "char" else 4.0))
    cluster = Cluster(gpus=args.gpus, tflops=args.gpu_tflops, gib=args.gpu_gib,
                      utilisation=args.utilisation, sharding=args.sharding)
    print_plan(recipe, planned_vocab(recipe, args.text_vocab, args.speakers), corpus, cluster)
