"""The site holds docs/ alone: what its pages link to beside that folder leads to the repository, or is plain text."""

import re
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """What MkDocs calls for each page, before it is rendered."""
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def led(link: re.Match[str]) -> str:
        target = link["target"]
        place = normpath(str(folder / target))
        if ":" in target or target.startswith("/") or place.startswith("docs/"):
            return link[0]
        return f"[{link['text']}]({config.repo_url}/blob/main/{place})" if config.repo_url else link["text"]

    return LINK.sub(led, markdown)
