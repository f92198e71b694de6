"""``fit``: it learns, repeats itself from a seed, counts every example once, and stops early where it must."""

import itertools
import math

import pytest
import torch

from course_utils.data.images import ImageData, Split
from course_utils.data.load import load_images
from course_utils.evaluation.bounds import evaluate
from course_utils.losses.terms import Terms
from course_utils.models import GAN, TCVAE, VQVAE, HierarchicalVAE, InfoVAE
from course_utils.models.autoencoder import Autoencoder
from course_utils.models.cvae import CVAE
from course_utils.models.vae import VAE
from course_utils.training.batches import Batches
from course_utils.training.checkpoints import save
from course_utils.training.fit import fit

TINY = dict(input_shape=(1, 8, 8))


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


def small(kind=VAE, seed=0, **kwargs):
    torch.manual_seed(seed)
    sizes = dict(input_dim=784, cond_dim=10) if kind is CVAE else {}
    return kind(**sizes, **{**dict(latent_dim=4, hidden_dims=(64,)), **kwargs})


CASES = {
    "Autoencoder": (Autoencoder, {}),
    "Autoencoder, Bernoulli": (Autoencoder, {"likelihood": "bernoulli"}),
    "VAE": (VAE, {}),
    "VAE, conv": (VAE, {"trunk": "conv", "hidden_dims": (8, 16)}),
    "VAE, flat input": (VAE, {"input_shape": (784,)}),
    "VAE, learned sigma": (VAE, {"likelihood": "gaussian", "sigma": "learned"}),
    "VAE, continuous Bernoulli": (VAE, {"likelihood": "continuous_bernoulli"}),
    "CVAE": (CVAE, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_model_learns_the_digits(name, digits):
    kind, kwargs = CASES[name]
    model = small(kind, **kwargs)
    inputs = model.inputs(digits.test[:], digits.test.labels)
    before = evaluate(model, *inputs).loss.mean().item()
    history = fit(model, digits, epochs=4, show=False)
    assert history.epochs == [1, 2, 3, 4] and len(history.train) == len(history.test) == len(history.seconds) == 4
    assert history.test[-1].loss < history.test[0].loss < before
    terms = evaluate(model, *inputs)
    assert history.test[-1].loss == pytest.approx(terms.loss.mean().item(), rel=1e-5)
    assert history.test[-1].kl == pytest.approx(terms.kl.mean().item(), rel=1e-5, abs=1e-6)
    for terms in history.train:
        assert terms.loss == pytest.approx(terms.recon + terms.kl, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits):
    runs = []
    for seed in (1, 1, 2):
        model = small()
        fit(model, digits.train, epochs=1, seed=seed, show=False)
        runs.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_the_global_random_state_and_the_mode_are_left_alone(digits):
    model = small().eval()
    state = torch.get_rng_state()
    fit(model, digits.train.subset(200), epochs=1, show=False)
    assert torch.equal(state, torch.get_rng_state()) and not model.training


class Recorder(VAE):
    """A VAE that remembers which examples it was shown."""

    def loss(self, x, *, beta=1.0):
        self.seen.append(x[:, 0].detach().clone())
        return super().loss(x, beta=beta)


def test_each_example_is_seen_once_per_epoch_in_a_new_order():
    torch.manual_seed(0)
    model = Recorder(input_shape=(3,), latent_dim=2, hidden_dims=(4,))
    model.seen = []
    x = torch.rand(103, 3)
    fit(model, x, epochs=2, batch_size=10, show=False)
    first, second = (torch.cat(model.seen[i : i + 11]) for i in (0, 11))
    assert torch.equal(first.sort().values, x[:, 0].sort().values)
    assert torch.equal(first.sort().values, second.sort().values) and not torch.equal(first, second)


def test_the_epoch_mean_weighs_examples_not_batches():
    """With a learning rate too small to matter, the epoch's mean is the data set's, whatever the last batch's size."""
    x = torch.rand(11, 6)
    x[10] *= 0
    model = small(Autoencoder, input_shape=(6,), hidden_dims=())
    expected = model.loss(x).loss.mean().item()
    for batch_size in (10, 4, 11):
        history = fit(model, x, epochs=1, batch_size=batch_size, lr=1e-12, show=False)
        assert history.train[0].loss == pytest.approx(expected, rel=1e-5)


ALONE = {
    "GAN": lambda: GAN(**TINY, trunk="conv", hidden_dims=(8,)),
    "normalised": lambda: HierarchicalVAE(**TINY, latent_dims=(4, 2), norm=True),
    "TCVAE": lambda: TCVAE(**TINY, latent_dim=2, size=65),
    "InfoVAE": lambda: InfoVAE(**TINY, latent_dim=2),
    "finite scalars": lambda: VQVAE(**TINY, quantiser="finite scalar", tokens=1),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_last_batch_of_one_is_refused_before_training_where_one_is_too_few(name):
    model = ALONE[name]().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.rand(65, 1, 8, 8).round()
    with pytest.raises(ValueError, match=r"share of 1 example .*\.loss cannot take: .*; choose another batch_size"):
        fit(model, x, epochs=1, batch_size=32, show=False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()) and not model.training
    fit(model, x, epochs=1, batch_size=31, show=False)


def test_a_last_batch_of_one_changes_nothing_where_one_is_enough():
    x, made = torch.rand(65, 1, 8, 8).round(), []
    for tried in (True, False):
        torch.manual_seed(0)
        model = VQVAE(**TINY, tokens=4, update="ema")
        with pytest.MonkeyPatch.context() as patch:
            if not tried:
                patch.setattr(Batches, "check_share", lambda self, count: None)
            fit(model, x, epochs=1, batch_size=32, show=False)
        made.append(model.state_dict())
    assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())


def test_beta_weighs_the_kl(digits):
    rates = []
    for beta in (0.1, 1.0, 10.0):
        model = small()
        rates.append(fit(model, digits, epochs=5, beta=beta, show=False).test[-1].kl)
    assert rates[0] > rates[1] > rates[2]
    terms = fit(small(), digits, epochs=1, beta=3.0, show=False).test[-1]
    assert terms.loss == pytest.approx(terms.recon + 3 * terms.kl, rel=1e-5)


def test_a_pair_of_tensors_trains_a_cvae_on_any_condition():
    torch.manual_seed(0)
    cond = torch.randn(500, 2)
    x = (cond @ torch.randn(2, 6)).sigmoid()
    model = CVAE(input_dim=6, cond_dim=2, latent_dim=2, hidden_dims=(32,), likelihood="gaussian", sigma=0.1)
    history = fit(model, (x, cond), epochs=20, batch_size=50, show=False)
    assert history.test == [] and history.train[-1].loss < history.train[0].loss


def test_sequences_train_as_well():
    torch.manual_seed(0)
    model = CVAE(input_dim=6, cond_dim=2, latent_dim=2, hidden_dims=(32,))
    history = fit(model, (torch.rand(64, 5, 6), torch.rand(64, 5, 2)), epochs=8, batch_size=16, show=False)
    assert history.train[-1].loss < history.train[0].loss


def test_a_condition_of_the_readers_own_is_used(digits):
    seen = []

    def left_half(x, y):
        seen.append((x.shape[1:], y.dtype))
        return x[..., :14].flatten(1)

    model = CVAE(input_dim=784, cond_dim=392, latent_dim=2, hidden_dims=(16,))
    fit(model, digits, epochs=1, condition=left_half, show=False)
    assert set(seen) == {((1, 28, 28), torch.int64)}


# --------------------------------------------------------------------------------------------- stopping early


class Failing(VAE):
    """A VAE whose terms turn bad, or that is interrupted, at a given step."""

    def loss(self, x, *, beta=1.0):
        terms = super().loss(x, beta=beta)
        if next(self.steps) == self.at:
            if self.what == "interrupt":
                raise KeyboardInterrupt
            bad = {"recon": math.inf, "kl": math.nan}
            parts = {"recon": terms.recon, "kl": terms.kl, self.what: terms.kl * bad[self.what]}
            terms = Terms(loss=parts["recon"] + parts["kl"], **parts)
        return terms


def failing(what, at):
    torch.manual_seed(0)
    model = Failing(input_shape=(3,), latent_dim=2, hidden_dims=(4,))
    model.what, model.at, model.steps = what, at, itertools.count(1)
    return model


@pytest.mark.parametrize("what", ["recon", "kl"])
def test_a_loss_that_is_not_finite_stops_training_and_names_epoch_step_and_term(what):
    model = failing(what, at=13)  # ten steps an epoch
    with pytest.raises(FloatingPointError, match=rf"epoch 2, step 3 of 10.*not finite \({what} = (inf|nan)\)"):
        fit(model, torch.rand(100, 3), epochs=5, batch_size=10, show=False)
    assert all(p.isfinite().all() for p in model.parameters())


def test_an_interruption_keeps_the_history_and_the_model(capsys):
    model = failing("interrupt", at=25)
    history = fit(model, torch.rand(100, 3), epochs=5, batch_size=10)
    assert history.interrupted and history.epochs == [1, 2] and len(history.train) == 2
    assert "interrupted; kept: 2 epochs" in capsys.readouterr().err


def test_a_learning_rate_too_high_is_caught_in_earnest(digits):
    model = small(likelihood="gaussian", sigma=0.01)
    with pytest.raises(FloatingPointError, match=r"not finite.*lr = 1e\+06"):
        fit(model, digits.train, epochs=3, lr=1e6, show=False)


# --------------------------------------------------------------------------------------------- going on


def brighter(x):
    return (1.1 * x).clamp(0, 1)


OTHERS = {
    "another learning rate": (dict(lr=2e-3), r"'lr': 0.001.*'lr': 0.002"),
    "another past of the rate": (dict(lr=lambda epoch: 1e-3 / epoch), r"'lr': 0.001}.*'lr': \[0.001, 0.0005\]"),
    "another size of batch": (dict(batch_size=50), r"'batch_size': 100.*'batch_size': 50"),
    "another beta": (dict(beta=lambda step: 0.5), r"'beta': 1.0.*'beta': 0.5"),
    "another optimiser": (dict(optimizer="adamw"), r"'Adam\(.*'AdamW\("),
    "clipped gradients": (dict(clip=1.0), r"'clip': None.*'clip': 1.0"),
    "an average": (dict(ema=0.9), r"'ema': None.*'ema': 0.9"),
    "another seed": (dict(seed=1), r"'seed': 0.*'seed': 1"),
    "binarised": (dict(binarize="static"), r"'binarize': None.*'binarize': 'static'"),
    "a transform": (dict(transform=brighter), "checksum"),
    "other images": (dict(data=lambda d: ImageData(d.train.subset(200, seed=1), d.test, "", "")), "checksum"),
    "other labels": (
        dict(data=lambda d: ImageData(Split(d.train.pixels, 9 - d.train.labels), d.test, "", "")), "checksum",
    ),
    "other test images": (dict(data=lambda d: ImageData(d.train, Split(255 - d.test.pixels, d.test.labels), "", "")),
                          "'test data .checksum.'"),
    "another rate for a part of the weights": (dict(optimizer=lambda p: _two_groups(p, 0.5)), "lr=0.5"),
    "no test images": (dict(data=lambda d: d.train), r"'test examples': 50.*'test examples': 0"),
}  # fmt: skip


def _two_groups(parameters, lr):
    first, *others = parameters
    return torch.optim.SGD([{"params": others}, {"params": [first], "lr": lr}], lr=1e-3)


@pytest.fixture(scope="module")
def few(digits):
    return ImageData(digits.train.subset(200), digits.test.subset(50), "digits", "200 digits")


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_training_is_refused_before_the_model_changes(name, few, tmp_path):
    options, message = OTHERS[name]
    options = dict(data=lambda d: d, batch_size=100) | options
    path = tmp_path / "model.pt"
    before = dict(optimizer=lambda p: _two_groups(p, 0.1)) if "part of the weights" in name else {}
    fit(small(), few, epochs=2, batch_size=100, checkpoint=path, show=False, **before)
    model, before = small(seed=1), path.read_bytes()
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    with pytest.raises(ValueError, match=r"model.pt belongs to a training with .*" + message):
        fit(model, options.pop("data")(few), epochs=3, checkpoint=path, show=False, **options)
    assert path.read_bytes() == before
    assert torch.equal(start, torch.cat([p.detach().flatten() for p in model.parameters()]))


def test_a_checkpoint_of_another_model_or_without_its_training_is_refused(few, tmp_path):
    other, alone = save(small(latent_dim=3), tmp_path / "model.pt"), save(small(), tmp_path / "alone.pt")
    for path, message in ((other, "holds another model: VAE.*3.*expected"), (alone, "without its training state")):
        with pytest.raises(ValueError, match=message):
            fit(small(), few.train, epochs=1, checkpoint=path, show=False)


def test_the_future_of_a_schedule_may_change(few, tmp_path):
    options = dict(batch_size=100, checkpoint=tmp_path / "model.pt", show=False)
    fit(small(), few, epochs=1, **options)
    history = fit(small(), few, epochs=2, lr=lambda epoch: 1e-3 if epoch == 1 else 1e-4, **options)
    assert history.epochs == [1, 2] == list(range(1, len(history.test) + 1))


@pytest.mark.parametrize("part", ["optimizer", "order", "history", "noise", "settings", "rates"])
def test_a_damaged_training_state_is_called_one(part, few, tmp_path):
    path = tmp_path / "model.pt"
    fit(small(), few, epochs=1, batch_size=100, checkpoint=path, show=False)
    content = torch.load(path, weights_only=True)
    for damage in (lambda training: training.pop(part), lambda training: training.update({part: 3})):
        damage(content["training"])
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"training state in .*model.pt is damaged"):
            fit(small(), few, epochs=2, batch_size=100, checkpoint=path, show=False)


def test_the_reference_result_on_mnist(mnist):
    """784-400-20, grey BCE, batch 128, Adam 1e-3, ten epochs: a test loss of 105.5 nats, give or take one."""
    torch.manual_seed(0)
    history = fit(VAE(latent_dim=20, hidden_dims=(400,)), mnist, epochs=10, show=False)
    assert history.test[-1].loss == pytest.approx(105.5, abs=1.0)
    assert history.test[-1].recon > 3 * history.test[-1].kl > 0
