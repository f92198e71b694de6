"""A full disk and a kernel killed while it saves: the file that was there stays whole."""

import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_markdown_cell, new_notebook

from course_utils.models.vae import VAE
from course_utils.training.checkpoints import load, save

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits and signals")
FULL_DISK = """
import resource, signal, sys
from course_utils.training.checkpoints import save
from course_utils.models.vae import VAE
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
save(VAE(latent_dim=3), sys.argv[1])
"""
FULL_DISK_FOR_A_NOTEBOOK = """
import pathlib, resource, signal, sys
import nbformat
from tests.tools.execute import write
path = pathlib.Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
notebook.cells[0].source = "another " * 1000
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
write(notebook, path)
"""
SAVING = """
import os, sys, time
from course_utils.training.checkpoints import save
from course_utils.models.vae import VAE
def wait(*_):
    print("all but done", flush=True)
    time.sleep(600)
os.replace = wait
save(VAE(latent_dim=5), sys.argv[1])
"""


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@posix
def test_a_full_disk_is_said_and_leaves_the_old_file_whole(tmp_path):
    torch.manual_seed(0)
    old = VAE(latent_dim=2)
    path = save(old, tmp_path / "model.pt")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "OSError" in done.stderr and "File too large" in done.stderr, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
    assert torch.equal(weights(load(path)), weights(old))


@posix
def test_a_full_disk_leaves_the_old_notebook_whole(tmp_path):
    path = tmp_path / "99_example.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("the old text")]), path)
    before = path.read_bytes()
    child = [sys.executable, "-c", FULL_DISK_FOR_A_NOTEBOOK, str(path)]
    done = subprocess.run(child, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1 and "File too large" in done.stderr, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["99_example.ipynb"]
    assert path.read_bytes() == before


@posix
def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path):
    path = save(VAE(latent_dim=2), tmp_path / "model.pt")
    child = subprocess.Popen([sys.executable, "-c", SAVING, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "all but done\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert len(list(tmp_path.iterdir())) == 2, "the kill came in the middle: the new file lies beside the old one"
    assert load(path).latent_dim == 2
    assert load(save(VAE(latent_dim=3), path)).latent_dim == 3
