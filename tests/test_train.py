"""Training by name, going on after an interruption, and under torchrun with two processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_utils.data.images import ImageData
from course_utils.data.load import load_images
from course_utils.evaluation.bounds import evaluate, log_likelihood
from course_utils.models.vae import VAE
from course_utils.training.checkpoints import load
from course_utils.training.command import main, nll, train
from course_utils.training.fit import fit
from course_utils.training.recipes import SETTINGS, burda_rate
from tests import _two_processes as script

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def few():
    data = load_images("digits")
    return ImageData(data.train.subset(200), data.test.subset(50), "digits", "200 digits")


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def flat(lists):
    return [value for values in lists for value in values]


def small():
    torch.manual_seed(0)
    return VAE(latent_dim=3, hidden_dims=(16,))


# Going on from a checkpoint ----------------------------------------------------------------------------


class Stop(Exception):
    """Raised in the middle of training."""


def stop_in_epoch(epoch, *, steps):
    calls = iter(range(10**9))

    def transform(x):
        if next(calls) >= (epoch - 1) * steps + 1:
            raise Stop
        return x

    return transform


def test_training_goes_on_to_the_weights_of_an_uninterrupted_run(few, tmp_path):
    whole = small()
    expected = fit(whole, few.train, epochs=5, batch_size=50, seed=7, show=False)
    path = tmp_path / "model.pt"
    options = dict(epochs=5, batch_size=50, seed=7, show=False, checkpoint=path)
    with pytest.raises(Stop):
        fit(small(), few.train, transform=stop_in_epoch(4, steps=4), **options)
    assert not load(path).training and list(tmp_path.iterdir()) == [path]

    state = torch.get_rng_state()
    torch.manual_seed(99)
    model = VAE(latent_dim=3, hidden_dims=(16,))  # other weights: the checkpoint's count
    history = fit(model, few.train, **options)
    assert torch.equal(weights(model), weights(whole))
    assert history.epochs == [1, 2, 3, 4, 5] and history.train == expected.train
    torch.set_rng_state(state)

    again = fit(small(), few.train, **options)  # nothing is left to do
    assert again.epochs == history.epochs and again.train == history.train


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: VAE(latent_dim=4, hidden_dims=(16,)), {}, r"holds another model: VAE.*latent_dim.*3.*expected"),
        (small, dict(beta=2.0), r"belongs to a training with .*'beta': 1.0.*this one has .*'beta': 2.0"),
        (small, dict(batch_size=10), r"'batch_size': 50.*'batch_size': 10"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_kept(few, tmp_path, model, options, message):
    path = tmp_path / "model.pt"
    fit(small(), few.train, epochs=1, batch_size=50, checkpoint=path, show=False)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        fit(model(), few.train, epochs=2, checkpoint=path, show=False, **{**dict(batch_size=50), **options})
    assert path.read_bytes() == before


def test_a_model_saved_without_its_training_cannot_go_on(few, tmp_path):
    from course_utils.training.checkpoints import save

    path = save(small(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="without its training state"):
        fit(small(), few.train, epochs=1, checkpoint=path, show=False)


# Settings by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_trains(name, few, tmp_path):
    data = ImageData(few.train.subset(40), few.test.subset(20), few.name, few.source)
    path = tmp_path / f"{name}.pt"
    model = train(name, data=data, path=path, epochs=1)
    assert torch.equal(weights(load(path)), weights(model)) and weights(model).isfinite().all()


def test_the_command_trains_reports_and_goes_on(tmp_path, capsys):
    arguments = ["burda-short", "--dataset", "digits", "--out", str(tmp_path), "--samples", "20", "--examples", "30"]
    main([*arguments, "--epochs", "1"])
    first = capsys.readouterr()
    assert re.search(r"test loss \d+\.\d\d = \d+\.\d\d \+ \d+\.\d\d nats per image, 360 images of digits", first.out)
    assert re.search(r"test NLL  \d+\.\d\d ± \d+\.\d\d nats: 20 samples for each of 30 images", first.out)
    assert "published 86.76" in first.out
    main([*arguments, "--epochs", "2"])
    assert "2 epochs in" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["burda-short.pt"]


def test_an_unknown_name_is_told_the_names(few, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"'resnet'.*cvae-learned-prior"):
        train("resnet", data=few, path=tmp_path / "x.pt")
    with pytest.raises(SystemExit):
        main(["resnet"])
    assert "invalid choice: 'resnet'" in capsys.readouterr().err


def test_the_published_learning_rates():
    """Burda et al. 2016: 0.001 · 10^(−i/7) for 3^i passes over the data, i = 0 … 7, in all 3,280."""
    rates = [burda_rate(epoch) for epoch in range(1, SETTINGS["burda"].epochs + 1)]
    stages = sorted(set(rates), reverse=True)
    assert [rates.count(rate) for rate in stages] == [3**i for i in range(8)]
    assert stages == pytest.approx([0.001 * 10 ** (-i / 7) for i in range(8)])


def test_the_nll_and_its_standard_error(few):
    model, x = small().eval(), few.test[:]
    value, error = nll(model, x, few.test.labels, samples=200)
    values = -log_likelihood(model, x, samples=200, batch_size=20_000).numpy()
    assert value == pytest.approx(values.mean(), rel=1e-5)
    assert error == pytest.approx(values.std(ddof=1) / 50**0.5, rel=1e-4)


# Two processes -----------------------------------------------------------------------------------------


def torchrun(folder, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, str(ROOT / "tests" / "_two_processes.py"), str(folder), *arguments],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available() or sys.platform == "win32",
    reason="needs torch.distributed with gloo",
)


@needs_gloo
def test_two_processes_do_what_one_does(tmp_path):
    done = torchrun(tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())

    alone = script.autoencoder()
    history = fit(alone, script.points(), epochs=script.EPOCHS, batch_size=script.BATCH, show=False)
    assert result["loss"] == pytest.approx([terms.loss for terms in history.train], rel=1e-4)
    assert torch.allclose(torch.tensor(flat(result["weights"])), weights(alone), atol=1e-4)
    assert result["batches"] == script.EPOCHS * 11

    one, two = script.vae(), script.vae()
    fit(one, script.points(), epochs=150, batch_size=script.BATCH, lr=script.vae_rate, show=False)
    with torch.no_grad():
        for parameter, values in zip(two.parameters(), result["vae"], strict=True):
            parameter.copy_(torch.tensor(values).view_as(parameter))
    x = script.points()
    elbos = [evaluate(model, x.repeat(50, 1)).loss.mean().item() for model in (one, two)]
    assert abs(elbos[0] - elbos[1]) < 0.2, elbos

    assert done.stderr.count("6 epochs in") == 1, "one progress bar"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt", "result.json"], "one checkpoint"


@needs_gloo
def test_a_killed_worker_ends_in_a_restart_from_the_last_checkpoint(tmp_path):
    done = torchrun(tmp_path, "--kill")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["restarts"] >= 1, "torchrun counts how often it started the processes again"
    assert result["epochs"] == [1, 2, 3, 4, 5, 6]
    assert result["batches"] == 4 * 11, "epochs 1 and 2 are not done again"
    alone = script.autoencoder()
    fit(alone, script.points(), epochs=script.EPOCHS, batch_size=script.BATCH, show=False)
    assert torch.allclose(torch.tensor(flat(result["weights"])), weights(alone), atol=1e-4)
