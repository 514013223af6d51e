"""Translated pages have the code blocks and formulas of the English ones, and their links work."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.helpers.scripts import ROOT

LANGUAGES = ["zh"]
"""Folders of `docs` with translated pages."""

TRANSLATED = ["index.md", "understand/game.md", "understand/proofs.md"]
"""Pages that every language has, relative to `docs`."""

README = "README.md"
README_TRANSLATIONS = ["README.zh-CN.md"]
FORGE = "https://github.com/vanillagan/vanillagan/blob/main/"
RAW = "https://raw.githubusercontent.com/vanillagan/vanillagan/main/"


def translations() -> list[tuple[str, str]]:
    """Return the paths of all translated pages, each with that of its English counterpart."""
    docs = ROOT / "docs"
    pages = [(translation, README) for translation in README_TRANSLATIONS]
    for language in LANGUAGES:
        for page in sorted((docs / language).rglob("*.md")):
            english = docs / page.relative_to(docs / language)
            pages.append((str(page.relative_to(ROOT)), str(english.relative_to(ROOT))))
    return pages


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fences(text: str) -> list[tuple[str, str]]:
    """Return the info string and the content of every fenced block."""
    return re.findall(r"^ *(?:`{3,}|~{3,})(.*)\n((?s:.*?))^ *(?:`{3,}|~{3,})$", text, re.MULTILINE)


def code_blocks(page: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page except Sphinx directives, whose texts are translated."""
    return [(info, code) for info, code in fences(read(page)) if not info.startswith("{")]


def formulas(page: str) -> list[str]:
    """Return the display formulas of a page, without the words in them."""
    displayed = re.findall(r"\$\$(.*?)\$\$", read(page), re.DOTALL)
    return [
        re.sub(r"\\text\{.*?\}|\s+", "", formula.replace(r"\ast", "*")) for formula in displayed
    ]


def headings(page: str) -> list[str]:
    """Return the levels of the headings outside of fenced blocks."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+) ", text, re.MULTILINE)


@pytest.mark.parametrize(("page", "english"), translations())
def test_a_translation_has_the_code_of_the_english_page(page, english):
    assert (ROOT / english).is_file()
    assert code_blocks(page) == code_blocks(english)


@pytest.mark.parametrize(("page", "english"), translations())
def test_a_translation_has_the_headings_and_formulas_of_the_english_page(page, english):
    assert headings(page) == headings(english)
    assert formulas(page) == formulas(english)


@pytest.mark.parametrize(("page", "english"), translations())
def test_inline_formulas_have_the_spaces_that_the_forge_needs(page, english):
    """On GitHub a formula starts after white space, and does not end before a letter.

    Source: https://github.com/github/markup/issues/1742
    """
    text = re.sub(r"^```.*?^```$|\$\$.*?\$\$|`[^`\n]*`", "", read(page), flags=re.M | re.S)
    found = re.findall(r"(^|.)(\$[^$\n]+\$)(\w?)", text, re.MULTILINE)
    wrong = [
        f"{before}{formula}{after}" for before, formula, after in found if before.strip() or after
    ]
    assert wrong == []


@pytest.mark.parametrize(("page", "english"), translations())
def test_links_of_a_translation_lead_to_files(page, english):
    targets = re.findall(r"\]\((.*?)\)", read(page))
    files = []
    for target in targets:
        if target.startswith((FORGE, RAW)):
            files.append(ROOT / target.removeprefix(FORGE).removeprefix(RAW))
        elif not urlsplit(target).scheme and not target.startswith("#"):
            files.append((ROOT / page).parent / target.split("#")[0])
    assert [str(file) for file in files if not file.is_file()] == []


@pytest.mark.parametrize("page", README_TRANSLATIONS)
def test_a_translated_readme_and_the_english_one_link_to_each_other(page):
    assert f"]({FORGE}{page})\n" in read(README)
    assert f"]({FORGE}{README})\n" in read(page)


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_are_translated(language):
    pages = [Path("docs", language, page) for page in TRANSLATED]
    assert [str(page) for page in pages if not (ROOT / page).is_file()] == []


def test_the_source_distribution_has_the_translated_readme():
    # as text: Python 3.10 has no tomllib
    _, _, rest = read("pyproject.toml").partition("[tool.hatch.build.targets.sdist]")
    included = rest.partition("[tool.pytest")[0]
    assert [page for page in README_TRANSLATIONS if f'"{page}"' not in included] == []


def test_fenced_blocks_are_found():
    text = "```python\na = 1\n```\n\nb\n\n```sh\nc\n```\n\n    ```{note}\n    d\n    ```\n"
    assert fences(text) == [("python", "a = 1\n"), ("sh", "c\n"), ("{note}", "    d\n")]
