"""Writing files so that a reader, or a stop half way, never meets half of one."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the course's own folder


def replace_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`, in UTF-8 and with its line ends as they are, in one step."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8"))
        os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
