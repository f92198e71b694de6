"""The maintainers' tools, each a command: `python -m tests.tools.NAME --help`."""

import argparse


def command(name: str, about: str) -> argparse.ArgumentParser:
    """The parser of a command; `about` is its module's docstring, shown as it is written."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"python -m tests.{name}", description=about, formatter_class=raw)
