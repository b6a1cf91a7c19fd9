"""The command ``e2etts``: dispatches to one module per verb."""

import argparse
import difflib
import importlib
import os
import sys

import e2etts
from e2etts.cli import add_overrides, fail, guarded

# Verb -> what it does. The module e2etts.bin.<verb> is imported only when its verb is used, and
# imports torch and the like only in its ``run``: help and typing errors answer at once.
VERBS = {
    "validate": "check Kaldi-style data directories and list every finding",
    "label-emotions": "pseudo emotion labels for data directories, by an external model",
    "prepare": "text tokens, audio statistics and mel dumps (stage 2)",
    "train": "train one stage: vocoder, tokenizer, lm, fm, rm or joint (stages 3 to 8)",
    "synthesize": "synthesize test sets and sentences: copy synthesis and text-to-speech (stage 9)",
    "score": "error rates, speaker similarity and quality of the synthesized sets (stage 10)",
    "score-rm": "evaluate the reward model: error rates, emotion and speaker (stage 10)",
    "report": "write report.html: tables, figures and audio samples of any systems (stage 10)",
    "probe": "statistics of a stage's tokens, and recognition by its RM",
    "tokens": "write the speech tokens of the prepared sets, for systems with tokens from files",
    "compare": "compare systems on the same utterances: differences, intervals, p-values",
    "ablate": "train and compare many systems in one resumable experiment, with tables",
    "curve": "word error rate against training time, from the kept checkpoints of a run",
    "plan": "estimate parameters, memory, operations and days of training",
    "bench": "measure the speed of training steps and synthesis, and compare with peers",
    "pack": "export a trained system as one folder or archive (stage 11)",
}

# Threads of libgomp spin before they sleep: by default for milliseconds, and where another program
# takes a core, a step takes several times as long. OMP_WAIT_POLICY, where it is set, decides.
SPINS = "10000"
# Kernels that oneDNN compiles for the shapes of a batch and keeps. Its default of 1024 covers ten
# steps and fragments memory; in training, few shapes occur again outside of a step.
PRIMITIVES = "64"


def set_library_defaults() -> None:
    """Environment variables that PyTorch's CPU libraries read when they are loaded; what the user
    has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, PRIMITIVES)


def usage() -> str:
    """The text of ``e2etts --help``."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, what in VERBS.items()]
    return "\n".join([
        "usage: e2etts VERB [options] [key=value ...]", "",
        "End-to-end training of a discrete-token text-to-speech system.", "", *lines, "",
        "e2etts VERB --help explains a verb; key=value overrides any configuration key.", ""])


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """The argument parser of one verb; its description is the docstring of the verb's module."""
    module = importlib.import_module(f"e2etts.bin.{verb.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"e2etts {verb}", description=module.__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_arguments(parser)
    known = {action.dest for action in parser._actions}
    if "config" in known and "overrides" not in known:
        add_overrides(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit status.

    For its values see ``e2etts.cli.guarded``; 2 for an unknown verb.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"e2etts {e2etts.__version__}")
        return 0
    set_library_defaults()
    verb = argv[0]
    if verb not in VERBS:
        nearest = difflib.get_close_matches(verb, VERBS, n=1)
        return fail(None, f"unknown verb '{verb}'; " + (
            f"nearest: '{nearest[0]}'" if nearest else f"one of: {', '.join(VERBS)}"))

    def run() -> None:
        # Overrides may stand before, between and after options: plain parsing refuses that.
        args = verb_parser(verb).parse_intermixed_args(argv[1:])
        args.run(args)

    return guarded(f"e2etts {verb}", run)


if __name__ == "__main__":
    sys.exit(main())
