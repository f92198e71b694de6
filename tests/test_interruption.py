"""A full disk and a kernel killed while it saves: the file that was there stays whole."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.models.vae import VAE
from course_utils.training.checkpoints import load, save

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits and signals")
FULL_DISK = """
import pathlib, resource, signal, sys
import nbformat
from course_utils.models.vae import VAE
from course_utils.training.checkpoints import save
from tests.tools.execute import write
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("another " * 1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
path = pathlib.Path(sys.argv[1])
save(VAE(latent_dim=3), path) if path.suffix == ".pt" else write(notebook, path)
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


@posix
@pytest.mark.parametrize("name", ["model.pt", "99_example.ipynb"])
def test_a_full_disk_is_said_and_leaves_the_old_file_whole(name, tmp_path):
    (tmp_path / name).write_bytes(b"the old one")
    child = [sys.executable, "-c", FULL_DISK, str(tmp_path / name)]
    done = subprocess.run(child, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1 and "OSError" in done.stderr and "File too large" in done.stderr, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"the old one"


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
