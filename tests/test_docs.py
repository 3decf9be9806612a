"""The pages promise nothing that is not there, and the files about the project agree with it."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml
from test_readme import links_of, python_of, unknown_options, unknown_targets

import e2t_lib
from e2t_lib.files import project_root

ROOT = project_root()
DOCS = ROOT / "docs"
LIBRARY = ROOT / "e2t_lib"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def page(request) -> Path:
    return request.param


@pytest.fixture
def text(page) -> str:
    return page.read_text(encoding="utf-8")


def test_every_link_leads_somewhere(page, text):
    assert [link for link in links_of(text) if not (page.parent / link).exists()] == []


def test_every_anchor_is_a_heading_of_its_page(page, text):
    for name, anchor in re.findall(r"\]\(([^):#]*)#([^)]+)\)", text):
        other = (page.parent / name).read_text(encoding="utf-8") if name else text
        if name.endswith(".ipynb"):
            cells = nbformat.reads(other, 4).cells
            other = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        headings = re.findall(r"^#+ (.+)$", other, re.M)
        assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_command_and_option_exists(text):
    assert unknown_options(text) == []


def test_every_make_target_exists(text):
    assert unknown_targets(text) == set()


def test_its_python_compiles(page, text):
    for block in python_of(text):
        compile(block, page.name, "exec")


def test_every_page_is_in_the_table_of_contents():
    contents = "\n".join(re.findall(r"```{toctree}(.*?)```", (DOCS / "index.md").read_text(), re.S))
    entries = [line for line in contents.splitlines() if line.strip() and not line.startswith(":")]
    for page in PAGES:
        assert page.stem == "index" or [entry for entry in entries if page.stem in entry], page.name


def test_every_module_is_on_the_map_of_the_code():
    text = (DOCS / "map_of_the_code.md").read_text()
    modules = [path for path in LIBRARY.iterdir() if not path.name.startswith(("_", "."))]
    named = [f"`{path.name}/`" if path.is_dir() else f"`{path.name}`" for path in modules if path.name != "py.typed"]
    assert [name for name in named if name not in text] == []
    mentioned = re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*(?:\.py|\.md|/))`", text)
    inside = [LIBRARY, LIBRARY / "vec2text", LIBRARY / "parametric_umap", ROOT, ROOT / "docs", ROOT / "notebooks"]
    inside += [ROOT / "benchmarks", ROOT / "tests"]
    assert [name for name in mentioned if not any((folder / name).exists() for folder in inside)] == []


def test_imports_point_down_the_map_of_the_code():
    picture = re.search(r"^```\n(cli, .*?)^```", (DOCS / "map_of_the_code.md").read_text(), re.S | re.M)[1]
    lines = [line.split("  ")[0].split(", ") for line in picture.splitlines()]
    height = {name: -number for number, line in enumerate(lines) for name in line}
    for path in LIBRARY.rglob("*.py"):
        own = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
        if own != "__init__":
            imported = re.findall(r"^\s*from e2t_lib\.(\w+)[. ]", path.read_text(), re.M)
            assert [name for name in imported if height[name] > height[own]] == [], path.name


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["version"] == e2t_lib.__version__
    assert {"message", "title", "abstract", "authors", "license"} <= citation.keys()
    assert all({"type", "title", "authors", "year"} <= work.keys() for work in citation["references"])


def test_the_changes_tell_of_this_version():
    assert re.search(rf"^## {re.escape(e2t_lib.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
