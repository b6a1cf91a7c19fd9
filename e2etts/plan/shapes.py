"""Runs code on shapes alone: floating-point tensors have no memory, integers have values.

A training step needs the values of lengths, masks and ids, but of nothing else, to know every
shape in it. Integers that an operation computes from floats (an argmax) are zeros.
"""

import weakref
from collections.abc import Callable
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten


class Shapes(TorchDispatchMode):
    """Inside, new floats are on the meta device; integers never are. live_bytes, peak_bytes: of the
    meta tensors that were made inside and are alive, now and at the peak."""

    def __init__(self):
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        wanted = kwargs.get("device")
        if not any(t.is_meta for t in inputs):
            on_meta = wanted is not None and torch.device(wanted).type == "meta"
            if on_meta or (not inputs and any(a.name == "device" for a in func._schema.arguments)):
                out = func(*args, **{**kwargs, "device": "meta"})
                if _integers(out):
                    out = func(*args, **{**kwargs, "device": "cpu"})
                return self._note(out)
            return func(*args, **kwargs)
        if wanted is not None and torch.device(wanted).type == "cpu":  # .cpu()
            return torch.zeros(inputs[0].shape, dtype=kwargs.get("dtype") or inputs[0].dtype)
        if func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default):
            args = (args[0], _positions(args[1]), *args[2:])
        args, kwargs = tree_map_only(Tensor, _without_values, (args, kwargs))
        return self._note(tree_map_only(Tensor, _made_up, func(*args, **kwargs)))

    def _note(self, out):
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                storage = tensor.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive.add(storage._cdata)
                    self.live_bytes += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.live_bytes -= size


def _integers(out: object) -> bool:
    return isinstance(out, Tensor) and not (out.is_floating_point() or out.is_complex())


def _without_values(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.to("meta")


def _made_up(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if _integers(tensor) else tensor


def _positions(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Masks as positions: how many a mask selects depends on its values."""
    out: list[Tensor | None] = []
    for index in indices:
        masked = index is not None and index.dtype == torch.bool
        out += index.nonzero(as_tuple=True) if masked else [index]
    return out


class Precision(TorchFunctionMode):
    """What autocast does on an accelerator, for tensors on the meta device, where torch has none:
    products in ``low`` (None: as they are), each weight cast once, attention by the fused kernel.
    """

    PRODUCTS = {F.linear, F.conv1d, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__,
                torch.bmm, Tensor.bmm}

    def __init__(self, low: torch.dtype | None):
        super().__init__()
        self.low = low
        self._weights: dict[Tensor, Tensor] = {}
        self._patches = [
            mock.patch.object(torch, "is_autocast_enabled", lambda *_: low is not None),
            mock.patch.object(torch, "get_autocast_dtype", lambda *_: low)]

    def __enter__(self):
        for patch in self._patches:
            patch.start()
        return super().__enter__()

    def __exit__(self, *error):
        self._weights.clear()
        for patch in self._patches:
            patch.stop()
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            q, k, v = (self._cast(t) for t in args[:3])
            return aten._scaled_dot_product_flash_attention(q, k, v, 0.0,
                                                            kwargs.get("is_causal", False))[0]
        if func is F.ctc_loss and args[0].is_meta:  # has no kernel there: what it keeps and gives
            return (args[0] * args[0].detach()).sum((0, 2))
        if func in self.PRODUCTS:
            args, kwargs = tree_map_only(Tensor, self._cast, (args, kwargs))
        return func(*args, **kwargs)

    def _cast(self, tensor: Tensor) -> Tensor:
        if self.low is None or tensor.dtype != torch.float32:
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(self.low)
        if tensor not in self._weights:
            self._weights[tensor] = tensor.to(self.low)
        return self._weights[tensor]


def run_on_shapes(step: Callable[[], object], low: torch.dtype | None) -> int:
    """Peak bytes of the tensors that ``step`` makes."""
    shapes = Shapes()
    with shapes, Precision(low):
        step()
    return shapes.peak_bytes
