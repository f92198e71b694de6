"""The exercises of notebook 01: right answers pass, wrong ones are told apart."""

import copy
import itertools
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.teaching.exercises import Attempt, find, grade, reference
from course_utils.teaching.exercises.notebook_01 import _break

DTYPES = [torch.float32, torch.float64]


def said_about(number, answer):
    return " ".join(grade(number, answer).message.split())


# Right answers, written differently --------------------------------------------------------------------


def error_by_loops(x, x_hat):
    result = torch.zeros(len(x), dtype=x.dtype)
    for i, (image, other) in enumerate(zip(x.flatten(1), x_hat.flatten(1), strict=True)):
        for a, b in zip(image, other, strict=True):
            result[i] = result[i] + (a - b) ** 2
    return result


def error_in_place_on_a_copy(x, x_hat):
    difference = x_hat.clone()
    difference -= x
    return difference.pow_(2).sum(dim=tuple(range(1, x.dim())))


def error_by_einsum(x, x_hat):
    d = (x - x_hat).reshape(x.shape[0], -1)
    return torch.einsum("bd,bd->b", d, d)


def pca_by_loops(x, components, mean):
    result = torch.zeros_like(x) + mean
    for i, row in enumerate(x):
        for w in components:
            result[i] += torch.dot(row - mean, w) * w
    return result


def pca_in_place_on_a_copy(x, components, mean):
    y = x.clone()
    y -= mean
    y = y @ (components.T @ components)
    y += mean
    return y


def pca_by_einsum(x, components, mean):
    return mean + torch.einsum("bd,ld,le->be", x - mean, components, components)


def pca_by_least_squares(x, components, mean):
    codes = torch.linalg.lstsq(components.T, (x - mean).T).solution
    return (components.T @ codes).T + mean


def stack(activation, *, bias=True, extra=(), tail=()):
    def build(i, h, latent):
        encoder = [*extra, nn.Linear(i, h, bias=bias), activation(), nn.Linear(h, latent, bias=bias), *tail]
        decoder = [nn.Linear(latent, h, bias=bias), activation(), nn.Linear(h, i, bias=bias), *tail]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)

    return build


class Net(nn.Module):
    def __init__(self, a, b, c, end=None):
        super().__init__()
        self.inner, self.outer, self.end = nn.Linear(a, b), nn.Linear(b, c), end

    def forward(self, x):
        y = self.outer(torch.relu(self.inner(x)))
        return self.end(y) if self.end else y


def deep(i, h, latent):
    encoder = [nn.Linear(i, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, h), nn.Dropout(0.1), nn.ReLU()]
    return nn.Sequential(*encoder, nn.Linear(h, latent)), Net(latent, h, i)


def normalised(i, h, latent):
    encoder = [nn.Linear(i, h), nn.BatchNorm1d(h), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(h, latent)]
    decoder = [nn.Linear(latent, h), nn.LayerNorm(h), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(h, i)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def narrow_beginning(activation):
    """The decoder's first hidden layer is as narrow as the code: flat in large regions, but not along the axes."""

    def build(i, h, latent):
        encoder = [nn.Linear(i, h), activation(), nn.Linear(h, latent), nn.Linear(latent, latent)]
        decoder = [nn.Linear(latent, latent), activation(), nn.Linear(latent, h), activation(), nn.Linear(h, i)]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)

    return build


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Spare(Net):
    """Has a layer that never runs."""

    def __init__(self, *widths):
        super().__init__(*widths)
        self.unused = nn.Linear(3, 3)


def rotate_with_linear_layers(encoder, decoder, rotation):
    size = len(rotation)
    turn, back = (nn.Linear(size, size, bias=False, dtype=rotation.dtype) for _ in range(2))
    turn.weight.data, back.weight.data = rotation.clone(), rotation.T.clone()
    return nn.Sequential(*encoder, turn), nn.Sequential(back, *decoder)


def rotate_with_new_parameters(encoder, decoder, rotation):
    encoder, decoder = copy.deepcopy(encoder), copy.deepcopy(decoder)
    encoder[-1].weight = nn.Parameter(torch.einsum("ij,jk->ik", rotation, encoder[-1].weight))
    encoder[-1].bias = nn.Parameter(encoder[-1].bias @ rotation.T)
    decoder[0].weight = nn.Parameter(decoder[0].weight @ torch.linalg.inv(rotation))
    return [encoder, decoder]


class Rotated(nn.Module):
    def __init__(self, encoder, rotation):
        super().__init__()
        self.encoder, self.rotation = copy.deepcopy(encoder), rotation

    def forward(self, x):
        return self.encoder(x) @ self.rotation.T


def rotate_with_modules(encoder, decoder, rotation):
    class Unrotated(nn.Module):
        def forward(self, z):
            return decoder(z @ rotation)

    return Rotated(encoder, rotation), Unrotated()


def gaussian_by_symmetric_root(mean, covariance, eps):
    values, vectors = torch.linalg.eigh(covariance)
    return eps @ (vectors * values.sqrt() @ vectors.T) + mean


def gaussian_by_eigenvectors(mean, covariance, eps):
    values, vectors = torch.linalg.eigh(covariance)
    return torch.einsum("nl,kl->nk", eps, vectors * values.sqrt()) + mean


def gaussian_by_upper_root(mean, covariance, eps):
    return mean + eps @ torch.linalg.cholesky(covariance, upper=True)


def gaussian_by_loops(mean, covariance, eps):
    root = torch.linalg.cholesky(covariance)
    return torch.stack([mean + root @ row for row in eps])


def gaussian_by_distribution(mean, covariance, eps):
    law = torch.distributions.MultivariateNormal(mean, covariance)
    return law.loc + (law.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)


def denoising_by_loops(autoencode, x, noise):
    x_hat = autoencode(torch.clip(x + noise, min=0.0, max=1.0))
    return sum(F.mse_loss(a, b, reduction="sum") for a, b in zip(x_hat, x, strict=True)) / len(x)


def denoising_in_place_on_a_copy(autoencode, x, noise):
    noisy = x.clone()
    noisy += noise
    noisy.clamp_(0, 1)
    return (x - autoencode(noisy)).square().sum() / x.shape[0]


def denoising_flat(autoencode, x, noise):
    flat = x.flatten(1)
    noisy = (flat + noise.flatten(1)).clamp(min=0).clamp(max=1)
    return ((autoencode(noisy) - flat) ** 2).mean() * flat.shape[1]


RIGHT = {
    "1.1": [
        error_by_loops,
        error_in_place_on_a_copy,
        error_by_einsum,
        lambda x, x_hat: F.mse_loss(x_hat, x, reduction="none").flatten(1).sum(1),
        lambda x, x_hat: ((x.double() - x_hat.double()) ** 2).flatten(1).sum(-1),
        lambda x, x_hat: (x - x_hat).flatten(1).norm(dim=1) ** 2,
        lambda x, x_hat: error_by_einsum(x.detach(), x_hat),
    ],
    "1.2": [
        pca_by_loops,
        pca_in_place_on_a_copy,
        pca_by_einsum,
        pca_by_least_squares,
        lambda x, components, mean: (x - mean).double() @ components.double().T @ components.double() + mean,
    ],
    "1.3": [
        *(stack(activation) for activation in (nn.LeakyReLU, nn.GELU, nn.Tanh, nn.ELU, nn.SiLU, nn.Sigmoid)),
        stack(nn.ReLU, bias=False),
        stack(nn.ReLU, extra=[nn.Flatten()], tail=[nn.Identity()]),
        lambda i, h, latent: [Net(i, h, latent), Net(latent, h, i)],
        lambda i, h, latent: (Spare(i, h, latent), Spare(latent, h, i)),
        deep,
        normalised,
        stack(Sine),
        *(stack(activation) for activation in (nn.PReLU, nn.Hardtanh, nn.ReLU6, nn.Softplus, nn.Softsign)),
        *(narrow_beginning(activation) for activation in (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU)),
    ],
    "1.4": [rotate_with_linear_layers, rotate_with_new_parameters, rotate_with_modules],
    "1.5": [
        gaussian_by_symmetric_root,
        gaussian_by_eigenvectors,
        gaussian_by_upper_root,
        gaussian_by_loops,
        gaussian_by_distribution,
        lambda mean, covariance, eps: find("1.5").solution(mean.double(), covariance.double(), eps.double()),
        lambda mean, covariance, eps: mean - eps @ torch.linalg.cholesky(covariance).T,  # eps has no sign
    ],
    "1.6": [denoising_by_loops, denoising_in_place_on_a_copy, denoising_flat],
}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_answer_that_moves_to_the_gpu_passes():
    result = grade("1.1", lambda x, x_hat: error_by_einsum(x.cuda(), x_hat.cuda()))
    assert result.status == "passed"


def test_the_freely_written_networks_pass_for_many_initial_weights():
    for seed, build in itertools.product(range(3), RIGHT["1.3"]):

        def seeded(i, h, latent, seed=seed, build=build):
            torch.manual_seed(seed)
            return build(i, h, latent)

        assert (result := grade("1.3", seeded)).status == "passed", result.message


def lazy(i, h, latent):
    encoder = [nn.LazyLinear(h), nn.ReLU(), nn.LazyLinear(latent)]
    return nn.Sequential(*encoder), nn.Sequential(nn.LazyLinear(h), nn.ReLU(), nn.LazyLinear(i))


def lazy_with_fixed_hidden_layer(i, h, latent):
    encoder = nn.Sequential(nn.LazyLinear(20), nn.ReLU(), nn.LazyLinear(latent))
    return encoder, lazy(i, h, latent)[1]


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_lazy_layers_are_counted_after_they_have_run(dtype):
    assert (result := grade("1.3", lazy, dtype=dtype)).status == "passed", result.message
    assert grade("1.3", lazy_with_fixed_hidden_layer, dtype=dtype).diagnosis == "hidden_dim unused in the encoder"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("device", [*DEVICES, "meta"])  # on "meta", a tensor made elsewhere would raise
def test_solutions_lent_to_the_notebook_keep_dtype_and_device(device, dtype):
    def tensor(*shape):
        return torch.rand(shape, dtype=dtype, device=device)

    samples = reference("1.5")(tensor(3), torch.eye(3, dtype=dtype, device=device), tensor(5, 3))
    loss = reference("1.6")(nn.Identity(), tensor(2, 1, 28, 28), tensor(2, 1, 28, 28))
    for result, shape in ((samples, (5, 3)), (loss, ())):
        assert (result.dtype, result.device.type, result.shape) == (dtype, device, shape)


# Wrong answers, each with its own diagnosis ------------------------------------------------------------


def wrong_pair(**changes):
    """A builder of autoencoders that is right but for what is changed: (i, h, latent) -> list of layers."""
    parts = {
        "encoder": lambda i, h, latent: [nn.Linear(i, h), nn.ReLU(), nn.Linear(h, latent)],
        "decoder": lambda i, h, latent: [nn.Linear(latent, h), nn.ReLU(), nn.Linear(h, i)],
    } | changes

    def build(i, h, latent):
        return nn.Sequential(*parts["encoder"](i, h, latent)), nn.Sequential(*parts["decoder"](i, h, latent))

    return build


def with_end(which, *end):
    right = {"encoder": lambda i, h, n: (i, h, n), "decoder": lambda i, h, n: (n, h, i)}[which]

    def layers(i, h, n):
        a, b, c = right(i, h, n)
        return [nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), *end]

    return wrong_pair(**{which: layers})


def with_hidden(which, activation):
    right = {"encoder": lambda i, h, n: (i, h, n), "decoder": lambda i, h, n: (n, h, i)}[which]

    def layers(i, h, n):
        a, b, c = right(i, h, n)
        return [nn.Linear(a, b), activation, nn.Linear(b, c)]

    return wrong_pair(**{which: layers})


def with_start(*start):
    return wrong_pair(decoder=lambda i, h, n: [*start, nn.Linear(n, h), nn.ReLU(), nn.Linear(h, i)])


class Cut(nn.Module):
    def forward(self, x):
        return x.detach()


class Mute(nn.Module):
    def forward(self, x):
        self.result = x


class Chain(nn.Module):
    """Modules and functions, one after the other."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = steps

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


class Hidden(nn.Module):
    """Keeps its layers where parameters() does not look."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = list(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def swapped(i, h, n):
    encoder, decoder = wrong_pair()(i, h, n)
    return decoder, encoder


def tied(i, h, n):
    class Decoder(nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, z):
            return torch.relu(z @ self.encoder[2].weight) @ self.encoder[0].weight

    encoder, _ = wrong_pair()(i, h, n)
    return encoder, Decoder(encoder)


def one_layer_in_both(i, h, n):
    shared = nn.Linear(h, h)
    encoder = nn.Sequential(nn.Linear(i, h), shared, nn.ReLU(), nn.Linear(h, n))
    return encoder, nn.Sequential(nn.Linear(n, h), shared, nn.ReLU(), nn.Linear(h, i))


def frozen(i, h, n):
    encoder, decoder = wrong_pair()(i, h, n)
    return encoder.requires_grad_(False), decoder


def one_bias_frozen(i, h, n):
    encoder, decoder = wrong_pair()(i, h, n)
    decoder[0].bias.requires_grad_(False)
    return encoder, decoder


WRONG_PAIRS = [
    ("returns nothing", lambda i, h, n: wrong_pair()(i, h, n) and None),
    ("not a pair", lambda i, h, n: wrong_pair()(i, h, n)[0]),
    ("not a pair", lambda i, h, n: nn.Sequential(*wrong_pair()(i, h, n))),
    ("not a pair", lambda i, h, n: (*wrong_pair()(i, h, n), None)),
    ("not modules", lambda i, h, n: tuple(part.forward for part in wrong_pair()(i, h, n))),
    ("not modules", lambda i, h, n: (Net, Net)),
    ("shared weights", lambda i, h, n: (wrong_pair()(i, h, n)[0],) * 2),
    ("shared weights", tied),
    ("shared weights", one_layer_in_both),
    ("in the other order", swapped),
    ("encoder stops at the hidden layer", wrong_pair(encoder=lambda i, h, n: [nn.Linear(i, h), nn.ReLU()])),
    ("encoder gives images", lambda i, h, n: (Net(i, h, i), Net(n, h, i))),
    ("latent_dim unused", lambda i, h, n: wrong_pair()(i, h, 32)),
    ("decoder stops at the hidden layer", wrong_pair(decoder=lambda i, h, n: [nn.Linear(n, h), nn.ReLU()])),
    ("input_dim unused", lambda i, h, n: (wrong_pair()(i, h, n)[0], wrong_pair()(784, h, n)[1])),
    *(("a module returns nothing", with_end(which, Mute())) for which in ("encoder", "decoder")),
    *(("a list or tuple", with_end(which, Chain(lambda y: (y, y)))) for which in ("encoder", "decoder")),
    ("no weights in the encoder", lambda i, h, n: (Hidden(nn.Linear(i, h), nn.Linear(h, n)), Net(n, h, i))),
    ("no weights in the decoder", lambda i, h, n: (Net(i, h, n), Hidden(nn.Linear(n, h), nn.Linear(h, i)))),
    ("frozen encoder", frozen),
    ("frozen decoder", one_bias_frozen),
    *((f"no gradient in the {which}", with_end(which, Cut())) for which in ("encoder", "decoder")),
    *((f"no gradient in the {which}", with_hidden(which, Chain(nn.ReLU(), Cut()))) for which in ("encoder", "decoder")),
    ("hidden_dim unused in the encoder", wrong_pair(encoder=lambda i, h, n: [nn.Linear(i, n)])),
    ("hidden_dim unused in the decoder", lambda i, h, n: (Net(i, h, n), Net(n, 64, i))),
    ("no activation in the encoder", wrong_pair(encoder=lambda i, h, n: [nn.Linear(i, h), nn.Linear(h, n)])),
    ("no activation in the decoder", wrong_pair(decoder=lambda i, h, n: [nn.Linear(n, h), nn.Linear(h, i)])),
    ("no activation in the encoder", with_hidden("encoder", nn.LeakyReLU(0.9997))),
    ("no activation in the decoder", with_hidden("decoder", nn.LeakyReLU(0.9992))),
    ("one-sided output of the encoder", with_end("encoder", nn.GELU())),
    ("one-sided output of the encoder", with_end("encoder", nn.LeakyReLU())),
    ("squashed output of the encoder", with_end("encoder", nn.Tanh())),
    ("squashed output of the decoder", with_end("decoder", nn.Sigmoid())),
    ("squashed output of the decoder", with_end("decoder", nn.Tanh())),
    ("squashed output of the decoder", with_end("decoder", nn.Softmax(dim=1))),
    *(
        (f"one-sided output of the {which}", with_end(which, end))
        for which in ("encoder", "decoder")
        for end in (nn.ReLU(), nn.LogSigmoid(), nn.LeakyReLU(0.04))
    ),
    *(
        (f"bent output of the {which}", with_end(which, nn.LeakyReLU(slope)))
        for which in ("encoder", "decoder")
        for slope in (0.08, 0.2, 0.8)
    ),
    ("bent output of the encoder", with_end("encoder", nn.PReLU())),
    (
        "decoder begins with an activation",
        wrong_pair(
            decoder=lambda i, h, n: [Chain(lambda z: F.softsign(z / 2)), Net(n, h, i), Chain(lambda y: 100 * y)]
        ),
    ),
    *(
        ("decoder begins with an activation", with_start(activation))
        for activation in (
            *(nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.SiLU(), nn.ELU()),
            *(nn.LeakyReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(0.8), nn.Softplus(), nn.Softsign(), nn.LogSigmoid()),
        )
    ),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_bends_just_large_enough_and_ends_just_straight_enough_pass(dtype):
    for build in (
        with_hidden("encoder", nn.LeakyReLU(0.9995)),
        with_hidden("decoder", nn.LeakyReLU(0.9989)),
        *(with_end(which, nn.LeakyReLU(0.83)) for which in ("encoder", "decoder")),
        with_start(nn.LeakyReLU(0.83)),
        with_start(Chain(lambda z: F.softsign(z / 3))),  # codes of 1000 and more still make a difference, of 0.1 %
    ):
        assert (result := grade("1.3", build, dtype=dtype)).status == "passed", result.message


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda i, h, n: (*wrong_pair()(i, h, n), None), "encoder and decoder; a tuple of 3 came back"),
        (lambda i, h, n: nn.Sequential(*wrong_pair()(i, h, n)), "encoder and decoder; a Sequential came back"),
        (lambda i, h, n: (Net, Net), "they are Net and Net; two nn.Module objects"),
        (  # 6 · 2 + 2 and 2 · 64 + 64 + 64 · 6 + 6 weights
            lambda i, h, n: (nn.Linear(i, n), Net(n, h, i)),
            "With hidden_dim = 16 the encoder has 14 weights, with hidden_dim = 32 it has 14.",
        ),
        (
            lambda i, h, n: (Net(i, h, n), Net(n, 64, i)),
            "With hidden_dim = 16 the decoder has 582 weights, with hidden_dim = 32 it has 582.",
        ),
        (
            lambda i, h, n: (nn.Linear(i, h), Net(n, h, i)),
            "With input_dim = 6, hidden_dim = 16, latent_dim = 2, 7 rows of x "
            "expected: codes of shape (7, 2) came: shape (7, 16) The code is as wide",
        ),
        (
            lambda i, h, n: (Net(i, h, n), Net(n, h, 784)),
            "latent_dim = 2, 7 codes expected: images of shape (7, 6) came: shape (7, 784) Does",
        ),
        (
            with_end("encoder", nn.Tanh()),
            "from -1 to 1. It always stays between −1 and 1, but nothing should hold the codes",
        ),
        (
            with_end("encoder", nn.Sigmoid()),
            "from 0 to 1. It always stays between 0 and 1, but nothing should hold the codes",
        ),
        (with_end("decoder", nn.Sigmoid()), "the decoder's output ranges from 0 to 1. It always stays between 0 and 1"),
        (
            with_end("decoder", nn.Sigmoid()),
            "nothing should hold the pixels back. What is the last thing the decoder does?",
        ),
        (with_end("encoder", nn.ReLU()), "codes should be free to go both ways"),
        (with_end("decoder", nn.ReLU()), "pixels should be free to go both ways"),
        (with_end("encoder", nn.LeakyReLU(0.2)), "codes should be free to go both ways"),
        (with_end("decoder", nn.LeakyReLU(0.2)), "pixels should be free to go both ways"),
    ],
)
def test_what_was_measured_on_the_networks_is_said(build, words):
    assert words in said_about("1.3", build)


@pytest.mark.parametrize("slope", [0.08, 0.2, 0.8])
def test_the_slopes_on_both_sides_of_a_bend_are_said(slope):
    ratios = []
    for build in (with_start(nn.LeakyReLU(slope)), with_end("encoder", nn.LeakyReLU(slope))):
        message = said_about("1.3", build)
        before, after = map(float, re.search(r"for example from (\S+) to (\S+)\. ", message).groups())
        ratios.append(before / after)
    assert ratios[0] == pytest.approx(slope, rel=0.02)  # a number of the code rises through 0
    assert min(ratios[1], 1 / ratios[1]) == pytest.approx(slope, rel=0.02)  # an output goes either way


def test_the_slopes_that_are_said_are_those_of_one_input():
    network = Chain(nn.LeakyReLU(0.25), lambda z: 4 * z)
    at, step = torch.zeros(50, 1), torch.ones(50, 1)
    attempt = Attempt(network, ("z",))
    assert _break(attempt, network, at, step, 0, "decoder") == "at once, for example from 1 to 4"
    assert _break(attempt, network, at, -step, 0, "decoder") == "at once, for example from -4 to -1"
    assert _break(attempt, network, at + 1, step, 0, "decoder") is None


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        (nn.ReLU(), "All negative codes that were tried decode to the same image."),
        (Chain(lambda z: -torch.relu(-z)), "All positive codes that were tried decode to the same image."),
        (
            nn.Tanh(),
            "All codes with the same signs and with numbers from 1000 to 100000 in size decode to the same image.",
        ),
        (nn.LeakyReLU(0.2), "where a number of the code goes through 0, the image's slope changes at once"),
    ],
)
def test_what_was_measured_on_a_decoder_that_begins_with_an_activation_is_said(activation, words):
    message = said_about("1.3", with_start(activation))
    assert words in message and "Does the decoder begin with an activation?" in message


def test_activations_on_the_code_are_found_for_many_initial_weights():
    for seed, activation in itertools.product(range(3), (nn.ReLU, nn.Tanh, lambda: nn.LeakyReLU(0.2))):
        for build in (with_start(activation()), with_end("encoder", activation())):

            def seeded(i, h, latent, seed=seed, build=build):
                torch.manual_seed(seed)
                return build(i, h, latent)

            assert grade("1.3", seeded).status == "not yet"


def test_a_decoder_that_takes_images_raises_where_it_was_called():
    result = grade("1.3", lambda i, h, n: (Net(i, h, n), Net(i, h, i)))
    assert result.status == "raised"
    assert "in decoder(z) with z of shape (7, 2)" in " ".join(result.message.split())


class Scaled(Net):
    """Between the square of a weight, which is 1, and one and a half times that."""

    def __init__(self, *widths):
        super().__init__(*widths)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.weight**2 * (1 + 0.5 * torch.sigmoid(super().forward(x)))


def test_weights_and_codes_are_as_large_as_the_messages_say():
    words = "With weights 100 times larger and of random sign, the encoder's output ranges from 1e+04 to 1.5e+04."
    assert words in said_about("1.3", lambda i, h, n: (Scaled(i, h, n), Net(n, h, i)))

    seen = []
    words = "numbers from 1000 to 100000 in size"
    assert words in said_about("1.3", with_start(Chain(lambda z: seen.append(z.abs()) or torch.tanh(z))))
    sizes = torch.cat([z for z in seen if len(z) and z.min() > 500])
    assert 1000 <= sizes.min() < 1100 and 90_000 < sizes.max() <= 100_000


def test_what_goes_beyond_one_is_not_said_to_stay_between_minus_one_and_one():
    for which in ("encoder", "decoder"):
        assert "It always stays" not in said_about("1.3", with_end(which, nn.Hardtanh(-1.01, 1.01)))


def test_only_a_pair_that_runs_the_other_way_round_is_in_the_other_order():
    for build in (lambda i, h, n: (Net(n, h, n), Net(n, h, i)), lambda i, h, n: (Net(99, h, n), Net(i, h, i))):
        result = grade("1.3", build)
        assert result.status == "raised"
        assert "in encoder(x) with x of shape (7, 6)" in " ".join(result.message.split())


def rotates_the_originals(encoder, decoder, rotation):
    with torch.no_grad():
        encoder[-1].weight.copy_(rotation @ encoder[-1].weight)
        encoder[-1].bias.copy_(rotation @ encoder[-1].bias)
        decoder[0].weight.copy_(decoder[0].weight @ rotation.T)
    return encoder, decoder


def rotates_one_original(encoder, decoder, rotation):
    new_encoder, _ = find("1.4").solution(encoder, decoder, rotation)
    with torch.no_grad():
        decoder[0].weight.copy_(decoder[0].weight @ rotation.T)
    return new_encoder, decoder


def noises_the_original(autoencode, x, noise):
    clean = x.clone()
    noisy = x.add_(noise).clamp_(0, 1)
    return ((autoencode(noisy) - clean) ** 2).sum() / len(x)


def image_by_image(measure):
    return lambda x, x_hat: torch.stack([measure(a, b) for a, b in zip(x, x_hat, strict=True)])


def lost_log_density(image, other):
    """By how much the log-density of a Gaussian with variance 1 around the image falls: half the squared error."""
    law = torch.distributions.Normal(image, 1.0)
    return (law.log_prob(image) - law.log_prob(other)).sum()


def projected(rows, directions):
    return sum(torch.outer(torch.mv(rows, w), w) for w in directions)


def left_over(rows, directions):
    """The projection onto all directions at right angles to those given."""
    return projected(rows, torch.linalg.svd(directions).Vh[len(directions) :])


def batch_mixed_by_the_components(x, W, m):
    products = torch.stack([torch.mv(W, w) for w in W])  # (L, L), which takes the batch for L axes
    return torch.stack([sum(p * row for p, row in zip(ps, x - m, strict=True)) for ps in products]) + m


def around_the_mean_of_the_batch(x, W, m):
    own = sum(x.unbind()) / len(x)
    return own + projected(x - own, W)


def by_steps(code, first):
    """An answer to 1.4 that leaves all weights alone and works on what passes through.

    code: (hidden layer's output, encoder's last layer, R) -> code; first: (code, decoder's first layer, R) -> output
    """
    return lambda e, d, R: (
        Chain(e[:-1], lambda h: code(h, e[-1], R)),
        Chain(lambda z: first(z, d[0], R), d[1:]),
    )


def code_as_it_was(h, last, R):
    return last(h)


def code_turned(h, last, R):
    return last(h) @ R.T


def code_turned_backwards(h, last, R):
    return last(h) @ R


def code_turned_without_its_bias(h, last, R):
    return (last(h) - last.bias) @ R.T + last.bias


def code_of_turned_features(h, last, R):
    return F.linear(h @ R.T, last.weight) + last.bias @ R.T


def first_as_it_was(z, first, R):
    return first(z)


def first_turns_back(z, first, R):
    return first(z @ R)


def first_turns_on(z, first, R):
    return first(z @ R.T)


def first_turns_its_output_back(z, first, R):
    return F.linear(z, first.weight) @ R + first.bias


def first_turns_its_output_on(z, first, R):
    return F.linear(z, first.weight) @ R.T + first.bias


def first_turns_back_and_its_bias_on(z, first, R):
    return F.linear(z @ R, first.weight) + first.bias @ R.T


def root_of_each_entry(m, c, eps):
    root = torch.tensor([[math.sqrt(entry) for entry in row] for row in c.tolist()], dtype=c.dtype)
    return torch.stack([m + root @ row for row in eps])


def eigenvectors_first(m, c, eps):
    values, vectors = torch.linalg.eigh(c)
    return torch.stack([m + torch.diag(values**0.5) @ vectors.T @ row for row in eps])


def from_the_precision(m, c, eps):
    return m + eps @ torch.distributions.MultivariateNormal(m, precision_matrix=c).scale_tril.T


def summed_then_averaged(x_hat, x):
    return F.mse_loss(x_hat, x, reduction="sum") / len(x)


def cut(image):
    return torch.minimum(torch.maximum(image, torch.zeros_like(image)), torch.ones_like(image))


WRONG_SPREADS = [  # with the covariance of the samples where [[4, 2], [2, 2]] was asked, worked out by hand
    ("mean forgotten", lambda m, c, eps: gaussian_by_distribution(0 * m, c, eps), "[[4, 2], [2, 2]]"),
    (
        "standard deviations only",
        lambda m, c, eps: torch.stack([m[j] + math.sqrt(c[j, j]) * eps[:, j] for j in range(len(m))], dim=1),
        "[[4, 0], [0, 2]]",
    ),
    (
        "covariance in place of its root",
        lambda m, c, eps: torch.stack([m + c @ row for row in eps]),
        "[[20, 12], [12, 8]]",
    ),
    (
        "root on the wrong side",
        lambda m, c, eps: torch.stack([m + row @ torch.linalg.cholesky(c) for row in eps]),
        "[[5, 1], [1, 1]]",
    ),
    (
        "variances in place of standard deviations",
        lambda m, c, eps: torch.stack([m[j] + c[j, j] * eps[:, j] for j in range(len(m))], dim=1),
        "[[16, 0], [0, 4]]",
    ),
    ("covariance ignored", lambda m, c, eps: m + eps, "[[1, 0], [0, 1]]"),
    ("root of each entry", root_of_each_entry, "[[6, 4.828], [4.828, 4]]"),  # 2 + 2√2
    ("eigenvectors on the wrong side", eigenvectors_first, "[[0.7639, 0], [0, 5.236]]"),  # 3 ∓ √5
    ("inverse root", from_the_precision, "[[0.5, -0.5], [-0.5, 1]]"),
    (
        "divided by the root",
        lambda m, c, eps: torch.stack([m + torch.linalg.solve(torch.linalg.cholesky(c), row) for row in eps]),
        "[[0.25, -0.25], [-0.25, 1.25]]",
    ),
]

# Written as a learner would, not as the misconceptions are.
WRONG = [
    *(("1.3", diagnosis, answer) for diagnosis, answer in WRONG_PAIRS),
    ("1.1", "mean over pixels", image_by_image(F.mse_loss)),
    ("1.1", "sum averaged over the batch", lambda x, x_hat: F.mse_loss(x_hat, x, reduction="sum") / len(x)),
    ("1.1", "factor one half", image_by_image(lost_log_density)),
    ("1.1", "only the last axis", lambda x, x_hat: torch.einsum("...d,...d->...", x - x_hat, x - x_hat)),
    ("1.1", "over the batch", lambda x, x_hat: sum((a - b) ** 2 for a, b in zip(x, x_hat, strict=True))),
    ("1.1", "difference not squared", image_by_image(lambda image, other: image.sum() - other.sum())),
    ("1.1", "difference not squared, other sign", image_by_image(lambda image, other: other.sum() - image.sum())),
    ("1.1", "squared after the sum", image_by_image(lambda image, other: F.mse_loss(image.sum(), other.sum()))),
    ("1.1", "no gradient", lambda x, x_hat: error_by_einsum(x, x_hat.detach())),
    ("1.1", "one mean for the batch", lambda x, x_hat: F.mse_loss(x_hat, x)),
    ("1.1", "one sum for the batch", lambda x, x_hat: F.mse_loss(x_hat, x, reduction="sum")),
    ("1.1", "one sum for the batch", lambda x, x_hat: ((x - x_hat) ** 2).sum().item()),
    ("1.1", "square root", lambda x, x_hat: torch.sqrt(((x - x_hat) ** 2).flatten(1).sum(1))),
    ("1.1", "absolute error", lambda x, x_hat: F.l1_loss(x, x_hat, reduction="none").flatten(1).sum(1)),
    ("1.1", "wrong shape", lambda x, x_hat: (x - x_hat) ** 2),
    ("1.1", "only the first pixel axis", lambda x, x_hat: torch.sum(torch.square(x - x_hat), dim=1)),
    ("1.1", "only two of the pixel axes", lambda x, x_hat: F.mse_loss(x, x_hat, reduction="none").sum(dim=(2, 1))),
    (
        "1.1",
        "right numbers, wrong shape",
        lambda x, x_hat: ((x - x_hat) ** 2).flatten(1).sum(1, keepdim=True),
    ),
    ("1.2", "not centred", lambda x, W, m: m + projected(x, W)),
    ("1.2", "mean not added back", lambda x, W, m: projected(x - m, W)),
    ("1.2", "mean ignored", lambda x, W, m: projected(x, W)),
    ("1.2", "codes only, not centred", lambda x, W, m: torch.stack([torch.mv(x, w) for w in W], dim=1)),
    ("1.2", "matrices in the wrong order", batch_mixed_by_the_components),
    ("1.2", "mean of the batch", around_the_mean_of_the_batch),
    ("1.2", "what is left over", lambda x, W, m: left_over(x - m, W)),
    ("1.2", "what is left over, around the mean", lambda x, W, m: m + left_over(x - m, W)),
    ("1.2", "mean subtracted at the end", lambda x, W, m: projected(x - m, W) - m),
    ("1.2", "codes only", lambda x, W, m: torch.einsum("bd,ld->bl", x - m, W)),
    ("1.2", "reshaped, not transposed", lambda x, W, m: (x - m) @ W.view(W.shape[1], -1) @ W + m),
    ("1.2", "each pixel on its own", lambda x, W, m: torch.einsum("bd,ld,ld->bd", x - m, W, W) + m),
    ("1.2", "nothing lost", lambda x, W, m: x),
    ("1.2", "changes its input", lambda x, W, m: x.sub_(m) @ W.T @ W + m),
    ("1.4", "changes its input", rotates_the_originals),
    ("1.4", "changes its input", rotates_one_original),
    ("1.4", "nothing changed", lambda encoder, decoder, rotation: (encoder, decoder)),
    ("1.4", "encoder's bias not rotated", by_steps(code_turned_without_its_bias, first_turns_back)),
    ("1.4", "decoder not compensated", by_steps(code_turned, first_as_it_was)),
    ("1.4", "only the encoder's weight", by_steps(code_turned_without_its_bias, first_as_it_was)),
    ("1.4", "decoder's weight from the wrong side", by_steps(code_turned, first_turns_its_output_back)),
    (
        "1.4",
        "decoder's weight from the wrong side, not inverted",
        by_steps(code_turned, first_turns_its_output_on),
    ),
    ("1.4", "decoder turned the same way", by_steps(code_turned, first_turns_on)),
    ("1.4", "turned backwards", by_steps(code_turned_backwards, first_turns_on)),
    ("1.4", "turned backwards, decoder not compensated", by_steps(code_turned_backwards, first_as_it_was)),
    ("1.4", "encoder's weight from the wrong side", by_steps(code_of_turned_features, first_turns_back)),
    ("1.4", "only the decoder, undoing", by_steps(code_as_it_was, first_turns_back)),
    ("1.4", "only the decoder", by_steps(code_as_it_was, first_turns_on)),
    ("1.4", "decoder's bias rotated", by_steps(code_turned, first_turns_back_and_its_bias_on)),
    ("1.4", "returns nothing", lambda e, d, r: rotates_the_originals(e, d, r) and None),
    ("1.4", "not a pair", lambda e, d, r: nn.Sequential(e, d)),
    (
        "1.5",
        "eps ignored",
        lambda m, c, eps: torch.distributions.MultivariateNormal(m, c).sample(eps.shape[:1]),
    ),
    ("1.5", "eps ignored", lambda m, c, eps: m + torch.randn_like(eps) @ torch.linalg.cholesky(c).T),
    ("1.5", "eps ignored", lambda m, c, eps: m.expand_as(eps)),
    ("1.5", "eps ignored", lambda m, c, eps: m + eps**2 @ torch.linalg.cholesky(c).T),
    ("1.5", "not finite", lambda m, c, eps: m + eps @ torch.linalg.cholesky(c).log().T),
    ("1.5", "not finite", lambda m, c, eps: m + eps @ torch.linalg.inv(c).sqrt()),  # NaN throughout
    *(("1.5", diagnosis, answer) for diagnosis, answer, _ in WRONG_SPREADS),
    ("1.5", "wrong shape", lambda m, c, eps: m + torch.linalg.cholesky(c) @ eps[0]),
    ("1.5", "not linear in eps", lambda m, c, eps: m + eps**3 @ torch.linalg.cholesky(c).T),
    ("1.5", "covariance ignored", lambda m, c, eps: m + eps @ torch.linalg.eigh(c)[1].T),
    ("1.5", "a numpy array", lambda m, c, eps: m.numpy() + eps.numpy() @ np.linalg.cholesky(c.numpy()).T),
    ("1.6", "target is the noisy image", lambda f, x, n: summed_then_averaged(f(cut(x + n)), cut(x + n))),
    ("1.6", "target is the noisy image, not clamped", lambda f, x, n: summed_then_averaged(f(x + n), x + n)),
    ("1.6", "noise added to the reconstruction", lambda f, x, n: summed_then_averaged(f(x) + n, x)),
    ("1.6", "noise added to the reconstruction, clamped", lambda f, x, n: summed_then_averaged(cut(f(x) + n), x)),
    ("1.6", "noise unused", lambda f, x, n: summed_then_averaged(f(x), x)),
    ("1.6", "clean in, noisy target", lambda f, x, n: summed_then_averaged(f(x), cut(x + n))),
    ("1.6", "not clamped", lambda f, x, n: summed_then_averaged(f(x + n), x)),
    ("1.6", "sum over the batch", lambda f, x, n: F.mse_loss(f(cut(x + n)), x, reduction="sum")),
    ("1.6", "one number per image", lambda f, x, n: error_by_einsum(f(cut(x + n)), x)),
    ("1.6", "autoencoder unused", lambda f, x, n: summed_then_averaged(cut(x + n), x)),
    ("1.6", "autoencoder unused, not clamped", lambda f, x, n: n.norm() ** 2 / len(n)),
    ("1.6", "reconstruction clamped", lambda f, x, n: summed_then_averaged(cut(f(x + n)), x)),
    ("1.6", "both clamped", lambda f, x, n: summed_then_averaged(cut(f(cut(x + n))), x)),
    ("1.6", "mean over pixels", lambda f, x, n: F.mse_loss(f((x + n).clamp(0, 1)), x)),
    ("1.6", "no gradient", lambda f, x, n: find("1.6").solution(f, x, n).item()),
    ("1.6", "no gradient", lambda f, x, n: find("1.6").solution(lambda y: f(y).detach(), x, n)),
    ("1.6", "changes its input", noises_the_original),
    ("1.6", "constant factor", lambda f, x, n: 0.5 * find("1.6").solution(f, x, n)),
]


def assigns_a_tensor(encoder, decoder, rotation):
    encoder = copy.deepcopy(encoder)
    encoder[-1].weight = rotation @ encoder[-1].weight
    return encoder, decoder


def writes_into_a_leaf(encoder, decoder, rotation):
    encoder = copy.deepcopy(encoder)
    encoder[-1].weight.copy_(rotation @ encoder[-1].weight)
    return encoder, decoder


def writes_into_a_view_of_a_leaf(encoder, decoder, rotation):
    decoder = copy.deepcopy(decoder)
    decoder[0].weight.T.copy_(rotation @ decoder[0].weight.T)
    return encoder, decoder


CENTRED = "which product of x − mean with it has the shape (B, L)?"
NO_GRAD = "with weight.copy_(…), in a block that begins `with torch.no_grad():`, as `stretch` does"
PIXEL_AXES = "How can all axes behind the batch be summed"
RAISED = [
    ("1.1", "IndexError: Dimension out of range", PIXEL_AXES, lambda x, x_hat: ((x - x_hat) ** 2).sum((1, 2, 3))),
    ("1.1", "IndexError: Dimension out of range", PIXEL_AXES, lambda x, x_hat: ((x - x_hat) ** 2).sum((2, 3))),
    ("1.2", "shapes cannot be multiplied", CENTRED, lambda x, components, mean: x @ components @ components.T),
    ("1.2", "shapes cannot be multiplied", CENTRED, lambda x, W, m: m + (x - m) @ W.T @ W.T),
    ("1.2", "RuntimeError: The size of tensor a", CENTRED, lambda x, W, m: (x - m) * W.T),
    ("1.2", "RuntimeError: einsum(): subscript", CENTRED, lambda x, W, m: torch.einsum("bd,dl->bl", x - m, W)),
    ("1.4", "TypeError: cannot assign", NO_GRAD, assigns_a_tensor),
    ("1.4", "RuntimeError: a leaf Variable", NO_GRAD, writes_into_a_leaf),
    ("1.4", "RuntimeError: a view of a leaf Variable", NO_GRAD, writes_into_a_view_of_a_leaf),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "error", "advice", "answer"), RAISED)
def test_errors_keep_their_words_and_gain_advice(number, error, advice, answer, dtype):
    result = grade(number, answer, dtype=dtype)
    message = " ".join(result.message.split())
    assert result.status == "raised"
    assert error in message and advice in message and f"of {answer.__name__}" in message
    assert message.index(error) < message.index(advice)


def test_other_errors_come_without_advice():
    for number, answer in (
        ("1.1", lambda x, x_hat: x.no_such_name),
        ("1.1", lambda x, x_hat: x.shape[7]),
        ("1.2", lambda x, components, mean: x.no_such_name),
        ("1.4", lambda encoder, decoder, rotation: encoder.no_such_name),
    ):
        result = grade(number, answer)
        assert result.status == "raised" and find(number).judge.advice[2][-30:] not in result.message


def test_a_wrong_side_that_cannot_run_everywhere_is_still_named():
    def wrong_side(encoder, decoder, rotation):
        encoder, decoder = find("1.4").solution(encoder, decoder, rotation)
        with torch.no_grad():
            decoder[0].weight.copy_(rotation.T @ decoder[0].weight @ rotation)  # what the solution did is undone
        return encoder, decoder

    assert grade("1.4", wrong_side).diagnosis == "decoder's weight from the wrong side"


def test_the_change_of_codes_and_reconstructions_is_reported():
    encoder, decoder, rotation = find("1.4").judge.all_cases()[0]
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = encoder(x).detach()
    moved = float((z @ rotation - z @ rotation.T).abs().max())
    blurred = float((decoder(z @ rotation.T) - decoder(z)).detach().abs().max())
    assert f"{blurred:.3g}" == "0.876"

    uncompensated = said_about("1.4", by_steps(code_turned, first_as_it_was))
    assert "codes: z @ rotation.T, as asked" in uncompensated
    assert "reconstructions: largest distance from what they were 0.876, expected 0" in uncompensated
    backwards = said_about("1.4", by_steps(code_turned_backwards, first_turns_on))
    assert f"codes: largest distance from z @ rotation.T {moved:.3g}, expected 0" in backwards
    assert "reconstructions: what they were, as asked" in backwards
    twice = lambda e, d, R: (Chain(e, lambda z: torch.cat([z, z], 1)), Chain(lambda z: z.tensor_split(2, dim=1)[0], d))  # noqa: E731
    assert "codes: expected shape (8, 2), came shape (8, 4)" in said_about("1.4", twice)


@pytest.mark.parametrize(("diagnosis", "answer", "covariance"), WRONG_SPREADS)
def test_mean_and_covariance_of_the_samples_are_reported(diagnosis, answer, covariance):
    message = said_about("1.5", answer)
    assert f"mean of the samples: expected [1, -2], came {'[0, 0]' if 'mean' in diagnosis else '[1, -2]'}" in message
    assert f"covariance of the samples: expected [[4, 2], [2, 2]], came {covariance}" in message


def test_the_shape_of_samples_is_reported():
    message = said_about("1.5", lambda m, c, eps: m + torch.linalg.cholesky(c) @ eps[0])
    assert "With eps of shape (5, 2) expected: shape (5, 2) came: shape (2,)" in message
