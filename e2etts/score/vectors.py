"""Voice vectors as text, so that they fit into the cache of scores."""

import base64

import numpy as np


def pack(vector: np.ndarray) -> str:
    """(X,) numbers -> base64 of float32."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")


def unpack(text: str) -> np.ndarray:
    """(X,) float32 of what ``pack`` wrote."""
    return np.frombuffer(base64.b64decode(text), "<f4")
