"""JupyterLab as a reader has it, in a folder of its own, and a notebook in it that is run and used by keyboard."""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import numpy as np
from nbformat import NotebookNode

from ..conftest import ROOT, python

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

START_SECONDS = 90
RUN_SECONDS = 400

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}

# JupyterLab asks a kernel about widgets before ipywidgets is imported; the kernel says that it knows of none.
IGNORED = "No such comm"

# In the page: the notebook in front, its kernel, and everything that the kernel says unasked.
_READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return !!panel?.content?.widgets && kernel?.connectionStatus === "connected";
}"""
_CHANGED = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await panel.sessionContext.session.kernel.info;
  await new Promise(resolve => setTimeout(resolve, 500));
  return panel.context.model.dirty;
}"""
_LISTEN = """() => {
  window.complaints = [];
  jupyterapp.shell.currentWidget.sessionContext.session.kernel.iopubMessage.connect((_, message) => {
    const kind = message.header.msg_type;
    if (kind === "error") complaints.push(message.content.ename + ": " + message.content.evalue);
    if (kind === "stream" && message.content.name === "stderr") complaints.push(message.content.text);
  });
}"""
_RUN = """async (seconds) => Promise.race([
  jupyterapp.commands.execute("notebook:run-all-cells").then(() => "done"),
  new Promise(resolve => setTimeout(() => resolve("late"), 1000 * seconds)),
])"""
_EXECUTE = """async (code) => {
  const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({code, silent: false, store_history: false, stop_on_error: true});
  let text = "";
  future.onIOPub = (message) => {
    if (message.header.msg_type === "stream" && message.content.name === "stdout") text += message.content.text;
    if (message.header.msg_type === "error") text += message.content.traceback.join("\\n");
  };
  const reply = await future.done;
  return [reply.content.status, text];
}"""


class Lab:
    """A running JupyterLab: `url` with its token, `folder` that it shows."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self.folder, self.port, self.token = folder, port, token

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    @contextmanager
    def open(self, context: BrowserContext, notebook: NotebookNode, name: str) -> Iterator[Notebook]:
        """Show `notebook` in the browser, with a kernel of its own that ends with the block."""
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        page = context.new_page()
        page.set_default_timeout(60_000)
        shown = Notebook(page)
        page.on("pageerror", lambda error: shown.page_errors.append(str(error)))
        try:
            page.goto(self.address(f"lab/tree/{name}.ipynb").replace("?", "?reset&"))
            page.wait_for_function(_READY)
            assert not page.evaluate(_CHANGED), "a notebook that was only opened is marked as changed"
            page.evaluate(_LISTEN)
            yield shown
        finally:
            page.evaluate("() => jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown()")
            page.close()


class Notebook:
    """The notebook in front. Its last cell holds the widget."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.page_errors: list[str] = []

    def run(self) -> None:
        """Run all cells; wait until the last has its output."""
        assert self.page.evaluate(_RUN, RUN_SECONDS) == "done", f"still running after {RUN_SECONDS} s"

    def execute(self, code: str) -> str:
        """Run code in the notebook's kernel, outside of its cells, and return what it prints."""
        status, text = self.page.evaluate(_EXECUTE, code)
        assert status == "ok", text
        return text

    def complaints(self) -> list[str]:
        """Errors and stderr so far: of cells, of callbacks, and of the page itself."""
        page = self.page
        shown = page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"], .jp-RenderedError')
        heard = [text for text in page.evaluate("() => window.complaints") if not text.startswith(IGNORED)]
        broken = page.locator(".jupyter-widgets-error-widget")  # stands where a widget could not be made
        return [*heard, *shown.all_inner_texts(), *broken.all_inner_texts(), *self.page_errors]


@contextmanager
def lab(folder: Path, **environment: str) -> Iterator[Lab]:
    """Start JupyterLab on loopback, with settings, configuration and workspaces in `folder` and nowhere else."""
    home = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
    }  # fmt: skip
    for name, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    root = folder / "notebooks"
    root.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = Lab(root, port, secrets.token_hex(16))
    command = python(
        "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={running.token}", f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None",
        "--ServerApp.contents_manager_class=course_utils.teaching.contents.Contents",
    )  # fmt: skip
    variables = {**os.environ, **{name: str(folder / place) for name, place in home.items()}, **environment}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), variables.get("PYTHONPATH")]))
    log = folder / "jupyterlab.log"
    with log.open("w", encoding="utf-8") as written:
        server = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_it_answers(running, server, log)
            yield running
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_it_answers(running: Lab, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(running.address("api/status"), timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-5000:]}")


def decode(png: str) -> np.ndarray:
    """The pixels of a PNG in base64: (H, W, 3), int."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).astype(int)
