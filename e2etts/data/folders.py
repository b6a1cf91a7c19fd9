"""Output folders that appear whole or not at all."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from e2etts.errors import UserError


@contextlib.contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` when the block ends without error.

    Raises UserError when the disk refuses (full, read-only); then nothing has changed.
    """
    part, old = (folder.with_name(folder.name + end) for end in (".part", ".old"))
    try:
        recover_folder(folder)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as e:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(e, OSError):
            raise UserError(f"{folder}: cannot write: {e.strerror or e}: free space or choose "
                            "another folder, then run again") from e
        raise


def recover_folder(folder: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    old = folder.with_name(folder.name + ".old")
    if not old.exists():
        return
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(folder)
