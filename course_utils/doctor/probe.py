"""Two tools for experiments on somebody else's model: control of its noise, and a promise to leave no trace.

:class:`Probe` stands between a model and the functions of torch while the model runs. It sees every Gaussian draw and
can set the noise ε to a constant, and it follows what is computed from ε up to the decoder's first layer. So z(ε = 0)
is the mean of the code and z(ε = 1) − z(ε = 0) its standard deviation, measured, whatever the model says about them.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWS = ("randn", "randn_like", "normal", "normal_", "rand", "rand_like")
# A decoder begins with one of these; whatever touches z before is element by element and still the code.
LAYERS = (
    "linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum",
    "tensordot", "cat", "concat", "concatenate", "hstack", "stack", "layer_norm", "batch_norm", "group_norm",
    "instance_norm", "scaled_dot_product_attention", "multi_head_attention_forward", "rnn_tanh", "gru", "lstm",
)  # fmt: skip


class Probe(TorchFunctionMode):
    """While active: records what depends on random draws, and changes them if asked.

    ``noise`` None leaves the draws alone, a number c replaces every standard normal (or uniform) draw by c.
    ``replace`` is (index, value): the index-th noisy tensor becomes ``value``, so that the decoder sees another code.
    ``still`` switches dropout off, however it is called. Afterwards ``noisy`` holds the tensors computed from noise,
    and ``used`` the indices of those that went into a layer and had not been through one before.
    """

    def __init__(
        self, noise: float | None = None, *, replace: tuple[int, Tensor] | None = None, still: bool = True
    ) -> None:
        super().__init__()
        self.noise, self.replace, self.still = noise, replace, still
        self.draws = 0
        self.noisy: list[Tensor] = []  # kept alive, so that no id is given twice
        self.used: list[int] = []
        self._index: dict[int, int] = {}
        self._deep: set[int] = set()  # indices of what has been through a layer

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Called by torch in place of ``func``; see :class:`torch.overrides.TorchFunctionMode`."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.still and "dropout" in name:
            return args[0] if args else kwargs["input"]
        result = func(*args, **kwargs)
        if name in DRAWS:
            self.draws += 1
            return self._mark(self._controlled(name, result, args, kwargs))
        sources = [self._index[id(t)] for t in _tensors((args, kwargs)) if id(t) in self._index]
        if not sources:
            return result
        deep = all(i in self._deep for i in sources)
        if name in LAYERS or name.startswith("conv"):
            self.used += [i for i in sources if i not in self._deep]
            deep = True
        if isinstance(result, Tensor):
            return self._mark(result, deep)
        if type(result) in (tuple, list):
            return type(result)(self._mark(r, deep) if isinstance(r, Tensor) else r for r in result)
        return result

    def _mark(self, tensor: Tensor, deep: bool = False) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        if deep:
            self._deep.add(len(self.noisy))
        if self.replace is not None and len(self.noisy) == self.replace[0]:
            tensor = self.replace[1].reshape(tensor.shape)
        self._index[id(tensor)] = len(self.noisy)
        self.noisy.append(tensor)
        return tensor

    def shallow(self) -> list[int]:
        """The indices of noisy tensors that have not been through a layer."""
        return [i for i in range(len(self.noisy)) if i not in self._deep]

    def _controlled(self, name: str, drawn: Tensor, args: tuple, kwargs: dict) -> Tensor:
        if self.noise is None:
            return drawn
        if not name.startswith("normal"):
            return torch.full_like(drawn, self.noise)
        given = dict(zip(("mean", "std"), args[name == "normal_" :], strict=False))
        mean, std = (({"mean": 0.0, "std": 1.0} | kwargs | given)[key] for key in ("mean", "std"))
        with torch.no_grad():
            value = torch.as_tensor(mean + std * self.noise, dtype=drawn.dtype, device=drawn.device).expand_as(drawn)
            return drawn.copy_(value)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


@contextmanager
def instead(model: nn.Module, methods: Mapping[str, Callable]) -> Iterator[None]:
    """While active, these stand in the places of the model's methods of the same names."""
    before = {name: model.__dict__[name] for name in methods if name in model.__dict__}
    model.__dict__.update(methods)
    try:
        yield
    finally:
        for name in methods:
            model.__dict__.pop(name, None)
        model.__dict__.update(before)


def gradients(value: Tensor, tensors: list[Tensor], weights: Tensor | None = None) -> list[Tensor]:
    """d value / d tensor for each, zeros where the value does not depend on it; ``weights`` where it is no scalar."""
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in tensors]
    found = torch.autograd.grad(value, tensors, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def normals(seed: int) -> Callable[[Tensor], Tensor]:
    """Standard normal numbers in the shape of a tensor, the same on every device and in every precision."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def seed_everything(seed: int) -> None:
    """Seed the generators that a model may draw from: torch's, numpy's, Python's."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would leave orders for a GPU that is not in use
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed)  # noqa: NPY002 (the legacy generator is the one that models use)
    random.seed(seed)


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """On leaving, everything is as it was: weights, buffers, gradients, modes, attributes and random state."""
    registries = ("_parameters", "_buffers", "_modules")  # so that a buffer that is assigned anew goes back too
    modules = [
        (module, dict(module.__dict__), {name: dict(module.__dict__[name]) for name in registries})
        for module in model.modules()
    ]
    tensors = [*model.parameters(), *model.buffers()]
    values = [
        (t, t.detach().clone(), t.requires_grad, t.grad, None if t.grad is None else t.grad.clone()) for t in tensors
    ]
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        for module, attributes, contents in modules:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, content in contents.items():
                attributes[name].clear()
                attributes[name].update(content)
        with torch.no_grad():
            for tensor, value, requires_grad, grad, grad_value in values:
                tensor.copy_(value)
                tensor.requires_grad_(requires_grad)
                tensor.grad = grad if grad is None else grad.copy_(grad_value)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def weights_kept(model: nn.Module) -> Iterator[None]:
    """On leaving, the parameters have their old values again. Change them through ``.data``: graphs stay usable."""
    values = [(p, p.detach().clone()) for p in model.parameters()]
    try:
        yield
    finally:
        for parameter, value in values:
            parameter.data.copy_(value)
