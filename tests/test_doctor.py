"""`e2t doctor`, in this environment and in broken ones."""

import os
import re
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

from e2t_lib import doctor
from e2t_lib.cli import main
from e2t_lib.doctor import Check, Note, diagnose, disk, embeds, language_model, memory, packages, python, writable
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError

LINE = re.compile(r"\[(OK|FAIL|--)\] ([\w ]+): .+")


@pytest.fixture(autouse=True)
def no_language_model(monkeypatch):
    for name in [name for name in os.environ if name.startswith("E2T_LLM_")]:
        monkeypatch.delenv(name)


def examined(arguments, capsys) -> tuple[int, dict[str, str]]:
    """Exit code and {name of the check: its line}."""
    code = main(["doctor", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, {LINE.fullmatch(line)[2]: line for line in out.splitlines()}


def test_nothing_fails_where_everything_is_there(trained, capsys):
    code, lines = examined(["--data-dir", "data/arxiv_test", "--models", str(trained[0])], capsys)
    assert code == 0 and not [line for line in lines.values() if line.startswith("[FAIL]")]
    assert lines["language model"].startswith("[--] ")
    assert "data/arxiv_test, 10 documents, 384 dimensions" in lines["dataset"]
    for name in ("packages", "device", "embedder", "base model", "map model", "text model", "kernel", "papermill"):
        assert lines[name].startswith("[OK] "), lines[name]


def test_every_failure_is_a_line_with_its_remedy_and_stops_no_other_check(tmp_path, monkeypatch, capsys):
    for name in ("parametric_umap", "vec2text"):
        (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.setenv("E2T_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("E2T_LLM_MODEL", "any")
    broken = ["--data-dir", str(tmp_path / "none"), "--models", str(tmp_path / "models"), "--base-model", "nobody/none"]
    code, lines = examined(broken, capsys)
    failed = {name for name, line in lines.items() if line.startswith("[FAIL] ")}
    assert code == 1 and failed == {"base model", "dataset", "map model", "text model", "language model"}
    assert all(re.search(r" : \S", lines[name]) for name in failed)
    assert lines["dataset"].endswith(f" : e2t build --input FILE --out {tmp_path / 'none'}")
    assert "--base-model embedded" in lines["base model"] and "127.0.0.1:9" in lines["language model"]
    assert lines["embedder"].startswith("[OK] ") and lines["kernel"].startswith("[OK] ")


def test_a_model_that_is_not_trained_yet_is_no_failure(tmp_path):
    found = diagnose(Check("text model", lambda: doctor.trained(tmp_path, "vec2text", "Vec2Text"), "train it"))
    assert str(found) == f"[--] text model: {tmp_path}/vec2text is not trained yet: make run"


def test_a_package_at_another_version_or_missing_is_named():
    with pytest.raises(E2TError, match=r"^numpy is [\d.]+, not ==0\.1, no-such-package is missing$"):
        packages(["numpy==0.1", "no-such-package==1.0"])
    assert packages([f"torch=={version('torch').split('+')[0]}"])  # also where its build adds +cpu


def test_another_python_too_little_memory_and_a_full_disk_are_found(tmp_path):
    for wrong, match in (
        (lambda: python("3.10.4"), r"3\.10\.4, but e2t asks for"),
        (lambda: memory(least=1e9), "GB free, at least 1e"),
        (lambda: disk(tmp_path, least=1e9), "GB free, at least 1e"),
    ):
        with pytest.raises(E2TError, match=match):
            wrong()
    assert python("3.11.9").startswith("3.11.9") and "are enough" in disk(tmp_path, least=0)


def test_a_folder_that_cannot_be_written_is_found(tmp_path):
    (tmp_path / "file").touch()
    found = diagnose(Check("runs", lambda: writable(tmp_path / "file" / "runs"), "make it writable"))
    assert found.mark == "FAIL" and "cannot be written" in found.text


def test_an_embedder_that_likens_nothing_or_has_another_dimension_is_found():
    by_place = Embedder(lambda texts: np.eye(3)[[("cat" in text) + 2 * ("kitten" in text) for text in texts]])
    with pytest.raises(E2TError, match="its weights are damaged"):
        embeds(by_place, 3)
    with pytest.raises(E2TError, match="3 numbers a sentence, not 384"):
        embeds(by_place, 384)


def test_whatever_a_check_raises_is_one_line():
    def broken() -> str:
        raise ZeroDivisionError("two\nlines")

    assert str(diagnose(Check("it", broken, "mend it"))) == "[FAIL] it: ZeroDivisionError: two : mend it"
    assert str(diagnose(Check("it", lambda: Note("so so"), ""))) == "[--] it: so so"
    assert str(diagnose(Check("it", lambda: "fine", ""))) == "[OK] it: fine"


def test_a_local_language_model_is_loaded_and_half_an_environment_is_a_failure(gpt2_folder, monkeypatch):
    monkeypatch.setenv("E2T_LLM_MODEL", str(gpt2_folder))
    assert language_model() == f"{gpt2_folder}, local"
    monkeypatch.delenv("E2T_LLM_MODEL")
    monkeypatch.setenv("E2T_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(E2TError, match="set E2T_LLM_MODEL"):
        language_model()


def test_it_begins_without_any_package():
    """Or it could not say which are missing."""
    code = "import sys, e2t_lib.doctor; print({'numpy', 'torch', 'tensorflow', 'packaging', 'psutil'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
