"""The exercises of notebook 16, VAE, GAN and diffusion."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._attempt import NotYet
from ._build import Build, gradients_reach_all, has
from ._exercise import Exercise


def generator_loss(fake_logits):
    """Return the non-saturating loss of the generator: the mean of -log D(generated image).

    fake_logits: (N,), of generated images; D(x) = sigmoid(logit) is the probability of "real"
    result:      one number
    """
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits, fake_logits):
    """Return the mean of -log D(real image) plus the mean of -log(1 - D(generated image)).

    real_logits: (M,), of images of the data; D(x) = sigmoid(logit) is the probability of "real"
    fake_logits: (N,), of generated images
    result:      one number
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def path_and_velocity(noise, data, t):
    """Return where the straight path from noise (t = 0) to data (t = 1) is at time t, and its velocity.

    noise, data: (B, L)
    t:           (B,), a time for each example
    result:      two tensors (B, L), x_t and the velocity dx_t/dt
    """
    t = t[:, None]
    return (1 - t) * noise + t * data, data - noise


def euler(velocity, x, steps):
    """Return where x arrives at t = 1, from t = 0, in equal steps along the velocity at the start of each.

    velocity: a function of x (B, L) and t (B,) that returns (B, L)
    x:        (B, L), noise
    steps:    a whole number
    result:   (B, L)
    """
    for i in range(steps):
        t = torch.full_like(x[:, 0], i / steps)
        x = x + velocity(x, t) / steps
    return x


def guide(conditional, unconditional, weight):
    """Return the velocity with guidance: weight 0 is no guidance, more moves away from "any class".

    conditional, unconditional: (B, L), the velocity given the class, and given none
    weight: a number
    result: (B, L)
    """
    return (1 + weight) * conditional - weight * unconditional


class CodeFlow(nn.Module):
    """Flow matching for codes, given a class y from 0 to 9; y = 10 says "any class".

    It knows the codes' mean and standard deviation in each dimension, and works on scaled codes.
    """

    def __init__(self, codes, hidden=256):  # codes (N, L), of the training images
        super().__init__()
        self.register_buffer("mean", codes.mean(0))
        self.register_buffer("std", codes.std(0))
        size = codes.shape[1]
        self.network = nn.Sequential(
            nn.Linear(size + 1 + 11, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, size),
        )  # fmt: skip

    def scale(self, z):  # codes (B, L) -> mean 0 and variance 1 in each dimension
        return (z - self.mean) / self.std

    def unscale(self, s):  # scaled codes (B, L) -> codes
        return self.mean + self.std * s

    def velocity(self, x, t, y):  # x (B, L), scaled; t (B,); y (B,), 0 to 10 -> (B, L)
        return self.network(torch.cat([x, t[:, None], F.one_hot(y, 11).to(x)], dim=1))

    def loss(self, z, y):  # codes, classes -> (B,); 1 class in 10 dropped
        s = self.scale(z)
        t = torch.rand(len(s), dtype=s.dtype, device=s.device)
        x, target = path_and_velocity(torch.randn_like(s), s, t)
        y = torch.where(torch.rand(len(s), device=s.device) < 0.1, 10, y)
        return (self.velocity(x, t, y) - target).square().sum(1)

    @torch.no_grad()
    def follow(self, other, decay=0.99):  # decay * own + (1 - decay) * theirs
        for own, theirs in zip(self.parameters(), other.parameters(), strict=True):
            own.mul_(decay).add_((1 - decay) * theirs)

    @torch.no_grad()
    def sample(self, y, weight=0.0, steps=20):  # (n,) -> codes (n, L), unscaled
        def velocity(x, t):
            return guide(self.velocity(x, t, y), self.velocity(x, t, torch.full_like(y, 10)), weight)

        noise = torch.randn(len(y), len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        return self.unscale(euler(velocity, noise, steps))


# Wrong answers with words of their own --------------------------------------------------------------------


@dataclass(frozen=True)
class _Field:
    """A velocity a·x + b·t + c, that wants a time for each example."""

    a: float
    b: float
    c: float

    def __call__(self, x, t):
        if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
            came = f"shape {tuple(t.shape)}" if isinstance(t, Tensor) else f"a {type(t).__name__}"
            words = f"velocity(x, t) wants a time for each example, shape {tuple(x.shape[:1])}; came {came}."
            raise NotYet("no time for each example", words)
        return self.a * x + self.b * t[:, None] + self.c

    def __repr__(self):
        return f"{self.a:g}·x + {self.b:g}·t + {self.c:g}"


def _walk(times, dt):
    """An Euler sampler with these times of steps, and this length of one."""

    def euler(velocity, x, steps):
        for i in times(steps):
            x = x + dt(steps) * velocity(x, torch.full_like(x[:, 0], i))
        return x

    return euler


def _starts(n):
    return [i / n for i in range(n)]


def _linspace(n):
    return torch.linspace(0, 1, n).tolist()


def _shifted(conditional, unconditional, weight):
    return unconditional + weight * (conditional - unconditional)


# What a flow of codes does --------------------------------------------------------------------------------

NONE = 10  # the class that stands for any class


def _toy(n: int = 2000) -> tuple[Tensor, Tensor]:
    """Codes (n, 3) of ten classes on a circle, far from mean 0 and variance 1, and their classes."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 10
    angle = 0.2 * torch.pi * y
    z = torch.stack([angle.cos(), angle.sin(), 0.3 * (y % 2)], 1) + 0.1 * torch.randn(n, 3, generator=generator)
    return z * torch.tensor([8.0, 2.0, 0.5]) + torch.tensor([5.0, -3.0, 1.0]), y


_CODES, _CLASSES = _toy()


def _on(build: Build) -> tuple[Tensor, Tensor]:
    """Codes and classes in the type and on the device of this attempt."""
    return _CODES.to(build.attempt.device, build.attempt.dtype), _CLASSES.to(build.attempt.device)


def _made(build: Build) -> tuple[Any, Tensor, Tensor]:
    z, y = _on(build)
    return build.make(z), z, y


def _scales(build: Build) -> None:
    model, z, _ = _made(build)
    with torch.no_grad():
        s = build.run(model.scale, z, doing="in scale of 2,000 codes")
        build.require(s.shape == z.shape, "shape of scale", f"scale of {tuple(z.shape)} gives {tuple(s.shape)}.")
        words = (
            "scale gives back the codes as they were. The path begins at noise of variance 1: codes should be alike."
        )
        build.require(not torch.allclose(s, z), "codes not scaled", words)
        mean, std = ([round(v, 3) for v in values.tolist()] for values in (s.mean(0), s.std(0)))
        words = f"Scaled codes have the means {mean} and standard deviations {std} in the dimensions; wanted: 0 and 1."
        fine = torch.allclose(s.mean(0), 0 * s[0], atol=0.02) and torch.allclose(s.std(0), 0 * s[0] + 1, atol=0.02)
        build.require(fine, "another scale", words)
        back = build.run(model.unscale, s, doing="in unscale of 2,000 codes")
        words = f"unscale(scale(z)) should be z; it is off by up to {(back - z).abs().max():.3g}."
        build.require(torch.allclose(back, z, rtol=1e-3, atol=1e-3), "scaling not undone", words)


def _sees(build: Build) -> None:
    """The network's output depends on x, t and y."""
    model, z, y = _made(build)
    x, t = torch.randn(8, 3).to(z), torch.full((8,), 0.3).to(z)
    with torch.no_grad():
        came = build.run(model.velocity, x, t, y[:8], doing="in velocity of 8 codes")
        build.require(came.shape == x.shape, "shape of velocity", f"velocity gives {tuple(came.shape)}, not (8, 3).")
        for name, other, words in (
            ("time not embedded", (x, t + 0.5, y[:8]), "at another time t. Noise and data need other ones"),
            ("class not embedded", (x, t, (y[:8] + 1) % 10), "for another class y"),
            ("x not seen", (x + 1, t, y[:8]), "for another x"),
        ):  # fmt: skip
            moved = (build.run(model.velocity, *other, doing="in velocity of 8 codes") - came).abs().amax(1)
            build.require((moved > 1e-6).sum() > 5, name, f"The velocity stays as it is {words}.")
        given = (
            x[:1].expand(11, 3),
            t[:1].expand(11),
            torch.arange(11, device=y.device),
        )  # one code, all classes, and none
        each = build.run(model.velocity, *given, doing="in velocity of 11 classes")
        words = f"For y = {NONE}, any class, the velocity is that of one of the classes: it needs a place of its own."
        build.require(((each[:NONE] - each[NONE]).abs().amax(1) > 1e-6).all(), "no place for any class", words)


class _Watched:
    """Stands in for `velocity`: notes what it is asked for, and answers with one number everywhere."""

    def __init__(self, value: float = 0.0) -> None:
        self.value, self.calls = value, []

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.calls.append((x.detach(), t, y))
        return torch.full_like(x, self.value)


def _regresses(build: Build) -> None:
    """The loss is the squared error of the velocity on the path of scaled codes, of which what was asked tells."""
    model, z, y = _made(build)
    model.velocity = watched = _Watched(0.5)
    s = torch.tensor([40.0, 60.0, 80.0]).to(z).expand_as(z)  # far out: the path tells the time
    z = z.mean(0) + z.std(0) * s
    with torch.no_grad():
        given = y.clone()
        loss = build.run(model.loss, z, given, doing="in loss of 2,000 codes")
    words = "The loss wrote into the classes that it was given: they stay dropped for ever. Work on others."
    build.require(torch.equal(given, y), "changes its input", words)
    words = "With another method velocity, the loss stays the same. It should ask self.velocity(x, t, y), once."
    build.require(len(watched.calls) == 1, "loss without self.velocity", words)
    (x, t, asked), n = watched.calls[0], len(z)
    words = f"The loss of {n} codes should be {n} numbers, shape ({n},); it has shape {tuple(loss.shape)}."
    build.require(loss.shape == (n,), "not one loss for each code", words)
    words = f"velocity was given times of shape {tuple(t.shape)}; each code needs its own, shape ({n},)."
    build.require(t.shape == (n,), "times", words)
    words = f"Times lie between {t.min():.3g} and {t.max():.3g}; they should be spread evenly over 0 to 1."
    build.require(t.min() >= 0 and t.max() <= 1 and t.std() > 0.2, "times", words)
    left = {"": x - t[:, None] * s, "noise and data exchanged": x - (1 - t[:, None]) * s,
            "codes not scaled": x - t[:, None] * z, "noise alone": x}  # fmt: skip
    what = min(left, key=lambda name: left[name].abs().mean())
    said = {
        "noise and data exchanged": "x_t lies at the code for t = 0 and at the noise for t = 1: the other way round.",
        "codes not scaled": "The path leads to the codes as they came. Should the loss not scale them first?",
        "noise alone": "x_t knows nothing of the codes.",
    }
    build.require(not what, what, said.get(what, ""))
    noise = left[""] / (1 - t[:, None])  # where t is near 1, of rounding
    keep = t < 0.9
    rows = noise[keep]
    words = (
        f"What is left of x_t when t·data is taken away has the mean {rows.mean():.2f} and deviation {rows.std():.2f} "
    )
    words += "in units of 1 − t: it should be noise of 0 and 1, new for each number."
    fine = (
        rows.mean().abs() < 0.1 and abs(rows.std() - 1) < 0.1 and rows.std(0).min() > 0.8 and rows.std(1).mean() > 0.5
    )
    build.require(fine, "another path", words)
    target = s - noise
    ways = {
        "": (0.5 - target).square().sum(1),
        "the sign of the velocity": (0.5 + target).square().sum(1),
        "mean for sum": (0.5 - target).square().mean(1),
        "the error to the data": (0.5 - s).square().sum(1),
        "the error to the noise": (0.5 - noise).square().sum(1),
        "the distance, not its square": (0.5 - target).square().sum(1).sqrt(),
        "times ½": 0.5 * (0.5 - target).square().sum(1),
    }
    off = {name: ((loss - way).abs() / way.abs().clamp_min(1.0))[keep].mean() for name, way in ways.items()}
    what = min(off, key=off.get)
    said = {
        "the sign of the velocity": "The loss compares with noise − data. Along the path, x_t moves towards the data.",
        "mean for sum": "The squared error is averaged over dimensions. The course sums them.",
        "the error to the data": "The output is compared with the code itself. Is it a place or a velocity?",
        "the error to the noise": "The output is compared with the noise, as in DDPM. Here it is a velocity.",
        "the distance, not its square": "This is the length of the error. Whose mean does the squared one find?",
        "times ½": "The loss is one half of the squared error.",
    }
    words = f"For the first code the squared error is {ways[''][0]:.4g}; the loss is {loss[0]:.4g}."
    build.require(off[what] < 0.02, "another loss", words)
    build.require(not what, what, f"{said.get(what, '')} {words}")
    dropped = (asked == NONE).double().mean().item()
    words = f"{dropped:.0%} of the classes were replaced by {NONE}, any class; about 10 % should be."
    build.require(0.05 < dropped < 0.2, "classes not dropped", words)
    kept = asked != NONE
    build.require((asked[kept] == y[kept]).all(), "other classes", "Classes that are kept have changed.")


def _follows(build: Build) -> None:
    """The moving average of weights."""
    average, other = (build.make(_on(build)[0], seed=seed) for seed in (0, 1))
    before, theirs = ([p.detach().clone() for p in model.parameters()] for model in (average, other))
    build.run(average.follow, other, doing="in follow", decay=0.9)
    now = list(average.parameters())

    def is_mixed(weight: float) -> bool:
        mixed = (weight * a + (1 - weight) * b for a, b in zip(before, theirs, strict=True))
        return all(torch.allclose(p, m, rtol=1e-3, atol=1e-6) for p, m in zip(now, mixed, strict=True))

    same = all(torch.equal(p, t) for p, t in zip(other.parameters(), theirs, strict=True))
    build.require(same, "changes the other", "follow changed the weights of the model that it follows.")
    words = "After follow the weights are those of the training, as they are now. Samples should come from the average."
    build.require(not is_mixed(0.0), "training-time weights", words)
    build.require(not is_mixed(1.0), "does not follow", "follow leaves the weights as they are.")
    words = "Of the own weights 1 − decay is kept, and decay of the other's: they are exchanged. The average is slow."
    build.require(not is_mixed(0.1), "decay exchanged", words)
    words = "With decay 0.9, each weight should be 0.9 of its own value plus 0.1 of the other's. These are others."
    build.require(is_mixed(0.9), "another average", words)


class _Pull:
    """A velocity that is known: it depends on x, on the time, and on the class; it notes where it was asked."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.calls.append((x, t, y))
        return self.at(x, t, y)

    @staticmethod
    def at(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return 0.3 * x + (1 + t.to(x) ** 2)[:, None] * (0.1 * y.to(x)[:, None] + 0.2)


_WAYS = (  # how a sample may come about: its name, how velocities are mixed, the sampler, and what is done at the end
    ("", guide, euler, "unscale"),
    ("scaling not undone", guide, euler, ""),
    ("scaled once more", guide, euler, "scale"),
    ("guidance without weight 0", _shifted, euler, "unscale"),
    ("guidance weights exchanged", lambda c, u, w: (1 + w) * u - w * c, euler, "unscale"),
    ("the class is not asked for", lambda c, u, w: u, euler, "unscale"),
    ("weight without effect", lambda c, u, w: c, euler, "unscale"),
    ("time reversed", guide, _walk(lambda n: [1 - i / n for i in range(n)], lambda n: 1 / n), "unscale"),
    ("time reversed", guide, _walk(lambda n: _starts(n)[::-1], lambda n: 1 / n), "unscale"),
    ("dt", guide, _walk(_starts, lambda n: 1.0), "unscale"),
    ("last step left out", guide, _walk(lambda n: _starts(n)[:-1], lambda n: 1 / n), "unscale"),
    ("first step left out", guide, _walk(lambda n: _starts(n)[1:], lambda n: 1 / n), "unscale"),
)
_SAID = {
    "scaling not undone": "These are scaled codes. The decoder knows the codes as the encoder made them.",
    "scaled once more": "Codes were scaled at the end. The other direction leads back to the encoder's.",
    "guidance without weight 0": "With weight 0 these are samples of any class. It should be no guidance.",
    "guidance weights exchanged": "The two velocities are exchanged: a weight moves away from the class.",
    "the class is not asked for": "These are samples of any class, whatever y is.",
    "weight without effect": "The weight changes nothing.",
    "time reversed": "The times run from 1 down. Where is the noise, at t = 0 or at t = 1?",
    "dt": "Each step has the length 1. How long is one of 4 equal steps from 0 to 1?",
    "last step left out": "The last step is missing: it ends before t = 1.",
    "first step left out": "The first step is missing: it begins after t = 0.",
}


def _samples(build: Build) -> None:
    """From noise, along the guided velocity, to codes that are not scaled any more."""
    model, _, y = _made(build)
    y, seen = y[:500], {}
    for weight in (0.0, 2.0):
        model.velocity = pull = _Pull()
        with torch.no_grad():
            came = build.run(model.sample, y, doing="in sample of 500 classes", weight=weight, steps=4)
        words = f"sample of 500 classes should give (500, 3); it gives {tuple(came.shape)}."
        build.require(came.shape == (500, 3), "shape of sample", words)
        build.require(pull.calls, "sample without self.velocity", "sample never asks self.velocity.")
        start = pull.calls[0][0]
        words = f"It begins with numbers of mean {start.mean():.2f} and deviation {start.std():.2f}: noise has 0 and 1."
        build.require(start.mean().abs() < 0.15 and abs(start.std() - 1) < 0.1, "no noise to start from", words)
        seen[weight] = came, start

    def arrives(mix: Any, sampler: Any, end: str, weight: float) -> Tensor:
        none = torch.full_like(y, NONE)
        s = sampler(lambda x, t: mix(_Pull.at(x, t, y), _Pull.at(x, t, none), weight), seen[weight][1], 4)
        return getattr(model, end)(s) if end else s

    with torch.no_grad():
        fits = [
            name
            for name, *how in _WAYS
            if all(torch.allclose(seen[w][0], arrives(*how, w), rtol=1e-3, atol=1e-3) for w in seen)
        ]
        wanted = {w: arrives(*_WAYS[0][1:], w)[0] for w in seen}
    off = next((w for w in seen if not torch.allclose(seen[w][0][0], wanted[w], rtol=1e-3, atol=1e-3)), 0.0)
    words = (
        f"With a velocity that is known, weight {off:g} and 4 steps, the first code should be {_short(wanted[off])}; "
    )
    words += f"it is {_short(seen[off][0][0])}."
    build.require(fits, "another sample", words)
    build.require(fits[0] == "", fits[0], f"{_SAID.get(fits[0], '')} {words}")


def _short(row: Tensor) -> list[float]:
    return [round(value, 3) for value in row.tolist()]


def _learns(build: Build) -> None:
    """Trained for a few seconds, with an average that follows, it draws codes like those of each class."""
    model, z, y = _made(build)
    kept = any(
        v.numel() == 3 and torch.allclose(v.flatten(), z.mean(0), atol=1e-2) for v in model.state_dict().values()
    )
    words = (
        " One thing: the codes' mean is in no buffer, so saving the weights and .to() leave it behind: register_buffer."
    )
    build.found["left_behind"] = "" if kept else words
    average, generator = build.make(z), torch.Generator().manual_seed(0)
    optimizer, losses, steps = torch.optim.Adam(model.parameters(), lr=3e-3), [], 500
    torch.manual_seed(0)
    for step in range(steps):
        rows = torch.randint(len(z), (256,), generator=generator).to(z.device)
        mean = build.run(model.loss, z[rows], y[rows], doing=f"in loss at step {step + 1} of the training").mean()
        words = f"At step {step + 1} of the training the loss is {mean.item()}: something overflows."
        build.require(mean.isfinite(), "not finite", words)
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        losses.append(mean.detach())
        build.run(average.follow, model, doing="in follow", decay=0.98 if step else 0.0)
    found = float(torch.stack(losses[-50:]).mean())
    seen = f"After {steps} steps of Adam the loss is {found:.2f}"
    build.require(found < 2.8, "does not learn", f"{seen}; a healthy one is below 2.8.")
    asked = torch.arange(10, device=z.device).repeat_interleave(50)
    with torch.no_grad():
        drawn = build.run(average.sample, asked, doing="in sample of 500 classes")
    means = [torch.stack([codes[labels == k].mean(0) for k in range(10)]) for codes, labels in ((drawn, asked), (z, y))]
    away = float(((means[0] - means[1]) / z.std(0)).norm(dim=1).mean())
    build.found |= {"loss": found, "steps": steps, "away": away}
    words = f"The mean sample of a class lies {away:.2f} standard deviations from the mean code of that class; a "
    build.require(away < 0.5, "samples elsewhere", f"{words}healthy one below 0.5.")


EXERCISES = (
    Exercise(
        number="16.1",
        title="What the generator wants",
        minutes=5,
        solution=generator_loss,
        hints=(
            'The generator wants D to say "real" of its images. Which probability should be large?',
            "−log of a sigmoid, computed from the logit without taking the sigmoid: softplus of minus the logit.",
            "F.softplus(-logits), and the mean over the images.",
        ),
        cases=lambda draw: [*[(2 * draw(n),) for n in (3, 1, 5)], (torch.tensor([-1000.0, 1.0]),)],
        gradients=("fake_logits",),
        passed="Where D is sure that an image is generated, the gradient is largest: it does not saturate.",
        mistakes={
            "minimax": (
                lambda fake_logits: -F.softplus(fake_logits).mean(),
                "This is log(1 − D), the generator's part of the minimax game. It has the same aim; but where D is "
                "sure of itself, as at the beginning, its gradient is nearly 0. Which loss is steep there?",
            ),
            "the sigmoid first": (
                lambda fake_logits: -fake_logits.sigmoid().log().mean(),
                "Right, until D is very sure: at a logit of −1000 the sigmoid is 0 in floating point, and its "
                "logarithm is −inf. softplus of minus the logit is the same number, and never infinite.",
            ),
            "the discriminator's aim": (
                lambda fake_logits: F.softplus(fake_logits).mean(),
                'This is −log(1 − D): it falls when D says "generated". That is what the discriminator wants.',
            ),
            "the other sign": (
                lambda fake_logits: -F.softplus(-fake_logits).mean(),
                "This is log D. Minimised, it makes D sure that the generator's images are not real.",
            ),
            "no logarithm": (
                lambda fake_logits: -fake_logits.mean(),
                "This is minus the mean logit, as in a Wasserstein GAN. Asked for is −log of the probability.",
            ),
        },
    ),
    Exercise(
        number="16.2",
        title="What the discriminator wants",
        minutes=6,
        solution=discriminator_loss,
        hints=(
            'Two cross-entropies: one of images whose answer is "real", one of those whose answer is "generated".',
            "−log D is softplus of minus the logit. And −log(1 − D), since 1 − sigmoid(a) = sigmoid(−a)?",
            "The mean of softplus(−real logits) plus the mean of softplus(generated logits).",
        ),
        cases=lambda draw: [(2 * draw(m), 2 * draw(n)) for m, n in ((3, 2), (1, 4), (5, 5))],
        gradients=("real_logits", "fake_logits"),
        passed="At its minimum D is p(x) / (p(x) + p_G(x)); if no D can tell them apart, the loss is 2 log 2.",
        mistakes={
            "real and generated exchanged": (
                lambda real_logits, fake_logits: F.softplus(real_logits).mean() + F.softplus(-fake_logits).mean(),
                "D is asked to call the data generated and the generated images real. Which of them is label 1?",
            ),
            "all called real": (
                lambda real_logits, fake_logits: F.softplus(-real_logits).mean() + F.softplus(-fake_logits).mean(),
                "Both parts fall when the logits rise: D learns to call everything real. What should it say of "
                "generated images?",
            ),
            "the value, to be maximised": (
                lambda real_logits, fake_logits: -F.softplus(-real_logits).mean() - F.softplus(fake_logits).mean(),
                "This is the value of the game, which D maximises. A loss is minimised.",
            ),
            "one mean over both": (
                lambda real_logits, fake_logits: torch.cat([F.softplus(-real_logits), F.softplus(fake_logits)]).mean(),
                "One mean was taken over real and generated images together. Each kind has a mean of its own here, and "
                "the two are added: else the numbers of images decide how the kinds count.",
            ),
        },
    ),
    Exercise(
        number="16.3",
        title="A path and its velocity",
        minutes=6,
        solution=path_and_velocity,
        hints=(
            "A straight line between two points: how much of the noise, and how much of the data, at time t?",
            "x_t is (1 − t) of the noise plus t of the data. Its derivative with respect to t does not depend on t.",
            "t has shape (B,) and must become (B, 1) first: t[:, None].",
        ),
        cases=lambda draw: [(draw(b, n), draw(b, n), draw.uniform(b)) for b, n in ((2, 1), (3, 2), (1, 4), (2, 5))],
        gradients=("noise", "data"),
        parts=("x_t", "velocity"),
        passed="A network that sees x_t and t learns the mean of this velocity over all lines through x_t.",
        mistakes={
            "the sign of the velocity": (
                lambda noise, data, t: ((1 - t[:, None]) * noise + t[:, None] * data, noise - data),
                "x_t is right; the velocity points back to the noise. The sampler would walk away from the data.",
            ),
            "noise and data exchanged": (
                lambda noise, data, t: ((1 - t[:, None]) * data + t[:, None] * noise, noise - data),
                "This is the path from data at t = 0 to noise at t = 1. It is a convention too; here noise is at "
                "t = 0, and the sampler of the next exercise begins there.",
            ),
            "time reversed": (
                lambda noise, data, t: ((1 - t[:, None]) * data + t[:, None] * noise, data - noise),
                "x_t begins at the data, and the velocity points to the data: they do not belong to one path. Where is "
                "x_t at t = 0?",
            ),
            "the velocity from x_t": (
                lambda noise, data, t: (
                    (1 - t[:, None]) * noise + t[:, None] * data,
                    data - (1 - t[:, None]) * noise - t[:, None] * data,
                ),
                "data − x_t is the way that is left, shorter and shorter as t grows. What is the derivative of x_t?",
            ),
        },
    ),
    Exercise(
        number="16.4",
        title="From noise to data in steps",
        minutes=8,
        solution=euler,
        hints=(
            "At which time does the first step begin, and at which the last? They are not 0 and 1.",
            "n equal steps of 1/n: step i, from 0 to n − 1, begins at t = i/n, and adds velocity(x, t)/n to x.",
            "The velocity wants a time for each example: torch.full((len(x),), i / steps), of the type of x.",
        ),
        cases=lambda draw: [
            (_Field(0.5, 2.0, -1.0), draw(2, 1), 2),
            (_Field(-0.3, 1.0, 0.4), draw(1, 3), 3),
            (_Field(1.2, -0.7, 0.2), draw(3, 2), 5),
            (_Field(0.4, 0.9, 0.3), draw(2, 4), 1),
        ],
        passed="Twice the steps, half the error: the order of Euler's method is one.",
        mistakes={
            "dt": (
                _walk(_starts, lambda n: 1.0),
                "Each step has the length 1. How long is one of n equal steps between 0 and 1?",
            ),
            "times at the ends": (
                _walk(lambda n: [(i + 1) / n for i in range(n)], lambda n: 1 / n),
                "The velocity is asked for at the end of each step: 1/n first, 1 last. But x is at its start.",
            ),
            "times from 0 to 1": (
                _walk(_linspace, lambda n: 1 / n),
                "The times are n numbers from 0 to 1, both included, as linspace gives them. The last step "
                "must begin before 1.",
            ),
            "one step too many": (
                _walk(lambda n: [i / n for i in range(n + 1)], lambda n: 1 / n),
                "A step is taken at t = 1 too, n + 1 in all: x goes on past the data.",
            ),
            "last step left out": (
                _walk(lambda n: _starts(n)[:-1], lambda n: 1 / n),
                "The last step is missing: x arrives at 1 − 1/n, with noise left in it.",
            ),
            "first step left out": (
                _walk(lambda n: _starts(n)[1:], lambda n: 1 / n),
                "The first step, from t = 0, is missing.",
            ),
            "time reversed": (
                _walk(lambda n: [1 - i / n for i in range(n)], lambda n: 1 / n),
                "The times run from 1 down. Noise is at t = 0.",
            ),
            "back to the noise": (
                _walk(lambda n: [1 - i / n for i in range(n)], lambda n: -1 / n),
                "This walks from t = 1 to t = 0 against the velocity: from data back to noise.",
            ),
            "steps for times": (
                _walk(range, lambda n: 1 / n),
                "The velocity is given the number of the step, 0, 1, 2, …, for the time. Times lie between 0 and 1.",
            ),
            "the velocity at the start": (
                lambda velocity, x, steps: x + velocity(x, torch.zeros_like(x[:, 0])),
                "The velocity is asked for once, at t = 0, and followed all the way. It changes on the way.",
            ),
        },
    ),
    Exercise(
        number="16.5",
        title="Guidance",
        minutes=5,
        solution=guide,
        hints=(
            "Begin at the conditional velocity. In which direction does the class pull, compared with any class?",
            "Conditional − unconditional is what the class adds. With weight w it is added w times more.",
            "1 + w times the conditional, minus w times the unconditional.",
        ),
        cases=lambda draw: [
            (draw(b, n), draw(b, n), w) for b, n, w in ((1, 2, 2.0), (2, 1, 0.0), (2, 3, 0.5), (3, 5, 4.0))
        ],
        gradients=("conditional", "unconditional"),
        passed="Two evaluations for one step; at weight 0 the second is not needed.",
        mistakes={
            "weight counted from 1": (
                _shifted,
                "Here weight 1 is no guidance, and weight 0 ignores the class. Many libraries count so; in the paper, "
                "and in this course, weight 0 is no guidance.",
            ),
            "weights exchanged": (
                lambda conditional, unconditional, weight: (1 + weight) * unconditional - weight * conditional,
                "The two are exchanged: with weight 0 this is the velocity of any class, and more moves away from the "
                "class.",
            ),
            "towards any class": (
                lambda conditional, unconditional, weight: (1 - weight) * conditional + weight * unconditional,
                "This mixes the two: a larger weight means less of the class. What the class adds should grow.",
            ),
            "weights that do not sum to 1": (
                lambda conditional, unconditional, weight: (1 + weight) * conditional - unconditional,
                "The unconditional velocity is subtracted whatever the weight: at weight 0 something is missing.",
            ),
        },
    ),
    Exercise(
        number="16.6",
        title="Flow matching in your code space",
        minutes=25,
        solution=CodeFlow,
        hints=(
            "Every piece is there: 16.3 in the loss, 16.4 and 16.5 in sample. What is new is the scale of the codes, "
            "and a network that is told t and y.",
            "velocity: concatenate x, t as a column and y as one-hot of 11, then two hidden layers. loss: scale, draw "
            "noise and t, replace one class in ten by 10, and compare self.velocity with the target.",
            "sample: noise of shape (n, L); a function of x and t that calls self.velocity for y and for 10 and "
            "guides; euler; unscale. follow: own = decay · own + (1 − decay) · theirs for each weight, in no_grad.",
        ),
        passed="After {steps} steps the loss is {loss:.2f}; the samples of a class lie {away:.2f} σ from its codes."
        "{left_behind}",
        checks=(
            has("scale", "unscale", "velocity", "loss", "follow", "sample", args=(_CODES,)),
            _scales,
            _sees,
            _regresses,
            gradients_reach_all(lambda model, x: model.loss(_CODES.to(x), _CLASSES.to(x.device)), args=(_CODES,)),
            _follows,
            _samples,
            _learns,
        ),
    ),
)
