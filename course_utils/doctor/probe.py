"""Two tools for experiments on somebody else's model: a tape of what it computes, and a promise to leave no trace.

:class:`Probe` writes down every call of a function of torch, can give a random draw other numbers, and can put another
tensor in the place of any result. Which results are noise, the code or μ is found by comparing the tapes of runs that
differ in one thing: so it does not matter how the noise was made or how often it was wrapped.
"""

import copy
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

NO_GAUSSIANS = (
    "bernoulli", "bernoulli_", "exponential_", "multinomial", "_standard_gamma", "_sample_dirichlet", "log_normal_",
    "poisson", "cauchy_", "geometric_",
)  # fmt: skip
NORMAL, UNIFORM = ("normal", "normal_"), ("rand", "rand_like", "uniform_")
DRAWS = ("randn", "randn_like", *NORMAL, *UNIFORM, *NO_GAUSSIANS)
# A decoder begins with one of these; whatever touches z before is element by element and still the code.
LAYERS = (
    "linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum",
    "tensordot", "layer_norm", "batch_norm", "group_norm", "instance_norm", "scaled_dot_product_attention",
    "multi_head_attention_forward", "rnn_tanh", "gru", "lstm", "gru_cell", "lstm_cell", "rnn_tanh_cell",
)  # fmt: skip
PRODUCTS = ("matmul", "__matmul__", "bmm", "einsum", "baddbmm")
JOINS = ("cat", "concat", "concatenate", "hstack", "stack")

Site = tuple[int, int]  # which call of a run, and which of its results


class Call(NamedTuple):
    """One call of a function of torch: its name, and the tensors that went in and came out."""

    name: str
    given: list[Tensor]
    results: list[Tensor]

    @property
    def is_layer(self) -> bool:
        """Whether it mixes numbers by weights."""
        return self.name in LAYERS or self.name.startswith("conv")

    @property
    def is_entrance(self) -> bool:
        """Whether a code that goes in is done with: a layer or a join, but no product with a covariance's rows."""
        rows = self.name in PRODUCTS and not any(t.is_leaf and t.requires_grad for t in self.given)
        return self.name in JOINS or (self.is_layer and not (rows and len({t.shape[:1] for t in self.given}) == 1))


class Probe(TorchFunctionMode):
    """While active: writes down the calls, and changes what they return if asked.

    ``draws`` gives the n-th random draw the place of standard normal numbers, a tensor or a constant: in units of its
    own mean and std; a uniform draw, unless ``raw`` names it, by quantiles, which stay in its interval. ``put`` gives
    the result at a site the numbers of a tensor. ``still`` switches dropout off, however it is called. Afterwards
    ``calls`` is the tape, and ``drawn`` holds the numbers of each draw in those units.
    """

    def __init__(
        self, draws: Mapping[int, float | Tensor] | None = None, *, put: Mapping[Site, Tensor] | None = None,
        still: bool = True, raw: Collection[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.draws, self.put, self.still, self.raw = draws or {}, put or {}, still, raw
        self.calls: list[Call] = []
        self.drawn: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Called by torch in place of ``func``; see :class:`torch.overrides.TorchFunctionMode`."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.still and "dropout" in name:
            result = args[0] if args else kwargs["input"]
        else:
            result = func(*args, **kwargs)
        if not (results := list(_tensors(result))):
            return result
        if name in DRAWS:
            with torch.no_grad():
                mean, std = _scale(name, results[0], args, kwargs)
                raw = name not in UNIFORM or len(self.drawn) in self.raw
                mean, std = (0 * mean, 0 * std + 1) if raw and name in UNIFORM else (mean, std)
                wanted = self.draws.get(len(self.drawn))
                if wanted is not None and (not isinstance(wanted, Tensor) or wanted.shape == results[0].shape):
                    wanted = torch.as_tensor(wanted, dtype=torch.float, device=mean.device)
                    results[0].copy_(mean + std * (wanted if raw else torch.special.ndtr(wanted)))
                units = torch.where(std > 0, (results[0] - mean) / std, 0.0 * results[0])
                self.drawn.append(units if raw else torch.special.ndtri(units.float()).to(units))
        for index in range(len(results)):
            value = self.put.get((len(self.calls), index))
            if value is not None:
                value = value.to(results[index].dtype).reshape(results[index].shape)
                value = value if value.requires_grad else value.detach().requires_grad_(results[index].requires_grad)
                result = value.clone() if isinstance(result, Tensor) else _replaced(result, index, value.clone())
        self.calls.append(Call(name, list(_tensors((args, kwargs))), list(_tensors(result))))
        return result

    def results(self) -> Iterator[tuple[Site, Tensor]]:
        """All floating-point results, in order, each with its site."""
        for k, call in enumerate(self.calls):
            for j, tensor in enumerate(call.results):
                if tensor.is_floating_point():
                    yield (k, j), tensor

    def at(self, site: Site | None) -> Tensor | None:
        """The result at a site; None where the run did not get there."""
        if site is None or site[0] >= len(self.calls) or site[1] >= len(self.calls[site[0]].results):
            return None
        return self.calls[site[0]].results[site[1]]


def _scale(name: str, drawn: Tensor, args: tuple, kwargs: dict) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that a draw was asked for; 0 and 1 without; start and length if it is uniform."""
    first, second = keys = ("from", "to") if name == "uniform_" else ("mean", "std")
    given = dict(zip(keys, args[name.endswith("_") :], strict=False)) if name in ("uniform_", *NORMAL) else {}
    given = {first: 0.0, second: 1.0} | {k: v for k, v in kwargs.items() if k in keys} | given
    a, b = (torch.as_tensor(given[key], dtype=drawn.dtype, device=drawn.device) for key in keys)
    return (a, b - a) if name == "uniform_" else (a, b)


def _replaced(container: tuple | list, index: int, value: Tensor) -> tuple | list:
    parts, seen = list(container), -1
    for i, part in enumerate(parts):
        seen += isinstance(part, Tensor)
        if seen == index and isinstance(part, Tensor):
            parts[i] = value
    return type(container)(parts) if type(container) in (tuple, list) else tuple(parts)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def gradients(value: Tensor, tensors: list[Tensor], weights: Tensor | None = None) -> list[Tensor]:
    """d value / d tensor for each, zeros where the value does not depend on it; ``weights`` where it is no scalar."""
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in tensors]
    found = torch.autograd.grad(value, tensors, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def normals(seed: int) -> Callable[[Tensor], Tensor]:
    """Standard normal numbers in the shape of a tensor, the same on every device and in every precision."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype).to(like.device)


def exact(tensor: Tensor) -> Tensor:
    """The numbers in double precision, on the CPU: not every device has float64."""
    return tensor.detach().cpu().double()


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
    undo = [step for _, attributes, _ in modules for value in attributes.values() if (step := _undo(value))]
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
        for step in undo:
            step()
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


def state_of(model: nn.Module) -> list[tuple[nn.Module, dict, dict, dict]]:
    """What a forward pass may change beside weights: buffers with their values, and plain numbers among attributes."""
    return [
        (module, dict(module._buffers), {k: b.detach().clone() for k, b in module._buffers.items() if b is not None},
         {k: v for k, v in vars(module).items() if type(v) in (int, float) and k != "training"})
        for module in model.modules()
    ]  # fmt: skip


def put_back(state: list[tuple[nn.Module, dict, dict, dict]]) -> None:
    """Through ``.data``, so that the graphs of earlier runs stay usable."""
    for module, buffers, values, numbers in state:
        module._buffers.update(buffers)
        vars(module).update(numbers)
        for name, value in values.items():
            if not torch.equal(buffers[name], value):
                buffers[name].data.copy_(value)


def _undo(value: object) -> Callable[[], object] | None:
    """How to undo what happens to an attribute without its being assigned: a list, a dictionary, a generator."""
    if type(value) is list:
        return partial(value.__setitem__, slice(None), value.copy())
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", copy.deepcopy(value.bit_generator.state))
    if type(value) is dict:
        before = value.copy()
        return lambda: (value.clear(), value.update(before))
    return None
