"""PixelCNN and PixelVAE: what a logit sees, densities that sum to 1, samples of that density, what is refused."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from course_utils import evaluate, fit, load, log_likelihood, save
from course_utils.losses import bernoulli_nll
from course_utils.models import MaskedConv2d, PixelCNN, PixelVAE

TINY = dict(input_shape=(1, 3, 3), channels=4, layers=2)
CONTEXTS = ["full", 0, 1, 2, 4, 24]


def cnn(seed=0, **options):
    torch.manual_seed(seed)
    return PixelCNN(**{**TINY, **options})


def vae(seed=0, **options):
    torch.manual_seed(seed)
    return PixelVAE(**{**TINY, "latent_dim": 2, "hidden_dims": (8,), **options})


def every_image(pixels=9):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=pixels)))


def sight(network, x):
    """(D, D): whether logit d changes with pixel e, by the Jacobian at several images."""
    return torch.autograd.functional.jacobian(lambda x: network(x).sum(0), x).abs().amax(1) > 0


def before(shape, offsets):
    """(D, D): which pixels stand at these offsets from each pixel of an image (H, W)."""
    height, width = shape
    seen = torch.zeros(height * width, height * width, dtype=torch.bool)
    for i, j in itertools.product(range(height), range(width)):
        for row, column in offsets:
            if 0 <= i + row < height and 0 <= j + column < width:
                seen[i * width + j, (i + row) * width + j + column] = True
    return seen


# ------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(("kind", "own"), [("A", False), ("B", True)])
def test_a_masked_convolution_sees_what_was_read_before_and_with_b_its_own_place(kind, own):
    torch.manual_seed(0)
    layer = MaskedConv2d(1, 1, 5, kind)
    seen = sight(lambda x: layer(x.view(-1, 1, 6, 6)).flatten(1), torch.randn(2, 36))
    offsets = [o for o in itertools.product(range(-2, 3), range(-2, 3)) if o < (0, 0) or (own and o == (0, 0))]
    assert torch.equal(seen, before((6, 6), offsets))


def test_a_whole_network_sees_only_before_and_all_of_the_rows_above_nearby():
    model = cnn(input_shape=(1, 6, 6))
    seen = sight(model.network, torch.randn(8, 36))
    assert not seen.triu().any(), "a logit sees its own pixel or one after it"
    assert seen[35, 34] and seen[35, 29] and seen[28, 0]


@pytest.mark.parametrize(("context", "offsets"), [
    (0, []),
    (1, [(0, -1)]),
    (2, [(0, -1), (-1, 0)]),
    (4, [(0, -1), (-1, 0), (-1, -1), (-1, 1)]),
    (24, [o for o in itertools.product(range(-3, 1), range(-3, 4)) if o < (0, 0)]),
])  # fmt: skip
def test_a_small_context_is_so_many_pixels_however_many_layers_there_are(context, offsets):
    model = cnn(input_shape=(1, 6, 6), context=context, layers=4)
    assert torch.equal(sight(model.network, torch.randn(8, 36)), before((6, 6), offsets))


def test_a_mask_that_keeps_the_middle_would_be_noticed():
    model = cnn(input_shape=(1, 6, 6))
    model.network.first.mask[3, 3] = 1
    assert sight(model.network, torch.randn(8, 36)).diagonal().all()


# --------------------------------------------------------------------------------------------------------- densities


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_probabilities_of_all_images_sum_to_one(context):
    model, x = cnn(context=context).double(), every_image().double().view(-1, 1, 3, 3)
    assert (-model.loss(x).loss).exp().sum().item() == pytest.approx(1, abs=1e-9)
    with_code = vae(context=context).double()
    z = torch.randn(1, 2).double()
    with torch.no_grad():
        log_px = -bernoulli_nll(with_code.decode(z.expand(512, -1), x), x)
    assert log_px.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_with_the_middle_kept_they_would_not():
    model, x = cnn().double(), every_image().double().view(-1, 1, 3, 3)
    model.network.first.mask[3, 3] = 1
    assert abs((-model.loss(x).loss).exp().sum().item() - 1) > 1e-3


def test_the_evidence_of_a_vae_sums_to_one_over_all_images():
    model, x = vae(input_shape=(1, 2, 3)), every_image(6).view(-1, 1, 2, 3)
    total = log_likelihood(model, x, samples=500, proposal="defensive", batch_size=40_000).exp().sum()
    assert total.item() == pytest.approx(1, abs=0.03)


# ----------------------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("context", CONTEXTS)
def test_samples_have_the_probabilities_of_the_density(context):
    """Where drawing disagrees with the pass that gives log p(x), in one pixel or layer, the shares move."""
    model = cnn(context=context, input_shape=(1, 2, 4), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        x = every_image(8)
        p = (-model.loss(x.view(-1, 1, 2, 4)).loss).exp().double()
        drawn = model.sample(20_000, generator=torch.Generator().manual_seed(0)).flatten(1)
    counts = torch.bincount((drawn @ 2.0 ** torch.arange(7, -1, -1)).long(), minlength=256).double()
    expected = p * len(drawn)
    common = expected > 20
    chi = ((counts - expected).square() / expected)[common].sum().item()
    assert common.sum() > 5 and chi < common.sum() + 5 * (2 * common.sum()) ** 0.5


@pytest.mark.parametrize("context", CONTEXTS)
def test_drawing_place_by_place_meets_the_logits_of_a_whole_pass(context, monkeypatch):
    from course_utils.models import pixel_cnn

    met, toss = [], pixel_cnn.toss
    monkeypatch.setattr(pixel_cnn, "toss", lambda logits, generator: (met.append(logits), toss(logits, generator))[1])
    model, z = vae(context=context, input_shape=(1, 6, 5)).double(), torch.randn(7, 2).double()
    x = model.decoder.draw(torch.zeros(7, 30).double(), z)
    torch.testing.assert_close(torch.cat(met, 1), model.decoder(x, z))


def test_samples_follow_their_generator_and_the_loop_can_be_watched():
    model, seen = vae(), []

    def watched(pixels):
        for pixel in pixels:
            seen.append(pixel)
            yield pixel

    first, second = (model.sample(4, generator=torch.Generator().manual_seed(1), progress=watched) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (4, 1, 3, 3) and seen == [*range(9), *range(9)]
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    x = every_image()[:5].view(-1, 1, 3, 3)
    assert model.reconstruct(x, progress=watched).shape == x.shape and len(seen) == 27


# ---------------------------------------------------------------------------------------------------------- training


CHANCE = torch.tensor([[0.1, 0.6], [0.6, 0.95]])  # of a pixel, given the one to the left and the one above


def drawn_by_the_table(n):
    """Images (n, 1, 4, 5) whose pixels depend on two neighbours, black outside; and their −log p, (n,)."""
    generator, x, nll = torch.Generator().manual_seed(0), torch.zeros(n, 5, 6), torch.zeros(n)
    for i, j in itertools.product(range(1, 5), range(1, 6)):
        p = CHANCE[x[:, i, j - 1].long(), x[:, i - 1, j].long()]
        x[:, i, j] = torch.bernoulli(p, generator=generator)
        nll -= torch.where(x[:, i, j] > 0, p, 1 - p).log()
    return x[:, None, 1:, 1:].contiguous(), nll


def test_it_learns_how_a_pixel_follows_from_two_neighbours_and_one_is_too_few():
    x, nll = drawn_by_the_table(1000)
    excess = {}
    for context in (1, 2):
        model = cnn(input_shape=(1, 4, 5), context=context, channels=8, layers=1)
        fit(model, x, epochs=5, batch_size=50, lr=3e-2, show=False)
        excess[context] = (model.loss(x).loss - nll).mean().item()
    assert -0.1 < excess[2] < 0.1 < 0.4 < excess[1]


def test_the_code_is_trained_through_the_masked_decoder_and_its_terms_add_up():
    model, x = vae(), every_image()[:50].view(-1, 1, 3, 3)
    torch.manual_seed(0)
    terms = model.loss(x, beta=0.5)
    torch.testing.assert_close(terms.loss, terms.recon + 0.5 * terms.kl)
    terms.loss.sum().backward()
    assert all(p.grad is not None and p.grad.abs().any() for p in model.parameters())


@pytest.mark.parametrize("make", [cnn, vae])
def test_it_is_saved_and_loaded(make, tmp_path):
    model, x = make(context=2, layers=1), every_image()[:7].view(-1, 1, 3, 3)
    again = load(save(model, tmp_path / "model.pt"))
    assert again.config == model.config and torch.equal(evaluate(model, x).loss, evaluate(again, x).loss)


def test_a_convolutional_trunk_is_possible():
    model = vae(input_shape=(1, 8, 8), trunk="conv", hidden_dims=(4, 8))
    assert model.loss((torch.rand(3, 1, 8, 8) < 0.5).float()).loss.shape == (3,)


# ----------------------------------------------------------------------------------------------------------- refusal


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"context": 25}, ValueError, "0 to 24"),
    ({"context": "all"}, TypeError, '"full" or a whole number'),
    ({"context": True}, TypeError, "whole number"),
    ({"channels": 0}, ValueError, "channels"),
    ({"layers": 0}, ValueError, "layers"),
    ({"input_shape": (3, 8, 8)}, ValueError, "one channel"),
    ({"input_shape": (784,)}, ValueError, "one channel"),
    ({"activation": "swish"}, ValueError, "activation"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(options, error, words):
    for make in (cnn, vae):
        with pytest.raises(error, match=words):
            make(**options)


def test_a_weight_of_no_kl_is_refused():
    with pytest.raises(ValueError, match="PixelCNN has no KL for beta to weigh, got beta=5"):
        PixelCNN(input_shape=(1, 4, 4)).loss(torch.zeros(2, 1, 4, 4), beta=5.0)


def test_images_that_do_not_fit_are_refused():
    model = vae()
    with pytest.raises(ValueError, match=r"x must be \(B, 1, 3, 3\)"):
        model.loss(torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="one image for each code"):
        model.decode(torch.zeros(3, 2), torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.loss(torch.full((2, 1, 3, 3), 2.0))
    for kernel_size, kind in ((4, "A"), (3, "C")):
        with pytest.raises(ValueError, match="odd|kind"):
            MaskedConv2d(1, 1, kernel_size, kind)
    with pytest.raises(ValueError, match="does not hold the nearest 9"):
        MaskedConv2d(1, 1, 3, "A", nearest=9)


def test_it_is_a_convolution_where_nothing_is_masked():
    torch.manual_seed(0)
    layer = MaskedConv2d(2, 3, 3, "B")
    layer.mask.fill_(1)
    h = torch.randn(2, 2, 5, 5)
    torch.testing.assert_close(layer(h), F.conv2d(h, layer.weight, layer.bias, padding=1))
