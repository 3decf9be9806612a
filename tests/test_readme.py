"""The README promises nothing that is not there."""

import re
import subprocess
import sys

import pytest

from e2t_lib.files import project_root

ROOT = project_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_and_option_exists():
    mentioned = re.findall(
        r"\be2t ([a-z]+)((?: [^\n`|;#]*)?)", "\n".join(re.findall(r"`[^`\n]+`|```bash.*?```", README, re.S))
    )
    assert len({name for name, _ in mentioned}) >= 6
    for name, rest in mentioned:
        shown = subprocess.run([sys.executable, "-m", "e2t_lib.cli", name, "--help"], capture_output=True, text=True)
        assert shown.returncode == 0, f"e2t {name}"
        for option in re.findall(r"(?<!\S)\[?(--?[a-z][a-z-]*)", rest):
            assert option in shown.stdout, f"e2t {name} {option}"


def test_every_make_target_exists():
    targets = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`[^`\n]+`|```bash.*?```", README, re.S))))
    assert targets and targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


def test_its_figures_are_those_of_the_benchmarks():
    subprocess.run([sys.executable, ROOT / "benchmarks" / "readme.py", "--check"], check=True)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.S))
def test_its_python_names_what_there_is(block):
    import e2t_lib

    compile(block, "README.md", "exec")
    for names in re.findall(r"from e2t_lib import ([\w, ]+)", block):
        assert [name for name in names.split(", ") if not hasattr(e2t_lib, name)] == []


def test_the_base_model_is_small_enough_to_ship_and_has_its_card():
    folder = ROOT / "data" / "base_model"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 60e6
    assert "Apache-2.0" in (folder / "README.md").read_text() and (folder / "language_model").is_dir()
