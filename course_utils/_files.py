"""Writing files so that a reader, or a stop half way, never meets half of one."""

import os
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the course's own folder


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` in the place of the file at `path`, or create it, in one step.

    What was there stays whole until then, and a link its name. Raises OSError where the folder or the disk refuses.
    """
    path = Path(path).resolve()
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:  # created with the mode that the umask leaves
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            partial.chmod(path.stat().st_mode & 0o777)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def replace_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace the file at `path` by `text`, in UTF-8 and with its line ends as they are; see `replace_file`."""
    replace_file(path, text.encode("utf-8"))


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError unless a file can be written at `path`, by writing an empty one beside it."""
    path = Path(path).resolve()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    beside.touch()
    beside.unlink()


def print_anything() -> None:
    """Let a command print to a file or a terminal of a legacy code page: what it does not have becomes a "?"."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
