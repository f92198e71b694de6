"""Training by name, going on after an interruption, and under torchrun with two processes."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from course_utils import VAE, evaluate, fit, load, log_likelihood
from course_utils.data import ImageData, load_images
from course_utils.evaluation import train_judge
from course_utils.training import command
from course_utils.training.command import main
from course_utils.training.recipes import SETTINGS, burda_rate, cosine_rate
from tests import _two_processes as script
from tests.conftest import ROOT, python


@pytest.fixture(scope="module")
def few():
    data = load_images("digits")
    return ImageData(data.train.subset(200), data.test.subset(50), "digits", "200 digits")


@pytest.fixture
def quick(few, monkeypatch):
    """The command trains on 200 digits; `quick.name` is what it believes them to be."""
    loaded = argparse.Namespace(name="digits")
    monkeypatch.setattr(command, "load_images", lambda _: ImageData(few.train, few.test, loaded.name, few.source))
    monkeypatch.setattr(command, "train_judge", partial(train_judge, steps=10))
    return loaded


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def small(latent_dim=3):
    torch.manual_seed(0)
    return VAE(latent_dim=latent_dim, hidden_dims=(16,))


def ended(arguments, capsys):
    """The one line with which the command refuses these arguments."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    message = stop.value.code if isinstance(stop.value.code, str) else capsys.readouterr().err
    assert stop.value.code not in (0, None) and message.strip().count("\n") == 0
    return message


# Going on from a checkpoint ----------------------------------------------------------------------------


class Stop(Exception):
    """Raised in the middle of training."""


def test_training_goes_on_to_the_weights_of_an_uninterrupted_run(few, tmp_path):
    stop = []

    def transform(x):
        if stop and len(x) == 50 and stop.append(0) is None and len(stop) > 14:  # in the middle of epoch 4
            raise Stop
        return x

    whole, path = small(), tmp_path / "model.pt"
    options = dict(epochs=5, batch_size=50, seed=7, show=False, transform=transform)
    expected = fit(whole, few.train, **options)
    stop.append(0)
    with pytest.raises(Stop):
        fit(small(), few.train, checkpoint=path, **options)
    assert not load(path).training and list(tmp_path.iterdir()) == [path]

    stop.clear()
    torch.manual_seed(99)
    model = VAE(latent_dim=3, hidden_dims=(16,))  # other weights: the checkpoint's count
    history = fit(model, few.train, checkpoint=path, **options)
    assert torch.equal(weights(model), weights(whole))
    assert history.epochs == [1, 2, 3, 4, 5] and history.train == expected.train
    again = fit(small(), few.train, checkpoint=path, **options)  # nothing is left to do
    assert again.epochs == history.epochs and again.train == history.train


# Settings by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_trains_and_is_reported(name, quick, tmp_path, capsys):
    likely, draws = SETTINGS[name].has_likelihood, name not in ("autoencoder",)
    arguments = [name, "--out", str(tmp_path), "--epochs", "1", "--samples", "3" if likely else "0", "--examples", "5"]
    main(arguments)
    said = capsys.readouterr().out
    assert re.search(r"^test loss -?\d+\.\d\d: (\w+ -?\d+\.\d\d(, | \+ ))*(nats per image, )?50 images", said)
    assert ("nats per image" in said) == (likely or not draws)
    assert ("test NLL" in said and "±" in said) == likely
    assert bool(re.search(r"Fréchet distance \d+\.\d of 50 new images", said)) == (draws and not likely)
    assert weights(load(tmp_path / f"{name}.pt")).isfinite().all()


def test_a_setting_of_two_stages_goes_on_and_keeps_both(quick, tmp_path, capsys):
    arguments = ["latent-flow", "--out", str(tmp_path), "--epochs", "1"]
    main(arguments)
    below, whole = load(tmp_path / "vae-detailed.pt"), load(tmp_path / "latent-flow.pt")
    assert torch.equal(weights(below), weights(whole.autoencoder))
    main(arguments)  # nothing is left to do
    assert torch.equal(weights(load(tmp_path / "latent-flow.pt")), weights(whole))
    main([*arguments[:-1], "2"])  # goes on with the codes of the same VAE
    assert torch.equal(weights(load(tmp_path / "latent-flow.pt").autoencoder), weights(below))

    arguments = ["vq-vae", "--out", str(tmp_path), "--epochs", "1"]
    main(arguments)
    first = load(tmp_path / "vq-vae.pt")
    assert not torch.equal(weights(first.prior), weights(SETTINGS["vq-vae"].model().prior))
    main(arguments)
    assert torch.equal(weights(load(tmp_path / "vq-vae.pt")), weights(first))
    main([*arguments, "--fresh"])
    assert torch.equal(weights(load(tmp_path / "vq-vae.pt")), weights(first))  # the same seed
    main([*arguments[:-1], "2"])  # other codes: their prior is trained again
    assert "2 epochs in" in capsys.readouterr().err


def test_the_command_goes_on_and_says_the_published_number_beside_mnist_only(quick, tmp_path, capsys):
    arguments = ["burda-short", "--out", str(tmp_path), "--samples", "20", "--examples", "30"]
    main([*arguments, "--epochs", "1"])
    first = capsys.readouterr().out
    assert re.search(r"test NLL  \d+\.\d\d ± \d+\.\d\d nats: 20 samples for each of 30 images", first)
    assert "86.76" not in first and "published number is for MNIST; digits are other images" in first
    main([*arguments, "--epochs", "2"])
    assert "2 epochs in" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["burda-short.pt"]
    quick.name = "mnist"
    main([*arguments, "--epochs", "2"])
    assert "published 86.76: Burda" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resnet"], "invalid choice: 'resnet'.*cvae-learned-prior"),
        (["vae", "--epochs", "0"], "--epochs: must be at least 1, got 0"),
        (["vae", "--epochs", "two"], "--epochs: invalid int value: 'two'"),
        (["vae", "--batch-size", "0"], "--batch-size: must be at least 1"),
        (["vae", "--examples", "-5"], "--examples: must be at least 2, got -5"),
        (["vae", "--examples", "1"], "--examples: must be at least 2, got 1"),
        (["vae", "--samples", "-5"], "--samples: must be at least 0, got -5"),
        (["autoencoder", "--samples", "5"], "--samples: autoencoder has no likelihood"),
        (["vae", "--lr", "0"], "--lr: must be above 0"),
        (["vae", "--beta", "nan"], "--beta: must be at least 0, got nan"),
        (["vae", "--seed", "-1"], "--seed: must be at least 0"),
    ],
)
def test_arguments_are_judged_before_work_begins(arguments, says, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_images", lambda *_: pytest.fail("work has begun"))
    assert re.search(says, ended(arguments, capsys))


def test_other_data_and_damaged_checkpoints_name_the_way_out(quick, few, tmp_path, capsys, monkeypatch):
    arguments = ["vae", "--out", str(tmp_path), "--epochs", "1"]
    main(arguments)
    path = tmp_path / "vae.pt"
    sound = path.read_bytes()
    other = ImageData(few.test, few.train, "mnist", "other images")
    with monkeypatch.context() as patch:
        patch.setattr(command, "load_images", lambda _: other)
        assert "belongs to a training with" in (said := ended(arguments, capsys)) and "--fresh begins anew" in said
    for content in (b"", sound[:500]):
        path.write_bytes(content)
        assert re.search(r"vae\.pt.*: \w.*--fresh begins anew", ended(arguments, capsys))
        assert path.read_bytes() == content
    main([*arguments, "--fresh"])
    assert load(path).latent_dim == 20
    with monkeypatch.context() as patch:  # a training that is refused costs nothing
        patch.setattr(command, "fit", lambda *_, **__: int("no"))
        ended([*arguments, "--fresh"], capsys)
    assert load(path).latent_dim == 20 and list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").write_bytes(b"")
    assert "file" in (said := ended(["vae", "--out", str(tmp_path / "file")], capsys)) and "--fresh" not in said


@pytest.mark.parametrize("when", ["load_images", "fit"])
def test_ctrl_c_ends_with_one_line(quick, tmp_path, capsys, monkeypatch, when):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, when, interrupted)
    assert ended(["vae", "--out", str(tmp_path / "runs")], capsys) == "interrupted"
    (tmp_path / "vae.pt").write_bytes(b"an epoch")
    assert "goes on after the last whole epoch" in ended(["vae", "--out", str(tmp_path)], capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_pytorch_is_loaded_and_a_legacy_code_page(tmp_path):
    (tmp_path / "torch.py").write_text("print('loading', flush=True)\nimport time; time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    process = subprocess.Popen(python("-m", "course_utils.training", "vae"), env=environment, cwd=tmp_path,
                               preexec_fn=heard, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == "loading\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "interrupted\n" and process.returncode == 1

    environment = {**os.environ, "PYTHONIOENCODING": "cp1252:strict"}
    listed = subprocess.run(python("-m", "course_utils.training", "--list"), env=environment, cwd=ROOT,
                            capture_output=True, check=True).stdout.decode("cp1252")  # fmt: skip
    assert "learned ?, notebook 05" in listed


def test_the_published_learning_rates():
    """Burda et al. 2016: 0.001 · 10^(−i/7) for 3^i passes over the data, i = 0 … 7, in all 3,280."""
    rates = [burda_rate(epoch) for epoch in range(1, SETTINGS["burda"].epochs + 1)]
    stages = sorted(set(rates), reverse=True)
    assert [rates.count(rate) for rate in stages] == [3**i for i in range(8)]
    assert stages == pytest.approx([0.001 * 10 ** (-i / 7) for i in range(8)])


def test_the_cosine_falls_from_a_thousandth_to_a_hundredth_of_it_and_stays():
    rates = [cosine_rate(epoch) for epoch in range(1, 302)]
    assert (rates[0], rates[199], rates[300]) == pytest.approx((1e-3, 1e-5, 1e-5))
    assert rates[100] == pytest.approx(5.05e-4, rel=0.01) and rates == sorted(rates, reverse=True)


def test_each_recipe_of_burda_et_al_stands_beside_the_number_of_its_own_k():
    found = {name: setting for name, setting in SETTINGS.items() if setting.published}
    assert len(found) == 9
    for name, setting in found.items():
        model, (value, source) = setting.model(), setting.published
        k = getattr(model, "k", 1)
        assert value == {1: 86.76, 5: 85.54, 50: 84.78}[k] and f"k = {k}" in source and "Table 1" in source
        assert name.startswith("burda" if k == 1 else f"iwae-{k}")
        assert setting.samples == 5000 and setting.options["binarize"] == "dynamic"
        assert (model.latent_dim, model.config["hidden_dims"], model.config["activation"]) == (50, (200, 200), "tanh")


def test_the_nll_and_its_standard_error(few, capsys):
    model = small().eval()
    command.report(model, few, argparse.Namespace(name="vae", samples=200, examples=50))
    values = -log_likelihood(model, few.test[:], samples=200, batch_size=20_000).numpy()
    value, error = map(float, re.search(r"test NLL  (\S+) ± (\S+) nats", capsys.readouterr().out).groups())
    assert value == pytest.approx(values.mean(), abs=0.006)
    assert error == pytest.approx(values.std(ddof=1) / 50**0.5, abs=0.006)


# Two processes -----------------------------------------------------------------------------------------


def torchrun(folder, *arguments):
    command = python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, str(ROOT / "tests" / "_two_processes.py"), str(folder), *arguments],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available() or sys.platform == "win32",
    reason="needs torch.distributed with gloo",
)


def alone():
    model = script.autoencoder()
    return model, fit(model, script.points(), epochs=script.EPOCHS, batch_size=script.BATCH, show=False)


def flat(lists):
    return torch.tensor([value for values in lists for value in values])


@needs_gloo
def test_two_processes_do_what_one_does(tmp_path):
    done = torchrun(tmp_path)
    assert done.returncode == 0, done.stderr
    result, (model, history) = json.loads((tmp_path / "result.json").read_text()), alone()
    assert result["loss"] == pytest.approx([terms.loss for terms in history.train], rel=1e-4)
    assert torch.allclose(flat(result["weights"]), weights(model), atol=1e-4)
    assert result["batches"] == script.EPOCHS * 11
    assert result["apart"] == []

    one, two = script.vae(), script.vae()
    fit(one, script.points(), epochs=150, batch_size=script.BATCH, lr=script.vae_rate, show=False)
    torch.nn.utils.vector_to_parameters(flat(result["vae"]), two.parameters())
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
    result, (model, _) = json.loads((tmp_path / "result.json").read_text()), alone()
    assert result["restarts"] >= 1, "torchrun counts how often it started the processes again"
    assert result["epochs"] == [1, 2, 3, 4, 5, 6]
    assert result["batches"] == 4 * 11, "epochs 1 and 2 are not done again"
    assert torch.allclose(flat(result["weights"]), weights(model), atol=1e-4)
