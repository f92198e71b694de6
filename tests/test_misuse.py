"""Misuse of the public functions: each gets an error of the right type that names what came and what was expected."""

import io
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from course_utils.data.images import Split
from course_utils.evaluation.bounds import evaluate, log_likelihood
from course_utils.evaluation.judge import Judge, train_judge
from course_utils.evaluation.latents import active_units
from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.evaluation.samples import linear, lost_share, reached_share, standard_normal
from course_utils.losses.elbo import elbo
from course_utils.losses.likelihoods import Gaussian, make_likelihood
from course_utils.losses.scales import implied_gaussian
from course_utils.losses.terms import (
    Terms,
    bernoulli_nll,
    continuous_bernoulli_nll,
    gaussian_kl,
    gaussian_kl_full,
    gaussian_nll,
    squared_error,
)
from course_utils.models.autoencoder import Autoencoder
from course_utils.models.cvae import CVAE, one_hot_labels
from course_utils.models.layers import reparameterize
from course_utils.models.vae import VAE, VAEOutput
from course_utils.training.checkpoints import load, save
from course_utils.training.fit import fit

X = torch.full((3, 1, 28, 28), 0.5)
FLAT = X.flatten(1)
CODES = torch.zeros(3, 2)
ONE_HOT = torch.eye(10)[:3]
NAN = torch.full((3, 784), math.nan)
EYE = torch.eye(2)
PIXELS = torch.zeros(6, 1, 28, 28, dtype=torch.uint8)
SPLIT = Split(PIXELS, torch.zeros(6, dtype=torch.int64))
EMPTY = torch.zeros(0, 1, 28, 28)


def vae() -> VAE:
    return VAE(latent_dim=2, hidden_dims=(4,))


def cvae() -> CVAE:
    return CVAE(input_dim=784, cond_dim=10, latent_dim=2, hidden_dims=(4,))


def flat(likelihood="bernoulli") -> VAE:
    return VAE(input_shape=(784,), latent_dim=2, hidden_dims=(4,), likelihood=likelihood)


def split(*shape) -> Split:
    return Split(torch.zeros(6, *shape, dtype=torch.uint8), torch.zeros(6, dtype=torch.int64))


class Detached(VAE):
    def loss(self, x, *, beta=1.0):
        return super().loss(x, beta=beta).map(Tensor.detach)


class Renamed(VAE):
    """Another name for its KL in the second step."""

    def loss(self, x, *, beta=1.0):
        terms = super().loss(x, beta=beta)
        self.steps = getattr(self, "steps", 0) + 1
        return Terms(loss=terms.loss, **{f"kl_{self.steps}": terms.kl})


class Transposed(VAE):
    def log_weights(self, x, *, samples):
        return super().log_weights(x, samples=samples).T


def once(model, data=SPLIT, **options):
    return fit(model, data, **{"epochs": 1, "show": False, **options})


def output() -> VAEOutput:
    return vae()(X)


# name: (what is done, type of the error, what came, what was expected), the last two as found in the text
MISUSE = {
    # losses: shapes, types, ranges
    "other shapes": (lambda: bernoulli_nll(FLAT, X), ValueError, "(3, 1, 28, 28)", "same shape"),
    "one for many": (lambda: squared_error(FLAT, FLAT[:1]), ValueError, "(1, 784)", "same shape"),
    "no batch": (lambda: bernoulli_nll(FLAT[0], FLAT[0]), ValueError, "(784,)", "batch dimension"),
    "8-bit pixels": (lambda: squared_error(PIXELS, PIXELS), TypeError, "torch.uint8", "floating-point"),
    "an array": (lambda: gaussian_kl(np.zeros((3, 2)), CODES), TypeError, "ndarray", "torch.Tensor"),
    "a list": (lambda: gaussian_nll([[0.0]], FLAT), TypeError, "list", "torch.Tensor"),
    "pixels up to 255": (lambda: bernoulli_nll(FLAT, FLAT * 510), ValueError, "255", "[0, 1]"),
    "standardised pixels": (lambda: continuous_bernoulli_nll(FLAT, FLAT - 1), ValueError, "-0.5", "[0, 1]"),
    "missing pixels": (lambda: bernoulli_nll(FLAT, NAN), ValueError, "nan", "[0, 1]"),
    "sigma of zero": (lambda: gaussian_nll(FLAT, FLAT, sigma=0.0), ValueError, "0", "positive"),
    "sigma per example": (lambda: gaussian_nll(FLAT, FLAT, sigma=torch.ones(3)), ValueError, "(3,)", "(784,)"),
    "log_var of another size": (lambda: gaussian_kl(CODES, torch.zeros(3, 1)), ValueError, "(3, 1)", "same shape"),
    "a covariance that is none": (
        lambda: gaussian_kl_full(CODES[0][None], -EYE[None], CODES[0], EYE), ValueError, "cov_q", "positive definite",
    ),
    "a factor for a covariance": (
        lambda: gaussian_kl_full(CODES[:1], torch.tensor([[[1.0, 0.0], [2.0, 1.0]]]), CODES[0], EYE),
        ValueError, "cov_q", "symmetric",
    ),
    "negative beta": (
        lambda: elbo(output(), X, likelihood=make_likelihood("bernoulli"), beta=-1.0), ValueError, "-1", "at least 0",
    ),
    "infinite beta": (lambda: vae().loss(X, beta=math.inf), ValueError, "inf", "finite"),
    "noise of another shape": (lambda: reparameterize(CODES, CODES, eps=torch.zeros(2)), ValueError, "(2,)", "(3, 2)"),
    "a negative sigma": (lambda: gaussian_nll(FLAT, FLAT, sigma=-1.0), ValueError, "-1", "positive"),
    "one prior for all": (
        lambda: gaussian_kl(CODES, CODES, prior=(CODES[:1], CODES[:1])), ValueError, "(1, 2)", "prior's mu",
    ),
    "a prior's log_var of another size": (
        lambda: gaussian_kl(CODES, CODES, prior=(CODES, CODES[:, :1])), ValueError, "(3, 1)", "prior's log_var",
    ),
    "a covariance without a batch": (
        lambda: gaussian_kl_full(CODES, EYE, CODES[0], EYE), ValueError, "(2, 2)", "(B, L, L)",
    ),
    "a prior's covariance that is none": (
        lambda: gaussian_kl_full(CODES[:1], EYE[None], CODES[0], -EYE), ValueError, "cov_p", "positive definite",
    ),
    "p of another dimension": (
        lambda: gaussian_kl_full(CODES[:1], EYE[None], torch.zeros(3), torch.eye(3)), ValueError, "(3,)", "mean_p",
    ),
    "the ELBO of an unknown likelihood": (
        lambda: elbo(output(), X, likelihood="poisson"), ValueError, "'poisson'", "'bernoulli'",
    ),
    "a beta of NaN": (lambda: elbo(output(), X, likelihood="bernoulli", beta=math.nan), ValueError, "nan", "finite"),
    # models
    "images of another size": (lambda: vae()(torch.zeros(3, 1, 32, 32)), ValueError, "32", "28"),
    "flat images": (lambda: vae()(FLAT), ValueError, "(3, 784)", "28, 28"),
    "codes of another length": (lambda: vae().decode(torch.zeros(3, 5)), ValueError, "5", "2"),
    "no latent dimension": (lambda: VAE(latent_dim=0), ValueError, "0", "at least 1"),
    "half a latent dimension": (lambda: VAE(latent_dim=2.5), TypeError, "2.5", "whole number"),
    "an unknown likelihood": (lambda: VAE(latent_dim=2, likelihood="mse"), ValueError, "'mse'", "'gaussian'"),
    "an unknown trunk": (lambda: Autoencoder(latent_dim=2, trunk="resnet"), ValueError, "'resnet'", "'conv'"),
    "an unknown activation": (lambda: VAE(latent_dim=2, activation="gelu"), ValueError, "'gelu'", "'tanh'"),
    "a sigma that nothing uses": (lambda: VAE(latent_dim=2, sigma=0.1), ValueError, "0.1", "'gaussian'"),
    "a sigma of another name": (lambda: Gaussian("optimal"), ValueError, "'optimal'", "positive number"),
    "hidden_dims as one number": (lambda: VAE(latent_dim=2, hidden_dims=400), TypeError, "400", "(400,)"),
    "a width of zero": (lambda: VAE(latent_dim=2, hidden_dims=(400, 0)), ValueError, "0", "at least 1"),
    "a latent dimension in words": (lambda: VAE(latent_dim="two"), TypeError, "'two'", "whole number"),
    "a model's sigma of 0": (lambda: VAE(latent_dim=2, likelihood="gaussian", sigma=0), ValueError, "0", "positive"),
    "input_shape as one number": (lambda: VAE(latent_dim=2, input_shape=784), TypeError, "got 784", "(784,)"),
    "no stage": (lambda: VAE(latent_dim=2, trunk="conv", hidden_dims=()), ValueError, "at least one", "(32, 64)"),
    "8-bit images": (lambda: vae()(PIXELS), TypeError, "uint8", "255"),
    "one image without a batch": (lambda: vae()(X[0, 0]), ValueError, "(28, 28)", "28, 28) for this model"),
    "an unknown prior": (lambda: CVAE(**cvae().config | {"prior": "no"}), ValueError, "'no'", "'learned'"),
    "inputs of another length": (lambda: cvae()(FLAT[:, :5], ONE_HOT), ValueError, "(3, 5)", "784"),
    "one condition for all": (lambda: cvae()(FLAT, ONE_HOT[:1]), ValueError, "(1, 10)", "(3, 10)"),
    "a condition without its axis": (lambda: cvae()(FLAT[:, None], ONE_HOT), ValueError, "(3, 10)", "(3, 1, 10)"),
    "labels for the prior": (lambda: cvae().prior(torch.arange(4)), TypeError, "int64", "one_hot(labels, 10)"),
    "a condition too short for the prior": (lambda: cvae().prior(ONE_HOT[:, :3]), ValueError, "(3, 3)", "10"),
    "no samples": (lambda: vae().sample(0), ValueError, "0", "at least 1"),
    "conditions of another length": (lambda: cvae()(FLAT, ONE_HOT[:2]), ValueError, "2", "3"),
    "labels as conditions": (lambda: cvae()(FLAT, torch.tensor([1, 2, 3])), TypeError, "int64", "floating-point"),
    "another number of classes": (lambda: cvae().sample(torch.eye(9)), ValueError, "9", "10"),
    "beta for an autoencoder": (lambda: Autoencoder(latent_dim=2).loss(X, beta=2.0), ValueError, "2.0", "no KL"),
    "flat images for stages": (lambda: VAE(input_shape=(9,), latent_dim=2, trunk="conv"), ValueError, "(9,)", "height"),
    "double images": (lambda: vae().loss(X.double()), TypeError, "float64", "float32"),
    "double images in training": (lambda: once(vae(), X.double()), TypeError, "x must be float32", ".to(torch."),
    "a split for double weights": (lambda: once(vae().double()), TypeError, "x must be float64", "model.to"),
    "double codes": (lambda: vae().decode(CODES.double()), TypeError, "z must be float32", "float64"),
    "double conditions": (lambda: cvae().sample(ONE_HOT.double()), TypeError, "cond_inputs", "float64"),
    "a negative temperature": (lambda: vae().sample(2, temperature=-1), ValueError, "-1", "at least 0"),
    "a temperature of NaN": (lambda: cvae().sample(ONE_HOT, temperature=math.nan), ValueError, "nan", "finite"),
    "a temperature in words": (lambda: vae().sample(2, temperature="hot"), TypeError, "'hot'", "number"),
    # data
    "a label that is no digit": (lambda: one_hot_labels(X, torch.tensor([0, 9, 10])), ValueError, "10", "0…9"),
    "colour for a grey model": (lambda: once(vae(), split(3, 28, 28)), ValueError, "(3, 28, 28)", "(1, 28, 28)"),
    "images twice as large": (lambda: once(vae(), split(1, 56, 56)), ValueError, "(1, 56, 56)", "(1, 28, 28)"),
    "images half as large": (lambda: once(cvae(), split(1, 14, 14)), ValueError, "(196,)", "(784,)"),
    "colour as a tensor": (lambda: once(vae(), torch.zeros(6, 3, 28, 28)), ValueError, "(6, 3,", "(B, 1, 28, 28)"),
    "flat colour": (lambda: once(flat(), split(3, 28, 28)), ValueError, "(2352,)", "(784,)"),
    # training and evaluation
    "a learning rate in words": (lambda: once(vae(), lr="0.001"), TypeError, "'0.001'", "lr must be a number"),
    "a learning rate that ends": (
        lambda: once(vae(), epochs=2, lr=lambda epoch: 2 - epoch), ValueError, "lr(2)", "positive",
    ),
    "beta in words": (lambda: once(vae(), beta="1"), TypeError, "'1'", "beta"),
    "a beta that turns negative": (
        lambda: once(vae(), beta=lambda step: -step), ValueError, "beta(1)", "at least 0",
    ),
    "an average of everything": (lambda: once(vae(), ema=1.0), ValueError, "1.0", "between 0 and 1"),
    "a clip of nothing": (lambda: once(vae(), clip=0), ValueError, "got 0", "clip"),
    "an unknown optimiser": (lambda: once(vae(), optimizer="adamm"), ValueError, "'adamm'", "'adamw'"),
    "an optimiser already made": (
        lambda: once(vae(), optimizer=torch.optim.SGD(vae().parameters(), lr=1.0)),
        TypeError, "SGD", "function",
    ),
    "an unknown way to binarise": (lambda: once(vae(), binarize=True), ValueError, "True", "'dynamic'"),
    "pixels that are no probabilities": (
        lambda: once(flat(), FLAT + 1, binarize="dynamic"), ValueError, "1.5", "[0, 1]",
    ),
    "a condition for tensors": (
        lambda: once(cvae(), (FLAT, ONE_HOT), condition=lambda x, y: x), TypeError, "condition", "pair",
    ),
    "a model without a loss": (
        lambda: once(torch.nn.Sequential(torch.nn.Linear(2, 2))), TypeError, "Sequential", "method inputs",
    ),
    "a model without weights": (lambda: once(torch.nn.Sequential()), TypeError, "Sequential", "parameters"),
    "a loader": (
        lambda: once(vae(), torch.utils.data.DataLoader(X)), TypeError, "DataLoader", "data set",
    ),
    "batches of no decoded pairs": (
        lambda: log_likelihood(vae(), X, samples=2, batch_size=0), ValueError, "batch_size", "at least 1",
    ),
    "activity of NaN": (lambda: active_units(flat("gaussian"), NAN), ValueError, "finite", "weights"),
    "no epochs": (lambda: fit(vae(), SPLIT, epochs=0), ValueError, "0", "at least 1"),
    "a model with frozen weights": (lambda: once(vae().requires_grad_(False)), TypeError, "to train", "VAE"),
    "a loss without a gradient": (lambda: once(Detached(latent_dim=2)), ValueError, "no gradient", "Detached.loss"),
    "terms that change their names": (
        lambda: once(Renamed(latent_dim=2), batch_size=3), ValueError, "the terms were", "step 2",
    ),
    "weights as rows of examples": (
        lambda: log_likelihood(Transposed(latent_dim=2), X, samples=2), ValueError, "(2, 3)", "(3, 2)",
    ),
    "half a seed": (lambda: once(vae(), seed=0.5), TypeError, "seed", "0.5"),
    "half a seed for noise": (lambda: evaluate(vae(), X, seed=0.5), TypeError, "seed", "0.5"),
    "a transform that returns nothing": (lambda: once(vae(), transform=lambda x: None), TypeError, "transform", "None"),
    "a condition that is no function": (lambda: once(cvae(), SPLIT, condition=3), TypeError, "condition", "3"),
    "half an epoch": (lambda: once(vae(), epochs=0.5), TypeError, "0.5", "whole number"),
    "a batch of nothing": (lambda: once(vae(), batch_size=0), ValueError, "batch_size", "at least 1"),
    "whole numbers for images": (lambda: once(vae(), X.long()), TypeError, "int64", "floating-point"),
    "a list of images": (lambda: once(vae(), [X, X]), TypeError, "list", "tuple of tensors"),
    "training a Bernoulli on NaN": (lambda: once(vae(), X * math.nan), ValueError, "nan", "[0, 1]"),
    "evaluating NaN": (lambda: evaluate(vae(), X * math.nan), ValueError, "nan", "[0, 1]"),
    "evaluation in batches of nothing": (lambda: evaluate(vae(), X, batch_size=0), ValueError, "0", "batch_size"),
    "a condition for fewer": (lambda: evaluate(cvae(), FLAT, ONE_HOT[:2]), ValueError, "[3, 2]", "one length"),
    "a negative learning rate": (lambda: once(vae(), lr=-1e-3), ValueError, "-0.001", "positive"),
    "training on nothing": (lambda: once(vae(), EMPTY), ValueError, "none", "at least one"),
    "training on NaN": (
        lambda: once(VAE(latent_dim=2, input_shape=(784,), likelihood="gaussian"), NAN),
        FloatingPointError, "recon = nan", "epoch 1, step 1",
    ),
    "inputs and conditions of other lengths": (
        lambda: once(cvae(), (FLAT, ONE_HOT[:2])), ValueError, "[3, 2]", "one length",
    ),
    "a condition without a use": (
        lambda: once(vae(), condition=lambda x, y: x), TypeError, "VAE", "conditional model",
    ),
    "a CVAE without conditions": (lambda: evaluate(cvae(), FLAT), ValueError, "1 tensor and", "cond_inputs"),
    "a VAE with conditions": (lambda: evaluate(vae(), X, ONE_HOT), ValueError, "2 tensors and", "VAE.loss(x, beta)"),
    "evaluation on nothing": (lambda: evaluate(vae(), EMPTY), ValueError, "none", "at least one"),
    "zero importance samples": (lambda: log_likelihood(vae(), X, samples=0), ValueError, "0", "at least 1"),
    "log p(x) of an autoencoder": (
        lambda: log_likelihood(Autoencoder(latent_dim=2), X, samples=2), TypeError, "Autoencoder", "log_weights",
    ),
    "a variance of one": (lambda: active_units(vae(), X[:1]), ValueError, "1", "two examples"),
    "a small picture for the judge": (lambda: Judge()(torch.zeros(3, 1, 8, 8)), ValueError, "8, 8", "28"),
    "a judge that never learns": (lambda: train_judge(None, steps=0), ValueError, "0", "at least 1"),
    "a covariance of one half": (
        lambda: LinearGaussian.from_moments(torch.zeros(2), torch.tensor([[2.0, 1.0], [0.0, 1.0]]), 1),
        ValueError, "covariance", "symmetric",
    ),
    "a covariance of NaN": (
        lambda: LinearGaussian.from_moments(torch.zeros(2), EYE * math.nan, 1), ValueError, "covariance", "finite",
    ),
    # measures of samples
    "NaN codes": (lambda: lost_share(CODES * math.nan, CODES, CODES), ValueError, "NaN", "samples"),
    "NaN codes, counted": (lambda: reached_share(CODES * math.nan, standard_normal(2)), ValueError, "NaN", "finite"),
    "codes of one": (lambda: reached_share(CODES[:, :1], standard_normal(2)), ValueError, "have 1", "expected 2"),
    "a share in per cent": (lambda: reached_share(CODES, standard_normal(2), share=95), ValueError, "95", "0.95"),
    "a quantile in per cent": (lambda: lost_share(CODES, CODES, CODES, quantile=95), ValueError, "95", "0.95"),
    "a column and a row": (lambda: linear(CODES, CODES[:1], 0.5), ValueError, "(1, 2)", "same shape"),
    "NaN images, judged": (lambda: Judge().recognised(NAN), ValueError, "NaN", "finite"),
    "a confidence in per cent": (lambda: Judge().recognised(X, confidence=90), ValueError, "90", "confidence"),
    "a judge of no data": (lambda: train_judge([X]), TypeError, "list", "ImageData"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_told_what_came_and_what_was_expected(name):
    misuse, kind, came, expected = MISUSE[name]
    with pytest.raises(kind) as caught:
        misuse()
    text = str(caught.value)
    assert came in text and expected in text, text


class Code:
    """What a hostile file holds: something that acts when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def content(**changes) -> bytes:
    """A checkpoint of `vae()` with some of its parts replaced, and those that are None left out."""
    model = vae()
    whole = {"format": 2, "kind": "VAE", "config": model.config, "state": model.state_dict()} | changes
    buffer = io.BytesIO()
    torch.save({name: value for name, value in whole.items() if value is not None}, buffer)
    return buffer.getvalue()


FILES = {
    "text": (lambda folder: b"not a checkpoint", r"not a readable checkpoint.*: its content is not tensors and plain"),
    "nothing": (lambda folder: b"", r"not a readable checkpoint.*: \w+"),
    "half": (lambda folder: content()[:-500], "not a readable checkpoint"),
    "code": (
        lambda folder: pickle.dumps(Code(folder / "executed"), protocol=2),
        "its content is not tensors and plain values alone",
    ),
    "weights of another model": (lambda folder: content(state={}), "do not fit"),
    "no weights": (lambda folder: content(state=None), "its state is None"),
    "a list of weights": (lambda folder: content(state=[1]), r"its state is \[1\], expected a dict"),
    "no arguments": (lambda folder: content(config=None), "its config is None"),
    "arguments that there are not": (lambda folder: content(config={"depth": 3}), "can be built.*depth"),
    "more weights than any memory": (
        lambda folder: content(config=vae().config | {"latent_dim": 10**13}),
        "do not fit",
    ),
    "a model that nobody knows": (lambda folder: content(kind="Resnet"), r"no model 'Resnet'.*register\(Resnet\)"),
    "a kind that is no name": (lambda folder: content(kind=3), "its kind is 3"),
    "a later format": (lambda folder: content(format=99), "later version"),
    "a tensor": (lambda folder: _saved(torch.zeros(2)), "not made by"),
}


def _saved(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_checkpoints_are_refused_and_never_executed(name, tmp_path):
    made, expected = FILES[name]
    path = tmp_path / "model.pt"
    path.write_bytes(made(tmp_path))
    with pytest.raises(ValueError, match=expected) as caught:
        load(path)
    assert "model.pt" in str(caught.value) and "weights_only" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_hostile_file_would_have_been_noticed(tmp_path):
    pickle.loads(pickle.dumps(Code(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_a_refused_model_leaves_the_file_that_was_there(tmp_path):
    path = save(vae(), tmp_path / "model.pt")
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"Linear") as caught:
        save(torch.nn.Linear(2, 2), path)
    assert "VAE" in str(caught.value)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_checkpoint_of_the_first_format_is_read_but_not_trained_on(tmp_path):
    path = tmp_path / "old.pt"
    path.write_bytes(content(format=1, training={"settings": {}, "history": {}}))
    assert load(path).config == vae().config
    with pytest.raises(ValueError, match="earlier version.*begin anew"):
        fit(vae(), SPLIT, epochs=1, checkpoint=path, show=False)


def test_a_device_that_is_not_there_is_not_called_a_damaged_file(tmp_path):
    path = save(vae(), tmp_path / "model.pt")
    for device in ("cuda:99", "abacus"):
        with pytest.raises(ValueError, match=rf"device='{device}' cannot be used") as caught:
            load(path, device=device)
        assert "model.pt" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="modes and links are those of POSIX")
def test_a_file_is_written_as_readable_as_the_umask_says_and_through_a_link(tmp_path):
    before = os.umask(0o022)
    try:
        path = save(vae(), tmp_path / "model.pt")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o640)
    link = tmp_path / "link.pt"
    link.symlink_to(path)
    assert save(vae(), link) == link and link.is_symlink() and path.stat().st_mode & 0o777 == 0o640


def test_numbers_of_numpy_are_numbers(tmp_path):
    model = VAE(latent_dim=np.int64(2), hidden_dims=(np.int32(4),), likelihood="gaussian", sigma=np.float32(0.1))
    fit(
        model,
        SPLIT,
        epochs=1,
        lr=np.float64(1e-3),
        beta=np.float32(0.5),
        clip=np.int64(1),
        ema=np.float32(0.5),
        show=False,
    )
    assert load(save(model, tmp_path / "model.pt")).config == model.config
    assert model.sample(2, temperature=np.float32(0.5)).shape == (2, 1, 28, 28)
    assert implied_gaussian(784, kl_weight=np.float32(1.0)).beta == 1.0
