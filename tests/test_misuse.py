"""Misuse of the public functions: each gets an error of the right type that names what came and what was expected."""

import io
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils.data.images import Split
from course_utils.data.load import load_images
from course_utils.evaluation.bounds import evaluate, log_likelihood
from course_utils.evaluation.judge import Judge, train_judge
from course_utils.evaluation.latents import active_units
from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.losses.elbo import elbo
from course_utils.losses.likelihoods import Gaussian, make_likelihood
from course_utils.losses.scales import implied_gaussian, optimal_sigma
from course_utils.losses.terms import (
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
from course_utils.teaching import plotting
from course_utils.teaching.claims import claim
from course_utils.teaching.exercises import check, hint, solution
from course_utils.teaching.set_repository import set_repository
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


def output() -> VAEOutput:
    return vae()(X)


def points() -> LinearGaussian:
    return LinearGaussian(torch.ones(3, 1), torch.zeros(3), torch.tensor(1.0))


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
    "no samples": (lambda: vae().sample(0), ValueError, "0", "at least 1"),
    "conditions of another length": (lambda: cvae()(FLAT, ONE_HOT[:2]), ValueError, "2", "3"),
    "labels as conditions": (lambda: cvae()(FLAT, torch.tensor([1, 2, 3])), TypeError, "int64", "floating-point"),
    "another number of classes": (lambda: cvae().sample(torch.eye(9)), ValueError, "9", "10"),
    "beta for an autoencoder": (lambda: Autoencoder(latent_dim=2).loss(X, beta=2.0), ValueError, "2.0", "no KL"),
    # data
    "an unknown data set": (lambda: load_images("fashion"), ValueError, "fashion", "mnist"),
    "labels for fewer images": (lambda: Split(PIXELS, torch.zeros(5, dtype=torch.int64)), ValueError, "5", "6"),
    "a label that is no digit": (lambda: one_hot_labels(X, torch.tensor([0, 9, 10])), ValueError, "10", "0…9"),
    "float pixels in a split": (lambda: Split(PIXELS.float(), torch.zeros(6).long()), TypeError, "float32", "uint8"),
    "batches of nothing": (lambda: next(iter(SPLIT.batches(0))), ValueError, "0", "at least 1"),
    "more than there are": (lambda: SPLIT.subset(7), ValueError, "7", "6"),
    # training and evaluation
    "no epochs": (lambda: fit(vae(), SPLIT, epochs=0), ValueError, "0", "at least 1"),
    "a negative learning rate": (lambda: fit(vae(), SPLIT, epochs=1, lr=-1e-3), ValueError, "-0.001", "positive"),
    "training on nothing": (lambda: fit(vae(), EMPTY, epochs=1), ValueError, "none", "at least one"),
    "training on NaN": (
        lambda: fit(VAE(latent_dim=2, input_shape=(784,), likelihood="gaussian"), NAN, epochs=1, show=False),
        FloatingPointError, "recon = nan", "epoch 1, step 1",
    ),
    "inputs and conditions of other lengths": (
        lambda: fit(cvae(), (FLAT, ONE_HOT[:2]), epochs=1), ValueError, "[3, 2]", "one length",
    ),
    "a condition without a use": (
        lambda: fit(vae(), SPLIT, epochs=1, condition=lambda x, y: x), TypeError, "VAE", "conditional model",
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
    "unknown reduction": (
        lambda: implied_gaussian(784, reduction="average", half=True), ValueError, "'average'", "'mean'",
    ),
    "the best sigma of unlike shapes": (lambda: optimal_sigma(FLAT, X), ValueError, "(3, 784)", "same shape"),
    "as many latents as dimensions": (lambda: LinearGaussian.fit(torch.randn(9, 3), 3), ValueError, "3", "below"),
    "evidence of other dimensions": (lambda: points().log_evidence(torch.zeros(2, 4)), ValueError, "4", "3"),
    # notebooks
    "an unknown exercise": (lambda: check("99.1", abs), ValueError, "99", "1, 2, 3"),
    "an unknown hint": (lambda: hint("abc"), ValueError, "abc", '"1.2"'),
    "an exercise as a number": (lambda: solution(1.2), (TypeError, ValueError), "1.2", "1"),
    "an unknown relation": (lambda: claim("two", 2.0, "~", 2.0), ValueError, "'~'", "<"),
    "an address for a repository": (lambda: set_repository("https://x.org/a/b"), ValueError, "https", "OWNER/NAME"),
    "a picture without a description": (
        lambda: plotting.show(plotting.image_grid(X), ""), ValueError, "''", "alt",
    ),
    "images that are none": (lambda: plotting.image_grid(torch.zeros(3, 5, 5, 5)), ValueError, "(3, 5, 5, 5)", "28"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_told_what_came_and_what_was_expected(name):
    misuse, kind, came, expected = MISUSE[name]
    with pytest.raises(kind) as caught:
        misuse()
    text = str(caught.value)
    assert came in text and expected in text, text


def test_there_are_enough_of_them():
    assert len(MISUSE) >= 40


class Code:
    """What a hostile file holds: something that acts when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def other_content() -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": 1, "kind": "VAE", "config": {"latent_dim": 2}, "state": {}}, buffer)
    return buffer.getvalue()


FILES = {
    "text": (lambda folder: b"not a checkpoint", "not a readable checkpoint"),
    "nothing": (lambda folder: b"", "not a readable checkpoint"),
    "half": (lambda folder: save(vae(), folder / "whole.pt").read_bytes()[:-500], "not a readable checkpoint"),
    "code": (lambda folder: pickle.dumps(Code(folder / "executed")), "not a readable checkpoint"),
    "weights of another model": (lambda folder: other_content(), "do not fit"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_checkpoints_are_refused_and_never_executed(name, tmp_path):
    content, expected = FILES[name]
    path = tmp_path / "model.pt"
    path.write_bytes(content(tmp_path))
    with pytest.raises(ValueError, match=expected) as caught:
        load(path)
    assert "model.pt" in str(caught.value)
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
