"""The exercises of notebook 16: right answers pass, wrong ones are told apart."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.models.diffusion import guided, straight_path, trajectory
from course_utils.teaching.exercises import grade
from course_utils.teaching.exercises.notebook_16 import _CLASSES, _CODES, CodeFlow, guide, path_and_velocity

# The two losses of a GAN ------------------------------------------------------------------------------------


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


# Paths and samplers -----------------------------------------------------------------------------------------


def by_lerp(noise, data, t):
    return torch.lerp(noise, data, t.unsqueeze(1)), data - noise


def by_the_package(velocity, x, steps):
    *_, last = trajectory(velocity, x, steps=steps)
    return last


def with_while(velocity, x, steps):
    t, dt = torch.zeros(len(x), dtype=x.dtype), 1 / steps
    for _ in range(steps):
        x = x + dt * velocity(x, t)
        t = t + dt
    return x


def walking(first, last, dt, x, velocity):
    """From step first to step last, both included."""
    for i in range(first, last + 1):
        x = x + dt * velocity(x, (i * dt) * torch.ones(len(x), dtype=x.dtype))
    return x


def at_times(times, dt, x, velocity):
    for t in times:
        x = x + dt * velocity(x, t * torch.ones(len(x), dtype=x.dtype))
    return x


# The build --------------------------------------------------------------------------------------------------


class ByThePackage(nn.Module):
    """Another way to write it: an embedding, sines and cosines of the time, layers apart, the package's functions."""

    def __init__(self, codes, hidden=200):
        super().__init__()
        var, mean = torch.var_mean(codes, 0, unbiased=False)
        self.spread, self.middle = nn.Buffer(var.sqrt()), nn.Buffer(mean)
        self.label = nn.Embedding(11, hidden)
        self.first, self.second = nn.Linear(codes.shape[1] + 4, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, codes.shape[1])

    def scale(self, z):
        return (z - self.middle) / self.spread

    def unscale(self, s):
        return torch.addcmul(self.middle, s, self.spread)

    def velocity(self, x, t, y):
        waves = torch.stack([t, (3 * t).sin(), (3 * t).cos(), (9 * t).sin()], -1)
        h = F.relu(self.first(torch.cat([waves, x], -1)) + self.label(y))
        return self.last(F.relu(self.second(h)))

    def loss(self, z, y):
        t, drop = torch.rand(len(z)), torch.rand(len(z)) < 0.1
        x_t, target = straight_path(self.scale(z), torch.randn_like(z), t)
        return F.mse_loss(self.velocity(x_t, t, y.masked_fill(drop, 10)), target, reduction="none").sum(-1)

    def follow(self, other, decay=0.99):
        with torch.no_grad():
            for name, p in self.named_parameters():
                p.lerp_(other.get_parameter(name), 1 - decay)

    def sample(self, y, weight=0.0, steps=20):
        def field(x, t):
            return guided(self.velocity(x, t, y), self.velocity(x, t, y * 0 + 10), weight)

        with torch.no_grad():
            return self.unscale(by_the_package(field, torch.randn(len(y), self.last.out_features), steps))


def other(**methods):
    """The course's CodeFlow with these methods exchanged."""
    return type("CodeFlow", (CodeFlow,), methods)


def written(body):
    """A loss whose middle is `body(s, noise, t) -> x_t, target, error`, the rest as it should be."""

    def loss(self, z, y):
        s = self.scale(z)
        noise, t = torch.randn_like(s), torch.rand(len(s))
        x_t, compare = body(s, noise, t[:, None])
        y = torch.where(torch.rand(len(y)) < 0.1, 10, y)
        return compare(self.velocity(x_t, t, y))

    return loss


def squared(target):
    return lambda v: (v - target).square().sum(1)


def right_path(s, noise, t):
    return (1 - t) * noise + t * s


def unscaled_loss(self, z, y):
    noise, t = torch.randn_like(z), torch.rand(len(z))
    x_t, target = path_and_velocity(noise, z, t)
    y = torch.where(torch.rand(len(y)) < 0.1, 10, y)
    return (self.velocity(x_t, t, y) - target).square().sum(1)


def never_dropped(self, z, y):
    s = self.scale(z)
    t = torch.rand(len(s))
    x_t, target = path_and_velocity(torch.randn_like(s), s, t)
    return (self.velocity(x_t, t, y) - target).square().sum(1)


def dropped_in_place(self, z, y):
    y[torch.rand(len(y)) < 0.1] = 10
    return never_dropped(self, z, y)


def one_time(self, z, y):
    s = self.scale(z)
    t = torch.rand(1).expand(len(s))
    x_t, target = path_and_velocity(torch.randn_like(s), s, t)
    y = torch.where(torch.rand(len(y)) < 0.1, 10, y)
    return (self.velocity(x_t, t, y) - target).square().sum(1)


def one_noise(self, z, y):
    s = self.scale(z)
    t = torch.rand(len(s))
    x_t, target = path_and_velocity(torch.randn(1, s.shape[1]).expand_as(s), s, t)
    y = torch.where(torch.rand(len(y)) < 0.1, 10, y)
    return (self.velocity(x_t, t, y) - target).square().sum(1)


def batch_mean(self, z, y):
    return CodeFlow.loss(self, z, y).mean()


def timeless(self, x, t, y):
    return CodeFlow.velocity(self, x, 0 * t, y)


def classless(self, x, t, y):
    return CodeFlow.velocity(self, x, t, 0 * y)


def without_none(self, x, t, y):
    return CodeFlow.velocity(self, x, t, y % 10)


def copies(self, other, decay=0.99):
    self.load_state_dict(copy.deepcopy(other.state_dict()))


def mixed(weight, of_other=None):
    def follow(self, other, decay=0.99):
        with torch.no_grad():
            for own, theirs in zip(self.parameters(), other.parameters(), strict=True):
                own.copy_(weight(decay) * own + (1 - weight(decay)) * theirs)
                if of_other:
                    theirs.mul_(of_other)

    return follow


def sampling(mix=guide, sampler=by_the_package, end=lambda model, s: model.unscale(s), start=torch.randn):
    @torch.no_grad()
    def sample(self, y, weight=0.0, steps=20):
        def velocity(x, t):
            return mix(self.velocity(x, t, y), self.velocity(x, t, torch.full_like(y, 10)), weight)

        return end(self, sampler(velocity, start(len(y), len(self.mean)), steps))

    return sample


RIGHT = {
    "16.1": [lambda logits: bce(logits, 1.0), lambda logits: -F.logsigmoid(logits).mean()],
    "16.2": [
        lambda real, fake: bce(real, 1.0) + bce(fake, 0.0),
        lambda real, fake: -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean(),
    ],
    "16.3": [by_lerp, lambda noise, data, t: straight_path(data, noise, t)],
    "16.4": [by_the_package, with_while],
    "16.5": [
        lambda c, u, w: c + w * (c - u),
        lambda c, u, w: torch.lerp(u, c, 1 + w),
        guided,
    ],
    "16.6": [ByThePackage],
}
WRONG = [
    ("16.1", "the sigmoid first", lambda logits: -torch.log(1 / (1 + torch.exp(-logits))).mean()),
    ("16.1", "minimax", lambda logits: -bce(logits, 0.0)),
    ("16.1", "the discriminator's aim", lambda logits: bce(logits, 0.0)),
    ("16.1", "the other sign", lambda logits: F.logsigmoid(logits).mean()),
    ("16.1", "no logarithm", lambda logits: (-logits).mean()),
    ("16.1", "no gradient", lambda logits: bce(logits.detach(), 1.0)),
    ("16.1", "times N", lambda logits: bce(logits, 1.0) * len(logits)),
    ("16.2", "real and generated exchanged", lambda real, fake: bce(real, 0.0) + bce(fake, 1.0)),
    ("16.2", "all called real", lambda real, fake: bce(real, 1.0) + bce(fake, 1.0)),
    ("16.2", "the value, to be maximised", lambda real, fake: -bce(real, 1.0) - bce(fake, 0.0)),
    (
        "16.2",
        "one mean over both",
        lambda real, fake: F.binary_cross_entropy_with_logits(
            torch.cat([real, fake]), torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
        ),
    ),
    ("16.2", "times ½", lambda real, fake: 0.5 * (bce(real, 1.0) + bce(fake, 0.0))),
    ("16.2", "no gradient", lambda real, fake: bce(real, 1.0) + bce(fake.detach(), 0.0)),
    ("16.3", "the sign of the velocity", lambda n, d, t: (by_lerp(n, d, t)[0], n - d)),
    ("16.3", "noise and data exchanged", lambda n, d, t: by_lerp(d, n, t)),
    ("16.3", "time reversed", lambda n, d, t: (by_lerp(d, n, t)[0], d - n)),
    ("16.3", "the velocity from x_t", lambda n, d, t: (by_lerp(n, d, t)[0], d - by_lerp(n, d, t)[0])),
    ("16.4", "dt", lambda v, x, n: at_times([i / n for i in range(n)], 1.0, x, v)),
    ("16.4", "times at the ends", lambda v, x, n: at_times([i / n for i in range(1, n + 1)], 1 / n, x, v)),
    ("16.4", "times from 0 to 1", lambda v, x, n: at_times(torch.linspace(0, 1, n).tolist(), 1 / n, x, v)),
    ("16.4", "one step too many", lambda v, x, n: walking(0, n, 1 / n, x, v)),
    ("16.4", "last step left out", lambda v, x, n: walking(0, n - 2, 1 / n, x, v)),
    ("16.4", "first step left out", lambda v, x, n: walking(1, n - 1, 1 / n, x, v)),
    ("16.4", "time reversed", lambda v, x, n: at_times([1 - i / n for i in range(n)], 1 / n, x, v)),
    ("16.4", "back to the noise", lambda v, x, n: at_times([1 - i / n for i in range(n)], -1 / n, x, v)),
    ("16.4", "steps for times", lambda v, x, n: at_times(range(n), 1 / n, x, v)),
    ("16.4", "the velocity at the start", lambda v, x, n: at_times([0.0], 1.0, x, v)),
    ("16.4", "no time for each example", lambda v, x, n: x + v(x, 0.0)),
    ("16.5", "weight counted from 1", lambda c, u, w: torch.lerp(u, c, w)),
    ("16.5", "weights exchanged", lambda c, u, w: u + w * (u - c)),
    ("16.5", "towards any class", lambda c, u, w: c - w * (c - u)),
    ("16.5", "weights that do not sum to 1", lambda c, u, w: c + w * c - u),
    ("16.6", "codes not scaled", other(scale=lambda self, z: z, unscale=lambda self, s: s)),
    ("16.6", "another scale", other(scale=lambda self, z: (z - self.mean) / self.std**2)),
    ("16.6", "another scale", other(scale=lambda self, z: z / self.std, unscale=lambda self, s: s * self.std)),
    ("16.6", "scaling not undone", other(unscale=lambda self, s: s * self.std)),
    ("16.6", "time not embedded", other(velocity=timeless)),
    ("16.6", "class not embedded", other(velocity=classless)),
    ("16.6", "no place for any class", other(velocity=without_none)),
    ("16.6", "codes not scaled", other(loss=unscaled_loss)),
    ("16.6", "classes not dropped", other(loss=never_dropped)),
    ("16.6", "changes its input", other(loss=dropped_in_place)),
    ("16.6", "times", other(loss=one_time)),
    ("16.6", "another path", other(loss=one_noise)),
    ("16.6", "not one loss for each code", other(loss=batch_mean)),
    (
        "16.6",
        "noise and data exchanged",
        other(loss=written(lambda s, n, t: (right_path(n, s, t), squared(n - s)))),
    ),
    (
        "16.6",
        "the sign of the velocity",
        other(loss=written(lambda s, n, t: (right_path(s, n, t), squared(n - s)))),
    ),
    (
        "16.6",
        "mean for sum",
        other(loss=written(lambda s, n, t: (right_path(s, n, t), lambda v: (v - s + n).square().mean(1)))),
    ),
    ("16.6", "the error to the data", other(loss=written(lambda s, n, t: (right_path(s, n, t), squared(s))))),
    ("16.6", "the error to the noise", other(loss=written(lambda s, n, t: (right_path(s, n, t), squared(n))))),
    (
        "16.6",
        "the distance, not its square",
        other(loss=written(lambda s, n, t: (right_path(s, n, t), lambda v: (v - s + n).norm(dim=1)))),
    ),
    ("16.6", "training-time weights", other(follow=copies)),
    ("16.6", "does not follow", other(follow=lambda self, other, decay=0.99: None)),
    ("16.6", "decay exchanged", other(follow=mixed(lambda decay: 1 - decay))),
    ("16.6", "another average", other(follow=mixed(lambda decay: 0.5))),
    ("16.6", "changes the other", other(follow=mixed(lambda decay: decay, of_other=0.5))),
    ("16.6", "scaling not undone", other(sample=sampling(end=lambda model, s: s))),
    ("16.6", "guidance without weight 0", other(sample=sampling(mix=lambda c, u, w: torch.lerp(u, c, w)))),
    ("16.6", "guidance weights exchanged", other(sample=sampling(mix=lambda c, u, w: u + w * (u - c)))),
    ("16.6", "the class is not asked for", other(sample=sampling(mix=lambda c, u, w: u))),
    ("16.6", "weight without effect", other(sample=sampling(mix=lambda c, u, w: c))),
    (
        "16.6",
        "time reversed",
        other(sample=sampling(sampler=lambda v, x, n: at_times([1 - i / n for i in range(n)], 1 / n, x, v))),
    ),
    ("16.6", "dt", other(sample=sampling(sampler=lambda v, x, n: at_times([i / n for i in range(n)], 1.0, x, v)))),
    (
        "16.6",
        "last step left out",
        other(sample=sampling(sampler=lambda v, x, n: walking(0, n - 2, 1 / n, x, v))),
    ),
    (
        "16.6",
        "first step left out",
        other(sample=sampling(sampler=lambda v, x, n: walking(1, n - 1, 1 / n, x, v))),
    ),
    ("16.6", "no noise to start from", other(sample=sampling(start=torch.rand))),
]


def test_a_flow_without_the_average_of_its_own_would_not_be_noticed_by_its_loss():
    """What draws is the average: a follower that stays behind passes no check of the training loss alone."""
    torch.manual_seed(0)
    flow, average = CodeFlow(_CODES), CodeFlow(_CODES)
    before = flow.loss(_CODES, _CLASSES).mean()
    optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        flow.loss(_CODES, _CLASSES).mean().backward()
        optimizer.step()
        average.follow(flow, decay=0.9)
    losses = [model.loss(_CODES, _CLASSES).mean() for model in (flow, average)]
    assert max(losses) < 0.8 * before
    assert not torch.equal(*(model.network[0].weight for model in (flow, average)))


def test_the_first_step_from_the_wrong_end_is_named_in_the_smallest_case():
    result = grade("16.4", lambda velocity, x, steps: walking(1, steps, 1 / steps, x, velocity))
    assert result.diagnosis == "times at the ends" and "velocity = 0.5·x + 2·t + -1" in result.message
