"""The command ``e2etts``: dispatches to one module a verb and turns user errors into one line."""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import e2etts
from e2etts.errors import UserError

# Verb -> what it does; the module e2etts.bin.<verb> is imported only when its verb is used, so
# that help and typing errors answer at once.
VERBS = {
    "validate": "check Kaldi-style data directories and list every finding",
    "label-emotions": "pseudo emotion labels for data directories, by an external model",
    "prepare": "text tokens, audio statistics and mel dumps (stage 2)",
    "train": "train one stage: vocoder, tokenizer, lm, fm, rm or joint (stages 3 to 8)",
    "synthesize": "speak the test sets and sentences: copy synthesis and text-to-speech (stage 9)",
    "score": "error rates, speaker similarity and quality of the spoken sets (stage 10)",
    "score-rm": "measure the reward model alone: error rates, emotion and speaker (stage 10)",
    "report": "write report.html, one page to look at and listen to, of any systems (stage 10)",
    "probe": "statistics of a stage's tokens, and what the RM reads in them",
    "compare": "systems on the same utterances, over seeds: differences, intervals, p-values",
    "ablate": "train and compare many systems: one experiment, resumable, with its tables",
    "curve": "word error rate against training time, from checkpoints kept along a run",
    "plan": "parameters, memory, operations and days that training would take",
    "bench": "measure speed: training steps, against peers, synthesis",
    "pack": "gather a trained system into one folder or archive (stage 11)",
}

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

# Threads of libgomp spin before they sleep: by default for milliseconds, and where a core is taken
# by another program, a step takes several times as long. With OMP_WAIT_POLICY they do as it says.
SPINS = "10000"
# What oneDNN compiles for the shape of a batch; its default of 1024 holds ten steps, whose remains
# lie scattered between the tensors. In training few shapes come again but within a step.
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


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every verb that reads a recipe configuration: --config, --tag, overrides."""
    parser.add_argument("--config", default="conf/default.yaml", metavar="FILE",
                        help="recipe configuration (default: %(default)s)")
    parser.add_argument("--tag", metavar="NAME",
                        help="results go to exp/NAME (default: the configuration's file name)")
    add_overrides(parser)


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """Which checkpoint of a stage is meant, in ``args.checkpoint``."""
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"),
                        help="of the stage (default: %(default)s)")


def experiment_folder(args: argparse.Namespace) -> Path:
    """exp/TAG of the arguments of ``add_recipe_arguments``."""
    return Path("exp") / (args.tag or Path(args.config).stem)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Trailing ``key=value`` arguments, in ``args.overrides``."""
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help="override configuration keys, such as stages.lm.train.lr=1e-3")


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

    0 done; 2 something outside the program is wrong, said in one line on standard error;
    130 interrupted. Any other exception is a defect of the program and keeps its traceback.
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
        return fail(None, f"unknown verb '{verb}'; one of: {', '.join(VERBS)}")

    def run() -> None:
        # Overrides may stand before, between and after options: plain parsing refuses that.
        args = verb_parser(verb).parse_intermixed_args(argv[1:])
        args.run(args)

    return guarded(f"e2etts {verb}", run)


def tool(file: str, doc: str | None, add_arguments: Callable[[argparse.ArgumentParser], None],
         run: Callable[[argparse.Namespace], None]) -> int:
    """Run a script of utils/ as ``main`` runs a verb: its arguments, its help, one-line errors."""
    parser = argparse.ArgumentParser(prog=Path(file).name, description=doc, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return guarded(parser.prog, lambda: run(parser.parse_intermixed_args()))


def guarded(program: str, run: Callable[[], None]) -> int:
    """Run and return the exit status: what a user can mend becomes one line, see ``main``."""
    try:
        run()
        return 0
    except UserError as e:
        return complain(program, str(e))
    except ModuleNotFoundError as e:
        if e.name and e.name.partition(".")[0] == "e2etts":
            raise
        return complain(program, f"the Python package '{e.name}' is missing: run "
                                 "tools/install.sh --extras score")
    except OSError as e:
        if e.errno in DISK_FULL:
            return complain(program, f"{e.filename or 'output'}: no disk space left; free some "
                                     "and run the same command again")
        if isinstance(e, PermissionError):
            return complain(program, f"{e.filename}: permission denied; correct the rights")
        if isinstance(e, BrokenPipeError):  # the reader of our output, such as head, has gone
            sys.stdout = None
            return 141
        raise
    except (MemoryError, RuntimeError) as e:
        if not out_of_memory(e):
            raise
        return complain(program, "out of memory: choose a smaller "
                                 "stages.<stage>.train.batch_seconds, or end other programs")
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted", file=sys.stderr)
        return 130


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory of the machine or of an accelerator ran out."""
    said = str(error)
    return isinstance(error, MemoryError) or "out of memory" in said or "not enough memory" in said


def fail(verb: str | None, message: str) -> int:
    """``complain`` in the name of a verb, or of the command itself."""
    return complain(f"e2etts {verb}" if verb else "e2etts", message)


def complain(program: str, message: str) -> int:
    """Print one line on standard error and return exit status 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
