"""Vectors as text, so that they fit into the cache of scores."""

import base64

import numpy as np


def pack(vector: np.ndarray, kind: str = "<f4") -> str:
    """(X,) numbers -> base64 of little-endian float32, or another ``kind``."""
    return base64.b64encode(np.asarray(vector, kind).tobytes()).decode("ascii")


def unpack(text: str, kind: str = "<f4") -> np.ndarray:
    """(X,) of what ``pack`` wrote."""
    return np.frombuffer(base64.b64decode(text), kind)
