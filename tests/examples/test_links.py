"""Links of Markdown pages and notebooks lead to files and headings; images have alt texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.helpers.scripts import ROOT

PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*.ipynb")]
    if "_build" not in page.parts
)

OWN = re.compile(
    r"https://(?:github\.com|raw\.githubusercontent\.com)/vanillagan/vanillagan/"
    r"(?:(?:blob|tree)/)?main/"
)
"""Start of absolute links to files of this repository."""

DEEPEST = 3
"""Deepest level of headings with anchors: `myst_heading_anchors` in docs/conf.py."""


def read(path: Path) -> str:
    """Return a page as Markdown; of a notebook, the cells with text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def without_code(text: str) -> str:
    """Return Markdown without fenced blocks, comments and inline code."""
    text = re.sub(r"^ *(`{3,}|~{3,}).*?^ *\1`*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->|`[^`\n]*`", "", text, flags=re.DOTALL)


def links(text: str) -> list[str]:
    """Return the targets of links and images, in Markdown and in HTML."""
    text = without_code(text)
    markdown = re.findall(r"\]\(\s*([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)", text)
    references = re.findall(r"^ *\[[^\]]+\]: *(\S+)", text, re.MULTILINE)
    return markdown + references + re.findall(r"""(?:src|href)=["']([^"']+)""", text)


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub and MyST make them."""
    text = re.sub(r"^ *(`{3,}|~{3,}).*?^ *\1`*$", "", text, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(rf"^#{{1,{DEEPEST}}} +(.*?)[ #]*$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        taken, number = name, 0
        while taken in found:
            number += 1
            taken = f"{name}-{number}"
        found.add(taken)
    return found | set(re.findall(r"""(?:id|name)=["']([^"']+)""", text))


def broken_links(page: Path, text: str) -> list[str]:
    """Return the links of a page to files and headings that are not in this repository."""
    broken = []
    for link in links(text):
        own = OWN.match(link)
        base, target = (ROOT, link[own.end() :]) if own else (page.parent, link)
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue  # an external link
        path = base / unquote(parts.path) if parts.path else page
        is_page = path.suffix == ".md" and path.is_file()
        if not path.exists() or (
            parts.fragment
            and is_page
            and unquote(parts.fragment) not in anchors(path.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    path = ROOT / page
    assert broken_links(path, read(path)) == []


@pytest.mark.parametrize("page", PAGES)
def test_images_have_alt_texts(page):
    text = without_code(read(ROOT / page))
    assert re.findall(r"!\[\s*\]\([^)]*\)", text) == []
    tags = re.findall(r"<img[^>]*>", text)
    assert [tag for tag in tags if not re.search(r"""alt=["'][^"']""", tag)] == []


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        """
# A `title` (of 2 words)
## 对抗
## 对抗
[a](page.md) [b](page.md#no-such-heading) [c](no_file.md "title")
[d](#a-title-of-2-words) [e](#对抗-1) [f](#对抗-2) [g](https://example.org/x)
![h](no_image.png) <img src="none.png" alt="i"> `[j](none.md)`
[k](https://github.com/vanillagan/vanillagan/blob/main/LICENSE)
[l](https://github.com/vanillagan/vanillagan/blob/main/NO)

[m]: no_reference.md

```python
n = "[o](none.md)"
```
""",
        encoding="utf-8",
    )
    assert broken_links(page, page.read_text(encoding="utf-8")) == [
        "page.md#no-such-heading",
        "no_file.md",
        "#对抗-2",
        "no_image.png",
        "https://github.com/vanillagan/vanillagan/blob/main/NO",
        "no_reference.md",
        "none.png",
    ]
