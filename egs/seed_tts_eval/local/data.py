"""Check one list of seed-tts-eval: lines, prompts, and the published size.

    python local/data.py en data/seedtts_testset/en/meta.lst
"""

import argparse
import sys
from pathlib import Path

from e2etts.bin.main import fail
from e2etts.errors import UserError
from e2etts.score.lists import read_list, seconds_of

# Lines as counted in sgl-project/sglang-omni, pull request 527; hardcase.lst is quoted as 400.
PUBLISHED = {"en": 1088, "zh": 2020}


def check(name: str, path: Path) -> str:
    """Summary of the list in one line. Raises UserError with the missing prompts."""
    lines = read_list(path)
    prompts: dict[Path, str] = {}  # and its first line
    for line in lines:
        if line.prompt:
            prompts.setdefault(line.prompt, line.origin)
    seconds = {prompt: seconds_of(prompt) for prompt in prompts}
    lost = [prompt for prompt, length in seconds.items() if not length]
    if lost:
        raise UserError(f"{prompts[lost[0]]}: {lost[0]}: missing or unreadable, and "
                        f"{len(lost) - 1} more: unpack the test set again")
    told = f"{name}: {len(lines)} texts, {len(prompts)} prompts, {sum(seconds.values()):.0f} s"
    if len(lines) != PUBLISHED.get(name, len(lines)):
        told += f"; WARNING: the published list has {PUBLISHED[name]} texts"
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="en, zh or hard")
    parser.add_argument("list", type=Path)
    args = parser.parse_args()
    try:
        print(check(args.name, args.list))
    except UserError as e:
        return fail(None, str(e))
    return 0


if __name__ == "__main__":
    sys.exit(main())
