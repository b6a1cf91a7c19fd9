"""A GPU rehearsed on a machine without one: tensors that say they are on "cuda", hold their values
on the CPU, and refuse to meet what is not there, as the real ones do."""

import contextlib
from typing import Any
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

aten = torch.ops.aten
# What a real GPU takes from the CPU: whole copies, indices, and the lengths of CTC.
MOVES = {aten._to_copy.default, aten.copy_.default}
MIXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
         aten._ctc_loss.Tensor, aten._ctc_loss_backward.Tensor}
# Asks whether a kernel of the GPU's libraries will do.
ABSENT = {aten._use_cudnn_ctc_loss.Tensor, aten._use_miopen_ctc_loss.Tensor}


class OnGPU(torch.Tensor):
    """``held``, as if it were on a GPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnGPU":
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=torch.device("cuda"))

    def __init__(self, held: torch.Tensor):
        self.held = held

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    if func in ABSENT:
        return False
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    there = any(isinstance(x, OnGPU) for x in tensors)
    here = any(not isinstance(x, OnGPU) and x.dim() for x in tensors)  # numbers may meet anything
    if there and here and func not in MOVES | MIXED:
        raise RuntimeError(f"{func}: tensors on cuda and on cpu meet")
    to_gpu = there
    if kwargs.get("device") is not None:
        to_gpu = torch.device(kwargs["device"]).type == "cuda"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args_held, kwargs_held = tree_map_only(OnGPU, lambda x: x.held, (args, kwargs))
    out = func(*args_held, **kwargs_held)
    if func._schema.is_mutable and isinstance(out, torch.Tensor):
        return args[0]
    return tree_map_only(torch.Tensor, OnGPU, out) if to_gpu else out


class PretendedGPU(TorchDispatchMode):
    """Inside the block there is a "cuda". Modules go there by ``moved``, not by ``to``."""

    def __enter__(self):
        self.inside = contextlib.ExitStack()
        self.inside.enter_context(sdpa_kernel(SDPBackend.MATH))
        self.inside.enter_context(mock.patch("torch.cuda._lazy_init"))
        self.inside.enter_context(mock.patch.object(torch.nn.Module, "to", moved))
        torch._C._ensureCUDADeviceGuardSet()
        torch._C._set_only_lift_cpu_tensors(True)
        self.inside.callback(torch._C._set_only_lift_cpu_tensors, False)
        return super().__enter__()

    def __exit__(self, *error):
        try:
            return super().__exit__(*error)
        finally:
            self.inside.close()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def moved(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """A module with all of its parameters and buffers on the pretended GPU."""
    assert torch.device(device).type == "cuda"
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = torch.nn.Parameter(OnGPU(p.detach()), p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = OnGPU(b)
    return module
