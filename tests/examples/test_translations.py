"""Translated pages have the code blocks and formulas of the English ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.helpers.scripts import ROOT

LANGUAGES = ["zh"]
"""Folders of `docs` with translated pages."""

TRANSLATED = ["start", "understand"]
"""Sections of `docs` of which every language has all pages."""

NOTEBOOKS = {"docs/start/notebook.md": "examples/first_gan.ipynb"}
"""Pages that are built from notebooks of `examples`."""

README = "README.md"
README_TRANSLATIONS = ["README.zh-CN.md"]
FORGE = "https://github.com/vanillagan/vanillagan/blob/main/"


def translations() -> list[tuple[str, str]]:
    """Return the paths of all translated pages, each with that of its English counterpart."""
    docs = ROOT / "docs"
    pages = [(translation, README) for translation in README_TRANSLATIONS]
    for language in LANGUAGES:
        for page in sorted((docs / language).rglob("*.md")):
            english = str(Path("docs") / page.relative_to(docs / language))
            pages.append((str(page.relative_to(ROOT)), NOTEBOOKS.get(english, english)))
    return pages


def read(page: str) -> str:
    """Return a page as Markdown; of a notebook, without the outputs."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not page.endswith(".ipynb"):
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "".join(
        f"```python\n{text}\n```\n" if kind == "code" else f"{text}\n" for kind, text in cells
    )


def fences(text: str) -> list[tuple[str, str]]:
    """Return the info string and the content of every fenced block."""
    return re.findall(r"^ *(?:`{3,}|~{3,})(.*)\n((?s:.*?))^ *(?:`{3,}|~{3,})$", text, re.MULTILINE)


def prose(text: str) -> str:
    """Return a page without fenced blocks and comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(page: str) -> list[tuple[str, str]]:
    """Return the code blocks of a page except Sphinx directives, whose texts are translated."""
    text = read(page)
    indented = re.findall(r"(?:^ {4,}\S.*\n)+", prose(text), re.MULTILINE)
    blocks = [("", code) for code in indented] + fences(text)
    return [(info, code) for info, code in blocks if not info.startswith("{")]


def formulas(page: str) -> list[str]:
    """Return the display formulas of a page, without the words in them."""
    displayed = re.findall(r"\$\$(.*?)\$\$", read(page), re.DOTALL)
    return [re.sub(r"\\text\{.*?\}|\s+", "", formula) for formula in displayed]


def headings(page: str) -> list[str]:
    """Return the levels of the headings outside of fenced blocks."""
    return re.findall(r"^(#+) ", prose(read(page)), re.MULTILINE)


@pytest.mark.parametrize(("page", "english"), translations())
def test_a_translation_has_the_code_of_the_english_page(page, english):
    assert (ROOT / english).is_file()
    assert code_blocks(page) == code_blocks(english)


@pytest.mark.parametrize(("page", "english"), translations())
def test_a_translation_has_the_headings_and_formulas_of_the_english_page(page, english):
    assert headings(page) == headings(english)
    assert formulas(page) == formulas(english)


@pytest.mark.parametrize("page", sorted({page for pair in translations() for page in pair}))
def test_formulas_are_written_as_the_forge_needs_them(page):
    """On GitHub a formula starts after white space, and does not end before a letter.

    A line of a display formula that starts with a sign is rendered as an item of a list.
    Source: https://github.com/github/markup/issues/1742
    """
    text = re.sub(r"`[^`\n]*`", "", prose(read(page)))
    displayed = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    assert [formula for formula in displayed if re.search(r"^\s*[-+*] ", formula, re.M)] == []
    rest = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    inline = re.findall(r"(^|.)(\$[^$\n]+\$)(\w?)", rest, re.MULTILINE)
    assert [found for found in inline if found[0].strip() or found[2]] == []


@pytest.mark.parametrize("page", README_TRANSLATIONS)
def test_a_translated_readme_and_the_english_one_link_to_each_other(page):
    assert f"]({FORGE}{page})\n" in read(README)
    assert f"]({FORGE}{README})\n" in read(page)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("section", TRANSLATED)
def test_every_page_of_a_section_is_translated(section, language):
    english = {page.name for page in (ROOT / "docs" / section).glob("*.md")}
    english |= {Path(page).name for page in NOTEBOOKS if page.startswith(f"docs/{section}/")}
    assert english
    assert english == {page.name for page in (ROOT / "docs" / language / section).glob("*.md")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_index_of_a_language_links_to_each_of_its_pages(language):
    folder = ROOT / "docs" / language
    pages = {str(page.relative_to(folder)) for page in folder.rglob("*.md")}
    index = read(f"docs/{language}/index.md")
    assert pages - {"index.md"} <= set(re.findall(r"\]\((.*?)\)", index))


def test_the_source_distribution_has_the_translated_readme():
    # as text: Python 3.10 has no tomllib
    _, _, rest = read("pyproject.toml").partition("[tool.hatch.build.targets.sdist]")
    included = rest.partition("[tool.pytest")[0]
    assert [page for page in README_TRANSLATIONS if f'"{page}"' not in included] == []


def test_fenced_blocks_are_found():
    text = "```python\na = 1\n```\n\nb\n\n```sh\nc\n```\n\n    ```{note}\n    d\n    ```\n"
    assert fences(text) == [("python", "a = 1\n"), ("sh", "c\n"), ("{note}", "    d\n")]
