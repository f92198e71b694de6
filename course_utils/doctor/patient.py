"""The model under examination: runs it with controlled noise and measures what its code really is."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from course_utils.doctor.outputs import Reading, get, leaves, read, same
from course_utils.doctor.probe import (
    DRAWS,
    NO_GAUSSIANS,
    Probe,
    Site,
    exact,
    gradients,
    normals,
    put_back,
    seed_everything,
    state_of,
)  # fmt: skip

OTHERS = ("<frozen", *(str(Path(m.__file__).parent) for m in (torch, traceback)), str(Path(__file__).parent))
NORMS = (nn.modules.batchnorm._NormBase,)
MOST_DRAWS = 12
REPEATS = 32  # runs, where the noise can be watched but not set
QUANTISERS = ("argmin", "argmax", "round", "gumbel_softmax", "one_hot", "floor", "sign")


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
    standard_prior: bool = True  # as far as the loss is known
    spread_kind: tuple[str | None, float, str] = (None, 1.0, "not measured")
    code_site: Site | None = None
    beyond: str = ""  # why this is no model with one Gaussian code for each example

    def __post_init__(self) -> None:
        self._forward = self.forward or forward_of(self.model)
        self.frozen = {id(p) for p in self.model.parameters() if not p.requires_grad}
        self.parameters = [p for p in self.model.parameters() if p.is_floating_point()]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.state = state_of(self.model)
        self.latent: tuple[int, ...] = ()  # which draws make z
        self.held: dict[int, Tensor] = {}  # the numbers of all other draws, which stay as they are
        self.first = self.run()
        self._look()

    def call(self, function: Callable, *arguments: object) -> object:
        """Call the patient's own code; what it raises becomes :class:`ModelRaised`."""
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            raise ModelRaised(short_traceback(error)) from error

    def run(
        self, *, x: Tensor | None = None, cond: Tensor | None = None, noise: float | None = None,
        code: Tensor | None = None, seed: int = 0, training: bool = True, as_is: bool = False,
        draws: Mapping[int, Tensor] | None = None, put: Mapping[Site, Tensor] | None = None,
    ) -> Run:  # fmt: skip
        """One forward pass with gradients.

        Only the latent noise is random (no dropout, batch norms use running statistics) unless ``as_is``. ``noise``
        sets it to a constant, ``code`` replaces what the decoder is given.
        """
        self._prepare(training, as_is)
        put = dict(put or {}) | ({} if code is None or self.code_site is None else {self.code_site: code})
        seed_everything(seed)
        with Probe(self.draws_for(noise) | dict(draws or {}), put=put, still=not as_is) as probe:
            output = self.call(self._forward, *self.inputs(x, cond))
        parts = [None if path is None else flat(get(output, path)) for path in self.reading[:4]]
        found = probe.at(self.code_site)
        return Run(output, *parts, None if found is None else flat(found), probe)

    def _prepare(self, training: bool, as_is: bool) -> None:
        put_back(self.state)  # running averages, counters: each run begins where the first did
        self.model.train(training)
        if not as_is:
            for module in self.model.modules():
                if isinstance(module, NORMS):
                    module.eval()

    def inputs(self, x: Tensor | None = None, cond: Tensor | None = None) -> list[Tensor]:
        """What the model is called with."""
        x, cond = self.x if x is None else x, self.cond if cond is None else cond
        return [x] if cond is None else [x, cond]

    def draws_for(self, noise: float | None) -> dict[int, float | Tensor]:
        """The numbers for the draws of a run: the latent ones as asked for, the others as they were."""
        return {**self.held, **({} if noise is None else dict.fromkeys(self.latent, noise))}

    def _look(self) -> None:
        """Find the noise, the code that it makes, and the parts of the output."""
        self.calm = torch.no_grad  # for what is only looked at; but a model may differentiate inside its forward pass
        try:
            with torch.no_grad():
                self.run()
        except ModelRaised:
            self.calm = torch.enable_grad
        with self.calm():
            base, other = self.first, self.run(seed=1)
            self.moves = bool(changed := _changed(base.output, other.output))
            self.compared = bool(list(leaves(base.output)))
            levels = self._find_noise(base)
            self.latent = tuple(levels[-1:])
            zero, one = (self.run(noise=0.0), self.run(noise=1.0)) if levels else (base, other)
        entrance = _entrance(zero.probe, one.probe)
        noisy = _noisy(zero.probe, one.probe, entrance)
        drawn = {id(t) for call in zero.probe.calls if call.name in DRAWS for t in call.results}
        self.reading = read(zero.output, self.x, noisy=[t for _, t in noisy], varies=changed, drawn=drawn)
        self.separate_encoder = self.encoder_output()
        self.code_site = self._code_site(zero, noisy, entrance)
        self._measure_code()
        self._find_heads()
        self.beyond = self._what_it_is(levels)
        if self.decode is not None and self.mu is not None:
            self.decoded(self.mu.detach())

    def _find_noise(self, base: Run) -> list[int]:
        """Which draws go into a layer behind the encoder's first: those make latent variables. All others are held."""
        first = next((k for k, call in enumerate(base.probe.calls) if call.is_layer), 0)
        levels, others = [], {}
        for i, drawn in enumerate(base.probe.drawn[:MOST_DRAWS]):
            moved = self.run(draws={i: drawn.flatten().roll(1).reshape(drawn.shape)})
            entrance = _entrance(base.probe, moved.probe)
            if entrance is None or entrance[0] <= first:
                others[i] = drawn
            else:
                levels.append(i)
        if len(levels) > 1:  # what a tiny change does not move is compared with a number: a mask, such as lost words
            nudged = {i: self.run(draws={i: base.probe.drawn[i] * (1 + 1e-5)}).probe for i in levels}
            others |= {i: base.probe.drawn[i] for i in levels if _entrance(base.probe, nudged[i]) is None}
            levels = [i for i in levels if i not in others]
        if not levels:  # where z goes into no layer, the smaller draws are left
            levels = [i for i, drawn in others.items() if drawn.numel() != self.x.numel()][-1:]
        self.held = {i: drawn for i, drawn in others.items() if i not in levels} if levels else {}
        return levels

    def _code_site(
        self, zero: Run, noisy: list[tuple[Site, Tensor]], entrance: tuple[int, Tensor] | None
    ) -> Site | None:
        """Where z is made: the first noisy result that is μ without noise, or else what first enters a layer."""
        mu = None if self.reading.mu is None else flat(get(zero.output, self.reading.mu))
        mu = self.separate_encoder[0] if self.separate_encoder else mu
        for wanted in (mu if mu is not None and mu.any() else None, None if entrance is None else entrance[1]):
            found = None if wanted is None else next((s for s, t in noisy if same(t, wanted)), None)
            if found is not None:
                return found
        fitting = [s for s, t in noisy if t.shape[:1] == self.x.shape[:1] and t.numel() != self.x.numel()]
        return fitting[-1] if fitting and entrance is None else None

    def _measure_code(self) -> None:
        """Mean and σ of the code: exactly, where the noise can be set; else from many draws."""
        self.first, self.zero, one = self.run(), self.run(noise=0.0), self.run(noise=1.0)
        with self.calm():
            self.other = self.run(seed=1)
        self.mean = self.sigma = None
        self.linear = self.mixed = False
        zero = self.zero.code
        self.exact = zero is not None and one.code is not None and not torch.equal(zero, one.code)
        if self.exact:
            self.mean, self.sigma = zero, one.code - zero
            two = self.run(noise=2.0).code - zero
            self.linear = bool((two - 2 * self.sigma).abs().max() <= 1e-3 * two.abs().max())
            self.mixed = self._is_mixed()
        elif zero is not None and self.moves:
            codes = torch.stack([self.run(seed=seed).code for seed in range(REPEATS)])
            self.mean, self.sigma, self.linear = codes.mean(0), codes.std(0), True

    def _is_mixed(self) -> bool:
        """Whether a single number of the noise moves several numbers of z."""
        drawn = self.zero.probe.drawn[self.latent[0]]
        single = torch.zeros_like(drawn).flatten()
        single[0] = 1.0
        moved = self.run(noise=0.0, draws={self.latent[0]: single.reshape(drawn.shape)}).code != self.zero.code
        return drawn.numel() == self.zero.code.numel() and int(moved.sum()) > 1

    def _find_heads(self) -> None:
        """μ and the spread: as returned, as ``encode`` gives them, or where z is computed from them."""
        zero = self.zero
        self.mu, self.spread = self.separate_encoder or (zero.mu, zero.spread)
        self.mu_is_reported = self.mu is not None
        self.mu_site = self.spread_site = None
        if self.mean is None or self.code_site is None:
            return
        if self.exact and (self.mu is None or self.spread is None):
            seeded = self.run(noise=1.0, seed=1).probe
            before = [
                flat(t) for site, t in zero.probe.results()
                if site < self.code_site and t.numel() == self.mean.numel() and t.shape[:1] == self.x.shape[:1]
                and (other := seeded.at(site)) is not None and torch.equal(other, t)
            ]  # fmt: skip
            if self.mu is None:
                self.mu = next((t for t in before if same(t, self.mean)), None)
            if self.spread is None and self.mu is not None and self.mu.shape == self.mean.shape:
                log_var = 2 * exact(self.sigma).abs().clamp_min(1e-30).log()
                others = (t for t in before if not same(t, self.mu) and not same(t, self.mean))
                self.spread = next((t for t in others if (exact(t) - log_var).abs().max() < 1e-3), None)
        if self.mu is None:
            self.mu = self.mean
        found = [(site, t) for site, t in reversed(list(zero.probe.results())) if site < self.code_site]
        self.mu_site, self.spread_site = (
            None if t is None else next((site for site, u in found if u.numel() == t.numel() and same(u, t)), None)
            for t in (self.mu, self.spread)
        )

    def _what_it_is(self, levels: list[int]) -> str:
        """Empty for one Gaussian code per example; else what the model is instead, as far as that can be seen."""
        names = [call.name for call in self.first.probe.calls]
        drawn_by = [name for name in names if name in DRAWS]
        quantiser = next((name for name in names if name in QUANTISERS or (name == "min" and "embedding" in names)), "")
        code = self.zero.probe.at(self.code_site)
        if len(levels) > 1:
            return f"{len(levels)} random draws are decoded one after the other (several latent variables or samples)"
        if quantiser and not (self.mu_is_reported and self.exact):
            return f"no Gaussian code: what looks like a quantiser ({quantiser}) is not examined"
        if not self.mu_is_reported and (instead_of_code := self._without_encoder(code)):
            return instead_of_code
        if code is not None and code.shape[:1] != self.x.shape[:1]:
            if self.reading.recon is not None:
                return "the code has no row for each example"
            return "several samples are drawn for each example"
        if code is not None and code.dim() > 2 and code.shape[1] > 1 and same(code, code[:, :1].expand_as(code)):
            return "several samples are drawn for each example"
        if self.latent and drawn_by[self.latent[0]] in NO_GAUSSIANS:
            return f"no Gaussian code: z is made of draws by {drawn_by[self.latent[0]].strip('_')}"
        if self.mixed:
            return "no diagonal Gaussian: each number of the noise moves several of z (a full covariance, a flow)"
        if self.exact and not self.linear and not (self.mu_is_reported and same(self.mu, self.zero.code)):
            return "no Gaussian code: z is not μ + σ·ε"
        return ""

    def _without_encoder(self, code: Tensor | None) -> str:
        """What it is whose output x does not enter by a code: empty for an autoencoder of whatever kind."""
        recon, other = self.zero.recon, self.run(x=self.x.roll(1, 0), noise=0.0).recon
        of_noise = self.exact and code is not None and bool((code == code[:1]).all())
        if recon is None:
            alone = of_noise or code is None or code.numel() == self.x.numel()
            return "neither a reconstruction nor a code of x was seen (a loss alone, a diffusion model?)" * alone
        if self.latent and torch.equal(recon, other):
            return "no code of x: the output does not depend on x (a generator without an encoder)"
        if of_noise:
            return "no Gaussian code: the noise goes through layers together with x (an implicit posterior)"
        last = self.x.clone()
        last.view(len(last), -1)[:, -1] += 1.0
        if not self.moves and self.run(x=last).recon.equal(recon):
            return "no code: the last number of x changes nothing, so each is made of those before (autoregressive)"
        return ""

    def encoder_output(self) -> tuple[Tensor, Tensor] | None:
        """μ and spread from ``encode``, where the forward pass does not return them."""
        if self.encode is None and self.reading.mu is not None:
            return None
        encode = self.encode or getattr(self.model, "encode", None)
        if not callable(encode):
            return None
        try:
            self._prepare(training=True, as_is=False)
            seed_everything(0)
            with Probe(self.held):
                output = self.call(encode, *self.inputs())
        except ModelRaised:
            if self.encode is not None:
                raise
            return None
        found = [leaf for leaf in leaves(output) if leaf.value.shape[:1] == self.x.shape[:1] and leaf.value.dim() > 1]
        if len(found) < 2 or found[0].value.shape != found[1].value.shape:
            if self.encode is not None:
                raise ValueError(f"encode(x) must return a pair (μ, second output), each (B, L); got {_shapes(output)}")
            return None
        return flat(found[0].value), flat(found[1].value)

    @property
    def samples(self) -> bool:
        """Whether anything in a forward pass changes from call to call."""
        pairs = [(self.first.code, self.other.code), (self.first.z, self.other.z), (self.first.recon, self.other.recon)]
        return any(a is not None and b is not None and not torch.equal(a, b) for a, b in pairs) or (
            self.moves and (self.beyond != "" or all(a is None for a, _ in pairs))
        )

    def decoded(self, code: Tensor, cond: Tensor | None = None) -> Tensor | None:
        """The reconstruction from that code, (B, D); None when the code cannot be replaced."""
        cond = self.cond if cond is None else cond
        decode = self.decode
        if decode is None and self.code_site is None:
            decode = getattr(self.model, "decode", None) or getattr(self.model, "decoder", None)
        if decode is None:
            return self.run(code=code, cond=cond, noise=0.0).recon if self.code_site is not None else None
        self.run()  # sets the mode
        output = self.call(decode, *([code] if cond is None else [code, cond]))
        found = [leaf.value for leaf in leaves(output) if leaf.value.numel() % self.x.numel() == 0]
        if not found and self.decode is not None:
            raise ValueError(f"decode(z) must return a reconstruction, {tuple(self.x.shape)}; got {_shapes(output)}")
        return flat(found[0]) if found else None

    def gradients(self, values: Tensor) -> list[Tensor]:
        """Of a random combination of ``values``, with respect to each parameter: what influences them, and where."""
        return gradients(values, self.parameters, normals(0)(values))

    def influences(self, values: Tensor) -> list[Tensor]:
        """For each parameter a mask of the elements that ``values`` depend on."""
        return [gradient != 0 for gradient in self.gradients(values)]

    def only(self, values: Tensor, others: Tensor) -> list[Tensor]:
        """Masks of the elements that ``values`` depend on and ``others`` do not: those of a head of its own."""
        return [a & ~b for a, b in zip(self.influences(values), self.influences(others), strict=True)]


def _changed(output: object, other: object) -> set:
    """The paths of the tensors that differ between two outputs."""
    pairs = zip(leaves(output), leaves(other), strict=False)
    return {a.path for a, b in pairs if a.value.shape == b.value.shape and not torch.equal(a.value, b.value)}


def _entrance(a: Probe, b: Probe) -> tuple[int, Tensor] | None:
    """The first layer that is given something else in the one run than in the other, and what."""
    for k, (call, other) in enumerate(zip(a.calls, b.calls, strict=False)):
        if call.name != other.name:
            return None
        if call.is_entrance:
            for tensor, changed in zip(call.given, other.given, strict=False):
                if tensor.shape == changed.shape and tensor.is_floating_point() and not torch.equal(tensor, changed):
                    return k, tensor
    return None


def _noisy(a: Probe, b: Probe, entrance: tuple[int, Tensor] | None) -> list[tuple[Site, Tensor]]:
    """What differs between two runs, up to the first layer that is given it."""
    last = len(a.calls) if entrance is None else entrance[0]
    return [
        (site, tensor) for site, tensor in a.results()
        if site[0] < last and tensor.dim() and (other := b.at(site)) is not None
        and other.shape == tensor.shape and not torch.equal(tensor, other)
    ]  # fmt: skip


def forward_of(model: nn.Module) -> Callable:
    """The model itself; where its class has no ``forward``, what its loss decodes, encodes and returns, or a chain of
    its methods. Raises ``TypeError`` where there is nothing of the kind."""
    methods = [name for name in ("decode", "encode") if callable(getattr(model, name, None))]
    if type(model).forward is not nn.Module.forward or not (methods[1:] or callable(getattr(model, "loss", None))):
        return model

    def forward(*inputs: Tensor) -> object:
        seen: dict[str, object] = {}

        def watched(name: str, method: Callable) -> Callable:
            return lambda *args, **kwargs: seen.setdefault(name, method(*args, **kwargs))

        if callable(getattr(model, "loss", None)):
            with patch.dict(model.__dict__, {name: watched(name, getattr(model, name)) for name in methods}):
                seen["loss"] = model.loss(*inputs)
        if {"decode", "loss"}.isdisjoint(seen):
            code = model.encode(*inputs)
            return model.decode(model.reparameterize(*code), *inputs[1:]), code
        return [seen[name] for name in (*methods, "loss") if name in seen]

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
