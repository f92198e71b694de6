"""Discrete codes: the quantisers against brute force, what each term moves, the bound, the prior, and going on."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from course_utils import evaluate, fit, load, log_likelihood, save
from course_utils.models import VQVAE, CodePrior
from course_utils.models.quantisers import (
    FiniteScalarQuantiser,
    GumbelQuantiser,
    VectorQuantiser,
    straight_through,
)
from course_utils.training import fit_code_prior

SMALL = dict(input_shape=(4,), tokens=2, hidden_dims=(8,), prior_width=6)
OPTIONS = {
    "vector": dict(codes=3, dim=2),
    "finite scalar": dict(levels=(3, 2)),
    "gumbel": dict(codes=3, dim=2),
}
MOVING = [
    dict(quantiser="vector", codes=5, dim=2, restart=2),
    dict(quantiser="vector", codes=5, dim=2, update="ema", restart=2),
    dict(quantiser="vector", codes=5, dim=2, start="uniform", restart=None),
    dict(quantiser="finite scalar", levels=(3, 2)),
    dict(quantiser="gumbel", codes=5, dim=2),
]


def small(quantiser="vector", seed=0, **options):
    torch.manual_seed(seed)
    return VQVAE(quantiser=quantiser, **(SMALL | (options or OPTIONS[quantiser])))


def with_a_prior(model, seed=1):
    """The same model with a prior that is not uniform."""
    torch.manual_seed(seed)
    for parameter in model.prior.parameters():
        parameter.data.normal_()
    return model.eval()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model, before):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def points(n=40, seed=0):
    return (torch.rand(n, 4, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


@pytest.mark.parametrize("options", MOVING)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_batch_that_is_refused_has_moved_nothing(options, likelihood):
    model, wrong = small(likelihood=likelihood, **options).train(), points()
    wrong[3, 1] = math.nan
    before = state(model)
    with pytest.raises(ValueError, match="x must"):
        model.loss(wrong)
    if likelihood == "bernoulli":
        for x in (255 * points(), -points()):
            with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
                model.loss(x)
    model.encoder[1].weight.data[0] = math.nan  # nor does what a broken encoder gives
    model.loss(points())
    model.loss(points(0))  # and nothing is what an empty batch gives
    assert changed(model, before) == {"encoder.1.weight"}


# Quantisers -------------------------------------------------------------------------------------------------


def test_straight_through_has_the_numbers_of_the_code_and_the_gradient_of_the_encoder():
    h, code = (torch.randn(3, 2, requires_grad=True) for _ in range(2))
    z = straight_through(h, code)
    torch.testing.assert_close(z, code)
    weight = torch.randn(3, 2)
    (weight * z**2).sum().backward()
    torch.testing.assert_close(h.grad, 2 * weight * code.detach())  # taken at the code, given to the encoder
    assert code.grad is None


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_a_position_takes_the_nearest_code(update):
    torch.manual_seed(0)
    quantiser = VectorQuantiser(codes=7, dim=3, start="normal", update=update).eval()
    h = torch.randn(5, 4, 3)
    z, index, terms = quantiser(h)
    for b, t in itertools.product(range(5), range(4)):
        distances = [(h[b, t] - code).square().sum().item() for code in quantiser.codebook]
        assert index[b, t] == min(range(7), key=distances.__getitem__)
    torch.testing.assert_close(z, quantiser.codebook.detach()[index])
    torch.testing.assert_close(quantiser.look_up(index), quantiser.codebook[index])
    wanted = 0.25 * (h - z).square().sum((1, 2))
    torch.testing.assert_close(terms["commitment"], wanted.detach())
    assert ("codebook" in terms) == (update == "gradient")


def test_each_term_moves_its_own_side_alone():
    torch.manual_seed(0)
    quantiser = VectorQuantiser(codes=3, dim=2, start="normal", commitment=0.7)
    h = torch.randn(4, 2, 2, requires_grad=True)
    _, index, terms = quantiser(h)
    code = quantiser.codebook.detach()[index]
    terms["codebook"].sum().backward(retain_graph=True)
    assert h.grad is None
    wanted = torch.zeros(3, 2).index_add_(0, index.flatten(), 2 * (code - h.detach()).flatten(0, 1))
    torch.testing.assert_close(quantiser.codebook.grad, wanted)  # of everybody who chose it, none divided by the batch
    quantiser.codebook.grad = None
    terms["commitment"].sum().backward()
    assert quantiser.codebook.grad is None
    torch.testing.assert_close(h.grad, 0.7 * 2 * (h.detach() - code))


def test_the_reconstruction_moves_encoder_and_decoder_and_no_code():
    model = small(start="normal", **OPTIONS["vector"])
    terms = model.loss(points(6))
    terms.recon.sum().backward()
    assert model.quantiser.codebook.grad is None
    assert all(
        p.grad is not None and p.grad.any() for part in (model.encoder, model.decoder) for p in part.parameters()
    )
    torch.testing.assert_close(terms.loss, terms.recon + terms.codebook + terms.commitment)
    again = model.loss(points(6), beta=3.0)
    torch.testing.assert_close(again.loss, terms.recon + 3 * (terms.codebook + terms.commitment))


def test_a_running_mean_without_memory_is_a_step_of_k_means():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    h = (centres + torch.randn(50, 3, 2)).view(50, 3, 2)
    quantiser = VectorQuantiser(codes=3, dim=2, start="normal", update="ema", decay=0.0)
    quantiser.codebook.copy_(centres + 0.5)
    quantiser(h)
    lloyd = KMeans(3, init=(centres + 0.5).numpy(), n_init=1, max_iter=1).fit(h.flatten(0, 1).numpy())
    torch.testing.assert_close(quantiser.codebook, torch.as_tensor(lloyd.cluster_centers_), rtol=0, atol=1e-5)


def test_running_means_follow_their_recursion_and_a_code_without_visitors_stays():
    torch.manual_seed(0)
    quantiser = VectorQuantiser(codes=3, dim=1, start="normal", update="ema", decay=0.5, restart=None)
    quantiser.codebook.copy_(torch.tensor([[0.0], [1.0], [100.0]]))
    quantiser.sums.copy_(quantiser.codebook)
    counts, sums = [1.0, 1.0, 1.0], [0.0, 1.0, 100.0]
    for values in ([0.1, 0.2, 0.9], [-0.3, 0.4, 1.2], [0.0, 0.1, 0.2]):
        before = quantiser.codebook.clone()
        _, index, _ = quantiser(torch.tensor(values).view(1, 3, 1))
        for k in range(3):
            mine = [v for v, i in zip(values, index[0].tolist(), strict=True) if i == k]
            counts[k] = 0.5 * counts[k] + 0.5 * len(mine)
            sums[k] = 0.5 * sums[k] + 0.5 * sum(mine)
        assert (index == (torch.tensor(values).view(1, 3, 1) - before.view(1, 1, 3)).abs().argmin(2)).all()
        wanted = torch.tensor(sums) / torch.tensor(counts)
        torch.testing.assert_close(quantiser.codebook[:, 0], wanted)
    assert quantiser.codebook[2] == 100


def test_codes_begin_where_they_are_told():
    h = torch.randn(20, 4, 3)
    at_data = VectorQuantiser(codes=10, dim=3)
    at_data(h)
    assert (torch.cdist(at_data.codebook.detach(), h.flatten(0, 1)).amin(1) < 1e-3).all()
    assert torch.unique(at_data.codebook, dim=0).shape[0] == 10
    many = VectorQuantiser(codes=100, dim=3)
    many(h)  # more codes than positions
    assert (torch.cdist(many.codebook.detach(), h.flatten(0, 1)).amin(1) < 1e-3).all()
    uniform = VectorQuantiser(codes=50, dim=3, start="uniform").codebook.detach()
    assert 0.01 < uniform.abs().max() <= 1 / 50
    assert 0.8 < VectorQuantiser(codes=500, dim=8, start="normal").codebook.std() < 1.2


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_a_dead_code_is_put_where_the_data_are_and_a_living_one_is_left(update):
    torch.manual_seed(0)
    h = torch.randn(8, 2, 2)
    quantiser = VectorQuantiser(codes=3, dim=2, start="normal", update=update, restart=3)
    quantiser.codebook.data.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]]))
    if update == "ema":
        quantiser.sums.copy_(quantiser.codebook)
    for step in range(3):
        assert quantiser.codebook.data[1:].amax(1).tolist() == pytest.approx([50, 50]), step
        alive = quantiser(h).index
        assert (alive == 0).all()
    assert (torch.cdist(quantiser.codebook.data[1:], h.flatten(0, 1)).amin(1) < 1e-3).all()
    assert len(quantiser(h).index.unique()) > 1
    never = VectorQuantiser(codes=3, dim=2, start="normal", restart=None)
    never.codebook.data.fill_(50.0)
    for _ in range(5):
        never(h)
    assert (never.codebook == 50).all()


def test_finite_scalars_are_the_nearest_points_of_a_grid():
    torch.manual_seed(0)
    quantiser = FiniteScalarQuantiser(levels=(5, 2, 4), normalise=False)
    assert (quantiser.codes, quantiser.dim) == (40, 3)
    grid = torch.tensor(list(itertools.product(*[torch.linspace(-1, 1, n).tolist() for n in (5, 2, 4)])))
    all_codes = quantiser.look_up(torch.arange(40).view(1, 40))[0]
    torch.testing.assert_close(torch.unique(all_codes, dim=0), torch.unique(grid, dim=0))
    h = torch.randn(6, 7, 3, requires_grad=True)
    z, index, terms = quantiser(h)
    torch.testing.assert_close(z, grid[torch.cdist(h.detach().tanh(), grid).argmin(-1)])
    assert torch.equal(index, quantiser.choose(h)) and terms == {}
    torch.testing.assert_close(quantiser.look_up(index), z.detach())
    z.sum().backward()
    torch.testing.assert_close(h.grad, 1 - h.detach().tanh() ** 2)  # as if nothing had been rounded


def test_finite_scalars_of_small_numbers_are_one_code_unless_normalised():
    h = 3.0 + 0.01 * torch.randn(200, 4, 3)
    plain, normed = (FiniteScalarQuantiser(levels=(5, 5, 5), normalise=n) for n in (False, True))
    assert len(plain(h).index.unique()) == 1
    assert len(normed(h).index.unique()) > 100
    for _ in range(150):
        normed(h)
    assert len(normed.eval()(h).index.unique()) > 100  # with the running statistics
    assert torch.equal(normed(h).index, normed.choose(h))


def test_gumbel_codes():
    torch.manual_seed(0)
    quantiser, h = GumbelQuantiser(codes=4, dim=3, temperature=0.01), torch.randn(5, 2, 4, requires_grad=True)
    z, index, terms = quantiser(h)
    uniform = Categorical(logits=torch.zeros(5, 2, 4))
    wanted = kl_divergence(Categorical(logits=h), uniform).sum(1)
    torch.testing.assert_close(terms["kl"], wanted)
    assert torch.equal(index, h.argmax(2))
    assert torch.cdist(z.detach(), quantiser.codebook.detach()).amin(2).median() < 1e-3  # nearly one code
    z.sum().backward()
    assert h.grad.any() and quantiser.codebook.grad.any()
    quantiser.eval()
    torch.testing.assert_close(quantiser(h).z, quantiser.codebook[index])
    quantiser.train().temperature = 1.0  # samples follow q: which code has the largest weight
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5]).expand(20_000, 1, 4)
    nearest = torch.linalg.lstsq(torch.cat([quantiser.codebook.T, torch.ones(1, 4)]), _with_ones(quantiser(logits).z))
    shares = torch.bincount(nearest.solution.argmax(0), minlength=4) / 20_000
    torch.testing.assert_close(shares, logits[0, 0].softmax(0), rtol=0, atol=0.02)


def _with_ones(z):
    return torch.cat([z.detach()[:, 0].T, torch.ones(1, len(z))])


@pytest.mark.parametrize("options", MOVING)
def test_in_eval_nothing_moves(options):
    model = small(**options)
    model.loss(points())
    model.eval()
    before = state(model)
    evaluate(model, points())
    model.bound(points())
    model.sample(3)
    model.reconstruct(points())
    assert not changed(model, before)


# The prior and the bound ------------------------------------------------------------------------------------


def test_a_position_sees_the_codes_before_it_and_no_other():
    torch.manual_seed(0)
    prior = CodePrior(codes=3, positions=4, width=64)
    for parameter in prior.parameters():
        parameter.data.normal_()
    index = torch.randint(3, (2, 4))
    for t in range(4):
        prior.zero_grad()
        prior(index)[:, t].square().sum().backward()
        seen = [bool(prior.embedding.grad[s].any()) for s in range(4)]
        assert seen == [s < t for s in range(4)]


def test_an_untrained_prior_is_uniform_and_a_trained_one_sums_to_one():
    index = torch.tensor(list(itertools.product(range(3), repeat=4)))
    prior = CodePrior(codes=3, positions=4)
    torch.testing.assert_close(prior.log_prob(index), torch.full((81,), -4 * math.log(3)))
    for parameter in prior.parameters():
        parameter.data.normal_(std=0.3)
    assert prior.log_prob(index).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert prior.log_prob(index).std() > 0.5


def test_samples_of_the_prior_follow_its_probabilities():
    prior = with_a_prior(small(**OPTIONS["vector"])).prior
    index = torch.tensor(list(itertools.product(range(3), repeat=2)))
    for temperature in (1.0, 0.5):
        first = (prior(index)[:, 0] / temperature).log_softmax(1)[torch.arange(9), index[:, 0]]
        second = (prior(index)[:, 1] / temperature).log_softmax(1)[torch.arange(9), index[:, 1]]
        drawn = prior.sample(40_000, temperature=temperature, generator=torch.Generator().manual_seed(0))
        shares = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / 40_000
        torch.testing.assert_close(shares, (first + second).exp(), rtol=0, atol=0.01)


@pytest.mark.parametrize("quantiser", list(OPTIONS))
def test_the_bound_is_one_term_of_the_evidence(quantiser):
    model, x = with_a_prior(small(quantiser)), points(12)
    codes = torch.tensor(list(itertools.product(range(model.quantiser.codes), repeat=2)))
    with torch.no_grad():
        log_px = Bernoulli(logits=model.decode_codes(codes)).log_prob(x[:, None]).sum(2)  # (B, number of codes)
        joint = log_px + model.prior.log_prob(codes)
        bound = model.bound(x)
        own = (codes == model.codes(x)[:, None]).all(2)
    torch.testing.assert_close(-bound.loss, joint[own])
    torch.testing.assert_close(bound.loss, bound.recon + bound.rate)
    assert (bound.loss >= -joint.logsumexp(1)).all()
    torch.testing.assert_close(log_likelihood(model, x, samples=3), -bound.loss.double())


def test_training_the_prior_moves_nothing_else_and_pays():
    model, x = small(**OPTIONS["vector"]), points(200)
    fit(model, x, epochs=2, show=False)
    before, rate = state(model), model.bound(x).rate.mean()
    history = fit_code_prior(model, x, epochs=5, lr=2e-2, batch_size=20, show=False)
    assert {name.split(".")[0] for name in changed(model, before)} == {"prior"}
    assert history.train[-1].loss < history.train[0].loss
    rate_after = model.bound(x).rate.mean()
    assert rate_after < rate - 0.2 and model.training
    codes = model.codes(x)
    counted = Categorical(probs=torch.bincount(3 * codes[:, 0] + codes[:, 1], minlength=9).float())
    assert rate_after > counted.entropy() - 1e-3  # no prior of any kind does better on these codes
    before = state(model)
    fit(model, x, epochs=1, show=False)
    assert not any(name.startswith("prior") for name in changed(model, before))


def test_samples_come_from_the_prior():
    model = with_a_prior(small(**OPTIONS["vector"]))
    model.prior.head.data.zero_()
    model.prior.head_bias.data.zero_()
    model.prior.head_bias.data[0, 2], model.prior.head_bias.data[1, 1] = 100.0, 100.0  # always 2, then 1
    wanted = model.decode_codes(torch.tensor([[2, 1]])).sigmoid().detach()
    torch.testing.assert_close(model.sample(3), wanted.expand(3, -1))
    assert not model.sample(1).requires_grad


# Shapes, files, and what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("quantiser", list(OPTIONS))
@pytest.mark.parametrize(
    ("shape", "sizes", "grid"),
    [
        ((1, 28, 28), dict(trunk="conv", hidden_dims=(4, 8)), (7, 7)),
        ((3, 10, 13), dict(trunk="conv", hidden_dims=(4, 8)), (2, 3)),
        ((1, 5, 6), dict(tokens=3, hidden_dims=()), (3,)),
    ],
)
def test_the_code_has_the_size_that_the_input_makes(quantiser, shape, sizes, grid):
    model = VQVAE(input_shape=shape, quantiser=quantiser, **sizes, **OPTIONS[quantiser])
    x = torch.rand(2, *shape)
    assert model.grid == grid
    assert model.codes(x).shape == (2, math.prod(grid))
    assert model.encode(x).shape == (2, math.prod(grid), model.quantiser.features)
    assert model.reconstruct(x).shape == model.sample(2).shape == x.shape
    assert model.loss(x).loss.shape == (2,)
    assert model.inputs(x, torch.zeros(2))[0].shape == x.shape


def test_a_code_of_a_grid_is_read_row_by_row_and_changes_its_own_place():
    torch.manual_seed(0)
    model = VQVAE(trunk="conv", hidden_dims=(4, 8), codes=6, dim=4).eval()
    index = torch.zeros(1, 49, dtype=torch.int64)
    other = index.clone()
    other[0, 7 * 1 + 5] = 3  # second row, sixth column
    rows, columns = (model.decode_codes(index) != model.decode_codes(other))[0, 0].nonzero().T
    assert 0 < rows.float().mean() - 4 < 4 and 18 < columns.float().mean() < 26
    x = torch.zeros(1, 1, 28, 28)
    spot = x.clone()
    spot[0, 0, 6, 22] = 1.0
    moved = (model.encode(x) != model.encode(spot))[0].any(1).view(7, 7)
    assert moved[1, 5] and moved.sum() < 10


@pytest.mark.parametrize("options", MOVING)
def test_a_training_goes_on_from_its_file_to_the_very_same_numbers(options, tmp_path):
    x, how = points(60), dict(batch_size=16, lr=1e-2, seed=3, show=False)
    straight = small(**options)
    fit(straight, x, epochs=4, **how)
    for epochs in (2, 4):
        resumed = small(**options)
        fit(resumed, x, epochs=epochs, checkpoint=tmp_path / "vq.pt", **how)
    assert not changed(straight, state(resumed))
    fit_code_prior(straight, x, epochs=1, show=False)
    again = load(save(straight.eval(), tmp_path / "whole.pt"))
    assert torch.equal(again.bound(x).loss, straight.bound(x).loss)
    assert torch.equal(evaluate(again, x).loss, evaluate(straight, x).loss)
    assert not any(parameter.requires_grad for parameter in again.prior.parameters())


def test_options_are_kept_checked_and_with_their_defaults(tmp_path):
    one = np.int64(4), np.float64(0.5)
    for options in (
        dict(codes=one[0], dim=one[0], commitment=one[1], decay=one[1], restart=one[0], tokens=one[0]),
        dict(quantiser="finite scalar", levels=tuple(np.array([8, 8])), prior_width=one[0]),
        dict(quantiser="gumbel", codes=one[0], temperature=one[1]),
    ):
        model = VQVAE(input_shape=(4,), **options)
        assert load(save(model, tmp_path / "model.pt")).config == model.config
    assert VQVAE().config == VQVAE(codes=64, decay=0.99, restart=50, start="data").config


def test_a_prior_is_saved_and_trained_on_from_its_file(tmp_path):
    index, how = torch.randint(3, (50, 4), generator=torch.Generator().manual_seed(0)), dict(batch_size=10, show=False)
    made = []
    for stops in ((3,), (1, 3)):
        for epochs in stops:
            torch.manual_seed(0)
            prior = CodePrior(codes=3, positions=4)
            fit(prior, index, epochs=epochs, checkpoint=tmp_path / f"{len(stops)}.pt", **how)
        made.append(prior)
    assert not changed(made[0], state(made[1]))


REFUSED = {
    "another quantiser": (lambda: VQVAE(quantiser="round"), ValueError, "quantiser must be one of 'vector'"),
    "an option of another quantiser": (lambda: VQVAE(quantiser="gumbel", levels=(8, 8)), TypeError, "levels"),
    "tokens of a grid": (lambda: VQVAE(trunk="conv", tokens=16), ValueError, "the image's size makes"),
    "no tokens": (lambda: VQVAE(tokens=0), ValueError, "tokens must be at least 1"),
    "no codes": (lambda: VQVAE(codes=0), ValueError, "codes must be at least 1"),
    "another update": (lambda: VectorQuantiser(update="momentum"), ValueError, "update must be one of"),
    "another start": (lambda: VectorQuantiser(start="zeros"), ValueError, "start must be one of"),
    "a negative commitment": (lambda: VectorQuantiser(commitment=-1), ValueError, "commitment"),
    "a decay of 1": (lambda: VectorQuantiser(decay=1.0), ValueError, "decay must lie between 0 and 1"),
    "restart at once": (lambda: VectorQuantiser(restart=0), ValueError, "restart must be at least 1"),
    "one level": (lambda: FiniteScalarQuantiser(levels=(8, 1)), ValueError, "levels must be"),
    "levels as a number": (lambda: FiniteScalarQuantiser(levels=8), TypeError, "levels must be.*got 8"),
    "levels as text": (lambda: FiniteScalarQuantiser(levels="88"), TypeError, "levels must be.*got '88'"),
    "a word for yes or no": (lambda: FiniteScalarQuantiser(normalise="no"), TypeError, "True or False, got 'no'"),
    "half a level": (lambda: FiniteScalarQuantiser(levels=(2.5, 3)), TypeError, "whole number"),
    "a temperature of 0": (lambda: GumbelQuantiser(temperature=0.0), ValueError, "temperature"),
    "images of another shape": (lambda: small().loss(torch.rand(2, 5)), ValueError, r"x must be \(B, 4\)"),
    "images of whole numbers": (lambda: small().loss(torch.ones(2, 4).long()), TypeError, "floating-point"),
    "a negative weight": (lambda: small().loss(points(2), beta=-1.0), ValueError, "beta"),
    "codes that are none": (
        lambda: small().decode_codes(torch.tensor([[0, 3]])),
        ValueError,
        "from 0 to 2, got 0 to 3",
    ),
    "codes with a fraction": (lambda: small().decode_codes(torch.rand(2, 2)), TypeError, "whole numbers"),
    "too many codes": (lambda: small().decode_codes(torch.zeros(2, 3).long()), ValueError, r"\(B, 2\)"),
    "codes for the prior": (lambda: small().prior.log_prob(torch.tensor([[0, -1]])), ValueError, "from 0 to 2"),
    "a weight for the prior": (lambda: small().prior.loss(torch.zeros(2, 2).long(), beta=0.5), ValueError, "no KL"),
    "vectors the other way round": (lambda: small().decode(torch.rand(3, 2, 3)), ValueError, r"z must be \(B, 2, 2\)"),
    "a code of another shape": (lambda: straight_through(torch.rand(3, 1), torch.rand(3)), ValueError, "same shape"),
    "a cold prior": (lambda: small().sample(2, temperature=0.0), ValueError, "temperature"),
    "no samples": (lambda: small().sample(0), ValueError, "n must be at least 1"),
    "a prior for a linear layer": (lambda: fit_code_prior(nn.Linear(2, 2), points()), TypeError, "a method codes"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_does_not_fit_is_refused(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        call()
