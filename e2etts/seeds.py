"""Derivation of random seeds, reproducible on every machine."""

import hashlib
from collections.abc import Hashable


def mix(*parts: Hashable) -> int:
    """A seed in [0, 2**63) from numbers and strings."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
