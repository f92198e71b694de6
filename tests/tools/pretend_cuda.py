"""A pretended GPU: tensors that say they are on CUDA, do as CUDA tensors do, and are computed on the CPU.

    python -m tests.tools.pretend_cuda notebooks/02_the_elbo.ipynb        # run notebooks as if there were a GPU
    python -m pytest -p tests.tools.pretend_cuda tests/test_exercises.py  # or a test file, with those that ask for one

Most of what fails on a GPU and nowhere else is a tensor in the wrong place, and that needs no GPU to be seen: one
operation on tensors of two devices, NumPy on a CUDA tensor, a generator of the other device. Here each of them is an
error, as there. Speed, memory, other rounding and the CUDA kernels themselves are not pretended.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from . import command

ROOT = Path(__file__).resolve().parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default
}  # fmt: skip


class CudaTensor(Tensor):
    """A tensor that says it is on the GPU; its numbers are in ``on_cpu``.

    For C++ it is a CPU tensor, as the autograd engine would ask a true CUDA device for its stream.
    """

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> CudaTensor:
        self = Tensor._make_wrapper_subclass(
            cls, on_cpu.size(), strides=on_cpu.stride(), storage_offset=on_cpu.storage_offset(), dtype=on_cpu.dtype
        )
        self.on_cpu = on_cpu
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Callable, types: Sequence, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _compute(func, args, kwargs or {})

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def get_device(self) -> int:
        return 0

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        return _ToCPU.apply(self)

    def cuda(self, *_: Any, **__: Any) -> Tensor:
        return self

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            device, dtype = args[0].device, args[0].dtype
        else:
            device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        there = self if dtype in (None, self.dtype) else super().to(dtype)
        return there if device is None or device.type == "cuda" else _ToCPU.apply(there)

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first (pretended)")

    def __array__(self, *_: Any, **__: Any) -> Any:
        self.numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.on_cpu.detach().__reduce_ex__(protocol)  # as a checkpoint is read: on the CPU

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __repr__(self, **_: Any) -> str:
        return f"{self.on_cpu!r} on a pretended {CUDA}"


class _ToCPU(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: CudaTensor) -> Tensor:
        return x.on_cpu.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return CudaTensor(gradient)


def _compute(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The operation on the CPU, its results on the device where they would be."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, CudaTensor)]
    from_cpu = any(id(tensor) in _Calls.on_cpu for tensor in tensors)
    if on_gpu and from_cpu and not _may_mix(func, args):
        raise RuntimeError(f"expected all tensors on one device, but found cuda:0 and cpu in {func} (pretended)")
    to_gpu = isinstance(args[0], CudaTensor) if func is aten.copy_.default else bool(on_gpu)
    if kwargs.get("device") is not None:
        inside = not tensors and _Calls.on_gpu  # made in C++ within a call on CUDA tensors, in a place like theirs
        # C++ takes a CUDA tensor for one of the CPU, and in backward() casts a gradient "to the CPU"
        cast = func is aten._to_copy.default and to_gpu
        to_gpu = inside or cast or torch.device(kwargs["device"]).type == "cuda"
        kwargs = {**kwargs, "device": CPU}

    def inner(leaf: Any) -> Any:
        return leaf.on_cpu if isinstance(leaf, CudaTensor) else leaf

    with _disable_current_modes():
        result = func(*tree_map(inner, args), **tree_map(inner, kwargs))
    same = {id(tensor.on_cpu): tensor for tensor in on_gpu}  # an operation in place returns what it was given

    def outer(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in same:
            return same[id(leaf)]
        if from_cpu and not to_gpu:
            _Calls.on_cpu[id(leaf)] = leaf  # a view, say: as much on the CPU as what it was made of
        return CudaTensor(leaf) if to_gpu else leaf

    return tree_map(outer, result)


def _may_mix(func: Callable, args: tuple) -> bool:
    """Copies go from device to device, and a CUDA tensor may be indexed by one on the CPU, but not the reverse."""
    if func in INDEXING:
        values_fit = len(args) < 3 or isinstance(args[2], CudaTensor) or not args[2].dim()
        return isinstance(args[0], CudaTensor) and values_fit
    return func in COPIES


class _Factories(TorchDispatchMode):
    """Makes CUDA tensors of whatever is asked for with ``device="cuda"``."""

    def __torch_dispatch__(self, func: Callable, types: Sequence, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _compute(func, args, kwargs or {})


_Generator = torch.Generator


class CudaGenerator(_Generator):
    """A generator of either device; the numbers are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> CudaGenerator:
        self = super().__new__(cls, device="cpu")
        self.place = torch.device(device)
        return self

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        return CUDA if self.place.type == "cuda" else CPU


class _Calls(TorchFunctionMode):
    """Sees the calls as they are written: which of their tensors are where, and whether their generator fits."""

    on_gpu = False  # is there a CUDA tensor among the arguments?
    on_cpu: ClassVar[dict[int, Tensor]] = {}  # the arguments that are not, by id; single numbers may join CUDA tensors

    def __torch_function__(self, func: Callable, types: Sequence, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        generator = kwargs.get("generator")
        if generator is not None:
            wanted = torch.device(kwargs.get("device") or (tensors[0].device if tensors else CPU))
            if wanted.type != generator.device.type:
                raise RuntimeError(f"expected a {wanted} generator, found one on {generator.device} (pretended)")
        on_cpu = {id(tensor): tensor for tensor in tensors if not isinstance(tensor, CudaTensor) and tensor.dim()}
        before = _Calls.on_gpu, _Calls.on_cpu
        _Calls.on_gpu, _Calls.on_cpu = any(isinstance(tensor, CudaTensor) for tensor in tensors), on_cpu
        try:
            return func(*args, **kwargs)
        finally:
            _Calls.on_gpu, _Calls.on_cpu = before


def install() -> None:
    """Pretend in this process and thread, until it ends."""
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda") is made on the CPU, then copied
    torch.__future__.set_swap_module_params_on_conversion(True)  # module.to("cuda") keeps its parameters' identity
    state, set_state = torch.get_rng_state, torch.set_rng_state
    pretended = {
        "is_available": lambda: True, "is_initialized": lambda: True, "_lazy_init": lambda: None,
        "device_count": lambda: 1, "current_device": lambda: 0, "get_device_name": lambda *_: "pretended",
        "is_current_stream_capturing": lambda: False, "synchronize": lambda *_: None,
        "manual_seed": lambda seed: None, "manual_seed_all": lambda seed: None,  # torch.manual_seed seeds the CPU's
        "get_rng_state": lambda *_: state(), "set_rng_state": lambda new, *_: set_state(new),
        "get_rng_state_all": lambda: [state()], "set_rng_state_all": lambda new: set_state(new[0]),
    }  # fmt: skip
    for name, function in pretended.items():
        setattr(torch.cuda, name, function)
    to = Tensor.to
    Tensor.to = lambda self, *args, **kwargs: (
        to(self, CUDA, args[0].dtype) if args and isinstance(args[0], CudaTensor) else to(self, *args, **kwargs)
    )
    Tensor.cuda = lambda self, *_, **__: self.to(CUDA)
    torch.Generator = CudaGenerator
    _Factories().__enter__()
    _Calls().__enter__()


def possible() -> str:
    """Why there can be no pretence here, or nothing."""
    if torch.cuda.is_available():
        return "there is a GPU here: nothing has to be pretended"
    needed = ("_ensureCUDADeviceGuardSet", "_set_only_lift_cpu_tensors")
    missing = [name for name in needed if not hasattr(torch._C, name)]
    return f"this version of PyTorch has no {', '.join(missing)}" if missing else ""


def pytest_configure() -> None:
    """As a plugin, ``-p tests.tools.pretend_cuda``: before the tests ask whether there is a GPU."""
    install()


def problems_of(path: Path) -> list[str]:
    """Run the notebook on the digits as if there were a GPU; return what went wrong, a line each."""
    from .execute import execute, unwanted_outputs

    with tempfile.TemporaryDirectory() as folder:
        startup = Path(folder, "profile_default", "startup", "pretend.py")
        startup.parent.mkdir(parents=True)
        startup.write_text("from tests.tools.pretend_cuda import install\ninstall()\n", encoding="utf-8")
        paths = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
        settings = {"IPYTHONDIR": folder, "COURSE_DATASET": "digits", "PYTHONPATH": paths}
        notebook = execute(path, environment=settings, go_on=True)
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    found = [] if "GPU pretended" in printed else ["the notebook does not say that it runs on the GPU"]
    return found + [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in unwanted_outputs(notebook)]


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks named; return 1 when one has a problem."""
    parser = command("tools.pretend_cuda", __doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    refused = 0
    for path in parser.parse_args(arguments).notebooks:
        problems = problems_of(path)
        print(f"{path}: {'ran' if not problems else 'refused'}", *problems, sep="\n  ", flush=True)
        refused += bool(problems)
    return 1 if refused else 0


if __name__ == "__main__":
    reason = possible()
    sys.exit(f"No GPU is pretended: {reason}." if reason else main())
