"""Archives of public corpora: resumable download, checksums and safe unpacking."""

import hashlib
import http.client
import lzma
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from e2etts.errors import UserError
from e2etts.files import write_bytes

_BLOCK_BYTES = 1 << 20
_ATTEMPTS, _TIMEOUT_SECONDS = 3, 60.0
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Archive:
    """A published file and its MD5 sum; an empty sum skips the check."""

    url: str
    md5: str = ""

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def fetch_resumable(url: str, path: Path, timeout_seconds: float) -> Path:
    """Download to ``path``, resuming a partial download. Raises OSError."""
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as e:
        if e.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        return part.replace(path)  # complete: only the rename is left
    with answer:
        resumed = answer.status == HTTPStatus.PARTIAL_CONTENT
        total = int(answer.headers.get("Content-Length") or 0) + (have if resumed else 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab" if resumed else "wb") as file, tqdm(
                total=total, initial=have if resumed else 0, unit="B", unit_scale=True,
                desc=path.name) as bar:
            while block := answer.read(1 << 16):
                file.write(block)
                bar.update(len(block))
    if total and part.stat().st_size != total:
        raise OSError(f"{url}: {part.stat().st_size} bytes of {total} arrived")
    part.replace(path)
    return path


def fetch_archive(archive: Archive, folder: Path) -> Path:
    """Download to ``folder/<name>`` and verify the checksum.

    Retries a broken connection twice. Raises UserError if the download fails or the checksum
    differs.
    """
    path = folder / archive.name
    for left in range(_ATTEMPTS, 0, -1):
        try:
            fetch_resumable(archive.url, path, _TIMEOUT_SECONDS)
            break
        except (OSError, http.client.HTTPException) as e:
            if left == 1:
                raise UserError(f"{archive.url}: {e}; run again to resume, or pass a folder "
                                "that holds the corpus: --corpus_dir") from e
    _check_sum(path, archive)
    return path


def _check_sum(path: Path, archive: Archive) -> None:
    checked = path.with_name(path.name + ".md5")  # do not hash a large archive twice
    if not archive.md5 or checked.is_file() and checked.read_text().strip() == archive.md5:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, tqdm(total=path.stat().st_size, unit="B", unit_scale=True,
                                       desc=f"md5 of {path.name}") as bar:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            bar.update(len(block))
    if digest.hexdigest() != archive.md5:
        path.unlink()
        raise UserError(f"{path}: MD5 {digest.hexdigest()}, published {archive.md5}; removed it: "
                        "run again")
    checked.write_text(archive.md5 + "\n")


def unpack(path: Path, folder: Path) -> None:
    """Unpack a .tar (any compression) or .zip into ``folder`` and write a marker file.

    Raises UserError for a damaged archive, and for an entry that is a link, a device, or outside
    of the folder.
    """
    with tqdm(desc=f"unpack {path.name}", unit="file") as bar:
        for name, content in entries(path):
            write_bytes(folder / name, content)
            bar.update()
    unpacked(path.name, folder).touch()


def unpacked(name: str, folder: Path) -> Path:
    """The marker file that ``unpack`` writes for the archive ``name`` in ``folder``."""
    return folder / f".{name}.unpacked"


def entries(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield (name, content) of every file of an archive, as a stream.

    Raises UserError like ``unpack``.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        yield _inside(info.filename, path), archive.read(info)
            return
        with tarfile.open(path, "r|*") as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                if not entry.isreg():
                    raise UserError(f"{path}: '{entry.name}' is a link or device: do not trust it")
                yield _inside(entry.name, path), archive.extractfile(entry).read()
    except _DAMAGED as e:
        raise UserError(f"{path}: damaged archive ({e}): remove it and get it again") from e


def _inside(name: str, path: Path) -> PurePosixPath:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name or not inside.parts:
        raise UserError(f"{path}: '{name}' lies outside of the archive's folder: do not trust it")
    return inside
