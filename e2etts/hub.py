"""Published models: a local folder, or a repository of the Hugging Face hub and its cache."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from e2etts.errors import UserError


def published_folder(source: str, files: list[str]) -> Path:
    """The folder that holds ``files`` (names or patterns) of ``source``: a local folder, or a hub
    name such as Qwen/Qwen3-0.6B, which is fetched unless the cache has it.

    Raises UserError when it cannot be had. Nothing in it is ever executed.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=files))
    except HFValidationError as e:
        raise UserError(f"{source}: no such folder, and not the name of a hub repository") from e
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
        raise UserError(f"{source}: no such folder, and it cannot be fetched from the hub "
                        f"({' '.join(str(e).split())[:120]}): fetch {', '.join(files)} where there "
                        "is a network, and give the folder") from e
