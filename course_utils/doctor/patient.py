"""The model under examination: runs it with controlled noise and measures what its code really is."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils.doctor.outputs import Reading, get, leaves, read, same
from course_utils.doctor.probe import Probe, gradients, instead, normals, seed_everything

EXAMPLES = 64  # more would measure no better
OTHERS = ("<frozen", *(str(Path(m.__file__).parent) for m in (torch, traceback)), str(Path(__file__).parent))
NORMS = (nn.modules.batchnorm._NormBase,)


class ModelRaised(Exception):
    """The model (or its loss) raised an error; the text is its own traceback, shortened."""


class Run(NamedTuple):
    """One forward pass: the output and its parts, flattened to (B, …); ``code`` is what the decoder was given."""

    output: object
    recon: Tensor | None
    mu: Tensor | None
    spread: Tensor | None
    z: Tensor | None
    code: Tensor | None
    probe: Probe


@dataclass
class Patient:
    """A model, a batch, and how to run the one on the other. Built by :func:`examine`; see there for the fields."""

    model: nn.Module
    x: Tensor
    cond: Tensor | None = None
    loss: Callable | None = None
    forward: Callable | None = None
    encode: Callable | None = None
    decode: Callable | None = None
    reading: Reading = field(default_factory=Reading)
    spread_kind: tuple[str | None, str] = (None, "not measured")
    code_index: int | None = None

    def __post_init__(self) -> None:
        self._forward = self.forward or forward_of(self.model)
        self.parameters = [p for p in self.model.parameters() if p.is_floating_point()]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.first = self.run()
        self._look()

    # ------------------------------------------------------------------------------------------------- running it

    def call(self, function: Callable, *arguments: object) -> object:
        """Call the patient's own code; what it raises becomes :class:`ModelRaised`."""
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            raise ModelRaised(short_traceback(error)) from error

    def run(
        self, *, x: Tensor | None = None, cond: Tensor | None = None, noise: float | None = None,
        code: Tensor | None = None, seed: int = 0, training: bool = True, as_is: bool = False,
    ) -> Run:  # fmt: skip
        """One forward pass with gradients.

        Dropout is off and batch norms use their running statistics, so that only the latent noise is random, unless
        ``as_is``. ``noise`` sets that noise to a constant, ``code`` replaces what the decoder is given.
        """
        self.model.train(training)
        if not as_is:
            for module in self.model.modules():
                if isinstance(module, NORMS):
                    module.eval()
        x = self.x if x is None else x
        cond = self.cond if cond is None else cond
        seed_everything(seed)
        replace = None if code is None or self.code_index is None else (self.code_index, code)
        with Probe(noise, replace=replace, still=not as_is) as probe:
            output = self.call(self._forward, *([x] if cond is None else [x, cond]))
        parts = [self._part(output, path) for path in self.reading[:4]]
        noisy = self.code_index is not None and self.code_index < len(probe.noisy)
        return Run(output, *parts, flat(probe.noisy[self.code_index]) if noisy else None, probe)

    def _part(self, output: object, path: tuple | None) -> Tensor | None:
        return None if path is None else flat(get(output, path))

    # ------------------------------------------------------------------------------------------- what it is made of

    def _look(self) -> None:
        """Find the parts of the output, and the code among the tensors that were computed from noise."""
        other, zero, one = self.run(seed=1), self.run(noise=0.0), self.run(noise=1.0)
        pairs = zip(leaves(self.first.output), leaves(other.output), strict=False)
        varies = {a.path for a, b in pairs if a.value.shape == b.value.shape and not torch.equal(a.value, b.value)}
        self.reading = read(zero.output, self.x, noisy=zero.probe.noisy, varies=varies)
        self.separate_encoder = self.encoder_output()
        self.code_index = self._code_index(zero.probe, self._part(zero.output, self.reading.mu))
        self.first, self.other = self.run(), self.run(seed=1)
        zero, one = self.run(noise=0.0), self.run(noise=1.0)
        self.zero = zero
        self.draws = zero.probe.draws
        self.sigma = self.mean = None  # of the code, as measured
        if zero.code is not None and one.code is not None and zero.code.shape == one.code.shape:
            self.mean, self.sigma = zero.code, one.code - zero.code
        if self.separate_encoder is not None:
            self.mu, self.spread = self.separate_encoder
        else:
            self.mu, self.spread = zero.mu, zero.spread
        self.mu_is_reported = self.mu is not None
        if self.mu is None:
            self.mu = self.mean
        if self.decode is not None and self.mu is not None:
            self.decoded(self.mu.detach())

    def encoder_output(self) -> tuple[Tensor, Tensor] | None:
        """μ and spread from ``encode``, where the forward pass does not return them."""
        if self.encode is None and self.reading.mu is not None:
            return None
        encode = self.encode or getattr(self.model, "encode", None)
        if not callable(encode):
            return None
        try:
            output = self.call(encode, *([self.x] if self.cond is None else [self.x, self.cond]))
        except ModelRaised:
            if self.encode is not None:
                raise
            return None
        found = [leaf for leaf in leaves(output) if leaf.value.shape[:1] == self.x.shape[:1] and leaf.value.dim() > 1]
        if len(found) < 2:
            if self.encode is not None:
                raise ValueError(f"encode(x) must return a pair (μ, second output), each (B, L); got {_shapes(output)}")
            return None
        return flat(found[0].value), flat(found[1].value)

    def _code_index(self, probe: Probe, mu: Tensor | None) -> int | None:
        """Which noisy tensor the decoder is given: equal to μ without noise, or the last one before a layer."""
        if mu is not None and mu.any():
            for i in reversed(range(len(probe.noisy))):
                if probe.noisy[i].dim() and same(flat(probe.noisy[i]), mu):
                    return i
        last = max(probe.used, default=len(probe.noisy))
        fitting = [i for i in probe.shallow() if i <= last and probe.noisy[i].shape[:1] == self.x.shape[:1]]
        return fitting[-1] if fitting else None

    @property
    def samples(self) -> bool:
        """Whether anything in a forward pass changes from call to call."""
        pairs = [(self.first.code, self.other.code), (self.first.z, self.other.z), (self.first.recon, self.other.recon)]
        return any(a is not None and b is not None and not torch.equal(a, b) for a, b in pairs)

    def decoded(self, code: Tensor, cond: Tensor | None = None) -> Tensor | None:
        """The reconstruction from that code, (B, D); None when the code cannot be replaced."""
        cond = self.cond if cond is None else cond
        decode = self.decode
        if decode is None and self.code_index is None:
            decode = getattr(self.model, "decode", None) or getattr(self.model, "decoder", None)
        if decode is None:
            return self.run(code=code, cond=cond, noise=0.0).recon if self.code_index is not None else None
        self.run()  # sets the mode
        output = self.call(decode, *([code] if cond is None else [code, cond]))
        found = [leaf.value for leaf in leaves(output) if leaf.value.numel() == self.x.numel()]
        if not found and self.decode is not None:
            raise ValueError(f"decode(z) must return a reconstruction, {tuple(self.x.shape)}; got {_shapes(output)}")
        return flat(found[0]) if found else None

    # ------------------------------------------------------------------------------------------------------ gradients

    def gradients(self, values: Tensor) -> list[Tensor]:
        """Of a random combination of ``values``, with respect to each parameter: what influences them, and where."""
        return gradients(values, self.parameters, normals(0)(values))

    def influences(self, values: Tensor) -> list[Tensor]:
        """For each parameter a mask of the elements that ``values`` depend on."""
        return [gradient != 0 for gradient in self.gradients(values)]

    def only(self, values: Tensor, others: Tensor) -> list[Tensor]:
        """Masks of the elements that ``values`` depend on and ``others`` do not: those of a head of its own."""
        return [a & ~b for a, b in zip(self.influences(values), self.influences(others), strict=True)]


def forward_of(model: nn.Module) -> Callable:
    """The model itself; where its class has no ``forward``, what its loss (or a chain of its methods) decodes."""
    if type(model).forward is not nn.Module.forward or not all(hasattr(model, name) for name in ("encode", "decode")):
        return model

    def forward(*inputs: Tensor) -> tuple:
        seen: dict[str, object] = {}

        def watched(name: str, method: Callable) -> Callable:
            return lambda *args, **kwargs: seen.setdefault(name, method(*args, **kwargs))

        if callable(getattr(model, "loss", None)):
            with instead(model, {name: watched(name, getattr(model, name)) for name in ("encode", "decode")}):
                model.loss(*inputs)
        if len(seen) < 2:
            code = model.encode(*inputs)
            return model.decode(model.reparameterize(*code), *inputs[1:]), code
        return seen["decode"], seen["encode"]

    return forward


def _shapes(output: object) -> str:
    return ", ".join(str(tuple(leaf.value.shape)) for leaf in leaves(output)) or type(output).__name__


def flat(tensor: Tensor) -> Tensor:
    """(B, …) → (B, everything else); (B,) → (B, 1)."""
    return tensor.reshape(tensor.shape[0], -1) if tensor.dim() else tensor.reshape(1, 1)


def short_traceback(error: BaseException, lines: int = 3) -> str:
    """The last frames of the user's own code, and the message."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(OTHERS)]
    where = [f"{Path(f.filename).name}, line {f.lineno}, in {f.name}: {f.line}" for f in frames[-lines:]]
    message = " ".join(str(error).split())
    message = message if len(message) <= 300 else message[:300] + "…"
    return "\n".join([*where, f"{type(error).__name__}: {message}"])
