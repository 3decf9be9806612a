"""The README promises nothing that is not there."""

import re
import subprocess
import sys
from functools import cache
from textwrap import dedent

import pytest

from e2t_lib.files import project_root

ROOT = project_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")


def links_of(text: str) -> list[str]:
    """What a Markdown text links to, without anchors; no address of the web."""
    return [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"\w+:", link)]


def commands_in(text: str) -> str:
    """The code spans and bash blocks of a Markdown text: where it names commands."""
    return "\n".join(re.findall(r"`[^`\n]+`|```bash.*?```", text, re.S))


def unknown_options(text: str) -> list[str]:
    """The `e2t` commands and options that a Markdown text names and that `--help` does not know."""
    mentioned = re.findall(r"\be2t ([a-z]+)((?: [^\n`|;#]*)?)", commands_in(text))
    unknown = []
    for name, rest in mentioned:
        shown = help_of(name)
        options = re.findall(r"(?<!\S)\[?(--?[a-z][a-z-]*)", rest)
        unknown += [f"e2t {name} {option}" for option in ("", *options) if not shown or option not in shown]
    return unknown


@cache
def help_of(name: str) -> str:
    """What `e2t NAME --help` shows; nothing, where there is no such command."""
    command = [sys.executable, "-m", "e2t_lib.cli", name, "--help"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def unknown_targets(text: str) -> set[str]:
    """The `make` targets that a Markdown text names and that the Makefile has not."""
    known = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    return set(re.findall(r"\bmake ([a-z]+)\b", commands_in(text))) - set(known)


def python_of(text: str) -> list[str]:
    """The Python blocks of a Markdown text."""
    return [dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", text, re.S | re.M)]


def test_every_link_leads_somewhere():
    links = links_of(README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_and_option_exists():
    assert len(set(re.findall(r"\be2t ([a-z]+)", commands_in(README)))) >= 6
    assert unknown_options(README) == []


def test_every_make_target_exists():
    assert "make run" in commands_in(README) and unknown_targets(README) == set()


def test_its_figures_are_those_of_the_benchmarks():
    subprocess.run([sys.executable, ROOT / "benchmarks" / "readme.py", "--check"], check=True)


@pytest.mark.parametrize("block", python_of(README))
def test_its_python_names_what_there_is(block):
    import e2t_lib

    compile(block, "README.md", "exec")
    for names in re.findall(r"from e2t_lib import ([\w, ]+)", block):
        assert [name for name in names.split(", ") if not hasattr(e2t_lib, name)] == []


def test_the_base_model_is_small_enough_to_ship_and_has_its_card():
    folder = ROOT / "data" / "base_model"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 60e6
    assert "Apache-2.0" in (folder / "README.md").read_text() and (folder / "language_model").is_dir()
