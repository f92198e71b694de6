"""Adversarial variational Bayes: what moves what, a discriminator at its optimum, saving, and what it must refuse."""

import pytest
import torch
from torch.distributions import Normal

from course_utils import evaluate, fit, load, log_likelihood, save
from course_utils.evaluation import active_units, log_evidence_on_grid
from course_utils.models.avb import AVB


def toy(seed=0, **options):
    torch.manual_seed(seed)
    return AVB(**{"input_shape": (4,), "latent_dim": 2, "hidden_dims": (16,), **options})


def test_the_two_sides_move_their_own_weights_only():
    model, x = toy(), torch.eye(4).repeat(8, 1)
    terms = model.loss(x, beta=1.0)
    torch.testing.assert_close(terms.loss, terms.recon + terms.kl)
    others = [*model.encoder.parameters(), *model.decoder.parameters()]
    (terms.recon + terms.kl).sum().backward(retain_graph=True)
    assert all(p.grad is None for p in model.discriminator.parameters())
    assert all(p.grad is not None and p.grad.any() for p in others)
    before = [p.grad.clone() for p in others]
    model.zero_grad()
    terms.loss.sum().backward(retain_graph=True)
    assert all(torch.equal(p.grad, g) for p, g in zip(others, before, strict=True))  # no word from the discriminator's
    got = [p.grad.clone() for p in model.discriminator.parameters()]
    model.zero_grad()
    terms.discriminator.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in others)
    for p, g in zip(model.discriminator.parameters(), got, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_beta_weighs_the_rate():
    model, x = toy(), torch.eye(4)
    torch.manual_seed(0)
    terms = model.loss(x, beta=3.0)
    torch.testing.assert_close(terms.loss, terms.recon + 3 * terms.kl)
    with pytest.raises(ValueError, match="beta"):
        model.loss(x, beta=-1.0)


def test_the_discriminator_learns_the_log_ratio_with_its_sign():
    """With a posterior that is known, N(1, ½²) whatever x is, T must become log q − log p."""

    class Known(AVB):
        def draw(self, x, *, eps=None):
            return 1 + 0.5 * torch.randn(len(x), 2)

    torch.manual_seed(0)
    model = Known(input_shape=(4,), latent_dim=2, hidden_dims=(64,))
    x = torch.eye(4).repeat(128, 1)
    fit(model, x.repeat(60, 1), epochs=8, batch_size=512, lr=5e-3, show=False)
    z = 1 + 0.5 * torch.randn(2000, 2)
    with torch.no_grad():
        came = model.log_ratio(torch.eye(4).repeat(500, 1), z)
    wanted = (Normal(1.0, 0.5).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1)
    assert came.mean().item() == pytest.approx(wanted.mean().item(), abs=0.15)
    assert torch.corrcoef(torch.stack([came, wanted]))[0, 1] > 0.9


def test_it_is_saved_and_its_evidence_is_exact_on_a_grid(tmp_path):
    model, x = toy(), torch.eye(4)
    again = load(save(model, tmp_path / "avb.pt"))
    assert torch.equal(evaluate(model, x).loss, evaluate(again, x).loss)
    exact = log_evidence_on_grid(model, x)
    z = torch.randn(100_000, 1, 2)
    with torch.no_grad():
        by_samples = model.log_joint(x, z) - Normal(0, 1).log_prob(z).sum(-1)
    torch.testing.assert_close(by_samples.exp().mean(0).log(), exact, rtol=0, atol=0.01)
    assert model.sample(3).shape == (3, 4)


def test_the_ratio_of_what_does_not_fit_is_refused():
    model = AVB(input_shape=(4,), latent_dim=2)
    with pytest.raises(ValueError, match=r"z must be \(B, 2\)"):
        model.log_ratio(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"x must be \(B, 4\)"):
        model.log_ratio(torch.zeros(3, 5), torch.zeros(3, 2))


def test_what_needs_a_density_of_q_is_refused():
    model, x = toy(), torch.eye(4)
    with pytest.raises(TypeError, match="log_weights, which AVB has not"):
        log_likelihood(model, x, samples=3)
    with pytest.raises(TypeError, match="posterior_and_prior, which AVB has not"):
        active_units(model, x)
