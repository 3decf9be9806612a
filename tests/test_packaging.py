"""The set-up files agree, and importing stays light."""

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("tensorflow", "torch", "transformers", "umap", "sklearn", "matplotlib", "pandas")


def pins(lines: list[str]) -> dict[str, str]:
    """{normalised name: version} of `name==version` lines."""
    found = [re.match(r"\s*(?:- )?([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;#]+)", line) for line in lines]
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in found if match}


def requirements() -> list[str]:
    """Of the package and of all its optional groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(line for group in project["optional-dependencies"].values() for line in group)]


def declared() -> dict[str, str]:
    return pins(requirements())


def test_every_declared_dependency_is_pinned_exactly():
    assert len(declared()) == len(requirements())


def test_environment_yml_names_the_same_versions_as_pyproject():
    assert pins((ROOT / "environment.yml").read_text().splitlines()) == declared()


def test_lock_holds_every_declared_version_and_only_exact_ones():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    locked = pins(lines)
    assert len(locked) == len(lines)
    assert declared().items() <= locked.items()


def test_what_is_installed_is_what_is_locked():
    from importlib.metadata import version

    locked = pins((ROOT / "requirements.lock").read_text().splitlines())
    installed = {name: version(name).split("+")[0] for name in locked}
    assert installed == locked


@pytest.mark.parametrize("command", [["-c", "import e2t_lib, sys"], ["-m", "e2t_lib.cli", "--help"]])
def test_import_and_help_load_nothing_heavy(command, tmp_path):
    script = (
        command if command[0] == "-c" else ["-c", "import sys; from e2t_lib.cli import main; sys.argv=['e2t','--help']"]
    )
    code = script[1]
    if command[0] == "-m":
        code += "\ntry:\n    main()\nexcept SystemExit:\n    pass"
    code += f"\nprint('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.strip().endswith("LOADED []")


def test_import_takes_less_than_a_third_of_a_second():
    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    bare = min(seconds("pass") for _ in range(3))
    assert min(seconds("import e2t_lib") for _ in range(3)) - bare < 0.3


def test_the_repository_holds_no_path_of_a_machine():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    home = re.compile(r"(?<![A-Za-z0-9_.])/(?:home|Users|root|work)/\w")
    suffixes = {".py", ".md", ".toml", ".yml", ".ipynb", ".json", ".lock", ""}
    guilty = [name for name in files if Path(name).suffix in suffixes and home.search((ROOT / name).read_text())]
    assert guilty == [] and os.sep == "/"
