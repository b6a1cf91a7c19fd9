"""Atomic writing of files and folders, reading and hashing."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from e2etts.errors import UserError


def write_text(path: str | Path, content: str) -> None:
    """Write UTF-8 text atomically (temporary name, rename). Raises UserError (disk full, ...)."""
    write_bytes(path, content.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Like ``write_text``, for bytes."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UserError(f"{path}: cannot write: {e.strerror}") from e


def read_json(path: Path) -> Any:
    """Content of a JSON file; None if it is missing or invalid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 in hexadecimal of the names, sizes and contents of files, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


@contextlib.contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Context manager: a temporary folder that replaces ``folder`` if the block succeeds.

    Raises UserError if the write fails (disk full, read-only); ``folder`` is then unchanged.
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
    """Restore a folder whose replacement was interrupted between its two renames."""
    old = folder.with_name(folder.name + ".old")
    if not old.exists():
        return
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(folder)
