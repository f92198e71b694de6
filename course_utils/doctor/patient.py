"""The model under examination: runs it with controlled noise and measures what its code really is."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from course_utils.doctor.outputs import Reading, get, leaves, read, same
from course_utils.doctor.probe import (
    DRAWS,
    NO_GAUSSIANS,
    UNIFORM,
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
NUDGE = 1e-3  # of the first layer's output: a code that it does not move takes steps
CHOICES = ("argmin", "argmax", "one_hot")  # of a code, even where no step can be seen: all may choose the same one


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
    target: Tensor | None = None  # what the output is compared with, as far as that is known
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
        self.uniform: tuple[int, ...] = ()  # the latent draws of which z is an affine function, though they are uniform
        self.first, self.target = self.run(), self.x
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
        draws = self.draws_for(noise) | dict(draws or {})
        with Probe(draws, put=put, still=not as_is, raw=self.uniform) as probe:
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
        changed |= _changed(zero.output, one.output)  # with a noise that is the same at every call as well
        with torch.enable_grad():
            living = {leaf.path for leaf in leaves(base.output) if any(g.any() for g in self.gradients(leaf.value))}
        self.reading = read(zero.output, self.x, noisy=[t for _, t in noisy], varies=changed, living=living)
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
            if (entrance := _entrance(base.probe, moved.probe)) is None or entrance[0] <= first:
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
            self.linear, flat_there = (
                bool((two - times * self.sigma).abs().max() <= 1e-3 * two.abs().max()) for times in (2.0, 1.39810)
            )  # Φ(2) − Φ(0) is 1.39810 times Φ(1) − Φ(0)
            if flat_there and self._drawn_by in UNIFORM and not self.uniform:
                self.uniform = self.latent
                return self._measure_code()
            drawn = self.zero.probe.drawn[self.latent[0]]
            single = torch.eye(1, drawn.numel()).to(drawn).reshape(drawn.shape)  # one number of the noise, the first
            moved = self.run(noise=0.0, draws={self.latent[0]: single}).code != zero
            self.mixed = drawn.numel() == zero.numel() and int(moved.sum()) > 1  # moves several numbers of z
        elif zero is not None and self.moves:
            codes = torch.stack([self.run(seed=seed).code for seed in range(REPEATS)])
            self.mean, self.sigma, self.linear = codes.mean(0), codes.std(0), True

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
        relaxed = [call.name for call in self.first.probe.calls if call.name == "gumbel_softmax"]
        drawn_by = (relaxed or [self._drawn_by])[0]
        code = self.zero.probe.at(self.code_site)
        if len(levels) > 1:
            return f"{len(levels)} random draws are decoded one after the other (several latent variables or samples)"
        if not self.exact and (any(call.name in CHOICES for call in self.first.probe.calls) or self._takes_steps()):
            return "no Gaussian code: a layer is given numbers that take steps; a quantiser is not examined"
        if not self.mu_is_reported and (instead_of_code := self._without_encoder(code)):
            return instead_of_code
        rows = code is None or code.shape[:1] == self.x.shape[:1]
        if not rows and self.reading.recon is not None:
            return "the code has no row for each example"
        inside = code is not None and code.dim() > 2 and code.shape[1] > 1
        if not rows or (inside and same(code, code[:, :1].expand_as(code))):
            return "several samples are drawn for each example"
        if drawn_by in (*NO_GAUSSIANS, "gumbel_softmax"):
            return f"no Gaussian code: z is made of draws by {drawn_by.strip('_')}"
        if self.mixed:
            return "no diagonal Gaussian: each number of the noise moves several of z (a full covariance, a flow)"
        centred = drawn_by not in UNIFORM and self.mu_is_reported and self.exact and same(self.mu, self.zero.code)
        if self.exact and not self.linear and not centred:
            return "no Gaussian code: z is not μ + σ·ε"
        return ""

    @property
    def _drawn_by(self) -> str:
        """The function that draws what z is made of; empty without one."""
        names = [call.name for call in self.first.probe.calls if call.name in DRAWS]
        return names[self.latent[0]] if self.latent else ""

    def _takes_steps(self) -> bool:
        """Whether a layer is given numbers that stay where a little nudge should move them: behind a quantiser."""
        calls = self.first.probe.calls
        k = next((k for k, call in enumerate(calls) if call.is_layer), None)
        if k is None:
            return False
        first = calls[k].results[0]
        nudge = NUDGE * first.detach().std() * normals(0)(first)
        puts = (first.detach() + nudge, first.detach().roll(1, 0))
        moved, far = (self.run(put={(k, 0): numbers}).probe.calls for numbers in puts)
        later = ([c.given for c in same] for same in zip(calls, moved, far, strict=False) if same[0].is_layer)
        for t, u, v in (one for given in islice(later, 64) for one in zip(*given, strict=False)):
            if t.is_floating_point() and t.dim() > 1 and t.shape == u.shape == v.shape and len(t) == len(self.x):
                weights = normals(1)(t)
                (slope,) = gradients(t, [first], weights)  # straight through, it promises a move
                expected = slope * nudge if slope.any() else 0.01 * NUDGE * weights * (v - t)
                stays = flat(weights * (u - t)).sum(1).abs() < 0.1 * flat(expected).sum(1).abs()
                if stays.float().mean() > 0.5:
                    return True
        return False

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


class Reach(NamedTuple):
    """The smallest and largest number that something takes, and the share that is exactly the smallest or largest."""

    low: float
    high: float
    cut: float

    @property
    def unit(self) -> bool:
        """Whether all lie in [0, 1], as a sigmoid's do."""
        return self.low >= -1e-6 and self.high <= 1 + 1e-6

    @property
    def one_sided(self) -> bool:
        """Whether all lie on one side of 0."""
        return self.low >= -1e-6 or self.high <= 1e-6

    def __str__(self) -> str:
        return f"[{self.low:.3g}, {self.high:.3g}]"


def reach_of(patient: Patient, site: Site | None = None) -> Reach | None:
    """The range of a result (of the reconstruction, without a site): what activations let through.

    The output of the last layer before it is replaced by small and by large numbers. None where there is none.
    """
    first = patient.first if site is None else patient.zero
    natural = first.recon if site is None else first.probe.at(site)
    last = len(first.probe.calls) if site is None else site[0] + 1
    layers = [k for k in reversed(range(last)) if first.probe.calls[k].is_layer]
    for k in layers[:4] if natural is not None else ():
        seen, cut = [natural.detach().flatten()], 0.0
        for size in (1.0, 30.0, 1000.0):
            numbers = size * normals(int(size))(first.probe.calls[k].results[0])
            try:
                run = patient.run(noise=None if site is None else 0.0, put={(k, 0): numbers})
            except ModelRaised:  # a distribution may refuse such numbers
                break
            values = run.recon if site is None else run.probe.at(site)
            if values is None or torch.equal(values, natural):
                break
            values = values.detach().flatten()
            cut = (values == values.min()).float().mean().item() if size == 1.0 else cut
            seen.append(values[values.isfinite()])
        if len(seen) > 1:
            every = torch.cat(seen)
            return Reach(every.min().item(), every.max().item(), cut)
    return None


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
    methods = [name for name in ("decode", "encode", "reparameterize", "loss") if callable(getattr(model, name, None))]
    if type(model).forward is not nn.Module.forward or not (methods[2:] or "loss" in methods):
        return model

    def forward(*inputs: Tensor) -> object:
        seen: dict[str, object] = {}

        def watched(name: str, method: Callable) -> Callable:
            return lambda *args, **kwargs: seen.setdefault(name, method(*args, **kwargs))

        if "loss" not in methods:
            code = model.encode(*inputs)
            return model.decode(model.reparameterize(*code), *inputs[1:]), code
        watch = {name: watched(name, getattr(model, name)) for name in methods if name in ("decode", "encode")}
        with patch.dict(model.__dict__, watch):
            loss = model.loss(*inputs)
        return [*(seen[name] for name in ("decode", "encode") if name in seen), loss]

    return forward


def _shapes(output: object) -> str:
    return ", ".join(str(tuple(leaf.value.shape)) for leaf in leaves(output)) or type(output).__name__


def flat(tensor: Tensor) -> Tensor:
    """(B, …) → (B, everything else); (B,) → (B, 1)."""
    return tensor.reshape(tensor.shape[0], -1) if tensor.dim() else tensor.reshape(1, 1)


def last_line(error: Exception) -> str:
    """The end of what an error says."""
    return "".join(str(error).splitlines()[-1:])[:160]


def short_traceback(error: BaseException, lines: int = 3) -> str:
    """The last frames of the user's own code, and the message."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(OTHERS)]
    where = [f"{Path(f.filename).name}, line {f.lineno}, in {f.name}: {f.line}" for f in frames[-lines:]]
    message = " ".join(str(error).split())
    message = message if len(message) <= 300 else message[:300] + "…"
    return "\n".join([*where, f"{type(error).__name__}: {message}"])
