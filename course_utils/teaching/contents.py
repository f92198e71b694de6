"""How JupyterLab reads the course's notebooks: as the kernel would leave them, so that opening one changes nothing."""

from __future__ import annotations

from typing import Any

from ipykernel.ipkernel import IPythonKernel
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class Contents(AsyncLargeFileManager):
    """The usual files; a notebook comes with the `language_info` that the kernel writes into it at its first word.

    The stored form, `{"name": "python"}`, names no machine's Python, and JupyterLab would mark it as changed at once.
    """

    async def get(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """A file or folder, as `AsyncLargeFileManager.get` gives it."""
        model = await super().get(*arguments, **options)
        if model["type"] == "notebook" and model["content"]:
            metadata = model["content"]["metadata"]
            if metadata.get("language_info") == {"name": "python"}:
                metadata["language_info"] = dict(IPythonKernel.language_info)
        return model
