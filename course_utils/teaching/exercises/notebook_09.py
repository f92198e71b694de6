"""The exercises of notebook 09, posterior collapse."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._build import Build
from ._exercise import Draw, Exercise
from .notebook_06 import VAE


def speaking(mu, log_var, least):
    """Return how many latent dimensions carry more than `least` nats on average over the images.

    mu, log_var: (N, L), the encoder's output for N images, log_var is log sigma^2
    result:      one number
    """
    nats = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)
    return (nats.mean(dim=0) > least).sum()


def best_rates(values, variance):
    """Return the rate of each latent dimension in the best linear VAE, in nats.

    values:   (L,), eigenvalues of the data's covariance, all above 0, one direction for each dimension
    variance: a number above 0, the decoder's sigma^2
    result:   (L,); a dimension is silent where saying anything would cost more than it gains
    """
    return (0.5 * (values / variance).log()).clamp(min=0)


def annealed(step, steps, cycles):
    """Return beta, the weight of the KL, at a step: `cycles` equal cycles in `steps` steps, then 1.

    In each cycle beta rises from 0 to 1 in a line during the first half, and stays at 1 in the second.

    step:   a whole number, 1 for the first step, where beta is 0
    result: a number
    """
    if step > steps:
        return 1.0
    within = ((step - 1) * cycles / steps) % 1.0  # where in its cycle, from 0 to 1
    return min(2 * within, 1.0)


def free_bits(kl, floor):
    """Return the charge for the rate of a batch, with free bits per dimension on the batch mean.

    A dimension whose mean KL over the batch is below the floor is charged the floor.

    kl:     (B, L), the KL of each image and dimension, in nats
    floor:  a number, the nats that are free in every dimension
    result: one number, summed over the dimensions
    """
    return kl.mean(dim=0).clamp(min=floor).sum()


def train_with(model, images, epochs, beta, floor=0.0, batch_size=128, lr=1e-3):
    """Train with Adam on distortion + beta * charge, and return the mean -ELBO of each epoch.

    model.parts(x) gives, for a batch, the distortion (B,) and the KL of each dimension (B, L).
    The charge of a batch is the sum over dimensions of max(floor, mean KL); `free_bits` of
    exercise 9.4. An epoch is as in exercise 1.3. What is returned is the ELBO's negative, whatever
    beta and floor are: distortion + KL, over all images of the epoch, a list of numbers.

    images: (N, 784)
    beta:   a function of the step, which counts from 1 over all epochs
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    history, step = [], 0
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(batch_size):
            step += 1
            recon, kl = model.parts(images[batch])
            loss = recon.mean() + beta(step) * free_bits(kl, floor)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += (recon + kl.sum(dim=1)).sum().item()
        history.append(total / len(images))
    return history


# What a training loop with a schedule and a floor does ---------------------------------------------------


class _Probe(nn.Module):
    """Distortion and KL of three dimensions, without noise, as functions of three weights; keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.tensor([1.0, 0.5, 0.1])), []

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(x.detach().clone())
        return (self.w - x[:, :3]).square().sum(1) + 2, 0.5 * (self.w * (1 + x[:, 3:6])).square()


def _trained(
    build: Build, epochs: int, batch_size: int, beta: Callable[[int], float], floor: float, rows: int
) -> tuple:
    """The probe after the reader's training, with what came back and the images that it was trained on."""
    probe = _Probe().to(build.attempt.device, build.attempt.dtype)
    images = torch.linspace(-1, 2, rows * 7).sin().view(rows, 7).repeat(1, 112).to(probe.w)
    doing = f"in train_with(model, {rows} images, {epochs}, beta, floor={floor}, batch_size={batch_size})"
    came = build.run(
        build.answer, probe, images, epochs, beta, floor=floor, batch_size=batch_size, lr=0.05, doing=doing
    )
    return probe, images, came


def _counts_steps(build: Build) -> None:
    asked: list[Any] = []
    beta = lambda step: (asked.append(step), 0.5)[1]  # noqa: E731
    probe, images, _ = _trained(build, 2, 3, beta, 0.0, rows=7)  # batches of 3, 3 and 1
    sizes = [len(x) for x in probe.seen]
    words = f"Two epochs of 7 images in batches of 3 should be batches of 3, 3, 1, 3, 3, 1 images; they were {sizes}."
    build.require(sizes == [3, 3, 1] * 2, "other batches", words)
    for seen in (torch.cat(probe.seen[:3]), torch.cat(probe.seen[3:])):
        same = torch.equal(seen.sort(0).values, images.sort(0).values)
        build.require(same, "not every image once", "In an epoch every image should be used once, in a random order.")
    steps = [int(step) for step in asked]
    known = {
        (1,) * 6: ("reset inside the batch loop", "The count begins anew at every batch, so β never moves."),
        (1, 2, 3) * 2: ("reset in each epoch", "The count begins anew in every epoch, and β with it."),
        (1, 1, 1, 2, 2, 2): ("counts epochs", "That is the epoch. β should move with every step."),
        tuple(range(6)): ("counts from 0", "The first step is step 1."),
    }
    name, why = known.get(tuple(steps), ("other steps", "One call for each step, please."))
    words = f"In six steps beta was asked for the steps {steps}; expected [1, 2, 3, 4, 5, 6]. {why}"
    build.require(steps == [1, 2, 3, 4, 5, 6], name, words)


CHARGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "": lambda kl, floor: kl.mean(0).clamp(min=floor).sum(),
    "no floor": lambda kl, floor: kl.sum(1).mean(),
    "before the batch mean": lambda kl, floor: kl.clamp(min=floor).sum(1).mean(),
    "on the total": lambda kl, floor: kl.sum(1).mean().clamp(min=floor),
    "on the total of each image": lambda kl, floor: kl.sum(1).clamp(min=floor).mean(),
    "averaged over dimensions": lambda kl, floor: kl.mean(0).clamp(min=floor).mean(),
    "a ceiling": lambda kl, floor: kl.mean(0).clamp(max=floor).sum(),
    "beta unused": lambda kl, floor: kl.mean(0).clamp(min=floor).sum(),
}
FLOORS = (0.3, 2.0)  # the second lies above the total as well


def _reference(probe: _Probe, images: Tensor, charge: str, floor: float) -> tuple[Tensor, list[float], list[float]]:
    """Weights after four steps with one of CHARGES, and in each step −ELBO and the loss."""
    twin, elbos, losses = _Probe().to(probe.w.device, probe.w.dtype), [], []
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.05)
    for step in range(1, 5):
        recon, kl = twin.parts(images)
        loss = recon.mean() + (1.0 if charge == "beta unused" else 0.25 * step) * CHARGES[charge](kl, floor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        elbos.append((recon + kl.sum(1)).mean().item())
        losses.append(loss.item())
    return twin.w.detach(), elbos, losses


def _charges(build: Build) -> None:
    """All images in one batch: every step is known exactly, and so is that of each slip."""
    possible, facts = [*CHARGES], ""
    for floor in FLOORS:
        probe, images, history = _trained(build, 4, 9, lambda step: 0.25 * step, floor, rows=5)
        ends = {name: _reference(probe, images, name, floor)[0] for name in CHARGES}
        possible = [name for name in possible if torch.allclose(probe.w.detach(), ends[name], atol=1e-5)]
        if not (facts or torch.allclose(probe.w.detach(), ends[""], atol=1e-5)):
            came, expected = probe.w[2].item(), ends[""][2].item()
            facts = f"With a floor of {floor} a weight is {came:.4f} after four steps; expected {expected:.4f}."
        _, elbos, losses = _reference(probe, images, "", floor)
        if not facts:
            _tells_the_elbo(build, history, elbos, losses)
    name = next(iter(possible), "other steps")
    why = f"That charge gives it: {name}." if possible else "Is the step that of exercise 1.3?"
    build.require(not facts, name, f"{facts} {why}")


def _tells_the_elbo(build: Build, history: Any, elbos: list[float], losses: list[float]) -> None:
    numbers = torch.tensor([float(value) for value in history]) if isinstance(history, list) else torch.zeros(0)
    words = "A list with one number for each epoch should come back."
    build.require(len(numbers) == 4, "no list of numbers", words)
    words = f"The first number is {numbers[0]:.4f}; −ELBO is {elbos[0]:.4f}."
    trained_on = torch.allclose(numbers, torch.tensor(losses), atol=1e-4)
    more = (
        f"{words} What came is the loss with β and floor: at β < 1 it is no bound, and it would praise every schedule."
    )
    build.require(not trained_on, "the loss in place of −ELBO", more)
    build.require(torch.allclose(numbers, torch.tensor(elbos), rtol=1e-4), "other numbers", words)


class _Parts(VAE):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = self.encode(x)
        logits = self.decode(self.reparameterize(mu, log_var))
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return recon, 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


def _learns(build: Build) -> None:
    torch.manual_seed(0)
    model, images = _Parts(8, 100).to(build.attempt.device, build.attempt.dtype), build.images(1400)
    beta = functools.partial(annealed, steps=44, cycles=2)
    history = build.run(
        build.answer, model, images, 6, lambda step: beta(step), doing="in train_with(VAE, 1,400 images)"
    )
    build.found |= {"first": history[0], "last": history[-1]}
    words = f"In 6 epochs on 1,400 images −ELBO went from {history[0]:.0f} to {history[-1]:.0f} nats."
    build.require(history[-1] < 0.75 * history[0], "does not learn", words)


def _tables(draw: Draw) -> list[tuple]:
    return [
        (draw(*shape, decimals=2).abs(), floor)
        for shape, floor in (((2, 3), 0.6), ((4, 2), 1.2), ((5, 4), 0.8), ((3, 6), 0.5))
    ]


def _whole_cycles(step: int, steps: int, cycles: int) -> float:
    """A schedule whose cycles are cut down to whole steps."""
    length = steps // cycles
    return 1.0 if step > steps else min(2 * ((step - 1) % length) / length, 1.0)


EXERCISES = (
    Exercise(
        number="9.1",
        title="Dimensions that speak",
        minutes=5,
        solution=speaking,
        hints=(
            "What a dimension says is measured in nats: its KL. How often is it to be compared with `least`: for each "
            "image, or once?",
            "The KL of each image and dimension (exercise 4.4), the mean over the images, and then a comparison for "
            "each dimension.",
            "`nats = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)`, then `(nats.mean(dim=0) > least).sum()`.",
        ),
        cases=lambda draw: [
            (draw(n, size, decimals=2) * torch.linspace(0.05, 0.9, size).double(), draw(n, size) * 0.1, 0.1)
            for n, size in ((3, 4), (6, 9), (9, 7), (5, 12))
        ],
        any_type=True,
        passed="Counted in nats; a mean that moves a little is active, and says next to nothing.",
        mistakes={
            "active units": (
                lambda mu, log_var, least: (mu.var(0) > 0.01).sum(),
                "This counts dimensions whose mean moves, active units. With σ near 1 such a movement drowns in the "
                "noise. How many nats does it carry?",
            ),
            "active units above least": (
                lambda mu, log_var, least: (mu.var(0) > least).sum(),
                "This compares the variance of the mean with `least`. A variance is not measured in nats: how many "
                "nats does the dimension carry?",
            ),
            "any image": (
                lambda mu, log_var, least: ((0.5 * (mu**2 + log_var.exp() - 1 - log_var)).amax(0) > least).sum(),
                "One image with more than `least` is enough here. The average over the images was asked for.",
            ),
        },
    ),
    Exercise(
        number="9.2",
        title="When a dimension should be silent",
        minutes=6,
        solution=best_rates,
        hints=(
            "Write the loss of one dimension as a function of its rate r alone: what r nats leave of the error, and r "
            "itself. Where is its derivative 0?",
            "The loss is λ e^(−2r)/(2σ²) + r. Its derivative is 0 where e^(2r) = λ/σ². What if λ is smaller than σ²? A "
            "rate cannot be negative.",
            "Half the logarithm of values / variance, and `.clamp(min=0)`.",
        ),
        cases=lambda draw: [
            (draw.uniform(n, low=0.1, high=4), variance) for n, variance in ((3, 0.7), (6, 1.4), (4, 0.25))
        ],
        passed="Half a nat for each factor e in λ/σ², and silence below, as the best answer.",
        mistakes={
            "negative rates": (
                lambda values, variance: 0.5 * (values / variance).log(),
                "Below the noise the formula gives a negative rate. What is the smallest rate that a code can have?",
            ),
            "sigma for its square": (
                lambda values, variance: (0.5 * (values / variance**2).log()).clamp(min=0),
                "`variance` is σ² already, and was squared once more.",
            ),
            "one too many": (
                lambda values, variance: 0.5 * (1 + values / variance).log(),
                "There is a 1 beside λ/σ² inside the logarithm, so every dimension speaks. Where λ is below σ², the "
                "loss λ e^(−2r)/(2σ²) + r is least at r = 0.",
            ),
            "no half": (
                lambda values, variance: (values / variance).log().clamp(min=0),
                "Twice too much: r nats bring an error, a square, down by e^(−2r).",
            ),
        },
    ),
    Exercise(
        number="9.3",
        title="A schedule in cycles",
        minutes=8,
        solution=annealed,
        hints=(
            "First say where a step stands in its cycle, as a number from 0 to 1. Step 1 stands at 0. Then β is a "
            "function of that number alone.",
            "(step − 1)·cycles/steps counts cycles; `% 1` leaves the part within one. In the first half β is twice "
            "that. What in the second half, and after the last step?",
            "`within = ((step - 1) * cycles / steps) % 1`, then `min(2 * within, 1.0)`; and 1.0 where step > steps.",
        ),
        cases=lambda draw: [
            (step, steps, cycles)
            for steps, cycles in ((8, 1), (40, 4), (30, 3), (13, 4))  # the last: no whole number of steps in a cycle
            for step in (1, 2, 4, 7, 8, 9, 13, 19, 28, 38, 39, 100)
        ],
        any_type=True,
        passed="With one cycle it is the usual annealing, with several the cyclical one.",
        mistakes={
            "begins again after the end": (
                lambda step, steps, cycles: min(2 * (((step - 1) * cycles / steps) % 1.0), 1.0),
                "After the last of the cycles β should stay at 1; here it falls to 0 again, in the middle of training.",
            ),
            "no cycles": (
                lambda step, steps, cycles: min(2 * (step - 1) / steps, 1.0),
                "β rises once, over the whole training. Where does the next cycle begin?",
            ),
            "no rest": (
                lambda step, steps, cycles: 1.0 if step > steps else ((step - 1) * cycles / steps) % 1.0,
                "β rises during the whole of a cycle. It should be at 1 after the first half, and stay there.",
            ),
            "whole steps in a cycle": (
                _whole_cycles,
                "A cycle was rounded to whole steps, so after the last cycle another one begins, with β = 0. The last "
                "step belongs to the last cycle: let a cycle be steps/cycles steps long, a whole number or not.",
            ),
            "counts from 0": (
                lambda step, steps, cycles: 1.0 if step > steps else min(2 * ((step * cycles / steps) % 1.0), 1.0),
                "The steps count from 1, and the first should have β = 0. Here everything comes one step too early.",
            ),
        },
    ),
    Exercise(
        number="9.4",
        title="Free bits",
        minutes=6,
        solution=free_bits,
        hints=(
            "Three things happen: a mean over the batch, a floor, a sum over dimensions. In which order?",
            "First the mean over the batch, (L,). Then no dimension may be charged less than the floor: a maximum, not "
            "a selection. Last the sum.",
            "`kl.mean(dim=0)`, then `.clamp(min=floor)`, then `.sum()`.",
        ),
        cases=_tables,
        gradients=("kl",),
        passed="Below the floor the charge is constant: no gradient pushes the dimension further down.",
        mistakes={
            "a mask in place of a maximum": (
                lambda kl, floor: (kl.mean(0) * (kl.mean(0) > floor)).sum(),
                "Dimensions below the floor are charged nothing here. The gradient is the maximum's, so it would train "
                "alike; but the number jumps where a dimension crosses the floor. Below it, the floor is charged.",
            ),
            "before the batch mean": (
                lambda kl, floor: kl.clamp(min=floor).sum(1).mean(),
                "The floor stands under each image. Under the batch mean, some images may need no code at all as long "
                "as others do. Which comes first, mean or maximum?",
            ),
            "on the total": (
                lambda kl, floor: kl.mean(0).sum().clamp(min=floor),
                "The floor stands under the whole rate. Then dimensions may stay silent as long as one speaks; here "
                "every one of them has nats that are free.",
            ),
            "on the total of each image": (
                lambda kl, floor: kl.sum(1).clamp(min=floor).mean(),
                "The floor stands under the whole rate of each image. Here every dimension has nats that are free.",
            ),
            "a ceiling": (
                lambda kl, floor: kl.mean(0).clamp(max=floor).sum(),
                "The larger rates were cut down to the floor: a ceiling. Which of min and max does clamp need?",
            ),
            "the excess": (
                lambda kl, floor: (kl.mean(0) - floor).clamp(min=0).sum(),
                "This is what lies above the floor. Its gradient is right; but the number is L·floor smaller.",
            ),
        },
    ),
    Exercise(
        number="9.5",
        title="Schedule and floor in your training loop",
        minutes=20,
        solution=train_with,
        hints=(
            "Begin with your loop of exercise 1.3. Where must the step be counted, so that it goes on in the next "
            "epoch? Two sums are kept apart: what is trained on, and what is told.",
            "`step = 0` before both loops, `step += 1` inside of the inner one. The loss is recon.mean() + beta(step) "
            "times the charge of exercise 9.4. For the history add up recon + kl.sum(dim=1) over the images.",
            "In the inner loop: `recon, kl = model.parts(images[batch])`, `loss = recon.mean() + beta(step) * "
            "free_bits(kl, floor)`, then zero_grad, backward, step, `total += (recon + kl.sum(dim=1)).sum().item()`. "
            "After the inner loop `history.append(total / len(images))`.",
        ),
        checks=(_counts_steps, _charges, _learns),
        passed="The step counts on over the epochs, and what is told is −ELBO: from {first:.0f} to {last:.0f} nats.",
    ),
)
