"""The doctor finds what is broken, leaves alone what is not, and leaves no trace."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data.load import load_images
from course_utils.doctor import CODES, Diagnosis, Finding, examine
from course_utils.doctor.__main__ import main
from course_utils.models.autoencoder import Autoencoder
from course_utils.models.cvae import CVAE
from course_utils.models.vae import VAE
from tests import doctor_patients as patients
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def digits():
    return load_images("digits").train


@pytest.fixture(scope="module")
def batches(digits):
    x = digits[:]
    return {"pixels": x, "standardised": (x - x.mean()) / x.std(), "bytes": 255 * x}


@pytest.fixture(scope="module")
def x(batches):
    return batches["pixels"][:32]


@pytest.fixture(scope="module")
def conds(digits):
    return {"": None, "label": digits.labels, "one-hot": F.one_hot(digits.labels, 10).float()}


def examined(case, batches, conds=None, *, seed=0, trained=False, dtype=torch.float32, size=32) -> Diagnosis:
    torch.manual_seed(seed)
    model, x = case.make().to(dtype), batches[case.data].to(dtype)
    cond = conds[case.cond] if conds else None
    cond = cond.to(dtype) if cond is not None and cond.is_floating_point() else cond
    if trained:
        train(model, case.loss, x, cond)
    return examine(model, x[:size], cond=None if cond is None else cond[:size], loss=case.loss)


def train(model: nn.Module, loss, x, cond=None, *, steps: int = 25, lr: float = 3e-3) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        chosen = torch.randperm(len(x))[:64]
        batch = [x[chosen]] if cond is None else [x[chosen], cond[chosen]]
        value = model.loss(*batch) if loss is None else loss(model(*batch), batch[0])
        value = value["loss"] if isinstance(value, dict) else getattr(value, "loss", value)
        optimizer.zero_grad()
        value.mean().backward()
        optimizer.step()


def assert_healthy(diagnosis: Diagnosis) -> None:
    assert not [f for f in diagnosis.findings if f.severity != "remark"], str(diagnosis)
    assert not [text for text in diagnosis.unchecked if "failed" in text or "raised" in text], str(diagnosis)


# ------------------------------------------------------------------------------------------------ what it finds


@pytest.mark.parametrize("case", patients.BROKEN, ids=lambda case: case.name)
def test_finds_what_is_broken(case, batches):
    for seed in range(2):
        diagnosis = examined(case, batches, seed=seed)
        found = diagnosis.find(case.code)
        assert found is not None, str(diagnosis)
        assert found.severity == ("error" if case.error else "warning"), str(diagnosis)
        errors = {finding.code for finding in diagnosis.errors}
        assert errors - set(case.also) == ({case.code} if case.error else set()), str(diagnosis)


def test_the_plain_model_is_found_broken_only_where_it_was_broken(x):
    assert len(patients.BROKEN) >= 25
    assert len({case.code for case in patients.BROKEN}) >= 25
    assert_healthy(examine(patients.Plain(), x, loss=patients.elbo_loss))


@pytest.mark.parametrize(
    "model, code, severity",
    [
        (patients.BlindEncoder, "condition-ignored-encoder", "warning"),
        (patients.BlindDecoder, "condition-ignored-decoder", "error"),
    ],
)
def test_finds_an_ignored_condition(model, code, severity, x, conds):
    diagnosis = examine(model(), x, cond=conds["one-hot"][:32], loss=patients.elbo_loss)
    assert [f.code for f in diagnosis.findings if f.severity != "remark"] == [code], str(diagnosis)
    assert diagnosis.find(code).severity == severity


@pytest.mark.parametrize("returned", ["output alone", "output and h", "output, h, h"])
def test_the_first_patient_has_all_three_mistakes(returned, x):
    """One head, averaged latents, no KL, in each way of returning it that tutorials have."""

    class Tutorial(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)]
            self.encoder = nn.Sequential(nn.Flatten(), *layers)
            self.decoder = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 784), nn.Sigmoid())

        def forward(self, x):
            h = self.encoder(x)
            mean = h.mean(1, keepdim=True)
            out = self.decoder(mean + torch.exp(0.5 * mean) * torch.randn_like(mean))
            return {"output alone": out, "output and h": (out, h), "output, h, h": (out, h, h)}[returned]

    def loss(output, x):
        recon, *rest = (output,) if isinstance(output, torch.Tensor) else output
        return F.mse_loss(recon, x.flatten(1)) + sum(h.mean() for h in rest)

    torch.manual_seed(0)
    diagnosis = examine(Tutorial(), x, loss=loss)
    assert {f.code for f in diagnosis.errors} == {"one-head", "latents-averaged", "no-kl"}, str(diagnosis)


def test_an_autoencoder_is_no_vae(x):
    diagnosis = examine(Autoencoder(latent_dim=4), x)
    assert {f.code for f in diagnosis.errors} == {"no-sampling", "no-kl"}, str(diagnosis)


@pytest.mark.parametrize(
    "mistake, code",
    [
        (dict(encode=patients.OneHead.encode), "one-head"),
        (dict(encode=patients.AveragedAndReturned.encode), "latents-averaged"),
        (dict(reparameterize=patients.SigmaIsVariance.reparameterize), "sigma-exp-log-var"),
        (dict(reparameterize=patients.Detached.reparameterize), "encoder-cut-off"),
        (dict(reparameterize=patients.FrozenSeed.reparameterize), "noise-frozen"),
        (dict(decode=patients.WithSigmoid.decode), "double-sigmoid"),
        (dict(kl=lambda self, mu, log_var: 0 * mu.sum(1)), "no-kl"),
        (dict(kl=lambda self, mu, log_var: patients.kl_of(mu, log_var) / patients.LATENT), "kl-scale"),
        (dict(loss=lambda self, x: patients.OwnLoss.loss(self, x).mean().item()), "no-gradient"),
    ],
)
def test_a_model_without_forward_is_examined_through_its_loss(mistake, code, x):
    """Each part of a reader's own VAE, taken from the patient that has it wrong."""
    model = patients.without_forward(**mistake)()
    if code == "latents-averaged":
        model.back = nn.Linear(1, patients.WIDTH)
    diagnosis = examine(model, x.flatten(1))
    assert [f.code for f in diagnosis.findings if f.severity != "remark"] == [code], str(diagnosis)


@pytest.mark.parametrize("sign, codes", [(1, set()), (0, {"no-kl"}), (-1, {"kl-sign"})])
def test_a_kl_kept_as_an_attribute_is_found_by_its_gradient(sign, codes, x):
    """With a weight of exactly 0 it is there all the same: a warm-up may begin so."""
    model = patients.KeepsItsKL()

    diagnosis = examine(model, x, loss=lambda out, x: (patients.bce(out, x) + sign * model.kl).mean())
    assert {f.code for f in diagnosis.findings if f.severity != "remark"} == codes, str(diagnosis)
    assert diagnosis.ok == (sign >= 0) and ("At this step" in str(diagnosis)) == (sign == 0)
    assert not hasattr(model, "kl")  # it was not there before


@pytest.mark.parametrize(
    "weight, severity", [(0.05, "error"), (0.5, "warning"), (1.0, None), (4.0, "warning"), (40, "error")]
)
def test_the_effective_beta_is_measured(weight, severity, x):
    loss = patients.loss_with(join=lambda r, k: (r + weight * k).mean())
    finding = examine(patients.Plain(), x, loss=loss).find("kl-scale")
    assert (finding.severity if finding else None) == severity
    assert finding is None or f"effective β = {weight:.4g}" in finding.measurement


def test_the_implied_sigma_is_measured(x):
    def loss(output, x):
        return F.mse_loss(output[0], x.flatten(1)) + patients.kl_of(output[1], output[2]).mean()

    finding = examine(patients.Plain(), x, loss=loss).find("recon-averaged")
    assert "σ = 19.8" in finding.measurement and "β = 392" in finding.measurement  # the pixels' number halved


def test_a_sum_over_the_batch_is_a_remark(x):
    diagnosis = examine(patients.WithSigmoid(), x, loss=patients.summed_loss)
    assert diagnosis.find("loss-depends-on-batch").severity == "remark"
    assert_healthy(diagnosis)


def test_overflow_is_told_apart_from_a_clamp(x):

    assert examine(patients.Plain(), x, loss=patients.elbo_loss).find("overflow").severity == "remark"
    assert examine(VAE(latent_dim=3, hidden_dims=(32,)), x).find("overflow") is None


def test_what_changes_in_eval_is_remarked(x):

    assert examine(patients.Plain(), x).find("samples-at-evaluation").severity == "remark"
    assert examine(patients.MeanInEval(), x).find("samples-at-evaluation") is None
    assert examine(patients.ConvolutionalWithNorms(), x).find("train-eval-difference").severity == "remark"


def test_an_error_is_reported_with_its_own_traceback(x):
    diagnosis = examine(patients.WrongSize(), x)
    finding = diagnosis.find("raises")
    assert diagnosis.codes == ("raises",) and "everything else" in diagnosis.unchecked[0]
    assert "in encode: return super().encode(x.view(-1, 32 * 32))" in finding.measurement
    assert "RuntimeError: shape '[-1, 1024]' is invalid" in finding.measurement
    assert "site-packages" not in finding.measurement and str(ROOT) not in finding.measurement


# -------------------------------------------------------------------------------------------- what it leaves alone


@pytest.mark.parametrize("case", patients.HEALTHY, ids=lambda case: case.name)
def test_leaves_correct_models_alone(case, batches, conds):
    assert len(patients.HEALTHY) >= 10
    for seed, size in ((0, 32), (1, 64), (2, 16)):
        diagnosis = examined(case, batches, conds, seed=seed, size=size)
        assert_healthy(diagnosis)
        assert not {"collapse", "unused-dimensions"} & set(diagnosis.codes)
    assert_healthy(examined(case, batches, conds, dtype=torch.float64))


@pytest.mark.parametrize(
    "case", [c for c in patients.HEALTHY if c.loss or c.name == "own loss"], ids=lambda case: case.name
)
def test_leaves_trained_models_alone(case, batches, conds):
    assert_healthy(examined(case, batches, conds, trained=True))


@pytest.mark.parametrize(
    "config",
    [
        dict(),
        dict(trunk="conv", hidden_dims=(4, 8)),
        dict(likelihood="gaussian", sigma="learned"),
        dict(likelihood="gaussian", sigma=0.1),
        dict(likelihood="continuous_bernoulli"),
        dict(activation="tanh", hidden_dims=(32, 16)),
        dict(hidden_dims=()),
    ],
    ids=str,
)
@pytest.mark.parametrize("trained", [False, True])
def test_the_course_s_vae_is_healthy(config, trained, batches, x):
    torch.manual_seed(0)
    model = VAE(**{"latent_dim": 4, "hidden_dims": (32,), **config})
    if trained:
        train(model, None, batches["pixels"])
    assert_healthy(examine(model, x))


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("forward", ["forward", "generate"])
@pytest.mark.parametrize("trained", [False, True])
def test_the_course_s_cvae_is_healthy(prior, forward, trained, batches, conds):
    torch.manual_seed(0)
    model = CVAE(input_dim=784, cond_dim=10, latent_dim=4, hidden_dims=(32,), prior=prior)
    x, cond = batches["pixels"].flatten(1), conds["one-hot"]
    if trained:
        train(model, None, x, cond)
    diagnosis = examine(model, x[:32], cond=cond[:32], forward=None if forward == "forward" else model.generate)
    assert_healthy(diagnosis)
    assert any("decoder sees the condition" in text for text in diagnosis.healthy)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu(x):
    model = VAE(latent_dim=4, hidden_dims=(32,)).cuda()
    state = torch.cuda.get_rng_state()
    assert_healthy(examine(model, x.cuda()))
    assert torch.equal(state, torch.cuda.get_rng_state())
    broken = patients.SigmaIsVariance().cuda()
    diagnosis = examine(broken, x.cuda(), loss=patients.elbo_loss)
    assert {f.code for f in diagnosis.errors} == {"sigma-exp-log-var"}


def test_callables_say_what_the_output_does_not(x):
    """A model with other method names, wrapped: nothing of it is found without the callables."""
    inner = patients.Plain()

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x, flag):  # cannot be called with x alone
            raise AssertionError("not this way")

    assert examine(Odd(), x).codes == ("raises",)
    diagnosis = examine(Odd(), x, forward=lambda x: inner(x)[0], encode=inner.encode, decode=inner.decode)
    assert_healthy(diagnosis)
    assert any("size that the encoder says" in text for text in diagnosis.healthy)


@pytest.mark.parametrize(
    "given, error, words",
    [
        (dict(encode=lambda x: x), ValueError, r"encode\(x\) must return a pair .* got \(32, 1, 28, 28\)"),
        (dict(encode=lambda x: None), ValueError, "got NoneType"),
        (dict(decode=lambda z: z), ValueError, r"decode\(z\) must return .* got \(32, 6\)"),
        (dict(loss=3), TypeError, "loss must be a function, got int"),
    ],
)
def test_callables_that_give_something_else_are_refused(given, error, words, x):
    with pytest.raises(error, match=words):
        examine(patients.Plain(), x, **given)


# ------------------------------------------------------------------- noise, models and losses of other kinds


@pytest.mark.parametrize("name", patients.NOISES)
@pytest.mark.parametrize(
    "mistake, code", [("", None), ("sigma", "sigma-exp-log-var"), ("averaged", "latents-averaged")]
)
def test_noise_may_be_made_in_any_way(name, mistake, code, x):
    """The right model is right however its noise is made, and a wrong one is found as well."""
    torch.manual_seed(0)
    diagnosis = examine(patients.noisy(patients.NOISES[name], mistake)(), x, loss=patients.elbo_loss)
    found = [f.code for f in diagnosis.findings if f.severity != "remark"]
    assert found == ([code] if code else []), str(diagnosis)


@pytest.mark.parametrize("name", patients.BEYOND)
def test_what_is_no_plain_vae_is_named_and_nothing_false_is_said(name, x):
    torch.manual_seed(0)
    make, loss, words = patients.BEYOND[name]
    diagnosis = examine(make(), x, loss=loss)
    assert not [f for f in diagnosis.findings if f.severity == "error"], str(diagnosis)
    assert {f.code for f in diagnosis.findings if f.severity == "warning"} <= {"kl-form"}, str(diagnosis)
    assert any(words in text for text in (*diagnosis.unchecked, *diagnosis.healthy, *diagnosis.codes)), str(diagnosis)
    assert not any("failed" in text or "raised" in text for text in diagnosis.unchecked), str(diagnosis)


@pytest.mark.parametrize("form", patients.LOSS_FORMS)
@pytest.mark.parametrize("weight, code", [(1.0, None), (30.0, "kl-scale"), (-1.0, "kl-sign")])
def test_a_loss_may_be_written_in_any_form(form, weight, code, x):
    torch.manual_seed(0)
    model, loss = patients.LOSS_FORMS[form](weight)
    diagnosis = examine(model, x, loss=loss)
    found = [f.code for f in diagnosis.findings if f.severity != "remark"]
    assert found == ([code] if code else []), str(diagnosis)
    assert code or any("weight of an ELBO" in text for text in diagnosis.healthy)


def test_parts_without_a_total_are_asked_for(x):
    def parts(output, x):
        return patients.bce(output[0], x).mean(), patients.kl_of(*output[1:]).mean()

    diagnosis = examine(patients.Plain(), x, loss=parts)
    assert any("which is minimised" in text for text in diagnosis.unchecked) and diagnosis.ok, str(diagnosis)


def test_a_number_that_is_nan_is_neither_healthy_nor_wrong(x):
    def loss(output, x):  # NaN as soon as the means are larger than the model's own
        return (patients.elbo_loss(output, x) + (1.0 - output[1].abs().max()).sqrt()).mean()

    diagnosis = examine(patients.Plain(), x, loss=loss)
    assert diagnosis.ok and not any("nan" in text for text in (*diagnosis.healthy, *map(str, diagnosis.findings)))
    assert any("NaN" in text for text in diagnosis.unchecked)


@pytest.mark.parametrize(
    "mistake, sign, code",
    [("", 1, None), ("sigma", 1, "sigma-exp-log-var"), ("cut off", 1, "encoder-cut-off"), ("", -1, "kl-sign"),
     ("", 0, "no-kl")],
)  # fmt: skip
def test_sentences_are_examined_as_far_as_that_goes(mistake, sign, code):
    """The output holds probabilities of words, and the blots on words before are no second latent variable."""
    torch.manual_seed(0)
    words = torch.randint(1, 30, (64, 9))
    with pytest.raises(TypeError, match=r"for words: x.float\(\)"):
        examine(patients.Words(), words)
    diagnosis = examine(patients.Words(mistake), words.float(), loss=lambda o, x: patients.words_loss(o, x, sign))
    found = [f.code for f in diagnosis.findings if f.severity != "remark"]
    assert found == ([code] if code else []), str(diagnosis)
    assert diagnosis.enough and not any("several" in text for text in diagnosis.unchecked)


def test_the_output_is_told_from_what_is_nearly_the_same(x):
    """At the start a tanh changes next to nothing."""
    model = patients.WithTanh()
    torch.nn.init.normal_(model.out.weight, std=1e-4)
    torch.nn.init.zeros_(model.out.bias)
    diagnosis = examine(model, 2 * x - 1, loss=patients.squared_loss)
    assert not [f for f in diagnosis.findings if f.severity != "remark"], str(diagnosis)
    assert any("weight of an ELBO" in text and "squared error" in text for text in diagnosis.healthy)


@pytest.mark.parametrize("drawn, kind, code", [(0.5, 1, None), (1, 2, None), (1, 1, "sigma-exp-log-var"),
                                               (0.5, 2, "sigma-mismatch")])  # fmt: skip
def test_an_estimated_kl_means_a_sigma_of_its_own(drawn, kind, code, x):
    """z = μ + exp(drawn · s) ε, and in the density of q σ² is exp(kind · s)."""

    def forward(self, x):
        mu, s = self.encode(x)
        z = mu + (drawn * s).exp() * torch.randn_like(mu)
        return self.decode(z), mu, s, z

    model = patients.plain(forward=forward)()
    diagnosis = examine(model, x, loss=lambda o, x: patients.estimated(o, x, kind))
    assert [f.code for f in diagnosis.findings if f.severity != "remark"] == ([code] if code else []), str(diagnosis)


def test_a_kl_averaged_over_dimensions_is_told_from_a_sigma_of_the_decoder(x):
    for share, found in ((1 / patients.LATENT, True), (0.9 / patients.LATENT, False)):
        loss = patients.loss_with(patients.squared, join=lambda r, k, share=share: (r + share * k).mean())
        finding = examine(patients.Plain(), x, loss=loss).find("kl-scale")
        assert (finding is not None) == found and (not found or "averaged over 6 latent" in finding.text)


def test_a_model_with_nothing_to_call_is_refused_in_words(x):
    with pytest.raises(TypeError, match=r"Linear.* has no forward|Empty has no forward"):
        examine(type("Empty", (torch.nn.Linear,), {"forward": torch.nn.Module.forward})(2, 2), x)


def test_the_name_of_a_layer_may_say_what_no_loss_says(x):
    for name, warned in (("fc_logsigma", False), ("fc_var", True)):
        model = patients.plain(
            lambda self, name=name: setattr(self, name, torch.nn.Linear(patients.WIDTH, patients.LATENT)),
            encode=lambda self, x, name=name: (
                self.to_mu(h := torch.relu(self.hidden(x.flatten(1)))), getattr(self, name)(h)
            ),
            reparameterize=lambda self, mu, s: mu + s.exp() * torch.randn_like(mu),
        )()  # fmt: skip
        assert (examine(model, x).find("sigma-exp-log-var") is not None) == warned


def test_of_a_large_model_fewer_examples_are_used(x, monkeypatch):
    seen = []
    model = patients.plain(encode=lambda self, x: (seen.append(len(x)), patients.encode(self, x))[1])()
    for most, used in ((10**9, 32), (1, 8)):
        monkeypatch.setattr("course_utils.doctor.examination.MOST_NUMBERS", most)
        seen.clear()
        examine(model, x)
        assert max(seen) == used


def test_a_frozen_encoder_is_found(x):
    model = patients.Plain()
    for layer in (model.hidden, model.to_mu, model.to_log_var):
        layer.requires_grad_(False)
    finding = examine(model, x, loss=patients.elbo_loss).find("encoder-cut-off")
    assert finding.severity == "warning" and "frozen" in finding.text


def test_a_traced_module_is_refused_in_words(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(patients.NotSampled(), x)
    with pytest.raises(TypeError, match="traced or scripted"):
        examine(traced, x)


def test_a_learned_prior_is_not_called_healthy_without_its_rate(batches, conds):
    """Both q and its prior follow the condition: no rate to N(0, I) says anything about z."""
    torch.manual_seed(0)
    model = CVAE(input_dim=784, cond_dim=10, latent_dim=4, hidden_dims=(32,), prior="learned")
    x, cond = batches["pixels"].flatten(1), conds["one-hot"]
    train(model, None, x, cond, steps=250)
    diagnosis = examine(model, x[:64], cond=cond[:64])
    assert not any("no collapse" in text for text in diagnosis.healthy), str(diagnosis)


def test_generators_and_lists_inside_a_model_go_back(x):
    class Hoards(patients.Plain):
        def __init__(self):
            super().__init__()
            self.generator, self.numpy = torch.Generator().manual_seed(3), np.random.default_rng(3)
            self.seen, self.by_name, self.steps = [], {}, 0

        def forward(self, x):
            self.steps += 1
            self.seen.append(self.steps)
            self.by_name[self.steps] = torch.rand(1, generator=self.generator).item() + self.numpy.normal()
            return super().forward(x)

    model, fresh = Hoards(), Hoards()
    examine(model, x, loss=patients.elbo_loss)
    assert (model.steps, model.seen, model.by_name) == (0, [], {})
    assert torch.equal(model.generator.get_state(), fresh.generator.get_state())
    assert model.numpy.normal() == fresh.numpy.normal()


# ------------------------------------------------------------------------ what is judged is what the loss is made of


def told(diagnosis: Diagnosis) -> list[str]:
    """The codes of errors and warnings."""
    return [f.code for f in diagnosis.findings if f.severity != "remark"]


@pytest.mark.parametrize(
    "make, scale, shift, recon",
    [
        (patients.Plain, 2, -1, patients.bce),
        (patients.WithSigmoid, 2, -1, patients.bce_of_probabilities),
        (patients.WithSigmoid, 3, -0.4, patients.squared),
        (patients.plain(encode=lambda self, x: patients.encode(self, x / 255)), 255, 0, patients.bce),
    ],
    ids=["[−1, 1], logits", "[−1, 1], probabilities", "standardised, sigmoid", "bytes"],
)
def test_the_targets_of_the_loss_are_judged_and_not_the_data(make, scale, shift, recon, x):
    """A loss may take its targets back to [0, 1]; without that, the same data are an error."""
    loss = patients.loss_with(recon)
    diagnosis = examine(make(), scale * x + shift, loss=lambda o, data: loss(o, (data - shift) / scale))
    assert not told(diagnosis), str(diagnosis)
    assert any("weight of an ELBO" in text for text in diagnosis.healthy)
    assert not examine(make(), scale * x + shift, loss=loss).ok


def test_an_unknown_likelihood_is_not_taken_for_a_bernoulli():
    counts = torch.poisson(6 * torch.rand(64, 40, generator=torch.Generator().manual_seed(0)))

    def loss(output, x):
        return (patients.kl_of(*output[1:]) - (x * (output[0] + 1e-10).log()).sum(1)).mean()

    diagnosis = examine(patients.BagOfWords(), counts, loss=loss)
    assert not told(diagnosis), str(diagnosis)
    assert any("what the loss compares the output with is not known" in text for text in diagnosis.unchecked)


@pytest.mark.parametrize("times, code", [(0.5, None), (1.0, "sigma-mismatch")])
def test_a_returned_std_is_compared_with_the_kl_of_the_log_var_that_it_was_made_of(times, code, x):
    model = patients.with_std(lambda log_var: (times * log_var).exp())()
    diagnosis = examine(model, x, loss=lambda o, x: patients.elbo_loss((o[0], o[1], o[3]), x))
    assert told(diagnosis) == ([code] if code else []), str(diagnosis)


def test_a_sigma_of_either_sign_can_be_small(x):
    model = patients.plain(reparameterize=lambda self, mu, std: mu + std * torch.randn_like(mu))()
    diagnosis = examine(model, x, loss=patients.loss_with(kl=lambda mu, std: patients.kl_of(mu, std.square().log())))
    assert not told(diagnosis), str(diagnosis)


def test_a_variance_of_the_decoder_s_own_is_no_part_of_the_kl(x):
    assert not told(examine(patients.OwnVariance(), x, loss=patients.own_variance_loss))
    found = examine(patients.OwnVariance(), x, loss=lambda o, x: patients.own_variance_loss(o, x, sign=-1))
    assert told(found) == ["kl-sign"], str(found)


@pytest.mark.parametrize("name", patients.QUANTISERS)
def test_a_quantiser_is_known_by_its_steps(name, x):
    def loss(output, x):
        recon, z, chosen = output
        return patients.squared(recon, x).mean() + F.mse_loss(chosen, z.detach()) + F.mse_loss(z, chosen.detach())

    diagnosis = examine(patients.quantised(patients.QUANTISERS[name])(), x, loss=loss)
    assert not told(diagnosis) and any("quantiser" in text for text in diagnosis.unchecked), str(diagnosis)


def test_uniform_numbers_may_make_a_normal_one_or_another_distribution(x):
    diagnosis = examine(patients.sampled_with(patients.inverse_normal)(), x, loss=patients.elbo_loss)
    assert not told(diagnosis) and any("size that the encoder says" in text for text in diagnosis.healthy)
    for make, loss in ((patients.sampled_with(patients.logistic), patients.elbo_loss),
                       (patients.LaplaceCode, patients.laplace_loss)):  # fmt: skip
        diagnosis = examine(make(), x, loss=loss)
        assert not told(diagnosis) and any("not μ + σ·ε" in text for text in diagnosis.unchecked), str(diagnosis)


def test_a_sampled_image_is_no_reconstruction(x):
    diagnosis = examine(patients.ThresholdedFirst(), x, loss=lambda o, x: patients.elbo_loss(o[1:], x))
    assert not told(diagnosis), str(diagnosis)
    assert any("weight of an ELBO" in text for text in diagnosis.healthy)


def test_parts_without_a_sampler_are_no_model(x):
    parts = patients.without_forward(loss=None, reparameterize=None)
    with pytest.raises(TypeError, match=r"has no forward\(x\); give forward="):
        examine(parts(), x)
    assert_healthy(examine(patients.without_forward(loss=None)(), x))


def test_a_z_that_no_seed_moves_is_still_told_from_its_mean(x):
    diagnosis = examine(patients.SeededAndReturned(), x, loss=lambda o, x: patients.elbo_loss((o[0], *o[2:]), x))
    assert told(diagnosis) == ["noise-frozen"], str(diagnosis)


@pytest.mark.parametrize("name", patients.MIXED_ROWS)
def test_finds_mixed_rows(name, x):
    diagnosis = examine(patients.MIXED_ROWS[name](), x, loss=patients.elbo_loss)
    assert diagnosis.find("rows-mixed").severity == "warning" and not diagnosis.errors, str(diagnosis)


def test_codes_that_stand_sorted_on_the_way_are_not_mixed(x):
    assert examine(patients.SortedOnTheWay(), x, loss=patients.elbo_loss).find("rows-mixed") is None


def test_a_norm_over_the_batch_is_no_error(x):
    assert examine(patients.NormOverRows(), x, loss=patients.elbo_loss).find("rows-mixed").severity == "remark"
    assert examine(patients.ConvolutionalWithNorms(), x, loss=patients.flat_loss).find("rows-mixed") is None


# -------------------------------------------------------------------------------------------------------- collapse


@pytest.mark.parametrize(
    "make, join, cond, causes",
    [
        (patients.Plain, lambda r, k: (r + 100 * k).mean(), "", ["kl-scale"]),
        (patients.Conditional, lambda r, k: (r + 100 * k).mean(), "one-hot", ["kl-scale"]),
        (patients.IgnoresZ, lambda r, k: (r + k).mean(), "", ["decoder-ignores-z"]),
    ],
    ids=["β = 100", "β = 100, conditional", "z times 0"],
)
def test_collapse_is_a_state_and_has_a_cause(make, join, cond, causes, batches, conds):
    """A few hundred steps: the same image whatever z. Untrained, the same network is merely unknown."""
    loss, x, cond = patients.loss_with(join=join), batches["pixels"], conds[cond]
    torch.manual_seed(0)
    model, few = make(), None if cond is None else cond[:64]
    assert "collapse" not in examine(model, x[:64], cond=few, loss=loss).codes
    train(model, loss, x, cond, steps=250)
    diagnosis = examine(model, x[:64], cond=few, loss=loss)
    finding = diagnosis.find("collapse")
    assert finding is not None and finding.severity == "warning", str(diagnosis)
    assert not any("no collapse" in text for text in diagnosis.healthy)
    assert [f.code for f in diagnosis.errors] == causes and f"mend {causes[0]} first" in finding.advice


def test_dimensions_that_training_switched_off_are_remarked(batches):
    torch.manual_seed(0)
    model, x = patients.Plain(), batches["pixels"]
    train(model, patients.elbo_loss, x, steps=250)
    assert_healthy(examine(model, x[:64], loss=patients.elbo_loss))
    with torch.no_grad():  # as if the prior had won in two of the six
        for head in (model.to_mu, model.to_log_var):
            head.weight[:2] = 0
            head.bias[:2] = 0
    diagnosis = examine(model, x[:64], loss=patients.elbo_loss)
    assert diagnosis.find("unused-dimensions").severity == "remark"
    assert "dimensions 0, 1;" in diagnosis.find("unused-dimensions").measurement


# ---------------------------------------------------------------------------------------------------- leaves no trace


@pytest.mark.parametrize("training", [True, False])
def test_leaves_everything_as_it_was(training, x):
    model = patients.ConvolutionalWithNorms().train(training)
    model.encoder[1].eval()
    model.encoder[0].weight.requires_grad_(False)
    x = x.clone().requires_grad_()
    patients.flat_loss(model(x), x).backward()
    model.decoder[0].weight.grad = None
    before, state = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    attributes = [set(vars(module)) for module in model.modules()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    np.random.seed(12345)  # noqa: NPY002
    random.seed(12345)
    numbers = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    x_before, x_grad = x.detach().clone(), x.grad.clone()

    examine(model, x, loss=patients.flat_loss)

    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert [module.training for module in model.modules()] == modes
    assert [set(vars(module)) for module in model.modules()] == attributes
    for p, q, grad in zip(model.parameters(), before.parameters(), grads, strict=True):
        assert p.requires_grad == q.requires_grad
        assert (p.grad is None) == (grad is None) and (grad is None or torch.equal(p.grad, grad))
    assert torch.equal(torch.get_rng_state(), numbers[0])
    for now, before in zip(np.random.get_state(), numbers[1], strict=True):  # noqa: NPY002
        assert np.array_equal(now, before)
    assert random.getstate() == numbers[2]
    assert torch.equal(x, x_before) and torch.equal(x.grad, x_grad)


def test_leaves_no_trace_when_the_model_raises(x):
    class Sometimes(patients.Plain):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            if type(self).calls > 12:
                raise RuntimeError("had enough")
            return super().forward(x)

    model = Sometimes().eval()
    state, numbers = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    diagnosis = examine(model, x, loss=patients.elbo_loss)
    assert any("had enough" in text for text in (*diagnosis.unchecked, str(diagnosis.find("raises"))))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert torch.equal(torch.get_rng_state(), numbers) and not model.training


def test_the_same_model_gets_the_same_diagnosis(x):
    model = patients.Plain()
    first = examine(model, x, loss=patients.elbo_loss)
    with torch.no_grad():
        torch.randn(7)
        second = examine(model, x, loss=patients.elbo_loss)
    assert first == second


# ------------------------------------------------------------------------------------------- arguments and report


@pytest.mark.parametrize(
    "model, x, cond, error, words",
    [
        (patients.Plain, torch.rand(8, 784), None, TypeError, "an instance of it first"),
        (patients.Plain(), [1, 2], None, TypeError, "x must be a torch.Tensor"),
        (patients.Plain(), torch.zeros(8, 784, dtype=torch.uint8), None, TypeError, "x.float"),
        (patients.Plain(), torch.rand(4, 784), None, ValueError, "at least 8"),
        (patients.Plain(), torch.full((8, 784), torch.nan), None, ValueError, "NaN"),
        (patients.Plain(), torch.zeros(8, 784), None, ValueError, "the same"),
        (patients.Plain(), torch.rand(8, 784), torch.rand(7, 10), ValueError, "one row per example"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_that_do_not_fit(model, x, cond, error, words):
    with pytest.raises(error, match=words):
        examine(model, x, cond=cond)


def test_report(x):
    diagnosis = examine(patients.SigmaIsVariance(), x, loss=patients.elbo_loss)
    assert not diagnosis.ok and diagnosis.codes[0] == "sigma-exp-log-var"
    text, html = str(diagnosis), diagnosis._repr_html_()
    assert re.match(r"Diagnosis: 1 error, .*, \d+ checks, \d+ could be made\n", text)
    assert "Found healthy:" in text and "Could not be checked:" in text
    for part in (diagnosis.errors[0].text, diagnosis.errors[0].measurement, diagnosis.errors[0].advice):
        assert part in text
    assert html.count("<tr>") == 1 + len(diagnosis.findings) and "sigma-exp-log-var" in html
    with pytest.raises(KeyError, match="there is no code"):
        diagnosis.find("sigma")
    odd = Finding("raises", "error", "a <b> & c", "", "", "")
    assert "a &lt;b&gt; &amp; c" in Diagnosis((odd,))._repr_html_()
    assert str(Diagnosis(())) == "Diagnosis: nothing was checked" and not Diagnosis(()).enough
    few, most = Diagnosis((), checks=12, made=7), Diagnosis((), checks=12, made=9)
    assert str(most) == "Diagnosis: 12 checks, 9 could be made; nothing wrong among them"
    assert most.enough and not few.enough and few.ok


def test_sections_exist():
    """Every section that a finding sends the reader to stands in its notebook, as soon as the notebook is there."""
    notebooks = {path.name[:2]: path for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert len(notebooks) >= 6
    for code, entry in CODES.items():
        number, _, title = entry.section.partition(" · ")
        if (notebook := notebooks.get(number)) is None:
            continue
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        assert re.search(rf"^## (A?\d+ · )?{re.escape(title)}$", text, flags=re.MULTILINE), (code, entry.section)


# ---------------------------------------------------------------------------------------------------- command line

FILE = """
import torch
from torch import nn
from torch.nn import functional as F

class VAE(nn.Module):
    def __init__(self, latent_dim=8, width=32):
        super().__init__()
        self.a, self.mu, self.lv = nn.Linear(784, width), nn.Linear(width, latent_dim), nn.Linear(width, latent_dim)
        self.b, self.c = nn.Linear(latent_dim, width), nn.Linear(width, 784)
    def sigma(self, logvar):
        return torch.exp(0.5 * logvar)
    def forward(self, x):
        h = F.relu(self.a(x.view(-1, 784)))
        mu, logvar = self.mu(h), self.lv(h)
        z = mu + self.sigma(logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.c(F.relu(self.b(z)))), mu, logvar

class Broken(VAE):
    def sigma(self, logvar):
        return torch.exp(logvar)

class Conditional(VAE):
    def __init__(self):
        super().__init__()
        self.label = nn.Linear(10, 784)
    def forward(self, x, cond):
        recon, mu, logvar = super().forward(x.flatten(1) + self.label(cond))
        return recon, mu, logvar

def loss_function(recon_x, x, mu, logvar):
    bce = F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

def wants_more(recon_x, x, mu, logvar, z):
    return loss_function(recon_x, x, mu, logvar)

def weighed(recon_x, x, mu, logvar, beta):
    return F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum") - beta * 0.5 * torch.sum(
        1 + logvar - mu.pow(2) - logvar.exp())

class Method(VAE):
    def loss_function(self, recon_x, x, mu, logvar):
        return weighed(recon_x, x, mu, logvar, 30)

class RunsItself(VAE):
    def get_loss(self, x):
        recon, mu, logvar = self(x)
        return loss_function(recon, x, mu, logvar) / len(x)

class Needs(VAE):
    def __init__(self, latent_dim):
        super().__init__(latent_dim)

class Odd(VAE):
    def forward(self, x):
        return super().forward(x.view(len(x), 555))

class Later(VAE):
    def forward(self, x):
        return super().forward(x.view(len(x), 784)).no_such_attribute

def wants_key(*output, **settings):
    return settings["weight"]

class Nothing(nn.Module):
    def forward(self, x):
        return x.mean()

number = 3
made = VAE(latent_dim=4)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_model.py"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name, arguments, status, words",
    [
        ("VAE", ["latent_dim=4", "width=16"], 0, "VAE(latent_dim=4, width=16), untrained"),
        ("VAE", [], 0, "loss is loss_function(recon_x, x, mu, logvar)"),
        ("Broken", [], 1, "sigma-exp-log-var"),
        ("Conditional", [], 1, "condition-ignored-decoder"),
        ("VAE", ["--loss", "weighed(beta=1)"], 0, "loss is weighed(recon_x, x, mu, logvar, beta=1)"),
        ("Method", [], 1, "effective β = 30"),
        ("RunsItself", ["--loss", "get_loss"], 0, "loss per example does not depend on the batch size"),
        ("made", [], 0, "made, as the file makes it"),
    ],
)
def test_command_line(file, capsys, name, arguments, status, words):
    assert main([f"{file}:{name}", *arguments]) == status
    out, err = capsys.readouterr()
    assert words in out and "Data: digits" in out and "Assumed: it takes images (B, 1, 28, 28)" in out
    assert "Cannot examine" not in err


@pytest.mark.parametrize(
    "target, arguments, words",
    [
        ("{file}:Nope", [], "has no Nope; its models: VAE, Broken, Conditional"),
        ("{file}:number", [], "number is int"),
        ("{file}:loss_function", [], "missing 4 required positional arguments"),
        ("{file}", [], "expected FILE.py:CLASS"),
        ("missing.py:VAE", [], "there is no file missing.py"),
        ("{file}:VAE", ["latent=4"], "unexpected keyword argument 'latent'"),
        ("{file}:VAE", ["4"], "expected NAME=VALUE"),
        ("{file}:Needs", [], "It needs latent_dim=…"),
        ("{file}:Odd", [], "takes none of the inputs tried: images (B, 1, 28, 28), vectors (B, 784), images (B, 3, 32"),
        ("{file}:VAE", ["--loss", "wants_more"], "the loss wants z, which was not found"),
        ("{file}:VAE", ["--loss", "weighed"], "what is beta? Nothing is guessed. A number is given as in --loss"),
        ("{file}:Nothing", [], "the loss wants recon_x, which was not found"),
        ("{bare}:Nothing", [], "too little could be checked"),
        ("{file}:VAE", ["--loss", "nothing"], "has no function nothing"),
        ("{broken}:VAE", [], "ZeroDivisionError"),
        ("{leaves}:VAE", [], "ends itself (line 1: sys.exit('needs a GPU'))"),
        ("{raises}:VAE", [], "ends itself (line 1: raise SystemExit)"),
        ("{file}:Later", [], "What got furthest:\nimages (B, 1, 28, 28): my_model.py"),
        ("{file}:VAE", ["--loss", "wants_key"], "--loss 'loss_function(weight=1)'"),
        ("{asks}:VAE", [], "has no VAE; its models: none"),
        ("{notes}:VAE", [], "no Python file"),
        ("{typo}:VAE", [], "cannot be read as Python"),
    ],
)
def test_command_line_says_why_it_cannot(file, capsys, target, arguments, words):
    contents = {
        "broken.py": "class VAE:\n    half = 1 / 0\n", "notes.txt": "", "typo.py": "x − 1\n",
        "leaves.py": "import sys; sys.exit('needs a GPU')\n", "raises.py": "raise SystemExit\n",
        "bare.py": FILE[: FILE.index("class VAE")] + FILE[FILE.index("class Nothing") :].replace(
            "x.mean()", "x.mean() + torch.randn(len(x))"
        ),
        "asks.py": "import argparse; p = argparse.ArgumentParser(); p.add_argument('name'); p.parse_args()\n",
    }  # fmt: skip
    for name, content in contents.items():
        file.with_name(name).write_text(content, encoding="utf-8")
    paths = {name.partition(".")[0]: file.with_name(name) for name in contents}
    assert main([target.format(file=file, **paths), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_parses_arguments_gets_none_of_the_doctor_s(file, capsys):
    parsing = (
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--epochs')\nparser.parse_args()\n"
    )
    file.write_text(parsing + FILE, encoding="utf-8")
    before = list(sys.argv)
    assert main([f"{file}:Broken", "latent_dim=4"]) == 1 and sys.argv == before


@pytest.mark.parametrize("width, shape", [(3072, "(B, 3, 32, 32)"), (12288, "(B, 3, 64, 64)"), (64, "vectors (B, 64)")])
def test_the_command_tries_the_usual_shapes(width, shape, file, capsys):
    file.write_text(FILE.replace("784", str(width)).replace("x.view(-1", "x.reshape(len(x)"), encoding="utf-8")
    assert main([f"{file}:VAE", "--loss", "loss_function"]) == 0
    assert shape in capsys.readouterr().out


def test_the_command_prefers_a_shape_with_a_row_for_each_example(file, capsys):
    """64 images of 3 × 32 × 32 would do for a model of 64 × 64 pixels, and 48 rows would come out."""
    file.write_text(FILE.replace("784", "4096"), encoding="utf-8")
    assert main([f"{file}:VAE"]) == 0
    assert "Assumed: it takes images (B, 1, 64, 64)" in capsys.readouterr().out


def test_nothing_is_trained_downloaded_or_left_by_the_command_s_import(file, capsys):
    """What defines nothing is left out: it would train, exit, or write."""
    work = "open('trained', 'w').close()\nmodel = VAE()\nfor epoch in range(3):\n    1 / 0\nwhile True:\n    pass\n"
    file.write_text(f"import no_such_library\n{FILE}\n{work}if __name__ == '__main__':\n    1 / 0\n", encoding="utf-8")
    path = list(sys.path)
    assert main([f"{file}:VAE"]) == 0 and sys.path == path
    assert "Left out of my_model.py" in capsys.readouterr().out and not file.with_name("trained").exists()


def test_the_command_reads_notebooks_and_packages(file, capsys):
    cells = [{"cell_type": "code", "source": ["%matplotlib inline\n", "!pip install torch\n"]},
             {"cell_type": "markdown", "source": "text"}, {"cell_type": "code", "source": FILE}]  # fmt: skip
    notebook = file.with_suffix(".ipynb")
    notebook.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert main([f"{notebook}:Broken"]) == 1 and "sigma-exp-log-var" in capsys.readouterr().out
    package = file.parent / "my_package"
    package.mkdir()
    (package / "parts.py").write_text(FILE, encoding="utf-8")
    (package / "whole.py").write_text("from .parts import VAE, loss_function\n", encoding="utf-8")
    assert main([f"{package / 'whole.py'}:VAE"]) == 0


@pytest.mark.parametrize("name, encoding", [("random.py", "cp1252"), ("copy.py", "ascii")])
def test_the_command_on_a_library_s_name_in_a_legacy_code_page(name, encoding, file):
    file.rename(file.with_name(name))
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for model, status, words in (("VAE", 0, "? two calls"), ("Broken", 1, "? error [sigma-exp-log-var]")):
        command = [sys.executable, "-m", "course_utils.doctor", f"{name}:{model}"]
        done = subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, check=False)
        assert done.returncode == status and words in done.stdout.decode(encoding), done.stderr.decode(encoding)


def test_whatever_cannot_be_said_is_no_finding(file, monkeypatch):
    """1 is the status of a finding alone; a full disk, like everything else that goes wrong, is 2."""

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main([f"{file}:Broken"]) == 2


def test_command_line_help_says_what_of_the_file_is_executed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0 and "What the FILE defines is executed" in " ".join(capsys.readouterr().out.split())
