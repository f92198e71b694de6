"""The exercises of notebook 01, the autoencoder."""

import contextlib
import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ._attempt import Attempt, NotYet, Raised
from ._compare import Compare, Misconception, as_tensor, close, gradient_reaches, require_gradient
from ._framework import Exercise
from ._text import numbers_text


class Advised(Raised):
    """An error in the learner's code, shown as it is, with a sentence on its likely cause below."""

    def __init__(self, raised: Raised, advice: str):
        super().__init__(raised.error, raised.doing)
        self.advice = advice

    @property
    def message(self) -> str:
        return f"{super().message}\n{self.advice}"


@dataclass(frozen=True)
class CompareWithAdvice(Compare):
    """A Compare that has a word on errors too.

    advice: (type, pattern, sentence); the sentence is added to an error of this type whose words match the pattern.
    """

    advice: tuple[type[Exception], str, str] = (Exception, "", "")

    def __call__(self, exercise: Exercise, attempt: Attempt) -> None:
        try:
            super().__call__(exercise, attempt)
        except Raised as raised:
            # What fails on the first case may run on the last, and make a known mistake there.
            backwards = replace(self, cases=lambda rng: list(reversed(self.cases(rng))))
            with contextlib.suppress(Raised):
                Compare.__call__(backwards, exercise, attempt)
            kind, pattern, sentence = self.advice
            if isinstance(raised.error, kind) and re.search(pattern, str(raised.error)):
                raise Advised(raised, sentence) from raised.error
            raise


# 1.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def reconstruction_error(x, x_hat):
    """Return the squared error of each image, summed over all its pixels: one number per image.

    x, x_hat: (B, ...), images of any shape behind the batch axis, such as (B, 784) or (B, 1, 28, 28)
    result:   (B,)
    """
    ...'''


def reconstruction_error(x, x_hat):
    squared = (x_hat - x) ** 2  # (B, ...)
    return squared.flatten(start_dim=1).sum(dim=1)  # (B,)


def _cases_1(rng: torch.Generator) -> list[tuple]:
    def images(*shape: int) -> Tensor:
        return torch.randint(0, 11, shape, generator=rng).double() / 10

    flat = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.4, 0.9]]), torch.tensor([[0.1, 0.3, 1.4], [0.7, 0.4, 0.6]])
    shapes = [(1, 5), (2, 1, 2, 2), (3, 4, 2)]
    return [tuple(t.double() for t in flat), *((images(*shape), images(*shape)) for shape in shapes)]


EXERCISE_1 = Exercise(
    number="1.1",
    title="The reconstruction error of each image",
    minutes=4,
    stub=STUB_1,
    hints=(
        "Begin with what happens at one pixel. Then ask which axes of the result are pixels, and which one "
        "is the batch.",
        "Square the difference; you then hold a tensor of x's own shape. The batch axis stays, every other "
        "axis is summed. Flattening all axes but the first leaves just one axis to sum, whatever the shape "
        "of an image was.",
        "`t.flatten(start_dim=1)` turns (B, 1, 28, 28) into (B, 784), and `.sum(dim=1)` turns that into "
        "(B,). Apply the two to the squared difference.",
    ),
    solution=reconstruction_error,
    passed="One number for each image, whatever its shape.",
    judge=CompareWithAdvice(
        cases=_cases_1,
        also=gradient_reaches("x_hat"),
        advice=(
            IndexError,
            "[Dd]imension",
            "Rows of pixels, (B, D), have fewer axes than images, (B, 1, 28, 28). How can all axes behind the batch "
            "be summed, however many there are?",
        ),
        misconceptions=(
            Misconception(
                "mean over pixels",
                lambda x, x_hat: ((x - x_hat) ** 2).flatten(1).mean(1),
                "This is the mean over the pixels of each image. What does an image of 784 pixels cost, if "
                "its pixels are added up rather than averaged?",
            ),
            Misconception(
                "one sum for the batch",
                lambda x, x_hat: ((x - x_hat) ** 2).sum(),
                "This is one number for all images together. Which axis must survive the sum, so that each "
                "image keeps its own error?",
            ),
            Misconception(
                "one mean for the batch",
                lambda x, x_hat: ((x - x_hat) ** 2).mean(),
                "This is the mean over every pixel of every image, which is what a loss function gives "
                "when nobody tells it how to reduce. How do you get one number per image, with the pixels "
                "summed?",
            ),
            Misconception(
                "sum averaged over the batch",
                lambda x, x_hat: ((x - x_hat) ** 2).flatten(1).sum(1).mean(),
                "The pixels are summed, as they should be, but then the images are averaged. What if the "
                "last step were left to the caller?",
            ),
            Misconception(
                "square root",
                lambda x, x_hat: (x - x_hat).flatten(1).norm(dim=1),
                "This is the length of the difference, the square root of what was asked. Is a norm already squared?",
            ),
            Misconception(
                "factor one half",
                lambda x, x_hat: 0.5 * ((x - x_hat) ** 2).flatten(1).sum(1),
                "This is exactly half. The factor 1/2 belongs to a Gaussian's log-density (notebook 05). "
                "Is it in the squared error too?",
            ),
            Misconception(
                "absolute error",
                lambda x, x_hat: (x - x_hat).abs().flatten(1).sum(1),
                "This adds up the sizes of the differences. What has to happen to a difference of 0.5 "
                "before it is added: does it count 0.5 or 0.25?",
            ),
            Misconception(
                "only the last axis",
                lambda x, x_hat: ((x - x_hat) ** 2).sum(-1),
                "Only the last axis was summed, which is enough for (B, 784) but not for (B, 1, 28, 28). "
                "How many axes hold pixels there?",
            ),
            Misconception(
                "only the first pixel axis",
                lambda x, x_hat: ((x - x_hat) ** 2).sum(1),
                "Only one of the pixel axes was summed, the one right behind the batch. That is enough for "
                "(B, 784), but in (B, 1, 28, 28) it is just the channel. Which axes are left?",
            ),
            Misconception(
                "only two of the pixel axes",
                lambda x, x_hat: ((x - x_hat) ** 2).sum((1, 2)),
                "Only two of the pixel axes were summed. (B, 1, 28, 28) has three of them and (B, 784) just "
                "one. What would serve for both?",
            ),
            Misconception(
                "over the batch",
                lambda x, x_hat: ((x - x_hat) ** 2).sum(0),
                "The sum runs over the images and keeps the pixels. Which axis is the batch, and which are the pixels?",
            ),
            Misconception(
                "difference not squared",
                lambda x, x_hat: (x - x_hat).flatten(1).sum(1),
                "Differences above and below cancel here: two wrong pixels can add up to zero. What makes "
                "every mistake count as positive?",
            ),
            Misconception(
                "difference not squared, other sign",
                lambda x, x_hat: (x_hat - x).flatten(1).sum(1),
                "Pixels that are too bright and pixels that are too dark cancel here. What makes every "
                "mistake count, in whichever direction it goes?",
            ),
            Misconception(
                "squared after the sum",
                lambda x, x_hat: (x - x_hat).flatten(1).sum(1) ** 2,
                "The differences were added up first and squared afterwards, so that they could cancel. In "
                "which order should it go?",
            ),
        ),
    ),
)

# 1.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def pca_reconstruct(x, components, mean):
    """Return the PCA reconstruction of each row of x: its projection onto the principal plane.

    x:          (B, D)
    components: (L, D), rows of length 1 at right angles to each other
    mean:       (D,), the mean of the training data
    result:     (B, D)
    """
    ...'''


def pca_reconstruct(x, components, mean):
    codes = (x - mean) @ components.T  # (B, L), coordinates in the plane
    return mean + codes @ components  # (B, D)


def _cases_2(rng: torch.Generator) -> list[tuple]:
    def case(batch: int, latent: int, dim: int) -> tuple:
        x = torch.randint(0, 11, (batch, dim), generator=rng).double() / 10
        components = torch.linalg.qr(torch.randn(dim, latent, generator=rng, dtype=torch.float64))[0].T.contiguous()
        return x, components, torch.randint(1, 10, (dim,), generator=rng).double() / 10

    small = [[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]], [[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]], [1.0, 1.0, 0.5]
    return [tuple(torch.tensor(t).double() for t in small), case(3, 2, 5), case(2, 1, 4)]


EXERCISE_2 = Exercise(
    number="1.2",
    title="PCA as an encoder and a decoder",
    minutes=6,
    stub=STUB_2,
    hints=(
        "PCA describes how far an image is from the mean image, along a few directions. Which quantity "
        "should be projected, then: x, or something made of x and the mean?",
        "Three steps. Centre. Encode: each code is the inner product of the centred row with one "
        "component, (B, L) in all. Decode: add up the components, weighted by the codes, (B, D), and undo "
        "the first step.",
        "With W = components, the codes are (x − mean) Wᵀ. Multiplying them by W goes back to D numbers. "
        "Then add the mean that you took away.",
    ),
    solution=pca_reconstruct,
    passed="This is a whole autoencoder: Wᵀ encodes, W decodes, and nothing in between bends.",
    judge=CompareWithAdvice(
        cases=_cases_2,
        advice=(
            Exception,
            "shape|size|dimension|subscript",
            "components holds one axis per row, (L, D), and x one image per row, (B, D): which product of x − mean "
            "with it has the shape (B, L)? And which product of that has the shape (B, D) again?",
        ),
        misconceptions=(
            Misconception(
                "not centred",
                lambda x, W, mean: mean + x @ W.T @ W,
                "The mean is added at the end, but was it ever taken away? PCA's directions start at the "
                "mean, not at the origin.",
            ),
            Misconception(
                "mean not added back",
                lambda x, W, mean: (x - mean) @ W.T @ W,
                "This is the projected distance from the mean. What is missing before it is an image again?",
            ),
            Misconception(
                "mean ignored",
                lambda x, W, mean: x @ W.T @ W,
                "This projects onto a plane through the origin; the mean took no part. Through which point "
                "does the principal plane pass?",
            ),
            Misconception(
                "codes only",
                lambda x, W, mean: (x - mean) @ W.T,
                "These are the codes, and they are right: L numbers per row. How do you get back to D numbers?",
            ),
            Misconception(
                "codes only, not centred",
                lambda x, W, mean: x @ W.T,
                "These are L numbers per row, inner products with rows that were not centred. Two steps "
                "are missing: one before, and one that leads back to D numbers.",
            ),
            Misconception(
                "nothing lost",
                lambda x, W, mean: x.clone(),
                "This gives x back unchanged, but a plane of L dimensions cannot hold it all. The rows of "
                "W are orthonormal: which of W Wᵀ and Wᵀ W is the identity, and which is the projection?",
            ),
            Misconception(
                "matrices in the wrong order",
                lambda x, W, mean: mean + W @ W.T @ (x - mean),
                "This only runs when the batch happens to have L rows: the matrix acts on the batch, not "
                "on the pixels. Data are rows here, so on which side of x does a matrix for the pixels "
                "stand?",
            ),
            Misconception(
                "reshaped, not transposed",
                lambda x, W, mean: mean + (x - mean) @ W.reshape(W.shape[1], W.shape[0]) @ W,
                "The shapes fit, but a reshape or view deals the numbers out anew. What turns rows into "
                "columns instead?",
            ),
            Misconception(
                "each pixel on its own",
                lambda x, W, mean: mean + (x - mean) * (W**2).sum(0),
                "Every pixel was scaled on its own, as if the projection were a diagonal matrix. A code "
                "mixes all pixels: over which index does it sum?",
            ),
            Misconception(
                "mean of the batch",
                lambda x, W, mean: x.mean(0) + (x - x.mean(0)) @ W.T @ W,
                "This uses the mean of the batch. The plane was fitted around the training data's mean, "
                "which you are given. What would happen with a batch of one?",
            ),
            Misconception(
                "what is left over",
                lambda x, W, mean: (x - mean) - (x - mean) @ W.T @ W,
                "This is what the projection misses, the residual. Which part was asked for: what PCA "
                "keeps, or what it throws away?",
            ),
            Misconception(
                "what is left over, around the mean",
                lambda x, W, mean: x - (x - mean) @ W.T @ W,
                "This takes the projection away from x and so keeps the wrong half. Which part of x lies in the plane?",
            ),
            Misconception(
                "mean subtracted at the end",
                lambda x, W, mean: (x - mean) @ W.T @ W - mean,
                "At the end the mean was taken away a second time. What undoes the centring?",
            ),
        ),
    ),
)

# 1.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def build_autoencoder(input_dim, hidden_dim, latent_dim):
    """Return (encoder, decoder), two new nn.Modules with one hidden ReLU layer each.

    encoder: (B, input_dim) -> (B, hidden_dim) -> (B, latent_dim), codes of any sign and size
    decoder: (B, latent_dim) -> (B, hidden_dim) -> (B, input_dim), no activation at the end
    """
    ...'''


def build_autoencoder(input_dim, hidden_dim, latent_dim):
    encoder = nn.Sequential(
        nn.Linear(input_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, latent_dim),
    )
    decoder = nn.Sequential(
        nn.Linear(latent_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, input_dim),
    )
    return encoder, decoder


Pair = tuple[nn.Module, nn.Module]


def _require_pair(returned: Any) -> Pair:
    """Two modules, in a tuple or list."""
    if isinstance(returned, tuple | list) and len(returned) == 2:
        if all(isinstance(part, nn.Module) for part in returned):
            return returned[0], returned[1]
        kinds = " and ".join(getattr(part, "__name__", type(part).__name__) for part in returned)
        raise NotYet(
            "not modules",
            f"Two things came back, as they should, but they are {kinds}; two nn.Module objects were "
            "expected. Only modules hand their weights to an optimiser. Was a class or a plain function "
            "returned?",
        )
    came = f"a {type(returned).__name__}" + (f" of {len(returned)}" if isinstance(returned, tuple | list) else "")
    raise NotYet("not a pair", f"Expected two modules, encoder and decoder; {came} came back. What follows `return`?")


def _judge_3(exercise: Exercise, attempt: Attempt) -> None:
    """Finds out by experiment, never by layer names, so that every module that behaves as asked passes."""
    for input_dim, hidden_dim, latent_dim in [(6, 16, 2), (9, 12, 3), (5, 8, 4)]:
        encoder, decoder = _built(attempt, input_dim, hidden_dim, latent_dim)
        _require_gradients(attempt, encoder, decoder, input_dim)
    narrow, wide = _built(attempt, 6, 16, 2), _built(attempt, 6, 32, 2)
    for which, small, large in zip(("encoder", "decoder"), narrow, wide, strict=True):
        if _weights(small) >= _weights(large):
            raise NotYet(
                f"hidden_dim unused in the {which}",
                f"With hidden_dim = 16 the {which} has {_weights(small)} weights, with hidden_dim = 32 it "
                f"has {_weights(large)}. Expected more for the wider one. Is there a hidden layer, and what "
                "sets its width?",
            )
    for which, module, width in (("encoder", wide[0], 6), ("decoder", wide[1], 2)):
        _require_bend(attempt, which, module, width)
        _require_free_output(attempt, which, module, width)
        _require_straight_output(attempt, which, module, width)
    _require_free_input(attempt, wide[1], 2)


def _built(attempt: Attempt, input_dim: int, hidden_dim: int, latent_dim: int) -> Pair:
    """Encoder and decoder, run once, so that lazy layers have got their weights."""
    pair = _require_pair(attempt(input_dim, hidden_dim, latent_dim))
    encoder, decoder = (module.to(attempt.device, attempt.dtype) for module in pair)
    _require_weights(encoder, decoder)
    _require_shapes(attempt, encoder, decoder, input_dim, hidden_dim, latent_dim)
    return encoder, decoder


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _require_weights(encoder: nn.Module, decoder: nn.Module) -> None:
    for which, module in (("encoder", encoder), ("decoder", decoder)):
        weights = list(module.parameters())
        if not weights:
            raise NotYet(
                f"no weights in the {which}",
                f"The {which} has no weights to train: its parameters() are empty. Are its layers "
                "attributes of the module, or parts of an nn.Sequential?",
            )
        if not all(parameter.requires_grad for parameter in weights):
            raise NotYet(
                f"frozen {which}",
                f"Some weights of the {which} do not require a gradient, so training would leave them as "
                "they are. What switched that off?",
            )
    if {id(p) for p in encoder.parameters()} & {id(p) for p in decoder.parameters()}:
        raise NotYet(
            "shared weights",
            "Encoder and decoder hold the same weights: training one changes the other. Is one layer object "
            "used in both places?",
        )


def _require_shapes(
    attempt: Attempt, encoder: nn.Module, decoder: nn.Module, input_dim: int, hidden_dim: int, latent_dim: int
) -> None:
    sizes = f"input_dim = {input_dim}, hidden_dim = {hidden_dim}, latent_dim = {latent_dim}"
    x = attempt.prepare(torch.randn(7, input_dim))
    z = attempt.prepare(torch.randn(7, latent_dim))
    try:
        codes = _output(attempt, encoder, x, f"in encoder(x) with x of shape {tuple(x.shape)}; {sizes}")
    except Raised:
        if _runs(decoder, x) and _runs(encoder, z):
            raise NotYet(
                "in the other order",
                "The first module takes codes and the second takes images. In which order are they asked for?",
            ) from None
        raise
    if codes.shape != (7, latent_dim):
        facts = f"With {sizes}, 7 rows of x\n{_expected_shape('codes', (7, latent_dim), codes)}"
        if codes.shape == (7, hidden_dim):
            raise NotYet(
                "encoder stops at the hidden layer",
                f"{facts}\nThe code is as wide as the hidden layer. Which layer makes it narrow?",
            )
        if codes.shape == (7, input_dim):
            raise NotYet(
                "encoder gives images",
                f"{facts}\nThe first module gives back as many numbers as it takes. Where does the encoder "
                "end and the decoder begin?",
            )
        raise NotYet(
            "latent_dim unused",
            f"{facts}\nDoes the width of the code follow latent_dim, or is it written in?",
        )
    x_hat = _output(attempt, decoder, z, f"in decoder(z) with z of shape {tuple(z.shape)}; {sizes}")
    if x_hat.shape != (7, input_dim):
        facts = f"With {sizes}, 7 codes\n{_expected_shape('images', (7, input_dim), x_hat)}"
        if x_hat.shape == (7, hidden_dim):
            raise NotYet(
                "decoder stops at the hidden layer",
                f"{facts}\nThe decoder's output is as wide as its hidden layer. Which layer leads back to the pixels?",
            )
        raise NotYet(
            "input_dim unused",
            f"{facts}\nDoes the width of the output follow input_dim, or is it written in?",
        )


def _output(attempt: Attempt, module: nn.Module, inputs: Tensor, doing: str) -> Tensor:
    result = attempt.run(module, inputs, doing=doing)
    if result is None:
        raise NotYet("a module returns nothing", f"Nothing came back {doing}. Is a `return` missing in forward?")
    tensor, complaint = as_tensor(result)
    if complaint:
        raise complaint
    return tensor


def _runs(module: nn.Module, inputs: Tensor) -> bool:
    try:
        module(inputs)
    except Exception:
        return False
    return True


def _expected_shape(what: str, shape: tuple[int, ...], came: Tensor) -> str:
    return f"    expected: {what} of shape {shape}\n    came:     {_shape(came)}"


def _shape(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)}"


def _require_gradients(attempt: Attempt, encoder: nn.Module, decoder: nn.Module, input_dim: int) -> None:
    def reached(output: Tensor, inputs: list[Tensor]) -> bool:
        if not output.requires_grad:
            return False
        gradients = torch.autograd.grad(output.sum(), inputs, retain_graph=True, allow_unused=True)
        return any(gradient is not None for gradient in gradients)

    x = attempt.prepare(torch.randn(16, input_dim))
    codes = attempt.run(encoder, x, doing="in encoder(x)").detach()
    for which, module, inputs in (("encoder", encoder, x), ("decoder", decoder, codes)):
        inputs.requires_grad_()
        # a copy, as a leaf may not be changed in place
        output = attempt.run(module, inputs.clone(), doing=f"in {which}({'x' if inputs is x else 'encoder(x)'})")
        through = reached(output, [inputs])
        if not through or not reached(output, list(module.parameters())):
            raise NotYet(
                f"no gradient in the {which}",
                f"The reconstruction error sends no gradient {'through' if not through else 'to'} the {which}. Which "
                "step cuts the graph: a detach, a no_grad, a trip through numpy?",
            )


def _require_bend(attempt: Attempt, which: str, module: nn.Module, width: int) -> None:
    """An affine map f is the one kind that always satisfies f(a) + f(b) - f(0) = f(a + b)."""
    f = copy.deepcopy(module).to(attempt.device, attempt.dtype).eval()
    a, b = (attempt.prepare(3 * torch.randn(64, width)) for _ in range(2))
    with torch.no_grad():
        f_a, f_b, f_0, f_ab = (attempt.run(f, t, doing=f"in the {which}") for t in (a, b, torch.zeros_like(a), a + b))
    if (f_a + f_b - f_0 - f_ab).abs().max() < 1e-4 * f_ab.abs().max():
        raise NotYet(
            f"no activation in the {which}",
            f"Measured on the {which} f: f(a) + f(b) − f(0) = f(a + b) for every a and b that was tried. So "
            "it is a straight linear map, no better than PCA. What stands between its two layers?",
        )


def _require_free_output(attempt: Attempt, which: str, module: nn.Module, width: int) -> None:
    """Drives the module with large weights of any sign: only an activation at its end still holds it back."""
    outputs = []
    for _ in range(8):
        driven = copy.deepcopy(module).to(attempt.device, attempt.dtype).eval()
        with torch.no_grad():
            for parameter in driven.parameters():
                parameter.mul_(attempt.prepare(100 * torch.randn(parameter.shape).sign()))
        x = attempt.prepare(10 * torch.randn(512, width))
        outputs.append(_output_without_gradient(attempt, driven, x, which))
    low, high = float(torch.cat(outputs).min()), float(torch.cat(outputs).max())
    what = "codes" if which == "encoder" else "pixels"
    facts = (
        f"With weights 100 times larger and of random sign, the {which}'s output ranges from {low:.3g} to {high:.3g}."
    )
    if max(-low, high) <= 1.001:
        limits = "between 0 and 1" if low >= 0 else "between −1 and 1"
        raise NotYet(
            f"squashed output of the {which}",
            f"{facts} It always stays {limits}, but nothing should hold the {what} back. What is the last "
            f"thing the {which} does?",
        )
    if min(-low, high) < 0.05 * max(-low, high):
        raise NotYet(
            f"one-sided output of the {which}",
            f"{facts} One sign is missing or nearly so; {what} should be free to go both ways. What comes "
            "after the last linear layer?",
        )


def _require_straight_output(attempt: Attempt, which: str, module: nn.Module, width: int) -> None:
    """A leaky ReLU at the end lets both signs through, but bends wherever the output is 0."""
    f = copy.deepcopy(module).to(attempt.device, attempt.dtype).eval()
    start, end = (attempt.prepare(3 * torch.randn(1024, width)) for _ in range(2))
    found = []
    for k in range(_output_without_gradient(attempt, f, start, which).shape[1]):

        def positive(inputs: Tensor, k: int = k) -> Tensor:
            return _output_without_gradient(attempt, f, inputs, which)[:, k] > 0

        changes_sign = positive(start) != positive(end)
        a, step = start[changes_sign], (end - start)[changes_sign]
        share = torch.zeros_like(a[:, :1])  # of the way from start to end, up to where output k is 0: by bisection
        for halving in range(1, 21):
            farther = share + 0.5**halving
            share = torch.where((positive(a + farther * step) == positive(a))[:, None], farther, share)
        if len(a) >= 16:
            found.append(_break(attempt, f, a + share * step, step, k, which))
    if found and all(found):
        what = "codes" if which == "encoder" else "pixels"
        raise NotYet(
            f"bent output of the {which}",
            f"Measured: where an output of the {which} goes through 0, its slope changes {found[0]}. So the two "
            f"signs are treated differently; {what} should be free to go both ways. What comes after the last "
            "linear layer?",
        )


def _require_free_input(attempt: Attempt, decoder: nn.Module, latent_dim: int) -> None:
    """An activation before the first layer is flat or bent along each coordinate, whatever the others are."""
    f = copy.deepcopy(decoder).to(attempt.device, attempt.dtype).eval()
    deaf = [side for side in (-1, 1) if _is_deaf(attempt, f, latent_dim, side)]
    facts = None
    if len(deaf) == 2:
        facts = "All codes with the same signs and with numbers from 1000 to 100000 in size decode to the same image."
    elif deaf:
        facts = f"All {'negative' if deaf == [-1] else 'positive'} codes that were tried decode to the same image."
    else:
        found = []
        for j, step in enumerate(torch.eye(latent_dim)):
            z = torch.randn(1024, latent_dim)
            z[:, j] = 0
            at, along = attempt.prepare(z), attempt.prepare(step.expand_as(z))
            found.append(_break(attempt, f, at, along, 0, "decoder"))
        if all(found):
            facts = f"Measured: where a number of the code goes through 0, the image's slope changes {found[0]}."
    if facts:
        raise NotYet(
            "decoder begins with an activation",
            f"{facts} But codes of any sign and size should make a difference. Does the decoder begin with an "
            "activation?",
        )


def _is_deaf(attempt: Attempt, f: nn.Module, latent_dim: int, side: int) -> bool:
    """Whether large numbers in the code, all on one side of 0, can be exchanged for others on that side."""

    def sizes() -> Tensor:
        return 10 ** (3 + 2 * torch.rand(1024, latent_dim))  # from 1000 to 100 000

    def image(z: Tensor) -> Tensor:
        return _output_without_gradient(attempt, f, attempt.prepare(z), "decoder")

    z = sizes() * torch.randn(1024, latent_dim).sign()
    spread = image(z).max() - image(z).min()
    for j in range(latent_dim):
        here, there = z.clone(), z.clone()
        here[:, j], there[:, j] = side * sizes()[:, j], side * sizes()[:, j]
        if (image(here) - image(there)).abs().max() > 0.001 * spread:
            return False
    return True


def _output_without_gradient(attempt: Attempt, f: nn.Module, inputs: Tensor, which: str) -> Tensor:
    with torch.no_grad():
        return attempt.run(f, inputs.clone(), doing=f"in the {which}")


def _break(attempt: Attempt, f: nn.Module, at: Tensor, step: Tensor, k: int, which: str) -> str | None:
    """Says how the slope of output k in the direction of `step` jumps, if it does at most of the places `at`."""

    def slopes(shift: float) -> Tensor:
        leaf = (at + shift * step).requires_grad_()
        return (torch.autograd.grad(f(leaf.clone())[:, k].sum(), leaf)[0] * step).sum(dim=1)

    before, after = (attempt.run(slopes, shift, doing=f"in the {which}") for shift in (-1e-3, 1e-3))
    jump = (after - before).abs() / (after.abs() + before.abs())  # ReLU: 1, leaky with 0.2: 0.67, smooth: near 0
    jump[jump.isnan()] = 0  # 0 / 0: flat on both sides
    if not len(jump) or jump.median() < 0.1:
        return None
    place = jump.median(dim=0).indices
    return f"at once, for example from {float(before[place]):.3g} to {float(after[place]):.3g}"


EXERCISE_3 = Exercise(
    number="1.3",
    title="Encoder and decoder by hand",
    minutes=8,
    stub=STUB_3,
    hints=(
        "Each of the two is a stack of three steps: linear, activation, linear. Follow the widths from "
        "left to right, and note where a ReLU stands and where none does.",
        "nn.Sequential takes the steps in order. Each nn.Linear(a, b) begins with the width at which the "
        "one before it ended, and the decoder's widths are the encoder's, read backwards. The code and the "
        "output are left as they come out of a linear layer.",
        "The encoder is nn.Sequential with nn.Linear(input_dim, hidden_dim), nn.ReLU(), "
        "nn.Linear(hidden_dim, latent_dim). Write the decoder the other way round, with layers of its own, "
        "and return both.",
    ),
    solution=build_autoencoder,
    passed="Two bent maps with a free code between them, found so by experiment.",
    judge=_judge_3,
)

# 1.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def rotate_codes(encoder, decoder, rotation):
    """Return copies (encoder, decoder) with codes z @ rotation.T and every reconstruction unchanged.

    encoder:  nn.Sequential that ends with an nn.Linear
    decoder:  nn.Sequential that begins with an nn.Linear; both originals stay as they are
    rotation: (L, L), orthogonal
    """
    ...'''


def rotate_codes(encoder, decoder, rotation):
    encoder, decoder = copy.deepcopy(encoder), copy.deepcopy(decoder)
    last, first = encoder[-1], decoder[0]
    with torch.no_grad():
        last.weight.copy_(rotation @ last.weight)  # z = W h + b becomes R W h + R b
        last.bias.copy_(rotation @ last.bias)
        first.weight.copy_(first.weight @ rotation.T)  # V (Rᵀ R) z = V z: the inverse of a rotation is Rᵀ
    return encoder, decoder


def _cases_4(rng: torch.Generator) -> list[tuple]:
    def linear(inputs: int, outputs: int) -> nn.Linear:
        layer = nn.Linear(inputs, outputs, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=rng, dtype=torch.float64))
            layer.bias.copy_(torch.randn(outputs, generator=rng, dtype=torch.float64))
        return layer

    def case(hidden: int, rotation: Tensor, *before: nn.Module) -> tuple:
        latent = len(rotation)
        encoder = nn.Sequential(*before, linear(4, hidden), nn.Tanh(), linear(hidden, latent))
        return encoder, nn.Sequential(linear(latent, hidden), nn.Tanh(), linear(hidden, 4)), rotation

    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    turn_3d = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))[0]
    return [
        case(2, turn),
        case(5, turn_3d, nn.Flatten()),
    ]  # in the first, square weights let the wrong side run too


def _observe_4(attempt: Attempt, encoder: nn.Module, decoder: nn.Module, rotation: Tensor) -> dict[str, Tensor]:
    new_encoder, new_decoder = _require_pair(attempt(encoder, decoder, rotation))
    x = attempt.prepare(torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    codes = _output(attempt, new_encoder, x, f"in your new encoder(x) with x of shape {tuple(x.shape)}")
    recons = _output(attempt, new_decoder, codes, f"in your new decoder(z) with z of shape {tuple(codes.shape)}")
    return {"codes": codes, "reconstructions": recons}


def _explain_4(seen: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    lines = []
    for what, wanted in (("codes", "z @ rotation.T"), ("reconstructions", "what they were")):
        came, right = seen[what], expected[what]
        if came.shape != right.shape:
            lines.append(f"    {what}: expected {_shape(right)}, came {_shape(came)}")
        elif close(came, right):
            lines.append(f"    {what}: {wanted}, as asked")
        else:
            change = float((came - right).abs().max())
            lines.append(f"    {what}: largest distance from {wanted} {change:.3g}, expected 0")
    return "\n".join(lines)


def _edited(new: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]) -> Callable[..., Pair]:
    """A wrong answer, from (W, b, V, c, R) -> new (W, b, V, c): around the code z = W h + b comes V z + c."""

    def answer(encoder: nn.Sequential, decoder: nn.Sequential, rotation: Tensor) -> Pair:
        encoder, decoder = copy.deepcopy(encoder), copy.deepcopy(decoder)
        old = (encoder[-1].weight, encoder[-1].bias, decoder[0].weight, decoder[0].bias)
        with torch.no_grad():
            for parameter, value in zip(old, new(*(t.clone() for t in old), rotation), strict=True):
                parameter.copy_(value)
        return encoder, decoder

    return answer


EXERCISE_4 = Exercise(
    number="1.4",
    title="Turn the code plane, and nobody notices",
    minutes=8,
    stub=STUB_4,
    hints=(
        "Write the code as z = W h + b, with W and b from the encoder's last layer. What are W and b of "
        "the layer that gives the turned code R z directly? Then: the decoder now sees R z. What must it "
        "do first to see z again?",
        "Work on copy.deepcopy of both. In the encoder, weight and bias are both multiplied by the "
        "rotation from the left. In the decoder's first layer V z + c, ask for a V' with V' (R z) = V z, "
        "and remember that the inverse of an orthogonal matrix is its transpose. Edit weights inside "
        "torch.no_grad(), with copy_.",
        "With R = rotation: the encoder's last layer gets the weight R W and the bias R b; the decoder's "
        "first layer gets the weight V Rᵀ, and its bias stays. Return both copies.",
    ),
    solution=rotate_codes,
    passed="Every code moved, no reconstruction did: the loss cannot tell these two latent spaces apart.",
    judge=CompareWithAdvice(
        cases=_cases_4,
        advice=(
            Exception,
            "cannot assign .* as parameter|leaf Variable that requires grad",
            "A weight is an nn.Parameter: no plain tensor can take its place, and nothing is written into it while "
            "gradients are recorded. Write the new numbers into it with weight.copy_(…), in a block that begins "
            "`with torch.no_grad():`, as `stretch` does earlier in this notebook.",
        ),
        observe=_observe_4,
        explain=_explain_4,
        misconceptions=(
            Misconception(
                "nothing changed",
                _edited(lambda W, b, V, c, R: (W, b, V, c)),
                "The codes are the old ones. Edits made on a temporary copy of a weight are lost: did "
                "yours reach the modules that are returned?",
            ),
            Misconception(
                "encoder's bias not rotated",
                _edited(lambda W, b, V, c, R: (R @ W, b, V @ R.T, c)),
                "The encoder's last layer has two parts, and its weight is turned as it should be. What "
                "happens to the rest of z = W h + b?",
            ),
            Misconception(
                "decoder not compensated",
                _edited(lambda W, b, V, c, R: (R @ W, R @ b, V, c)),
                "The decoder must see the old code again, and now it is handed the turned one. Which "
                "matrix takes z @ rotation.T back to z, and where can the decoder apply it?",
            ),
            Misconception(
                "only the encoder's weight",
                _edited(lambda W, b, V, c, R: (R @ W, b, V, c)),
                "One of the three things that have to change is changed. What about the encoder's bias, "
                "and who undoes the rotation before the code is decoded?",
            ),
            Misconception(
                "decoder's weight from the wrong side",
                _edited(lambda W, b, V, c, R: (R @ W, R @ b, R.T @ V, c)),
                "The right matrix on the wrong side: it turns what leaves the decoder's first layer. On "
                "which side of the weight does the code come in?",
            ),
            Misconception(
                "decoder's weight from the wrong side, not inverted",
                _edited(lambda W, b, V, c, R: (R @ W, R @ b, R @ V, c)),
                "In the decoder the rotation stands on the side of the layer's output, and it turns "
                "forwards. On which side does the code come in, and which way must it be turned there?",
            ),
            Misconception(
                "decoder turned the same way",
                _edited(lambda W, b, V, c, R: (R @ W, R @ b, V @ R, c)),
                "The decoder turns the code once more in the same direction instead of turning it back. "
                "What is the inverse of an orthogonal matrix?",
            ),
            Misconception(
                "turned backwards",
                _edited(lambda W, b, V, c, R: (R.T @ W, R.T @ b, V @ R, c)),
                "Encoder and decoder agree with each other, but the codes turned the other way: they are z "
                "@ rotation. Rows of codes are multiplied by rotation.T: what does that make of a single "
                "column z?",
            ),
            Misconception(
                "turned backwards, decoder not compensated",
                _edited(lambda W, b, V, c, R: (R.T @ W, R.T @ b, V, c)),
                "The codes are z @ rotation, the other direction, and the decoder was not told. Try one "
                "thing at a time: codes first. What is z @ rotation.T for a single column z?",
            ),
            Misconception(
                "encoder's weight from the wrong side",
                _edited(lambda W, b, V, c, R: (W @ R, R @ b, V @ R.T, c)),
                "In the encoder the rotation acts on what enters its last layer, not on the code that "
                "leaves it. On which side of the weight is the output?",
            ),
            Misconception(
                "only the decoder, undoing",
                _edited(lambda W, b, V, c, R: (W, b, V @ R.T, c)),
                "The decoder undoes a rotation that never took place. Who turns the codes?",
            ),
            Misconception(
                "only the decoder",
                _edited(lambda W, b, V, c, R: (W, b, V @ R, c)),
                "Only the decoder was changed, but a code is made by the encoder. Which layer gives z?",
            ),
            Misconception(
                "decoder's bias rotated",
                _edited(lambda W, b, V, c, R: (R @ W, R @ b, V @ R.T, R @ c)),
                "Nearly: the decoder's bias was turned too. It is added after the code has gone through "
                "the weight. Does it ever meet the rotated code?",
            ),
        ),
    ),
)

# 1.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def sample_gaussian(mean, covariance, eps):
    """Turn standard normal noise into samples from N(mean, covariance), one for each row of eps.

    mean:       (L,)
    covariance: (L, L), symmetric and positive definite
    eps:        (n, L), drawn from N(0, I)
    result:     (n, L)
    """
    ...'''


def sample_gaussian(mean, covariance, eps):
    root = torch.linalg.cholesky(covariance)  # root @ root.T = covariance
    return mean + eps @ root.T


def _cases_5(rng: torch.Generator) -> list[tuple]:
    def case(mean: list[float], root: list[list[float]]) -> tuple:
        root_ = torch.tensor(root, dtype=torch.float64)
        return torch.tensor(mean, dtype=torch.float64), root_ @ root_.T

    two = case([1.0, -2.0], [[2.0, 0.0], [1.0, 1.0]])  # covariance [[4, 2], [2, 2]]
    return [two, case([0.5, 3.0, -1.0], [[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [2.0, 0.5, 0.5]])]


def _observe_5(attempt: Attempt, mean: Tensor, covariance: Tensor) -> dict[str, Tensor]:
    """Mean and covariance of the samples, exactly: zeros and unit rows tell all of what is affine in eps."""
    size = len(mean)
    eps = torch.cat([torch.zeros(1, size), torch.eye(size), torch.randn(2, size)]).to(mean)
    rows = size + 3
    samples, again, opposite = (_samples_5(attempt, mean, covariance, noise) for noise in (eps, eps, -eps))
    if samples.shape != (rows, size):
        raise NotYet(
            "wrong shape",
            f"With eps of shape ({rows}, {size})\n    expected: shape ({rows}, {size})\n    came:     "
            f"{_shape(samples)}\nOne sample for each row of eps, L numbers each. Which side of the matrix "
            "do the rows of eps stand on?",
        )
    if samples.isfinite().all() and (not close(samples, again) or close(samples, opposite)):
        raise NotYet(
            "eps ignored",
            "The same eps, given twice, must give the same samples, and −eps others; that is not so here. "
            "Where does the randomness come from: from eps, or from noise that your function draws itself?",
        )
    offset, linear = samples[0], samples[1 : size + 1] - samples[0]
    if samples.isfinite().all() and not close(samples, offset + eps.to(samples) @ linear):
        raise NotYet(
            "not linear in eps",
            "Measured: the samples are no linear function of eps, so they are no longer Gaussian with the "
            "given covariance. Each row should be the mean plus a fixed matrix times that row of eps. What "
            "else happens to eps?",
        )
    return {"mean": offset, "covariance": linear.T @ linear}


def _samples_5(attempt: Attempt, mean: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    tensor, complaint = as_tensor(attempt(mean, covariance, eps))
    if complaint:
        raise complaint
    return tensor.detach().cpu().double()


def _explain_5(seen: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    return "\n".join(
        f"    {what} of the samples: expected {numbers_text(expected[what])}, came {numbers_text(seen[what])}"
        for what in ("mean", "covariance")
    )


def _eigen(covariance: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(covariance)
    return values, vectors


EXERCISE_5 = Exercise(
    number="1.5",
    title="Draw from a Gaussian with a given covariance",
    minutes=6,
    stub=STUB_5,
    hints=(
        "In one dimension a sample is mean + standard deviation · eps, and the standard deviation is the "
        "square root of the variance. What could the square root of a covariance matrix be?",
        "Any matrix A with A Aᵀ = covariance will do, for then A eps has the covariance A I Aᵀ. The "
        "Cholesky factor is one: torch.linalg.cholesky. A sample is a row here: what becomes of A eps when "
        "eps is a row?",
        "With A from torch.linalg.cholesky(covariance), one sample as a column is mean + A eps. For rows, "
        "eps comes first and A is transposed.",
    ),
    solution=sample_gaussian,
    passed="Mean and covariance come out exactly; any root of the covariance would do.",
    judge=Compare(
        cases=_cases_5,
        observe=_observe_5,
        explain=_explain_5,
        misconceptions=(
            Misconception(
                "mean forgotten",
                lambda mean, cov, eps: eps @ torch.linalg.cholesky(cov).T,
                "The spread is right; the samples lie around the origin. Where should they lie?",
            ),
            Misconception(
                "standard deviations only",
                lambda mean, cov, eps: mean + eps * cov.diagonal().sqrt(),
                "Each coordinate has the right spread, but they no longer move together. Where did the "
                "numbers off the diagonal go?",
            ),
            Misconception(
                "covariance in place of its root",
                lambda mean, cov, eps: mean + eps @ cov,
                "This spread is the covariance times itself. In one dimension, would you multiply eps by "
                "the variance or by its root?",
            ),
            Misconception(
                "root on the wrong side",
                lambda mean, cov, eps: mean + eps @ torch.linalg.cholesky(cov),
                "The right factor, not the right way round: rows times A have covariance Aᵀ A. Which "
                "product did the factor promise: A Aᵀ or Aᵀ A?",
            ),
            Misconception(
                "variances in place of standard deviations",
                lambda mean, cov, eps: mean + eps * cov.diagonal(),
                "Only the variances were used, and without a root. Two questions: what turns a variance "
                "into a standard deviation, and where did the numbers off the diagonal go?",
            ),
            Misconception(
                "covariance ignored",
                lambda mean, cov, eps: mean + eps,
                "This is the noise, moved to the mean, with covariance I. (Eigenvectors alone do the same: "
                "they turn the noise, and a ball looks the same from every side.) What stretches it?",
            ),
            Misconception(
                "root of each entry",
                lambda mean, cov, eps: mean + eps @ cov.sqrt(),
                "The root was taken of every entry on its own. Multiply that by its own transpose: does it "
                "give the covariance?",
            ),
            Misconception(
                "eigenvectors on the wrong side",
                lambda mean, cov, eps: mean + eps @ (_eigen(cov)[1] * _eigen(cov)[0].sqrt()),
                "The eigenvalues are the right spreads, but along the coordinate axes. The spread should "
                "lie along the eigenvectors: on which side do they stand when samples are rows?",
            ),
            Misconception(
                "inverse root",
                lambda mean, cov, eps: (
                    mean + torch.linalg.solve_triangular(torch.linalg.cholesky(cov).T, eps.T, upper=True).T
                ),
                "This spread is the inverse of the covariance: wide where it should be narrow. Was the "
                "root divided by, or taken from the precision matrix?",
            ),
            Misconception(
                "divided by the root",
                lambda mean, cov, eps: (
                    mean + torch.linalg.solve_triangular(torch.linalg.cholesky(cov), eps.T, upper=False).T
                ),
                "Dividing by the root takes the correlation out of samples that have it; eps has none. Which "
                "operation puts it in?",
            ),
        ),
    ),
)

# 1.6 -----------------------------------------------------------------------------------------------

STUB_6 = '''\
def denoising_loss(autoencode, x, noise):
    """Return the denoising loss: x plus noise, clamped to [0, 1], goes in; the clean x should come out.

    autoencode: function or module, images -> reconstructions of the same shape
    x, noise:   (B, ...), x in [0, 1]
    result:     one number, the squared error summed over pixels and averaged over the batch
    """
    ...'''


def denoising_loss(autoencode, x, noise):
    noisy = (x + noise).clamp(0, 1)
    error = (autoencode(noisy) - x) ** 2
    return error.flatten(start_dim=1).sum(dim=1).mean()


class ToyAutoencoder(nn.Module):
    """Mixes each pixel with its image's mean; one weight, any shape of image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.6, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))
        return self.weight * x + 0.3 * mean + 0.35


def _cases_6(rng: torch.Generator) -> list[tuple]:
    x = torch.tensor([[0.0, 1.0, 0.4], [0.7, 0.2, 0.9]], dtype=torch.float64)
    noise = torch.tensor([[0.3, 0.5, -0.2], [-0.9, 0.1, 0.4]], dtype=torch.float64)
    images = torch.randint(0, 11, (3, 1, 2, 2), generator=rng).double() / 10
    more_noise = torch.randint(-8, 9, (3, 1, 2, 2), generator=rng).double() / 10
    return [(ToyAutoencoder(), x, noise), (ToyAutoencoder(), images, more_noise)]


def _trains_6(attempt: Attempt, cases: Any) -> None:
    autoencode, x, noise = (attempt.prepare(argument) for argument in cases[0])
    loss = attempt.run(attempt.answer, autoencode, x, noise, doing="with a small autoencoder to be trained")
    require_gradient(loss, list(autoencode.parameters()), "the autoencoder's weights")


def _squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    return reconstruction_error(x, x_hat).mean()


def _noisy(x: Tensor, noise: Tensor) -> Tensor:
    return (x + noise).clamp(0, 1)


EXERCISE_6 = Exercise(
    number="1.6",
    title="The denoising loss",
    minutes=6,
    stub=STUB_6,
    hints=(
        "Three images are in play: the clean one, the noisy one and the reconstruction. Which one goes "
        "into the autoencoder, and which two are compared?",
        "Add the noise, bring the sum back to [0, 1] with clamp, reconstruct that. Then compare the "
        "reconstruction with the clean x, as in exercise 1.1, and average over the images.",
        "With noisy = x + noise, clamped to [0, 1]: take the squared difference between autoencode(noisy) "
        "and x, sum it over the pixels of each image (as in 1.1), then take the mean of the B numbers.",
    ),
    solution=denoising_loss,
    passed="The autoencoder sees the noisy image and answers for the clean one.",
    judge=Compare(
        cases=_cases_6,
        also=_trains_6,
        misconceptions=(
            Misconception(
                "target is the noisy image",
                lambda f, x, noise: _squared_error(f(_noisy(x, noise)), _noisy(x, noise)),
                "The reconstruction is compared with the noisy image, so the noise itself is rewarded. "
                "What should a denoiser have given back?",
            ),
            Misconception(
                "target is the noisy image, not clamped",
                lambda f, x, noise: _squared_error(f(x + noise), x + noise),
                "The reconstruction is compared with x + noise. Two questions: what should a denoiser give "
                "back, and do the noisy pixels stay in [0, 1]?",
            ),
            Misconception(
                "noise added to the reconstruction",
                lambda f, x, noise: _squared_error(f(x) + noise, x),
                "The noise arrives after the autoencoder has done its work. Which image is it that should be damaged?",
            ),
            Misconception(
                "noise added to the reconstruction, clamped",
                lambda f, x, noise: _squared_error(_noisy(f(x), noise), x),
                "The reconstruction was made noisy, and the autoencoder saw a clean image. At which end "
                "does the noise come in?",
            ),
            Misconception(
                "noise unused",
                lambda f, x, noise: _squared_error(f(x), x),
                "This is the plain reconstruction loss: the autoencoder saw the clean image. Where does "
                "the noise come in?",
            ),
            Misconception(
                "clean in, noisy target",
                lambda f, x, noise: _squared_error(f(x), _noisy(x, noise)),
                "Clean image in, noisy image as the target: that trains the opposite of a denoiser. Which "
                "of the two does it get, and which should it give?",
            ),
            Misconception(
                "not clamped",
                lambda f, x, noise: _squared_error(f(x + noise), x),
                "All is right but the pixels of the noisy image: some lie below 0 or above 1. What keeps "
                "them in range?",
            ),
            Misconception(
                "mean over pixels",
                lambda f, x, noise: ((f(_noisy(x, noise)) - x) ** 2).mean(),
                "The right images are compared, but the pixels were averaged too. Which axes are summed, "
                "and which one is averaged?",
            ),
            Misconception(
                "sum over the batch",
                lambda f, x, noise: ((f(_noisy(x, noise)) - x) ** 2).sum(),
                "The right images are compared, but the batch was summed, so twice the images cost twice "
                "as much. What makes the loss independent of the batch size?",
            ),
            Misconception(
                "one number per image",
                lambda f, x, noise: reconstruction_error(x, f(_noisy(x, noise))),
                "The error of each image is right. One last step: what turns the B numbers into one?",
            ),
            Misconception(
                "autoencoder unused",
                lambda f, x, noise: _squared_error(_noisy(x, noise), x),
                "This measures how much damage the noise did; the autoencoder never ran. What should be "
                "done to the noisy image before it is compared?",
            ),
            Misconception(
                "autoencoder unused, not clamped",
                lambda f, x, noise: _squared_error(x + noise, x),
                "This is the size of the noise alone. Where is the autoencoder asked to remove it?",
            ),
            Misconception(
                "reconstruction clamped",
                lambda f, x, noise: _squared_error(f(x + noise).clamp(0, 1), x),
                "The clamp stands behind the autoencoder here, not before it. Which image is it that must "
                "stay in [0, 1]?",
            ),
            Misconception(
                "both clamped",
                lambda f, x, noise: _squared_error(f(_noisy(x, noise)).clamp(0, 1), x),
                "The noisy image is clamped, as it should be, and the reconstruction as well. What gradient does "
                "a pixel get whose reconstruction lies above 1?",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5, EXERCISE_6)
