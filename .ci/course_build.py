"""Builds the course's package for pip, with Python's own library alone: installing it needs no build tool, and so no
network when everything else is there (PEP 517, PEP 660)."""

import base64
import hashlib
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """A wheel that holds a link to this folder."""
    return _wheel(wheel_directory, {"vae_course.pth": f"{ROOT}\n".encode()})


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """A wheel that holds the package."""
    files = [path for path in sorted((ROOT / "course_utils").rglob("*")) if path.is_file()]
    return _wheel(
        wheel_directory,
        {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files if "__pycache__" not in path.parts},
    )


def _wheel(folder, files):
    name, version = PROJECT["name"].replace("-", "_"), PROJECT["version"]
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {version}\n"
    metadata += f"Summary: {PROJECT['description']}\nRequires-Python: {PROJECT['requires-python']}\n"
    files[f"{about}/METADATA"] = metadata.encode()
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: course\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(content).digest()) for path, content in files.items()}
    record = [f"{path},sha256={digests[path].decode().rstrip('=')},{len(content)}" for path, content in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""]).encode()
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel
