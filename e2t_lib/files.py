"""Reading and writing that never loses data: write to a temporary sibling, then rename."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2t_lib.errors import E2TError


def project_root() -> Path:
    """The checkout that holds `data/` and `notebooks/`: the working directory or a parent, else this file's.

    papermill runs a kernel in the launch directory and nbval in the notebook's own, so a relative path given
    to a notebook can only mean "from the project root".
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "e2t_lib").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return Path(__file__).resolve().parents[1]


def resolve(path: str | Path) -> Path:
    """An absolute path; a relative one that does not exist from here is taken from the project root."""
    path = Path(path).expanduser()
    if path.is_absolute() or path.exists():
        return path.absolute()
    return project_root() / path


def read_json(path: Path, **options: Any) -> Any:
    """The parsed file; options as for `json.loads`.

    Raises:
        E2TError: the file is missing, unreadable or not JSON; the message names it, with line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), **options)
    except FileNotFoundError:
        raise E2TError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise E2TError(f"{path}: cannot be read ({error})") from None
    except json.JSONDecodeError as error:
        raise E2TError(f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, making its folder.

    Raises:
        E2TError: the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise E2TError(f"{path}: cannot be written ({error.strerror or error})") from None


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file atomically (see `write_text`)."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling to fill; on success it takes the folder's place, on failure the old one stays.

    Raises:
        E2TError: the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        temporary.chmod(0o755)  # mkdtemp makes 0700; a model folder is as readable as its neighbours
    except OSError as error:
        raise E2TError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        yield temporary
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
