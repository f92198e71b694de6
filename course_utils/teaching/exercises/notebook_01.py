"""The exercises of notebook 01, the autoencoder."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import Exercise
from ._build import Build, bent, gradients_reach_all, has, per_example, same_numbers, shapes, trains

WEIGHTS = 2 * 784 * 400 + 2 * 400 * 20 + 400 + 20 + 400 + 784  # of MyAutoencoder(20)


def squared_error(x_hat, x):
    """Return the squared error of each image, summed over its pixels.

    x_hat, x: (B, D), reconstructions and images
    result:   (B,)
    """
    return (x_hat - x).square().sum(dim=1)


class MyAutoencoder(nn.Module):
    """Encoder 784 - 400 - latent_dim, decoder latent_dim - 400 - 784, one ReLU in each."""

    def __init__(self, latent_dim):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 400), nn.ReLU(), nn.Linear(400, 784))

    def encode(self, x):  # images (B, 784) -> codes (B, latent_dim)
        return self.encoder(x)

    def decode(self, z):  # codes (B, latent_dim) -> images (B, 784)
        return self.decoder(z)

    def loss(self, x):  # images (B, 784) -> (B,), the squared error of each image
        return squared_error(self.decode(self.encode(x)), x)


def train(model, images, epochs, batch_size=128, lr=1e-3):
    """Train the model with Adam, and return the mean loss of each epoch as a list of numbers.

    In each epoch every image is used once, in a new random order, batch_size at a time.
    A step of Adam lowers the mean of model.loss over the batch; lr is Adam's learning rate.

    images: (N, 784)
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    history = []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(batch_size):
            loss = model.loss(images[batch]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        history.append(total / len(images))
    return history


def nearest_distance(samples, codes):
    """Return how far each sample is from the code that is nearest to it.

    samples: (n, L)
    codes:   (N, L)
    result:  (n,), Euclidean distances
    """
    return torch.cdist(samples, codes).amin(dim=1)


def fit_gaussian(codes):
    """Return mean and covariance of the codes; the covariance is divided by N - 1, as torch.cov does.

    codes:  (N, L)
    result: a pair: mean (L,) and covariance (L, L)
    """
    return codes.mean(dim=0), torch.cov(codes.T)


def _error(x, model):
    return (model.decode(model.encode(x)) - x).square().sum(dim=1)


# What an autoencoder is made of ---------------------------------------------------------------------


class _Operations(TorchDispatchMode):
    """Inside, the names of all operations are noted in `seen`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.seen.add(func.overloadpacket.__name__.strip("_"))
        return func(*args, **(kwargs or {}))


FOREIGN = {
    **dict.fromkeys(("tanh", "sigmoid", "softmax", "hardtanh"), "which squashes what goes through it"),
    **dict.fromkeys(("leaky_relu", "gelu", "elu", "silu", "softplus"), "where the task has a ReLU"),
    **dict.fromkeys(("native_layer_norm", "native_batch_norm", "cudnn_batch_norm"), "which fixes mean and size"),
    **dict.fromkeys(("bernoulli", "native_dropout"), "which drops numbers at random"),
}


def _two_layers_each(build: Build) -> None:
    """Only linear layers of the asked size, and a ReLU between them: found by what the methods do, not by names."""
    model = build.make(20)
    weights = sum(p.numel() for p in model.parameters())
    words = f"MyAutoencoder(20) has {weights:,} weights; layers 784 - 400 - 20 and 20 - 400 - 784 have {WEIGHTS:,}."
    build.require(abs(weights / WEIGHTS - 1) < 0.01, "other layers", words)
    x, z = build.images(256), 100 * torch.randn(256, 20).to(build.attempt.device, build.attempt.dtype)
    for name, inputs in (("encode", x), ("decode", z)):
        method = getattr(model, name)
        with torch.no_grad(), _Operations() as operations:
            output = build.run(method, inputs, doing=f"in {name}")
        for foreign in sorted(operations.seen & set(FOREIGN)):
            words = f"{name} uses {foreign}, {FOREIGN[foreign]}. Linear, ReLU, linear: nothing else."
            build.require(False, f"{foreign} in {name}", words)
        came = f"The numbers from {name} lie between {output.min():.3g} and {output.max():.3g}: one sign is missing."
        build.require(output.min() < 0 < output.max(), f"a ReLU at the end of {name}", f"{came} Which layer is last?")
        bent(name, lambda build, inputs=inputs: inputs)(build)
    words = "All codes with negative numbers decode to the same image. Does decode begin with a ReLU?"
    build.require(model.decode(-z.abs()).std(dim=0).max() > 0, "a ReLU on the code", words)


# What a training loop does --------------------------------------------------------------------------


class _Probe(nn.Module):
    """A model whose loss of an image is its squared distance to a point w; it notes what it is shown."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros_like(like[0]))
        self.shown: list[Tensor] = []
        self.losses: list[Tensor] = []  # (B,) each
        self.gradients: list[Tensor] = []
        self.w.register_hook(lambda gradient: self.gradients.append(gradient.clone()))

    def loss(self, x: Tensor) -> Tensor:
        """The loss of each image, (B,)."""
        self.shown.append(x.detach().clone())
        loss = (x - self.w).square().sum(dim=1)
        self.losses.append(loss.detach().clone())
        return loss


def _probed(build: Build, n: int, epochs: int, **options: Any) -> tuple[_Probe, Tensor, Any]:
    """The probe, n images that can be told apart, and what the learner's loop returned."""
    images = torch.linspace(0, 1, n)[:, None].repeat(1, 3).pow(torch.tensor([1.0, 2.0, 3.0]))
    images = images.to(build.attempt.device, build.attempt.dtype)
    probe = _Probe(images)
    doing = f"in train(model, images, {epochs}{''.join(f', {k}={v}' for k, v in options.items())})"
    torch.manual_seed(1)
    return probe, images, build.run(build.answer, probe, images, epochs, doing=doing, **options)


def _uses_every_image_once(build: Build) -> None:
    probe, images, history = _probed(build, 50, 2, batch_size=16)
    sizes = [len(x) for x in probe.shown]
    build.require(sizes, "no step", "model.loss was never called.")
    words = f"50 images, batch_size=16, 2 epochs: expected batches of 16, 16, 16 and 2, twice; came {sizes[:12]}."
    build.require(sizes == [16, 16, 16, 2] * 2, "other batches", words)
    epochs = [torch.cat(probe.shown[i : i + 4])[:, 0] for i in (0, 4)]
    missing = max(50 - len(order.unique()) for order in epochs)
    words = f"Of 50 images {missing} were not shown in one epoch, while others came more than once."
    build.require(not missing, "not every image once", words)
    stored = any(torch.equal(order, images[:, 0]) for order in epochs)
    build.require(not stored, "stored order", "The images came in their stored order. Which line shuffles them?")
    words = "Both epochs had the same order. Where is it drawn?"
    build.require(not torch.equal(*epochs), "one order for all epochs", words)
    kinds = [type(value).__name__ for value in (history if isinstance(history, list | tuple) else [history])]
    words = f"Expected a list of 2 floats, the mean loss of each epoch; came a {type(history).__name__}: {kinds[:4]}."
    build.require(isinstance(history, list) and kinds == ["float"] * 2, "not a list of numbers", words)
    for k in (0, 4):
        batches, came = probe.losses[k : k + 4], history[k // 4]
        mean = torch.cat(batches).mean().item()
        words = f"The mean loss of an image in epoch {1 + k // 4} is {mean:.4g}; {came:.4g} came back."
        of_last = math.isclose(came, batches[-1].mean().item(), rel_tol=1e-3)
        build.require(not of_last, "the last batch's loss", f"{words} That is the mean of the last batch alone.")
        of_batches = torch.stack([batch.mean() for batch in batches]).mean().item()
        right = any(math.isclose(came, number, rel_tol=1e-2) for number in (mean, of_batches))
        build.require(right, "no mean loss", f"{words} Which losses are added up, and divided by what?")


def _steps_like_adam(build: Build) -> None:
    """All images in one batch, so that the order does not matter: then every step is known exactly."""
    probe, images, _ = _probed(build, 6, 4, batch_size=6, lr=0.05)

    def steps(optimizer: Any = torch.optim.Adam, lr: float = 0.05, slip: str = "") -> Tensor:
        twin = _Probe(images)
        make = lambda: optimizer(twin.parameters(), lr=lr)  # noqa: E731
        chosen = make()
        for _ in range(4):
            chosen = make() if slip == "fresh" else chosen
            if slip != "pile up":
                chosen.zero_grad()
            twin.loss(images).mean().backward()
            chosen.step()
        return twin.w.detach()

    came, expected = probe.w.detach(), steps()
    wrong = {
        "no step": (torch.zeros_like(came), "The weights did not move. Which line changes them?"),
        "gradients pile up": (steps(slip="pile up"), "Gradients that add up from step to step give that."),
        "a new optimizer": (steps(slip="fresh"), "A new optimizer in every epoch gives that: it forgets its averages."),
        "lr unused": (steps(lr=1e-3), "The default lr=0.001 gives that. Does the argument reach Adam?"),
        "SGD": (steps(torch.optim.SGD), "torch.optim.SGD gives that."),
        "AdamW": (steps(torch.optim.AdamW), "AdamW gives that: it shrinks weights as well."),
    }  # fmt: skip
    facts = f"After 4 steps with lr=0.05 a weight that began at 0 is {came[0]:.4f}; expected {expected[0]:.4f}."
    for diagnosis, (numbers, words) in wrong.items():
        same = torch.allclose(came, numbers, atol=1e-5) and not torch.allclose(expected, numbers, atol=1e-5)
        build.require(not same, diagnosis, f"{facts} {words}")
    build.require(torch.allclose(came, expected, atol=1e-4), "other steps", facts)
    scale = float(probe.gradients[0][0] / (-2 * images[:, 0]).mean())
    words = f"The gradient of a step is {scale:.3g} times that of the mean over the batch. Which reduction is used?"
    build.require(abs(scale - 1) < 0.01, "not the mean over the batch", words)


def _learns(build: Build) -> None:
    torch.manual_seed(0)
    model, images = MyAutoencoder(8).to(build.attempt.device, build.attempt.dtype), build.images(1400)
    history = build.run(build.answer, model, images, 6, doing="in train(autoencoder, 1,400 images, 6)")
    build.found |= {"first": history[0], "last": history[-1]}
    words = f"In 6 epochs on 1,400 images an autoencoder's loss went from {history[0]:.1f} to {history[-1]:.1f}."
    build.require(history[-1] < 0.75 * history[0], "does not learn", words)


EXERCISES = (
    Exercise(
        number="1.1",
        title="The error of each image",
        minutes=2,
        solution=squared_error,
        hints=(
            "Begin with one pixel. Then ask which axis of the result holds pixels, and which one images.",
            "The squared difference has the shape of x, (B, D). Its sum over the pixels of each image leaves (B,).",
            "`(x_hat - x) ** 2`, and behind it `.sum(dim=1)`.",
        ),
        cases=lambda draw: [(draw(*shape), draw(*shape)) for shape in ((2, 3), (5, 4), (1, 2))],
        gradients=("x_hat",),
        passed="One number for each image.",
    ),
    Exercise(
        number="1.2",
        title="An autoencoder",
        minutes=10,
        solution=MyAutoencoder,
        hints=(
            "Two stacks of three steps each. Follow the widths: 784, 400, latent_dim, and back. Where does a ReLU "
            "stand, and where does none?",
            "Make the stacks in `__init__` with nn.Sequential, nn.Linear and nn.ReLU, and keep them in self. "
            "`encode` calls one of them, `decode` the other, and `loss` compares decode(encode(x)) with x.",
            "`self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, latent_dim))`; the decoder "
            "is its mirror image, with layers of its own. `loss` is `squared_error(self.decode(self.encode(x)), x)`.",
        ),
        checks=(
            has("encode", "decode", "loss"),
            shapes("encode", [(7, 784)], (7, 20)),
            shapes("decode", [(7, 20)], (7, 784)),
            _two_layers_each,
            per_example(),
            same_numbers(
                "loss(x)",
                "loss",
                _error,
                cases=lambda draw: [(draw.uniform(rows, 784),) for rows in (2, 5, 3)],
                axes="x: (B, D)",
            ),
            gradients_reach_all(),
            trains(below=36, above=3, steps=150),
        ),
        passed="Gradients reach every weight; after {steps} steps with a code of 20 the error is {loss:.1f}.",
    ),
    Exercise(
        number="1.3",
        title="The training loop",
        minutes=15,
        solution=train,
        hints=(
            "Two loops, one in the other: epochs, and the batches of an epoch. What must be made once, before both? "
            "What must be drawn anew in every epoch?",
            "Before the loops: the optimizer. In each epoch: `torch.randperm(len(images)).split(batch_size)` gives the "
            "indices of the batches. For each batch: mean loss, zero_grad, backward, step. Keep the loss as a number.",
            "For each batch: `loss = model.loss(images[batch]).mean()`, `optimizer.zero_grad()`, `loss.backward()`, "
            "`optimizer.step()`, `losses.append(loss.item())`. After each epoch append the mean of losses to the list "
            "that is returned.",
        ),
        checks=(_uses_every_image_once, _steps_like_adam, _learns),
        passed="Every image once an epoch; on 1,400 images an autoencoder's error fell from {first:.1f} to {last:.1f}.",
    ),
    Exercise(
        number="1.4",
        title="The nearest code",
        minutes=4,
        solution=nearest_distance,
        hints=(
            "For one sample: the distances to all N codes, and then the smallest. For n samples: a table of distances. "
            "Which shape does it have?",
            "`torch.cdist(a, b)` gives the Euclidean distance of every row of a to every row of b. Along which axis of "
            "the table lie the codes?",
            "`torch.cdist(samples, codes)` has the shape (n, N). Take `.amin(dim=1)`.",
        ),
        cases=lambda draw: [(draw(n, size), draw(count, size)) for n, count, size in ((2, 3, 2), (5, 4, 3), (1, 6, 4))],
        passed="One distance for each sample.",
    ),
    Exercise(
        number="1.5",
        title="A Gaussian for the codes",
        minutes=4,
        solution=fit_gaussian,
        hints=(
            "The mean is taken over the codes, so L numbers are left. The covariance tells how each pair of the L "
            "numbers varies together.",
            "Take the mean off. Then entry (i, j) is the sum over codes of their numbers i and j multiplied, by N - 1.",
            "`torch.cov` takes one variable in each row; here each row is one code. Which of codes and codes.T fits?",
        ),
        cases=lambda draw: [(draw(*shape),) for shape in ((4, 2), (7, 3), (5, 4))],
        parts=("mean", "covariance"),
        passed="L numbers for the mean, L × L for the covariance.",
        mistakes={
            "variances only": (
                lambda codes: (codes.mean(0), codes.var(0)),
                "These are the L variances. The covariance has a number for every pair as well.",
            ),
            "correlations": (
                lambda codes: (codes.mean(0), torch.corrcoef(codes.T)),
                "These are correlations: the spread of each number, which is needed here, has been divided out.",
            ),
            "not centred": (
                lambda codes: (codes.mean(0), codes.T @ codes / (len(codes) - 1)),
                "The products were taken of the codes as they are. What is taken off before?",
            ),
        },
    ),
)
