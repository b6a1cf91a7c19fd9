"""Locates the models that judge: a path, the cache, or the hub."""

import hashlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from e2etts.errors import UserError

HUB_SECONDS = 5.0
EXTRAS = "tools/install.sh --extras score,metrics"
HUB_REMEDY = "fetch it with `hf download NAME` where there is a network, or pass a whole folder"


class Unavailable(Exception):
    """A metric cannot run. reason: why not; remedy: how to get what it lacks."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy


def require(packages: Iterable[str], remedy: str = EXTRAS) -> None:
    """Raises Unavailable where one of the (importable) packages is not installed."""
    missing = [p for p in packages if find_spec(p) is None]
    if missing:
        raise Unavailable(f"package {', '.join(missing)} is not installed", remedy)


def cache_folder(name: str) -> Path:
    """Folder of models that no hub client caches: ~/.cache/e2etts/NAME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "e2etts" / name


def offline() -> bool:
    """Whether the user forbade the network, by the variables of all hub clients."""
    return any(os.environ.get(name, "0").lower() in ("1", "true", "yes", "on")
               for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def hub_answers(repository: str, seconds: float = HUB_SECONDS) -> bool:
    """Whether the hub can be reached, known within ``seconds`` (name look-up included)."""
    if offline():
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    answered = []

    def probe() -> None:
        request = urllib.request.Request(f"{address}/{repository}/resolve/main/config.json",
                                         method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds) as reply:
                answered.append(reply.status < 400)
        except urllib.error.HTTPError as e:
            answered.append(e.code in (401, 404))  # the hub itself answers that it has no such file
        except Exception:
            pass  # a network can fail in many ways

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answered and answered[0])


@cache
def stamp(model: str) -> str:
    """Identifies a model beyond its name: for a folder, sizes and times too."""
    files = sorted(p for p in Path(model).glob("*") if p.is_file())
    seen = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return f"{model} {hashlib.sha256(repr(seen).encode()).hexdigest()[:12]}" if seen else model


def locate_file(key: str, name: str, given: str | None, places: Iterable[Path],
                remedy: str) -> Path:
    """A model file: the given one, or ``name`` of a given hub model, else the first that exists.

    Raises UserError where the given one is absent, Unavailable where there is none.
    """
    if given and Path(given).is_file():
        return Path(given)
    if given and is_hub_name(given) and not Path(given).parent.exists():
        return fetch_file(*locate_hub(f"score.models.{key}", "", given, name), name)
    if given:
        raise UserError(f"score.models.{key}: {given} is neither a file nor the name of a hub "
                        f"model; without the key {name} is looked for in the cache")
    for path in (cache_folder(name), *places):
        if path.is_file():
            return path
    raise Unavailable(f"no {name} in {cache_folder('')}", f"{remedy}, or score.models.{key}=FILE")


def is_hub_name(name: str) -> bool:
    """Whether this may be OWNER/NAME."""
    return name.count("/") == 1 and not name.startswith((".", "/"))


def fetch_file(repository: str, local: bool, name: str) -> Path:
    """A file in the hub's cache of what ``locate_hub`` found, fetched where it is not there yet.
    Raises Unavailable."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, local_files_only=local))
    except Exception as e:  # a download can fail in many ways
        raise Unavailable(f"{name} of {repository} could not be fetched: "
                          f"{' '.join(str(e).split())}", HUB_REMEDY) from e


def locate_hub(key: str, repository: str, given: str | None,
               probe: str = "config.json") -> tuple[str, bool]:
    """(folder or hub name, whether it must be opened without the network) of a hub model.

    given: a folder, or another hub name. probe: a small file that every such model has. Raises
    UserError where ``given`` is neither, Unavailable where the model is not in the hub's
    cache and the hub does not answer.
    """
    if given and Path(given).is_dir():
        return given, True
    name = given or repository
    if not is_hub_name(name):
        raise UserError(f"{key}: {name} is neither a folder nor the name of a hub model")
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, probe), str):
        return name, True
    if not hub_answers(name):
        why = "is switched off (HF_HUB_OFFLINE)" if offline() else "cannot be reached"
        raise Unavailable(f"{name} is not in the hub's cache, and the hub {why}",
                          f"run `hf download {name}` where there is a network, or {key}=FOLDER")
    return name, False
