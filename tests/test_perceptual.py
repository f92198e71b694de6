"""Feature and adversarial objectives: their values, who learns from them, and what they refuse."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import VAE, evaluate, fit, load, save
from course_utils.evaluation import Judge, JudgeFeatures
from course_utils.losses import elbo, feature_distance
from course_utils.models import IWAE, TCVAE, AdversarialLoss, Discriminator, FeatureLoss, InfoVAE


def images(n=8, seed=0):
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def vae(seed=0, **options):
    torch.manual_seed(seed)
    return VAE(input_shape=(1, 6, 6), latent_dim=2, hidden_dims=(8,), **options)


def network(outputs=5, seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.Tanh(), nn.Linear(7, outputs))


# ---------------------------------------------------------------------------------------------------------- features


def test_the_distance_is_summed_over_units_and_layers():
    x_hat, x = images(3), images(3, seed=1)
    weight = torch.randn(4, 36, generator=torch.Generator().manual_seed(2))
    expected = ((x_hat - x).flatten(1) @ weight.T).square().sum(1)
    torch.testing.assert_close(feature_distance(lambda x: x.flatten(1) @ weight.T, x_hat, x), expected)
    both = feature_distance(lambda x: (x.flatten(1) @ weight.T, x), x_hat, x)
    torch.testing.assert_close(both, expected + (x_hat - x).square().flatten(1).sum(1))
    assert torch.equal(feature_distance(network(), x, x), torch.zeros(3))


def test_the_objective_is_the_models_own_loss_and_the_weighted_distance():
    model, features, x = vae(), network(), images()
    objective = FeatureLoss(model, features, weight=3.0)
    torch.manual_seed(0)
    terms = objective.loss(x, beta=0.5)
    torch.manual_seed(0)
    output = model(x)
    own = elbo(output, x, likelihood="bernoulli", beta=0.5)
    distance = feature_distance(features, output.x_params.sigmoid(), x)
    torch.testing.assert_close(terms.features, distance)
    torch.testing.assert_close(terms.loss, own.loss + 3 * distance)
    torch.testing.assert_close(terms.recon, own.recon)
    assert all(term.shape == (8,) for term in terms)


def test_the_features_teach_encoder_and_decoder_and_learn_nothing_themselves():
    model, features, x = vae(), network(), images()
    objective = FeatureLoss(model, features, weight=1.0)
    objective.loss(x).features.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.decoder.parameters())
    assert all(p.grad.any() for p in model.encoder.parameters())
    before = [p.clone() for p in features.parameters()]
    fit(objective, x, epochs=2, show=False)
    assert all(map(torch.equal, before, features.parameters()))
    assert evaluate(model, x).names == ("loss", "recon", "kl")
    assert {id(p) for p in objective.parameters() if p.requires_grad} == {id(p) for p in model.parameters()}


def test_a_network_that_cuts_the_graph_is_refused():
    model, judge = VAE(latent_dim=2, hidden_dims=(8,)), Judge()
    x = torch.rand(3, 1, 28, 28)
    with pytest.raises(ValueError, match="no gradient.*no_grad"):
        FeatureLoss(model, judge.features, weight=1.0).loss(x)
    FeatureLoss(model, judge.layers[:-1], weight=1.0).loss(x).loss.sum().backward()
    with torch.no_grad():  # to measure, no gradient is needed
        FeatureLoss(model, judge.features, weight=1.0).loss(x)
    with pytest.raises(ValueError, match="same shape"):
        feature_distance(judge.features, x, x.flatten(1))


# --------------------------------------------------------------------------------------------------------- adversary


def adversarial(weight=2.0, **options):
    model = vae(**options)
    return AdversarialLoss(model, network(1), weight=weight), model


def test_the_value_is_the_models_loss_and_what_the_decoder_pays():
    objective, model = adversarial()
    x = images()
    torch.manual_seed(0)
    terms = objective.loss(x, beta=0.5)
    torch.manual_seed(0)
    output = model(x)
    z = torch.cat([output.z, torch.randn(8, 2)])
    logits = objective.discriminator(model.decode(z).sigmoid()).view(2, 8)
    log_d, log_not_d, log_real = F.logsigmoid(logits), F.logsigmoid(-logits), F.logsigmoid(objective.discriminator(x))
    torch.testing.assert_close(terms.fooled, -log_d.mean(0))
    torch.testing.assert_close(terms.discriminator, -log_real.squeeze(1) - log_not_d.mean(0))
    torch.testing.assert_close(terms.loss, terms.recon + 0.5 * terms.kl + 2 * terms.fooled)


def grads(parameters):
    return [None if p.grad is None else p.grad.clone() for p in parameters]


def test_everybody_learns_from_their_own_term_alone():
    objective, model = adversarial()
    x = images().requires_grad_()
    encoder = [*model.encoder.parameters(), *model.heads.parameters()]
    decoder, critic = [*model.decoder.parameters()], [*objective.discriminator.parameters()]
    terms = objective.loss(x)
    terms.fooled.sum().backward(retain_graph=True)
    assert all(p.grad.any() for p in decoder)
    assert all(p.grad is None or not p.grad.any() for p in (*encoder, *critic)) and x.grad is None
    objective.zero_grad()
    terms.discriminator.sum().backward(retain_graph=True)
    assert all(p.grad.any() for p in critic) and all(p.grad is None for p in (*encoder, *decoder))
    of_critic = grads(critic)
    objective.zero_grad()
    terms.loss.sum().backward(retain_graph=True)
    for p, g in zip(critic, of_critic, strict=True):
        torch.testing.assert_close(p.grad, g)  # whatever the weight
    of_encoder = grads(encoder)
    objective.zero_grad()
    (terms.recon + terms.kl).sum().backward()
    for p, g in zip(encoder, of_encoder, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_a_discriminator_that_knows_pulls_the_decoder_and_one_that_cannot_tell_costs_two_logs_of_two():
    objective, model = adversarial(weight=50.0)
    objective.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    nn.init.zeros_(objective.discriminator[1].weight)
    nn.init.zeros_(objective.discriminator[1].bias)
    terms = objective.loss(images())
    torch.testing.assert_close(terms.discriminator, torch.full((8,), 2 * math.log(2)))
    nn.init.ones_(objective.discriminator[1].weight)  # bright is real
    nn.init.constant_(objective.discriminator[1].bias, -25.0)
    objective.discriminator.requires_grad_(False)
    before = model.sample(200).mean()
    fit(objective, images(200), epochs=10, batch_size=50, lr=1e-2, show=False)
    assert model.sample(200).mean() > before + 0.1


def test_what_is_no_model_or_no_weight_is_refused():
    for make in (
        lambda m, w: FeatureLoss(m, network(), weight=w),
        lambda m, w: AdversarialLoss(m, network(), weight=w),
    ):
        with pytest.raises(TypeError, match="decode and likelihood is needed, got Linear"):
            make(nn.Linear(2, 2), 1.0)
        with pytest.raises(ValueError, match="weight"):
            make(vae(), -1.0)
        for options in (dict(prior="mixture"), dict(prior="vamp"), dict(posterior="planar")):
            with pytest.raises(ValueError, match="closed form.*prior='standard'"):
                make(vae(**options), 1.0)
        for kind, options in ((IWAE, {}), (InfoVAE, {}), (TCVAE, dict(size=8))):
            with pytest.raises(ValueError, match=rf"{kind.__name__}\.loss is not the ELBO"):
                make(kind(input_shape=(1, 6, 6), latent_dim=2, **options), 1.0)
    with pytest.raises(TypeError, match="features must be"):
        FeatureLoss(vae(), None, weight=1.0)
    with pytest.raises(TypeError, match="discriminator must be"):
        AdversarialLoss(vae(), lambda x: x, weight=1.0)


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["features", "adversary"])
def test_an_objective_goes_on_from_its_file_with_all_its_parts(kind, tmp_path):
    def objective(seed):
        torch.manual_seed(seed)
        model = VAE(latent_dim=2, hidden_dims=(8,))
        if kind == "features":
            return FeatureLoss(model, JudgeFeatures(), weight=0.5)
        return AdversarialLoss(model, Discriminator(hidden_dims=(8,)), weight=0.5)

    x, how = torch.rand(60, 1, 28, 28), dict(seed=3, batch_size=20, show=False)
    whole, halves = objective(0), objective(0)
    fit(whole, x, epochs=2, **how)
    fit(halves, x, epochs=1, checkpoint=tmp_path / "a.pt", **how)
    gone_on = objective(1)  # other weights everywhere: those of the file count
    fit(gone_on, x, epochs=2, checkpoint=tmp_path / "a.pt", **how)
    found = load(tmp_path / "a.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, gone_on.state_dict()[name]) and torch.equal(value, found.state_dict()[name]), name
    assert found.config == whole.config and found.model.sample(3).shape == found.sample(3).shape


def test_an_objective_with_a_part_that_cannot_be_saved_says_which_before_training(tmp_path):
    x = torch.rand(20, 1, 6, 6)
    for objective, part in (
        (FeatureLoss(vae(), network(), weight=1.0), "Sequential"),
        (FeatureLoss(vae(), lambda x: x, weight=1.0), "function"),
        (AdversarialLoss(vae(), network(1), weight=1.0), "Sequential"),
    ):
        before = {name: value.clone() for name, value in objective.state_dict().items()}
        with pytest.raises(TypeError, match=f"a {part} cannot be saved"):
            fit(objective, x, epochs=1, checkpoint=tmp_path / "a.pt", show=False)
        with pytest.raises(TypeError, match=f"a {part} cannot be saved"):
            save(objective, tmp_path / "a.pt")
        assert not list(tmp_path.iterdir())
        assert all(torch.equal(value, objective.state_dict()[name]) for name, value in before.items())
