"""Finds Chromium and starts it headless, on a fresh profile that talks to nobody."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]


def find() -> str | None:
    """The path of a Chromium: COURSE_CHROMIUM, or the first that is found in the usual places; or None."""
    wanted = os.environ.get("COURSE_CHROMIUM")
    candidates = [wanted] if wanted else [*NAMES, *PLACES]
    return next((found for name in candidates if (found := shutil.which(name))), None if wanted else _playwrights_own())


@functools.cache
def _playwrights_own() -> str | None:
    """The Chromium that `playwright install chromium` has fetched."""
    if importlib.util.find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def what_is_missing() -> str:
    """Why no browser can be driven here; empty when one can."""
    if importlib.util.find_spec("playwright") is None:
        return 'Playwright is not installed: python -m pip install "playwright>=1.48"'
    if find() is None:
        return "no Chromium here: install it (python -m playwright install chromium), or name it in COURSE_CHROMIUM"
    return ""


@contextmanager
def browser(profile: Path, *, width: int = 1280, height: int = 900) -> Iterator[BrowserContext]:
    """Chromium with an empty profile in the folder `profile`."""
    from playwright.sync_api import sync_playwright

    path = find()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=path,
            headless=True,
            args=FLAGS,
            viewport={"width": width, "height": height},
        )
        try:
            yield context
        finally:
            context.close()
