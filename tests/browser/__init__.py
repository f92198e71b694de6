"""What only a browser can show: the widgets in JupyterLab, and the slides of every notebook, in headless Chromium.

These tests skip with the reason where there is no Chromium or no Playwright; where the environment variable
COURSE_BROWSER is "required", as in .ci/run, they fail instead.
"""
