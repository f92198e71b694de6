"""The judge of builds: what a learner's class or training loop does, and ready checks to make exercises of."""

import contextlib
import functools
import inspect
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ._attempt import Attempt, NotYet, Raised
from ._brick import judge_brick
from ._exercise import Draw, Exercise, axes_of

Check = Callable[["Build"], None]


@dataclass
class Build:
    """A build under examination; a check takes it and raises NotYet, by `require`, with what was seen in numbers.

    answer: the learner's class or function; found: numbers that the sentence for a right answer may quote.
    """

    exercise: Exercise
    attempt: Attempt
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> Callable[..., Any]:
        """The learner's class or function."""
        return self.attempt.answer

    def make(self, *args: Any, seed: int = 0, **kwargs: Any) -> Any:
        """An instance of the learner's class, its weights drawn from `seed`.  Raises Raised where that fails."""
        torch.manual_seed(seed)
        given = (_what(value) if isinstance(value, Tensor) else repr(value) for value in args)
        doing = f"in {self.exercise.name}({', '.join(given)})"
        model = self.run(self.answer, *args, doing=doing, **kwargs)
        if isinstance(self.answer, type) and isinstance(model, nn.Module):
            model.to(device=self.attempt.device, dtype=self.attempt.dtype)
        return model

    def run(self, function: Callable[..., Any], *args: Any, doing: str, **kwargs: Any) -> Any:
        """Call what holds the learner's code; its errors are shown as its own."""
        return self.attempt.run(functools.partial(function, **kwargs), *args, doing=doing)

    def require(self, condition: Any, diagnosis: str, words: str) -> None:
        """Raises NotYet(diagnosis, words) unless the condition holds."""
        if not condition:
            raise NotYet(diagnosis, words)

    def images(self, n: int) -> Tensor:
        """The first n training images of the course's data, (n, 784), pixels in [0, 1]."""
        return _images(n).to(device=self.attempt.device, dtype=self.attempt.dtype)


@functools.cache
def _images(n: int) -> Tensor:
    from course_utils.data.load import load_images

    with contextlib.redirect_stdout(io.StringIO()):
        train = load_images().train
    return train[: min(n, len(train))].flatten(1).float()


def judge_build(exercise: Exercise, attempt: Attempt) -> str:
    """Run every check; return the sentence for a right answer, with its numbers.  Raises NotYet or Raised.

    Where a check itself cannot go on with what the learner's code gave, that is told, and no traceback shown.
    """
    build = Build(exercise, attempt)
    for check in exercise.checks:
        try:
            check(build)
        except (NotYet, Raised):
            raise
        except Exception as error:
            words = f"The check cannot go on with what your code gave: {type(error).__name__}: {str(error)[:300]}. "
            raise NotYet("unforeseen", f"{words}Compare every shape and type with what the stub says.") from error
    return exercise.passed.format(**build.found)


class fixed_noise(TorchDispatchMode):
    """Inside, whatever draws normal noise gets the same numbers for every row: eps depends on the column alone.

    So a loss can be compared number by number, and the loss of an image does not depend on the others.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in ("randn", "randn_like"):
            return out.copy_(self.eps(out))
        if name in ("normal_", "normal_functional", "normal"):
            mean, std = ([*args[name == "normal_" :], 0.0, 1.0][:2]) if name != "normal" else (*args, 1.0)[:2]
            mean, std = kwargs.get("mean", mean), kwargs.get("std", std)
            with torch.no_grad():
                return out.copy_(mean + std * self.eps(out))
        return out

    @staticmethod
    def eps(like: Tensor) -> Tensor:
        """The noise: (…, D), between -1.5 and 1.5, the same in every row."""
        size = like.shape[-1] if like.dim() else 1
        row = 1.5 * torch.sin(torch.arange(1, size + 1, dtype=torch.float64) * 2.399)
        return row.to(like).expand(like.shape) if like.dim() else row[0].to(like)


# Ready checks --------------------------------------------------------------------------------------------
# `loss` below is a function (model, x) -> (B,), by default the model's own method.


def _own_loss(model: Any, x: Tensor) -> Tensor:
    return model.loss(x)


def has(*methods: str, args: tuple = (20,)) -> Check:
    """The instance is an nn.Module with these methods."""

    def check(build: Build) -> None:
        name, answer = build.exercise.name, build.answer
        words = f"{name} should be a class that inherits from nn.Module, so that its weights are found."
        build.require(isinstance(answer, type) and issubclass(answer, nn.Module), "not a module", words)
        absent = [name for name in methods if not callable(getattr(answer, name, None))]
        words = f"There is no method {' and no '.join(absent)} in {answer.__name__}."
        if set_by_init := [name for name in absent if hasattr(build.make(*args), name)]:
            words += f" Its __init__ sets self.{set_by_init[0]}. Write a method with def, which calls such a layer: "
            words += "later notebooks replace single methods."
        build.require(not absent, "methods missing", words)
        words = "PyTorch finds no weights in the model. Layers must be attributes of self; in a list they are hidden."
        build.require(any(True for _ in build.make(*args).parameters()), "no weights", words)

    return check


def shapes(method: str, given: Sequence[tuple[int, ...]], *expected: tuple[int, ...], args: tuple = (20,)) -> Check:
    """`method` of random tensors of the `given` shapes returns one tensor, or several, of the `expected` shapes."""

    def check(build: Build) -> None:
        inputs = [torch.rand(shape).to(build.attempt.device, build.attempt.dtype) for shape in given]
        shown = ", ".join(f"a tensor of shape {shape}" for shape in given)
        returned = build.run(getattr(build.make(*args), method), *inputs, doing=f"in {method} of {shown}")
        values = returned if isinstance(returned, tuple | list) else (returned,)
        came, wanted = " and ".join(map(_what, values)), " and ".join(f"shape {shape}" for shape in expected)
        words = f"{method} of {shown} should give {wanted}; it gives {came}."
        build.require(came == wanted, f"shape of {method}", words)

    return check


def _what(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def bent(method: str, inputs: Callable[[Build], Tensor], *, args: tuple = (20,)) -> Check:
    """Each thing that `method` returns is no straight line in its input: an activation stands between layers."""

    def check(build: Build) -> None:
        model, x = build.make(*args), inputs(build).abs()
        with torch.no_grad():
            runs = [build.run(getattr(model, method), c * x, doing=f"in {method}") for c in (0, 1, 2)]
        for zero, one, two in zip(*(r if isinstance(r, tuple | list) else (r,) for r in runs), strict=True):
            rounding = 1e-4 * float(two.abs().max())  # it grows with the numbers
            straight = torch.allclose(two - zero, 2 * (one - zero), rtol=1e-3, atol=rounding)
            words = f"Measured: {method} is a straight line in its input, so no ReLU stands between its two layers."
            build.require(not straight, f"no activation in {method}", words)

    return check


def new_noise(build: Build) -> None:
    """`reparameterize` of the model draws new noise for each call, example and dimension."""
    model = build.make(20)
    fresh(lambda *codes: build.run(model.reparameterize, *codes, doing="in reparameterize"))


def fresh(draw_z: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Raises NotYet unless the noise in z = draw_z(mu, log_var) is new for each call, example and dimension."""
    first, second = (draw_z(torch.zeros(64, 8), torch.zeros(64, 8)) for _ in range(2))
    for name, same in (
        ("call", torch.equal(first, second)),
        ("example", torch.allclose(first[0], first[1])),
        ("dimension", torch.allclose(first[:, 0], first[:, 1])),
    ):
        if same:
            raise NotYet(
                f"one noise for every {name}",
                f"Every {name} gets the same noise. Each number of each example needs its own, new at every call: "
                "of which shape is the noise, and where is it drawn?",
            )


def per_example(loss: Callable[[Any, Tensor], Tensor] = _own_loss, *, args: tuple = (20,)) -> Check:
    """The loss has one number for each image, which the other images of the batch do not change."""

    def check(build: Build) -> None:
        model, x = build.make(*args), build.images(5)
        with fixed_noise(), torch.no_grad():
            together = build.run(loss, model, x, doing="in loss of 5 images")
            words = f"The loss of 5 images should be 5 numbers, shape (5,); it is {_what(together)}."
            build.require(_what(together) == "shape (5,)", "not one loss for each image", words)
            alone = torch.cat([build.run(loss, model, x[i : i + 1], doing="in loss of 1 image") for i in range(5)])
        words = f"The loss of the first image is {together[0]:.4g} in a batch of 5 and {alone[0]:.4g} by itself: "
        words += "the examples touch. Something is averaged, summed or normalised over the batch."
        same = torch.allclose(together, alone, rtol=1e-3, atol=1e-3)
        build.require(same, "depends on the rest of the batch", words)

    return check


def gradients_reach_all(loss: Callable[[Any, Tensor], Tensor] = _own_loss, *, args: tuple = (20,)) -> Check:
    """Every weight of the model gets a gradient from the loss."""

    def check(build: Build) -> None:
        model = build.make(*args)
        total = build.run(loss, model, build.images(16), doing="in loss of 16 images").mean()
        words = "The loss carries no gradient at all. Which step cuts the graph?"
        build.require(total.requires_grad, "no gradient", words)
        total.backward()
        cold = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        words = f"No gradient of the loss reaches {', '.join(cold[:4])}{' …' if len(cold) > 4 else ''}: "
        build.require(not cold, "no gradient", f"{words}these weights would stay as they are.")

    return check


def as_many_weights(model: type, *given: tuple, because: str) -> Check:
    """As many weights as the course's `model` has, for each tuple of arguments; `because` says of which layers."""

    def check(build: Build) -> None:
        for args in given:
            came, wanted = (sum(p.numel() for p in made.parameters()) for made in (build.make(*args), model(*args)))
            words = f"{build.exercise.name}({', '.join(map(str, args))}) has {came:,} weights; {because}: {wanted:,}."
            build.require(came == wanted, "other layers", words)

    return check


_STAND_INS: dict[str, Callable[..., Any]] = {
    "encode": lambda x, *cond: (x.new_full((len(x), 20), 3.0),) * 2,
    "reparameterize": lambda mu, log_var: torch.full_like(mu, 30.0),
    "decode": lambda z, *cond: z.new_full((len(z), 784), 5.0),
    "kl": lambda mu, log_var: mu.new_full(mu.shape[:1], 1e4),
    "terms": lambda x, *cond: (x.new_full((len(x),), 1e4),) * 2,
}


def goes_through(*methods: str, loss: Callable[[Any, Tensor], Tensor] = _own_loss) -> Check:
    """The loss of a VAE notices when one of these methods is replaced, as later notebooks do; terms are added up."""

    def check(build: Build) -> None:
        for name in methods:
            model, x = build.make(20), build.images(3)
            with fixed_noise(), torch.no_grad():
                before = build.run(loss, model, x, doing="in loss of 3 images")
                setattr(model, name, _STAND_INS[name])
                after = build.run(loss, model, x, doing=f"in loss, with another {name}")
            words = f"The loss of 3 images should be 3 numbers, shape (3,); it is {_what(before)}."
            build.require(_what(before) == "shape (3,)", "not one loss for each image", words)
            words = f"With another {name} the loss stays as it is. Call self.{name}: single methods are replaced later."
            build.require(not torch.allclose(before, after), f"loss without self.{name}", words)
            if name == "terms":
                words = f"With terms of 10,000 and 10,000 nats, the loss should be their sum; it is {after[0]:,.0f}."
                build.require(torch.allclose(after, torch.full_like(after, 2e4)), "loss is not the sum", words)

    return check


def same_numbers(
    label: str,
    call: str | Callable[..., Any],
    reference: Callable[..., Any],
    cases: Callable[[Any], Sequence[tuple]],
    *,
    args: tuple = (20,),
    mistakes: dict[str, tuple[Callable[..., Any], str]] | None = None,
    axes: str = "",
) -> Check:
    """`call(model, *case)` gives what `reference(*case)` gives; if not, the relation between them is told.

    label: what is compared, "kl(mu, log_var)". call: a method's name, or a function. Noise is that of `fixed_noise`.
        A reference that needs the model takes an argument of that name last.
    axes: the sizes of the arguments, as in a docstring: "mu, log_var: (B, L)".
    """
    names = tuple(inspect.signature(reference).parameters)
    count = len(names) - (names[-1] == "model")

    def check(build: Build) -> None:
        model = build.make(*args)
        drawn = [(*case, model)[: len(names)] for case in cases(Draw())]

        def answer(*case: Any) -> Any:
            function = getattr(model, call) if isinstance(call, str) else functools.partial(call, model)
            return build.run(function, *case[:count], doing=f"in {label}")

        part = Exercise(
            build.exercise.number, "", 1, reference, ("", "", ""), "", cases=lambda draw: drawn,
            mistakes=mistakes or {}, stub=f"def f({', '.join(names[:count])}): ...",
        )  # fmt: skip
        part.__dict__["axes"] = axes_of(axes.replace(";", "\n"))
        try:
            with fixed_noise():
                judge_brick(part, Attempt(answer, names[:count], build.attempt.dtype, build.attempt.device))
        except NotYet as verdict:
            raise NotYet(f"{label}: {verdict.diagnosis}", f"{label}: {verdict.message}") from None

    return check


def trains(
    below: float, *, loss: Callable[[Any, Tensor], Tensor] = _own_loss, steps: int = 300, images: int = 4000,
    batch_size: int = 128, lr: float = 1e-3, args: tuple = (20,), above: float = -math.inf,
) -> Check:  # fmt: skip
    """After `steps` steps of Adam, the mean loss of the last 30 lies below `below`, and is kept as found["loss"].

    Choose the bounds with room: some healthy models train more slowly. The data are MNIST or the offline digits.
    above: a loss so low that something must be missing in it.
    """

    def check(build: Build) -> None:
        model, data, generator = build.make(*args), build.images(images), torch.Generator().manual_seed(0)
        optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
        torch.manual_seed(0)
        for step in range(steps):
            x = data[torch.randint(len(data), (batch_size,), generator=generator)]
            mean = build.run(loss, model, x, doing=f"in loss at step {step + 1} of the training").mean()
            words = f"At step {step + 1} of the training the loss is {mean.item()}: something overflows."
            build.require(mean.isfinite(), "not finite", words)
            optimizer.zero_grad()
            mean.backward()
            optimizer.step()
            losses.append(mean.detach())
        found = float(torch.stack(losses[-30:]).mean())
        build.found |= {"loss": found, "steps": steps}
        seen = f"After {steps} steps of Adam the loss is {found:.1f} nats for each image"
        build.require(found < below, "does not learn", f"{seen}; a healthy one is below {below:g}.")
        build.require(found > above, "too good", f"{seen}; a whole loss stays above {above:g}.")

    return check


def samples(n: int = 7, *, args: tuple = (20,), given: Callable[[int], Tensor] | None = None) -> Check:
    """`sample(n)` gives (n, 784) probabilities, other ones at every call, none of them the same.

    given: what sample takes in place of n, such as n conditions, the first two of them alike.
    """

    def check(build: Build) -> None:
        model, asked, called = build.make(*args), n, f"sample({n})"
        if given:
            asked, called = given(n).to(build.attempt.device, build.attempt.dtype), f"sample of {n} conditions"
        torch.manual_seed(1)  # harmless: 1 → 2 (any seed will do)
        first, second = (build.run(model.sample, asked, doing=f"in {called}") for _ in range(2))
        words = f"{called} should give {n} images of 784 pixels, shape ({n}, 784); it gives {_what(first)}."
        build.require(_what(first) == f"shape ({n}, 784)", "shape of sample", words)
        low, high = first.min().item(), first.max().item()
        words = f"Pixels lie between 0 and 1; those of {called} lie between {low:.3g} and {high:.3g}. "
        build.require(low >= 0 and high <= 1, "samples are no pixels", f"{words}Are they logits?")
        words = f"All pixels of {called} are 0 or 1: they were drawn, or rounded. Asked for are the probabilities."
        build.require(not torch.equal(first, first.round()), "samples are 0 or 1", words)
        words = "Two calls of sample gave the same images."
        build.require(not torch.equal(first, second), "always the same samples", words)
        words = "The images of one call of sample are all alike."
        build.require(not torch.allclose(first[0], first[1]), "all samples alike", words)
        try:
            build.run(build.make(3, *args[1:]).sample, asked, doing=f"in {called}, with latent_dim 3")
        except Raised as raised:
            words = f"With latent_dim = 3, {called} stops: {str(raised.error).splitlines()[0]}. Is the length of a "
            raise NotYet("another latent_dim", f"{words}code written into sample as a number?") from None

    return check


def samples_the_prior(given: Callable[[int], Tensor] | None = None) -> Check:
    """`sample(2000)` decodes 2,000 codes of N(0, I), once; with `given`, as in `samples`, under these conditions."""

    def check(build: Build) -> None:
        model, seen, asked = build.make(20), [], 2000
        decode = model.decode
        model.decode = lambda *args: (seen.append(args), decode(*args))[1]
        if given:
            asked = given(2000).to(build.attempt.device, build.attempt.dtype)
        with torch.no_grad():
            build.run(model.sample, asked, doing=f"in sample of 2,000{' conditions' if given else ''}")
        came = [tuple(z.shape) for z, *_ in seen]
        words = f"sample of 2,000 should give self.decode codes of shape (2000, 20), once; it gave {came}."
        build.require(came == [(2000, 20)], "sample decodes other codes", words)
        z, *cond = seen[0]
        words = "What sample hands to decode is not the condition that was asked for."
        build.require(all(torch.equal(c, asked) for c in cond), "another condition", words)
        words = f"Codes in sample have mean {z.mean():.2f} and standard deviation {z.std():.2f}; the prior's: 0 and 1."
        build.require(abs(z.mean()) < 0.05 and abs(z.std() - 1) < 0.05, "no samples of the prior", words)

    return check


def interface_problem(exercise: Exercise, answer: Any) -> str | None:
    """What a kept build lacks, judged without training: its kind and its methods; None where nothing is missing."""
    if isinstance(exercise.solution, type) != isinstance(answer, type):
        return f"{exercise.name} is no {'class' if isinstance(exercise.solution, type) else 'function'}"
    if isinstance(answer, type):
        wanted = [n for n, m in vars(exercise.solution).items() if callable(m) and not n.startswith("_")]
        missing = [name for name in wanted if not callable(getattr(answer, name, None))]
        if missing:
            return f"it has no {', '.join(missing)}"
    return None
