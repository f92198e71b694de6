"""One JupyterLab and one Chromium for all tests of this folder, ended before other tests begin."""

from __future__ import annotations

import os

import pytest

from . import chromium, lab


@pytest.fixture(scope="package")
def context(tmp_path_factory):
    """A browser, or a skip that says why there is none; where COURSE_BROWSER demands one, a failure."""
    if missing := chromium.what_is_missing():
        if os.environ.get("COURSE_BROWSER") == "required":
            pytest.fail(f"COURSE_BROWSER=required, but {missing}", pytrace=False)
        pytest.skip(missing)
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="package")
def jupyterlab(context, tmp_path_factory):
    """JupyterLab whose notebooks use the offline digits and leave one core to the browser."""
    with lab.lab(tmp_path_factory.mktemp("lab"), COURSE_DATASET="digits", OMP_NUM_THREADS="1") as running:
        yield running
