"""What all commands share: arguments, one-line errors and exit statuses."""

import argparse
import errno
import sys
from collections.abc import Callable
from pathlib import Path

from e2etts.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every verb that reads a recipe configuration: --config, --tag, overrides."""
    parser.add_argument("--config", default="conf/default.yaml", metavar="FILE",
                        help="recipe configuration (default: %(default)s)")
    parser.add_argument("--tag", metavar="NAME",
                        help="results go to exp/NAME (default: the configuration's file name)")
    add_overrides(parser)


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """--checkpoint, in ``args.checkpoint``: the best or the last one of a stage."""
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"),
                        help="of the stage (default: %(default)s)")


def experiment_folder(args: argparse.Namespace) -> Path:
    """exp/TAG of the arguments of ``add_recipe_arguments``."""
    return Path("exp") / (args.tag or Path(args.config).stem)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Trailing ``key=value`` arguments, in ``args.overrides``."""
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help="override configuration keys, such as stages.lm.train.lr=1e-3")


def tool(file: str, doc: str | None, add_arguments: Callable[[argparse.ArgumentParser], None],
         run: Callable[[argparse.Namespace], None]) -> int:
    """Run a script as ``e2etts`` runs a verb, with help and one-line errors; its exit status."""
    parser = argparse.ArgumentParser(prog=Path(file).name, description=doc, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return guarded(parser.prog, lambda: run(parser.parse_intermixed_args()))


def guarded(program: str, run: Callable[[], None]) -> int:
    """Run and return the exit status. 0: done. 2: an error outside the program, in one line on
    standard error. 130: interrupted. Any other exception is a defect and keeps its traceback."""
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
    """Whether memory of the machine or of an accelerator ran out."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "not enough memory" in text


def fail(verb: str | None, message: str) -> int:
    """``complain`` in the name of a verb, or of the command itself."""
    return complain(f"e2etts {verb}" if verb else "e2etts", message)


def complain(program: str, message: str) -> int:
    """Print one line on standard error and return exit status 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
