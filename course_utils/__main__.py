"""Open the course: `python -m course_utils` gets the data, then starts JupyterLab at the first notebook.

Whatever follows on the command line is passed on to JupyterLab: `python -m course_utils --port=9000`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

from course_utils._files import ROOT, print_anything

FIRST_NOTEBOOK = "notebooks/01_autoencoder.ipynb"

_MISSING = """\
{module} is not installed for {python}.
From the course's top folder, with the Python of its virtual environment:
    {python} -m pip install -r requirements.txt"""


def main(arguments: list[str]) -> int:
    """Fetch the data, then run JupyterLab until it is stopped; return the exit status."""
    print_anything()
    if arguments in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    for module in ("torch", "torchvision", "jupyterlab"):
        if importlib.util.find_spec(module) is None:
            print(_MISSING.format(module=module, python=sys.executable), file=sys.stderr)
            return 1

    _prepare_environment()
    print("Getting the data ready …", flush=True)
    # In a process of its own, so that PyTorch's memory is free again when JupyterLab starts.
    fetching = subprocess.Popen([sys.executable, "-c", "from course_utils.__main__ import fetch; fetch()"])
    try:
        failed = fetching.wait()
    except KeyboardInterrupt:  # the terminal has told the other process, too
        fetching.wait()
        print("\nStopped before the course was opened.", file=sys.stderr)
        return 130
    return 1 if failed else _open_jupyterlab(arguments)


def fetch() -> None:
    """Load the data once, so that notebooks find it on disk; exit with 1 and the reason if that fails."""
    print_anything()
    try:
        from course_utils.data import load_images

        load_images()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        print(f"The data could not be loaded: {error}", file=sys.stderr)
        sys.exit(1)


def _prepare_environment() -> None:
    """Let the kernels, which run in notebooks/, find the data and this very copy of the course."""
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([others] if others else [])])
    if os.environ.get("COURSE_DATA"):
        os.environ["COURSE_DATA"] = str(Path(os.environ["COURSE_DATA"]).expanduser().resolve())


def _open_jupyterlab(arguments: list[str]) -> int:
    from jupyterlab.labapp import LabApp

    # Where Jupyter has no terminal to ask in, and on Windows, it leaves Ctrl-C to Python, which may then
    # wait for a thread for ever. An orderly stop is what it does on SIGTERM.
    signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    # The server's address is known only once it listens: a thread waits for it and prints it, in plain words.
    threading.Thread(target=_announce, daemon=True).start()
    try:
        # A port that somebody has chosen, and published perhaps, is that one or none.
        chosen = any(argument.startswith(("--port", "--ServerApp.port=")) for argument in arguments)
        LabApp.launch_instance(argv=[*_options(), *["--ServerApp.port_retries=0"] * chosen, *arguments])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _options() -> list[str]:
    options = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}"]
    options.append("--ServerApp.contents_manager_class=course_utils.teaching.contents.Contents")
    # Ctrl-C closes it without a question, and nothing asks about Jupyter's news or fetches them.
    options += ["--ServerApp.answer_yes=True", "--LabApp.news_url=None"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    if not _can_show_a_browser():
        options.append("--no-browser")
    return options


def _can_show_a_browser() -> bool:
    if os.environ.get("SSH_CONNECTION"):  # the reader's screen is at the other end of the line
        return False
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def _announce(*, patience: float = 60.0) -> None:
    """Print the notebook's address as soon as this process's server has written down where it listens."""
    from jupyter_core.paths import jupyter_runtime_dir

    about = Path(jupyter_runtime_dir()) / f"jpserver-{os.getpid()}.json"
    started = time.time()
    while time.time() < started + patience:
        time.sleep(0.2)
        try:
            if about.stat().st_mtime < started - 1:  # left behind by another process of the same number
                continue
            server = json.loads(about.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there yet, or half written
            continue
        query = f"?{urlencode({'token': server['token']})}" if server.get("token") else ""
        url = server["url"]
        if server["hostname"] in ("", "*", "0.0.0.0", "::"):  # everywhere: a container's own name leads nowhere outside
            url = re.sub(r"//[^/]*:", "//127.0.0.1:", url)
        print(f"\nThe course is open at\n    {url}lab/tree/{FIRST_NOTEBOOK}{query}", flush=True)
        print("Ctrl-C in this window closes it.\n", flush=True)
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
