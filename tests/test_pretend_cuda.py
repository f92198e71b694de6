"""The course on a pretended GPU: nothing of it is left on, or taken from, the other device."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap

import nbformat
import pytest

from course_utils.training.recipes import SETTINGS

from .conftest import ROOT, python
from .tools import pretend_cuda

pytestmark = pytest.mark.skipif(bool(pretend_cuda.possible()), reason=pretend_cuda.possible() or "possible here")


def run(code: str, tmp_path) -> str:
    """What the code prints in a process of its own, where a GPU is pretended."""
    script = "from tests.tools.pretend_cuda import install\ninstall()\n" + textwrap.dedent(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COURSE_DATASET": "digits"}
    done = subprocess.run(python("-c", script), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_pretence_refuses_what_a_gpu_refuses(tmp_path):
    code = """
        import torch
        from torch.nn import functional as F

        there, here = torch.ones(2, 3, device="cuda"), torch.ones(2, 3)
        assert there.device == torch.device("cuda", 0) and there.is_cuda and not here.is_cuda
        assert here.cuda().is_cuda and here.to(there).is_cuda and torch.tensor([1.0], device="cuda").is_cuda
        assert not there.cpu().is_cuda and not there.to("cpu").is_cuda and there.tolist() == here.tolist()
        assert (there + torch.tensor(1.0)).is_cuda and there[torch.tensor([0, 1])].is_cuda  # both allowed
        assert there.norm(dim=1).quantile(0.9).is_cuda and F.one_hot(there.long()).is_cuda  # made within an operation
        weight = torch.ones(2, device="cuda", requires_grad=True)
        weight.double().sum().backward()  # the gradient is cast back
        assert weight.grad.is_cuda and weight.grad.dtype == torch.float32
        generator = torch.Generator("cuda").manual_seed(0)
        assert torch.randn(3, device="cuda", generator=generator).is_cuda
        refused = [
            lambda: there + here, lambda: torch.cat([there, here]), lambda: F.linear(there, here),
            lambda: torch.nn.Linear(3, 2)(there), lambda: there.add_(here), lambda: there.numpy(),
            lambda: here[there[0].long()], lambda: there.index_put_((torch.tensor([0]),), here[:1]),
            lambda: torch.randn(3, generator=generator),
            lambda: torch.randn(3, device="cuda", generator=torch.Generator()),
        ]
        for number, mistake in enumerate(refused):
            try:
                mistake()
            except (RuntimeError, TypeError) as error:
                assert "pretended" in str(error), error
            else:
                raise AssertionError(f"mistake {number} was not refused")
        assert torch.equal(there.cpu(), here)  # and nothing was changed by any of them
    """  # fmt: skip
    run(code, tmp_path)


def test_every_model_trains_there_as_on_the_cpu(tmp_path):
    """The numbers are the CPU's, so that training must end with the very same weights."""
    code = """
        import torch
        from course_utils.training.checkpoints import load
        from course_utils.evaluation.latents import active_units
        from course_utils.evaluation.bounds import evaluate, log_likelihood
        from course_utils.models.cvae import CVAE
        from course_utils.models.vae import VAE
        from course_utils.models.autoencoder import Autoencoder
        from course_utils.training.fit import fit

        x, c = torch.rand(96, 1, 28, 28), torch.eye(10)[torch.arange(96) % 10]
        kinds = {
            "autoencoder": lambda: Autoencoder(latent_dim=3, hidden_dims=(16,)),
            "vae": lambda: VAE(latent_dim=3, hidden_dims=(16,)),
            "conv": lambda: VAE(latent_dim=3, trunk="conv"),
            "cvae": lambda: CVAE(input_dim=784, cond_dim=10, latent_dim=3, hidden_dims=(16,), prior="learned"),
        }
        for name, make in kinds.items():
            weights = {}
            for device in ("cpu", "cuda"):
                data = (x.flatten(1), c) if name == "cvae" else x
                data = tuple(part.to(device) for part in data) if name == "cvae" else data.to(device)
                torch.manual_seed(0)
                model = make().to(device)
                fit(model, data, epochs=1, batch_size=32, checkpoint=f"{name}-{device}.pt", show=False)
                fit(model, data, epochs=2, batch_size=32, checkpoint=f"{name}-{device}.pt", show=False)  # goes on
                inputs = data if isinstance(data, tuple) else (data,)
                assert evaluate(model, *inputs).loss.device.type == device, name
                if name != "autoencoder":
                    log_likelihood(model, *(part[:8] for part in inputs), samples=3)
                    active_units(model, *inputs)
                    generator = torch.Generator(device).manual_seed(1)
                    images = model.sample(c[:5].to(device) if name == "cvae" else 5, generator=generator)
                    assert images.device.type == device, name
                weights[device] = torch.cat([p.detach().cpu().flatten() for p in model.parameters()])
                assert load(f"{name}-{device}.pt").training is not None
            assert torch.equal(weights["cpu"], weights["cuda"]), name
            print(name)
    """
    assert run(code, tmp_path).split() == ["autoencoder", "vae", "conv", "cvae"]


def test_every_recipe_trains_there_as_on_the_cpu(tmp_path):
    """One epoch of 64 images each; those that need a trained model below them get a small one that is not."""
    code = """
        import torch
        from course_utils import VAE, fit, load_images
        from course_utils.training.recipes import SETTINGS

        data = load_images()
        for name, setting in SETTINGS.items():
            if name == "vae-features":  # trains a judge first
                continue
            weights = {}
            for device in ("cpu", "cuda"):
                torch.manual_seed(0)
                below = [VAE(latent_dim=16, hidden_dims=(16,)), data] if setting.on else []
                model = setting.model(*below).to(device)
                inputs = model.inputs(data.train[:64].to(device), data.train.labels[:64].to(device))
                fit(model, inputs, epochs=1, show=False, **{"batch_size": 32, **setting.options})
                weights[device] = torch.cat([p.detach().cpu().flatten() for p in model.parameters()])
            assert torch.equal(weights["cpu"], weights["cuda"]), name
            print("same:", name)
    """
    assert run(code, tmp_path).count("same:") == len(SETTINGS) - 1


def test_the_tests_that_ask_for_a_gpu_pass_on_the_pretended_one():
    chosen = ("-p", "tests.tools.pretend_cuda", "-k", "cuda or gpu or accelerator", "-p", "no:cacheprovider")
    command = python("-m", "pytest", "-q", *chosen)
    files = [f"tests/test_{name}.py" for name in ("data", "doctor", "exercises", "exercises_01")]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0 and "skipped" not in last, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", last).group(1)) >= 40, last


def test_a_notebook_is_told_and_its_mistake_is_found(tmp_path):
    cells = [
        "import torch\nfrom course_utils.teaching import start_session\nsession = start_session()",
        "print((torch.ones(3, device=session.device) + torch.ones(3).to(session.device)).sum().item())",
        "torch.ones(3, device=session.device) + torch.ones(3)",
    ]
    path = tmp_path / "one_mistake.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    (problem,) = pretend_cuda.problems_of(path)
    assert "cell 2 raised RuntimeError: expected all tensors on one device" in problem
