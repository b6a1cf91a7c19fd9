"""Published models: from a local folder or the Hugging Face hub and its cache."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from e2etts.errors import UserError


def published_folder(source: str, files: list[str]) -> Path:
    """The folder with ``files`` (names or patterns) of ``source``: a local folder, or a hub name
    such as Qwen/Qwen3-0.6B, which is downloaded unless it is in the cache.

    Raises UserError if it is not available. No downloaded code is executed.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=files))
    except HFValidationError as e:
        raise UserError(f"{source}: no such folder, and not the name of a hub repository") from e
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
        raise UserError(f"{source}: no such folder, and it cannot be downloaded from the hub "
                        f"({' '.join(str(e).split())[:120]}): download {', '.join(files)} "
                        "on a machine with network access, and pass the folder") from e
