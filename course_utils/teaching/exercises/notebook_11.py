"""The exercises of notebook 11, richer posteriors and priors."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._build import Build, fixed_noise, gradients_reach_all, has, per_example, same_numbers, shapes, trains
from ._exercise import Draw, Exercise
from .notebook_06 import VAE


def coupling_layer(z, net, back=False):
    """Return z' and log |det dz'/dz| of each example: one half of a code stretches and shifts the other.

    The first half z_a stays, and net(z_a) gives s and t, joined. The second becomes z_b' = z_b exp(s) + t.
    With back=True it is the way back: from such a z' to the z that it came from.

    z:      (B, L), L even
    net:    a function of z_a, (B, L/2) -> (B, L)
    result: a pair, (B, L) and the log-determinant (B,) of the way that was taken
    """
    z_a, z_b = z.chunk(2, dim=1)
    s, t = net(z_a).chunk(2, dim=1)
    moved = (z_b - t) * (-s).exp() if back else z_b * s.exp() + t
    log_det = -s.sum(dim=1) if back else s.sum(dim=1)
    return torch.cat([z_a, moved], dim=1), log_det


def sampled_rate(z_0, z_K, mu, log_var, log_det):
    """Return log q(z_K|x) - log p(z_K) of each example, in nats: the rate at one sample. p = N(0, I).

    z_0, z_K:    (B, L), the draw from N(mu, diag sigma^2), and where the flow has taken it
    mu, log_var: (B, L), log_var is log sigma^2
    log_det:     (B,), the sum of the layers' log |det|
    result:      (B,)
    """
    log_q0 = -0.5 * ((z_0 - mu) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi)).sum(dim=1)
    log_p = -0.5 * (z_K**2 + math.log(2 * math.pi)).sum(dim=1)
    return log_q0 - log_det - log_p


class FlowVAE(VAE):
    """Your VAE, with coupling layers after its Gaussian: self.flow, a network of z_a and x for each.

    After each layer flip(1) turns the order of the numbers round: so the other half moves next.
    """

    def __init__(self, latent_dim, hidden=400, layers=4):
        super().__init__(latent_dim, hidden)
        self.flow = nn.ModuleList(
            nn.Sequential(nn.Linear(latent_dim // 2 + 784, 50), nn.ReLU(), nn.Linear(50, latent_dim))
            for _ in range(layers)
        )

    def infer(self, x):  # (B, 784) -> z_K (B, L), the sampled rate (B,)
        mu, log_var = self.encode(x)
        z_0 = z = self.reparameterize(mu, log_var)
        log_det = torch.zeros_like(z[:, 0])
        for net in self.flow:
            z, more = coupling_layer(z, lambda z_a, net=net: net(torch.cat([z_a, x], dim=1)))
            z, log_det = z.flip(1), log_det + more
        return z, sampled_rate(z_0, z, mu, log_var, log_det)

    def terms(self, x):  # -> recon, kl: (B,) each, nats
        z, kl = self.infer(x)
        return F.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1), kl


def flow_prior(eps, z, nets):
    """Return samples of a flow prior, and its log-density in nats. Both use the same layers.

    From noise to code: for each net a coupling layer, and after it flip(1), as in FlowVAE.

    eps:    (B, L), noise from N(0, I), to make samples of
    z:      (B, L), codes at which the density is wanted
    nets:   one function of z_a for each layer, as in coupling_layer
    result: a pair, samples (B, L) and log p(z) (B,)
    """
    log_det = torch.zeros_like(z[:, 0])
    for net in nets:
        eps = coupling_layer(eps, net)[0].flip(1)
    for net in reversed(nets):
        z, more = coupling_layer(z.flip(1), net, back=True)
        log_det = log_det + more
    return eps, -0.5 * (z**2 + math.log(2 * math.pi)).sum(dim=1) + log_det


class MixturePrior(nn.Module):
    """p(z) = sum_k w_k N(z; mu_k, diag sigma_k^2), a mixture over whole codes.

    logits: (K,), w is their softmax; mu, log_var: (K, L), log_var is log sigma^2.
    """

    def __init__(self, logits, mu, log_var):
        super().__init__()
        self.logits, self.mu, self.log_var = nn.Parameter(logits), nn.Parameter(mu), nn.Parameter(log_var)

    def log_prob(self, z):  # (B, L) -> (B,), nats
        away = (z.unsqueeze(1) - self.mu) ** 2 / self.log_var.exp()  # (B, K, L)
        log_each = -0.5 * (away + self.log_var + math.log(2 * math.pi)).sum(dim=2)  # (B, K)
        return torch.logsumexp(self.logits.log_softmax(0) + log_each, dim=1)

    def sample(self, n):  # -> (n, L)
        which = torch.multinomial(self.logits.softmax(0), n, replacement=True)
        mu, log_var = self.mu[which], self.log_var[which]
        return mu + (0.5 * log_var).exp() * torch.randn_like(mu)


def planar_layer(z, u, w, b):
    """Return f(z) = z + u_hat tanh(w.z + b) and log |det df/dz| of each example.

    u_hat = u + (m(w.u) - w.u) w / |w|^2 with m(a) = -1 + log(1 + exp(a)): so w.u_hat > -1, and f has an inverse.

    z, u, w: (B, L)
    b:       (B,)
    result:  a pair, f(z) (B, L) and the log-determinant (B,)
    """
    wu = (w * u).sum(dim=1, keepdim=True)
    u_hat = u + (F.softplus(wu) - 1 - wu) * w / w.square().sum(dim=1, keepdim=True)
    h = torch.tanh((w * z).sum(dim=1, keepdim=True) + b.unsqueeze(1))
    slope = (1 - h**2) * (w * u_hat).sum(dim=1, keepdim=True)
    return z + u_hat * h, torch.log1p(slope).squeeze(1)


def discriminator_loss(t_q, t_p):
    """Return the cross-entropy of telling codes of q (label 1) from codes of the prior (label 0), by logits.

    t_q:    (B,), the discriminator's logits at codes drawn from q(z|x)
    t_p:    (B,), its logits at codes drawn from p(z), with the same x
    result: (B,), the sum of the two cross-entropies of each example, in nats
    """
    return F.softplus(-t_q) + F.softplus(t_p)


# What a VAE with a flow does, and a prior ----------------------------------------------------------------


def _shaken(build: Build, size: int = 4) -> FlowVAE:
    """A model whose layers do something, and not much more."""
    model = build.make(size, 50)
    words = "There are no networks self.flow. Layers of the flow need s and t for each x: where do they come from?"
    build.require(isinstance(getattr(model, "flow", None), nn.Module), "no self.flow", words)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def _rate_is_that_of_the_map(build: Build) -> None:
    """log q by autograd's Jacobian of noise → z, whatever the flow is; known slips have their own numbers."""
    model, x, draws = _shaken(build), build.images(4), []
    eps = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).to(x)

    def run(noise: Tensor) -> tuple[Tensor, Tensor]:
        model.reparameterize = lambda mu, log_var: (draws.append(1), mu + (0.5 * log_var).exp() * noise)[1]
        return build.run(model.infer, x, doing="in infer of 4 images")

    z, came = run(eps)
    words = f"infer should call self.reparameterize once; it called it {len(draws)} times. One z_0 goes through the "
    build.require(len(draws) == 1, "not one draw", f"{words}flow, and the rate is that of the same z_0.")
    jacobian = torch.autograd.functional.jacobian(lambda noise: run(noise)[0].sum(0), eps).permute(1, 0, 2)
    with torch.no_grad():
        mu, log_var = model.encode(x)
    z_0, log_det = mu + (0.5 * log_var).exp() * eps, jacobian.slogdet()[1] - 0.5 * log_var.sum(1)
    wanted = sampled_rate(z_0, z, mu, log_var, log_det)
    words = f"The rate of the first image should be {wanted[0]:.4f} nats at this draw; infer gives {came[0]:.4f}. "
    slips = {
        "the analytic KL kept": (
            0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1),
            "That is the KL of the Gaussian before the flow. What did the flow do to the density?",
        ),
        "sign of the log-determinant": (
            sampled_rate(z_0, z, mu, log_var, -log_det),
            "That is with + log_det. Where a layer stretches, does the density rise or fall?",
        ),
        "p at z_0": (
            sampled_rate(z_0, z_0, mu, log_var, log_det),
            "That is with the prior at z_0. Which z does the decoder get, and so which one is paid for?",
        ),
        "q at z_0": (
            sampled_rate(z_0, z, mu, log_var, 0 * log_det),
            "That is without any log-determinant: q at z_0, p at z_K, two different points.",
        ),
    }
    for name, (value, more) in slips.items():
        build.require(not torch.allclose(came, value, atol=1e-3) or torch.allclose(wanted, value, atol=1e-3),
                      name, words + more)  # fmt: skip
    more = "It is log q(z_K|x) − log p(z_K), where log q is that of the noise less the log-determinants of all layers."
    build.require(torch.allclose(came, wanted, atol=1e-3), "another rate", words + more)


def _every_number_moves(build: Build) -> None:
    """No number of z_0 comes out of all layers as it went in: the halves have changed places on the way."""
    model, x = _shaken(build), build.images(4)
    with fixed_noise(), torch.no_grad():
        mu, log_var = model.encode(x)
        z_0 = model.reparameterize(mu, log_var)
        z = build.run(model.infer, x, doing="in infer of 4 images")[0]
    same = torch.isclose(z_0[:, :, None], z[:, None], atol=1e-6).all(0)  # number of z_0, number of z_K
    still = [j for j, found in enumerate(same.any(1).tolist()) if found]
    words = f"Of the numbers 0 to 3 of z_0, {still} come out of four layers as they went in: they are never moved. "
    build.require(not still, "a half is never moved", f"{words}What comes after each layer?")


def _layers_do_something(build: Build) -> None:
    weights = {}
    for layers in (1, 4):
        _shaken(build)
        model, x = build.make(4, 50, layers), build.images(3)
        with fixed_noise(), torch.no_grad():
            before = build.run(model.infer, x, doing="in infer of 3 images")[0]
            for parameter in model.flow.parameters():
                parameter += 0.01
            after = model.infer(x)[0]
        words = f"With layers={layers}, other weights in self.flow leave z as it was. Do all images go through it?"
        build.require(not torch.isclose(before, after).all(1).any(), "the flow is not used", words)
        weights[layers] = sum(p.numel() for p in model.flow.parameters())
    words = f"self.flow has {weights[1]:,} weights with layers=1, and {weights[4]:,} with layers=4. "
    more = "Each layer has a network of its own: how many are made?"
    build.require(weights[4] >= 4 * weights[1], "one network for all layers", words + more)


def _decodes_what_it_prices(build: Build) -> None:
    model, x = _shaken(build), build.images(4)
    with fixed_noise(), torch.no_grad():
        recon, kl = build.run(model.terms, x, doing="in terms of 4 images")
        z, rate = model.infer(x)
    wanted = F.binary_cross_entropy_with_logits(model.decode(z), x, reduction="none").sum(1)
    words = f"recon of the first image is {recon[0]:.2f}; −log p(x|z_K), with the z of infer, is {wanted[0]:.2f}."
    build.require(torch.allclose(recon, wanted, rtol=1e-4), "the decoder gets another z", words)
    words = f"kl of the first image is {kl[0]:.3f}; the rate of infer is {rate[0]:.3f}."
    build.require(torch.allclose(kl, rate, atol=1e-3), "another rate in terms", words)


def _samples_stay(build: Build) -> None:
    model, seen = _shaken(build, 20), []
    decode = model.decode
    model.decode = lambda z: (seen.append(z), decode(z))[1]
    with torch.no_grad():
        build.run(model.sample, 2000, doing="in sample(2000)")
    z = torch.cat(seen)
    words = f"Codes in sample have mean {z.mean():.2f} and standard deviation {z.std():.2f}; the prior's are 0 and 1. "
    words += "The flow belongs to q(z|x), and the prior is still N(0, I)."
    build.require(abs(z.mean()) < 0.05 and abs(z.std() - 1) < 0.05, "no samples of the prior", words)


def _three(build: Build) -> nn.Module:
    """Three Gaussians of different weights and widths in two dimensions."""
    kind = dict(dtype=build.attempt.dtype, device=build.attempt.device)
    logits, mu = torch.tensor([1.0, 0.0, -1.0], **kind), torch.tensor([[2.0, 2.0], [-2.0, 1.0], [0.0, -3.0]], **kind)
    return build.make(logits, mu, torch.tensor([[-2.0, -1.0], [-3.0, -2.0], [-1.0, -4.0]], **kind))


def _mixture_cases(draw: Draw) -> list[tuple]:
    return [(draw(n, size), draw(k), draw(k, size), draw(k, size)) for n, k, size in ((1, 2, 2), (2, 3, 1), (5, 4, 3))]


def _mixture(z, logits, mu, log_var):
    return MixturePrior(logits, mu, log_var).log_prob(z)


def _per_dimension(z, logits, mu, log_var):
    each = -0.5 * ((z.unsqueeze(1) - mu) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi))
    return (each + logits.log_softmax(0)[:, None]).logsumexp(1).sum(1)


def _log_prob(build: Build) -> None:
    """As `same_numbers`, with a model for each case."""
    made = build.answer

    def call(model, z, logits, mu, log_var):
        return made(logits, mu, log_var).log_prob(z)

    mistakes = {
        "a mixture per dimension": (
            _per_dimension,
            "This is a product of L mixtures: each dimension chooses its own Gaussian. A code chooses one for all of "
            "its dimensions. Which sum comes first?",
        ),
        "logits for log-weights": (
            lambda z, logits, mu, log_var: _mixture(z, logits, mu, log_var) + logits.logsumexp(0),
            "The weights have to sum to 1; these are exp(logits). The density integrates to something else.",
        ),
        "mean of the logarithms": (
            lambda z, logits, mu, log_var: (
                logits.softmax(0)
                * -0.5 * ((z.unsqueeze(1) - mu) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi)).sum(2)
            ).sum(1),
            "This is the average of the log-densities. A mixture averages the densities, and the logarithm comes last.",
        ),
    }  # fmt: skip
    args = (torch.zeros(2), torch.zeros(2, 2), torch.zeros(2, 2))
    check = same_numbers(
        "log_prob(z)", call, _mixture, _mixture_cases, args=args, mistakes=mistakes,
        axes="z: (B, L); logits: (K); mu, log_var: (K, L)",
    )  # fmt: skip
    check(build)


def _sampler(build: Build) -> None:
    """The sampler against the density: one Gaussian for a whole code, its own width, the weights of the softmax."""
    model = _three(build)
    torch.manual_seed(0)
    with torch.no_grad():
        z = build.run(model.sample, 30_000, doing="in sample(30000)")
        words = f"sample(30000) should give (30000, 2) codes; it gives {tuple(z.shape)}."
        build.require(tuple(z.shape) == (30_000, 2), "shape of sample", words)
        near = torch.cdist(z, model.mu).argmin(1)
        stray = (torch.cdist(z, model.mu).amin(1) > 2.2).double().mean()
        shares, weights = torch.bincount(near, minlength=3) / len(z), model.logits.softmax(0)
        widths = torch.stack([z[near == k].std(0) for k in range(3) if (near == k).sum() > 1])
    words = f"{stray:.0%} of the samples lie far from all three Gaussians: with one for each dimension, a code mixes "
    words += "the first number of one Gaussian with the second of another."
    build.require(stray < 0.02, "another Gaussian for each dimension", words)
    words = f"The three Gaussians have weights {_list(weights)}; of the samples they get {_list(shares)}."
    build.require(torch.allclose(shares, weights.to(shares), atol=0.02), "other weights", words)
    wanted = (0.5 * model.log_var).exp()
    words = f"The first Gaussian has σ = {_list(wanted[0])}, and its samples spread by {_list(widths[0])}."
    narrow = torch.allclose(widths, model.log_var.exp(), rtol=0.1)
    build.require(not narrow, "exp(log_var) as σ", f"{words} exp(log_var) is σ², not σ.")
    build.require(torch.allclose(widths, wanted, rtol=0.1), "other widths", words)


def _list(values: Tensor) -> str:
    return " and ".join(f"{value:.2f}" for value in values.tolist())


def _learns(build: Build) -> None:
    """Maximum likelihood on codes moves every part."""
    model, names = _three(build), ("logits", "mu", "log_var")
    held = sum(p.numel() for p in model.parameters())
    plain = [name for name in names if not isinstance(getattr(model, name), nn.Parameter)]
    words = f"model.parameters() holds {held} of the 15 numbers. No nn.Parameter: {', '.join(plain)}. An optimizer is "
    build.require(held >= 15, "not a parameter", f"{words}given parameters alone, so the rest is never learned.")
    z = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)).to(build.attempt.device, build.attempt.dtype)
    total = build.run(model.log_prob, z, doing="in log_prob of 500 codes").mean()
    if total.requires_grad:
        total.backward()
    cold = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    words = f"log_prob gives no gradient to {', '.join(cold) or 'anything'}: it could not be learned with a VAE."
    build.require(not cold and any(True for _ in model.parameters()), "no gradient", words)


def _planar_cases(draw: Draw) -> list[tuple]:
    return [(draw(n, size), draw(n, size), draw(n, size), draw(n)) for n, size in ((1, 2), (2, 3), (5, 4), (3, 1))]


def _unconstrained(z, u, w, b):
    h = torch.tanh((w * z).sum(1, keepdim=True) + b[:, None])
    slope = 1 + (1 - h**2) * (w * u).sum(1, keepdim=True)
    return z + u * h, slope.abs().log().squeeze(1)


def _net(draw: Draw, size: int) -> nn.Linear:
    """s and t of a coupling layer of `size` numbers."""
    net = nn.Linear(size // 2, size)
    net.weight.data, net.bias.data = 0.5 * draw(size, size // 2), draw(size)
    return net


def _coupling_cases(draw: Draw) -> list[tuple]:
    return [(draw(n, size), _net(draw, size), back) for n, size in ((1, 2), (2, 4), (5, 6)) for back in (False, True)]


def _coupling_with(moved=None, log_det=lambda s, back: -s.sum(1) if back else s.sum(1)):
    """A coupling layer with other formulas for the second half and for the log-determinant."""

    def layer(z, net, back):
        z_a, z_b = z.chunk(2, 1)
        s, t = net(z_a).chunk(2, 1)
        new = moved(z_b, s, t, back) if moved else coupling_layer(z, net, back)[0].chunk(2, 1)[1]
        return torch.cat([z_a, new], 1), log_det(s, back)

    return layer


def _with_the_other_half(z, net, back):
    z_a, z_b = z.chunk(2, 1)
    s, t = net(z_b).chunk(2, 1)
    return torch.cat([z_a, (z_b - t) * (-s).exp() if back else z_b * s.exp() + t], 1), -s.sum(1) if back else s.sum(1)


def _flow_cases(draw: Draw) -> list[tuple]:
    return [
        (draw(n, size), draw(n, size), nn.ModuleList(_net(draw, size) for _ in range(layers)))
        for n, size, layers in ((1, 2, 1), (3, 2, 2), (5, 4, 3))
    ]


def _prior_with(samples=None, log_det=1.0, flips=True, turned=True, after=False):
    """A flow prior with other samples, a factor at the log-determinant, another order or no flips on the way back."""

    def prior(eps, z, nets):
        total = torch.zeros_like(z[:, 0])
        for net in reversed(nets) if turned else nets:
            z, more = coupling_layer(z.flip(1) if flips and not after else z, net, True)
            z, total = z.flip(1) if after else z, total + more
        right = flow_prior(eps, z, nets)[0]
        return (samples(eps) if samples else right), -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) + log_det * total

    return prior


def _rate_cases(draw: Draw) -> list[tuple]:
    return [(*(draw(n, size) for _ in range(4)), draw(n)) for n, size in ((1, 2), (2, 3), (5, 4))]


def _rate_with(p_at=1, sign=-1.0):
    """The rate with the prior at the argument of that place, and the log-determinant with that sign."""
    return lambda *case: sampled_rate(case[0], case[p_at], *case[2:4], -sign * case[4])


EXERCISES = (
    Exercise(
        number="11.1",
        title="One coupling layer",
        minutes=12,
        solution=coupling_layer,
        hints=(
            "z.chunk(2, 1) gives both halves. Which of the two may s and t depend on, so that the way back finds "
            "the same s and t?",
            "z_a is the same before and after. So the way back asks net the same question and solves z_b' = z_b "
            "exp(s) + t for z_b. The Jacobian is triangular, with 1 and exp(s) on its diagonal: the log of its "
            "determinant is a sum. On the way back it has the other sign.",
            "s, t = net(z_a).chunk(2, 1). Forwards: z_b * s.exp() + t and s.sum(1). Back: (z_b − t) * (−s).exp() and "
            "−s.sum(1). Return torch.cat([z_a, moved], 1) and the log-determinant.",
        ),
        cases=_coupling_cases,
        parts=("z'", "log_det"),
        gradients=("z",),
        passed="Both ways at the same price, and a log-determinant that is a sum.",
        mistakes={
            "the half that moves": (
                _with_the_other_half,
                "Here s and t come from z_b, the half that they change. Who goes back knows only z_b', and cannot ask "
                "net the same question.",
            ),
            "undone in the wrong order": (
                _coupling_with(lambda z_b, s, t, back: z_b * (-s).exp() - t if back else z_b * s.exp() + t),
                "Forwards is right. On the way back t was taken away after the stretch was undone. What was done last "
                "is undone first.",
            ),
            "log-det sign on the way back": (
                _coupling_with(log_det=lambda s, back: s.sum(1)),
                "The log-determinant of the way back is that of the way there. What stretches in one direction shrinks "
                "in the other.",
            ),
            "log-det sign": (
                _coupling_with(log_det=lambda s, back: s.sum(1) if back else -s.sum(1)),
                "The log-determinants have the other sign. Where exp(s) stretches, log |det| is positive.",
            ),
            "s and t exchanged": (
                lambda z, net, back: coupling_layer(z, lambda z_a: torch.cat(net(z_a).chunk(2, 1)[::-1], 1), back),
                "s and t stand in each other's place. net gives s first.",
            ),
            "back is ignored": (
                lambda z, net, back: coupling_layer(z, net, False),
                "With back=True the numbers are those of the way there.",
            ),
        },
    ),
    Exercise(
        number="11.2",
        title="The rate of one draw",
        minutes=8,
        solution=sampled_rate,
        hints=(
            "There is no formula for this KL. But its integrand can be computed at one sample: at which point, and "
            "with which two densities?",
            "log q(z_K|x) is the Gaussian's log-density at z_0, less the log-determinants: where space is stretched, "
            "the density falls. The prior is asked where the decoder is: at z_K.",
            "log_q0: −½ Σ ((z_0 − mu)²/exp(log_var) + log_var + log 2π). log_p: −½ Σ (z_K² + log 2π). Return log_q0 − "
            "log_det − log_p.",
        ),
        cases=_rate_cases,
        gradients=("z_0", "z_K", "mu", "log_var", "log_det"),
        passed="Both densities at the same point, z_K. Single draws may be negative; the mean is a KL.",
        mistakes={
            "log-det sign": (
                _rate_with(sign=1.0),
                "The log-determinant enters with +. A layer that stretches makes the density smaller: log q falls.",
            ),
            "p at z_0": (
                _rate_with(p_at=0),
                "The prior was asked at z_0. The decoder gets z_K, and it is z_K that has to be cheap under the prior.",
            ),
            "q at z_0": (
                lambda *case: sampled_rate(*case[:4], 0 * case[4]),
                "log q is taken at z_0 and log p at z_K: two different points. What does the flow do to the density?",
            ),
            "the analytic KL": (
                lambda z_0, z_K, mu, lv, log_det: 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1),
                "This is the KL of the Gaussian before the flow, notebook 04's. After the flow q is no Gaussian, and "
                "the formula prices another distribution.",
            ),
            "the analytic KL, less log_det": (
                lambda z_0, z_K, mu, lv, log_det: 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1) - log_det,
                "The first part is the KL of the Gaussian to the prior, so it asks the prior at z_0. The prior has to "
                "be asked at z_K.",
            ),
        },
    ),
    Exercise(
        number="11.3",
        title="Your VAE with a flow",
        minutes=20,
        solution=FlowVAE,
        hints=(
            "Encode, reparameterize, decode and loss are inherited. What has to be remembered while z walks through "
            "the layers?",
            "self.flow: an nn.ModuleList of networks from L/2 + 784 numbers to L. coupling_layer wants a function of "
            "z_a alone: a lambda can join x to it. Keep the first z, and add up what the layers say of the volume.",
            "infer: mu, log_var = self.encode(x); z_0 = z = self.reparameterize(mu, log_var); for net in self.flow: z, "
            "more = coupling_layer(z, lambda z_a: net(torch.cat([z_a, x], 1))), then z = z.flip(1) and log_det = "
            "log_det + more. Return z and sampled_rate(z_0, z, mu, log_var, log_det). terms: recon from "
            "self.decode(z), and that rate.",
        ),
        passed="The rate is that of the bent posterior; after {steps} steps −ELBO is {loss:.0f} nats.",
        checks=(
            has("encode", "reparameterize", "decode", "infer", "terms", "loss", "sample"),
            shapes("infer", [(7, 784)], (7, 20), (7,)),
            shapes("terms", [(7, 784)], (7,), (7,)),
            _layers_do_something,
            _rate_is_that_of_the_map,
            _every_number_moves,
            _decodes_what_it_prices,
            _samples_stay,
            per_example(),
            gradients_reach_all(),
            trains(below=200, above=60),
        ),
    ),
    Exercise(
        number="11.4",
        title="A flow as a prior",
        minutes=10,
        solution=flow_prior,
        hints=(
            "Samples go forwards, from noise to codes. A density goes backwards: from which noise did this code come, "
            "and how much was space stretched on the way?",
            "Forwards a layer and then a flip, for each net. Backwards all of it in the opposite order: the last net "
            "first, and before each layer the flip. log p(z) is that of the noise, plus the log-determinants of the "
            "way back.",
            "for net in nets: eps = coupling_layer(eps, net)[0].flip(1). for net in reversed(nets): z, more = "
            "coupling_layer(z.flip(1), net, back=True), and add more up. Return eps, and −½ Σ (z² + log 2π) with the z "
            "that is left, + that sum.",
        ),
        cases=_flow_cases,
        parts=("samples", "log p(z)"),
        gradients=("z",),
        passed="Noise forwards, codes backwards: a prior of any shape, with an exact density.",
        mistakes={
            "samples not passed through the flow": (
                _prior_with(samples=lambda eps: eps),
                "The samples are the noise itself. The decoder has learned with codes from behind the flow.",
            ),
            "log-det sign": (
                _prior_with(log_det=-1.0),
                "The log-determinant has the other sign. Where the flow stretches, a density becomes smaller.",
            ),
            "no log-determinant": (
                _prior_with(log_det=0.0),
                "The noise is right, but nothing says how much the flow stretches at z. Such a density integrates to "
                "something else than 1.",
            ),
            "density of the noise": (
                lambda eps, z, nets: (flow_prior(eps, z, nets)[0], -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)),
                "This is N(0, I) at z itself. Take z back through the flow first.",
            ),
            "layers in the same order": (
                _prior_with(turned=False),
                "On the way back the layers come in the same order as on the way there. What was done last is undone "
                "first.",
            ),
            "flip undone after the layer": (
                _prior_with(after=True),
                "The last thing done on the way there was the flip. What comes first on the way back?",
            ),
            "no flip on the way back": (
                _prior_with(flips=False),
                "The samples are flipped after each layer. The way back undoes every step, the flips too.",
            ),
        },
    ),
    Exercise(
        number="11.5",
        title="A mixture as a prior",
        minutes=15,
        solution=MixturePrior,
        hints=(
            "A code chooses one of K Gaussians, for all its dimensions. So what is summed first: dimensions or "
            "components? And in which of the two sums are there logarithms?",
            "log_prob: (B, K, L) squared distances; sum over L gives the log-density of each Gaussian, (B, K); add "
            "log w, and logsumexp over K. sample: draw which Gaussian, then z = mu + sigma · eps.",
            "z.unsqueeze(1) − self.mu is (B, K, L). self.logits.log_softmax(0) are the log-weights. "
            "torch.multinomial(self.logits.softmax(0), n, replacement=True) says which; sigma: (0.5 * log_var).exp().",
        ),
        passed="The density and the sampler tell of one distribution; every part of it can be learned.",
        checks=(_log_prob, _sampler, _learns),
    ),
    Exercise(
        number="11.6",
        title="One planar layer",
        minutes=10,
        solution=planar_layer,
        hints=(
            "Three numbers for each example come first: w·u, w·z + b, and |w|². Then u_hat. Which of them does the "
            "derivative of tanh need?",
            "The Jacobian is I + u_hat h' wᵀ, with h' = 1 − tanh²(w·z + b). The determinant of I plus such a product "
            "of two vectors is 1 + h' w·u_hat: one number, not a matrix.",
            "wu = (w * u).sum(1, keepdim=True); u_hat = u + (F.softplus(wu) − 1 − wu) * w / (w²).sum(1, keepdim=True); "
            "h = tanh((w * z).sum(1, keepdim=True) + b[:, None]). Return z + u_hat * h, and log(1 + (1 − h²) · (w · "
            "u_hat)), one number an example.",
        ),
        cases=_planar_cases,
        parts=("f(z)", "log_det"),
        gradients=("z", "u", "w", "b"),
        passed="An invertible bend, and its log-determinant for the price of a dot product.",
        mistakes={
            "unconstrained u": (
                _unconstrained,
                "These are the numbers with u itself. Where w·u < −1 such a layer folds the space: two z arrive at one "
                "place, and the formula for the density is no longer true. Use u_hat.",
            ),
            "log-det sign": (
                lambda *case: (planar_layer(*case)[0], -planar_layer(*case)[1]),
                "The log-determinant has the other sign: that of the way back. Forwards, what stretches is positive.",
            ),
            "no log": (
                lambda *case: (planar_layer(*case)[0], planar_layer(*case)[1].exp()),
                "This is the determinant. Layers follow each other, so logarithms are added: return the logarithm.",
            ),
        },
    ),
    Exercise(
        number="11.7",
        title="The discriminator's loss",
        minutes=6,
        solution=discriminator_loss,
        hints=(
            "A classifier with two classes, like the coin of notebook 05: −log of the probability that it gives to the "
            "right label. Which label has a code of q?",
            "−log σ(t) is softplus(−t), and −log(1 − σ(t)) is softplus(t). Written so, they overflow nowhere.",
            "F.softplus(−t_q) + F.softplus(t_p).",
        ),
        cases=lambda draw: [(draw(1), draw(1)), (draw(5), draw(5)), (200 * draw(3), 200 * draw(3))],
        gradients=("t_q", "t_p"),
        passed="At its optimum the logit is log q(z|x) − log p(z), and its mean over q is the rate.",
        mistakes={
            "the other direction": (
                lambda t_q, t_p: F.softplus(t_q) + F.softplus(-t_p),
                "Here codes of the prior have label 1. At the optimum the logit is then log p − log q: the rate with a "
                "minus, and the encoder would be paid for being far from the prior.",
            ),
            "the encoder's side": (
                lambda t_q, t_p: F.softplus(-t_q) - F.softplus(t_p),
                "One of the two terms is rewarded and the other punished. A classifier wants both right.",
            ),
        },
    ),
)
