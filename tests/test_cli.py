"""The `e2t` command, from the user's seat."""

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2t_lib import load_dataset
from e2t_lib.cli import main
from e2t_lib.files import project_root

GUIDE_OPTIONS = {
    "--data-dir": "data/arxiv_aug_sep",
    "--output-dir": "data/models",
    "--umap-epochs": "100",
    "--vec2text-epochs": "3",
    "--batch-size": "32",
    "--skip-vec2text": "False",
    "--skip-umap": "False",
}


def test_the_guides_script_has_the_guides_options_and_defaults():
    script = project_root() / "scripts" / "train_models.py"
    shown = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
    shown = " ".join(shown.split())
    for option, default in GUIDE_OPTIONS.items():
        assert re.search(rf"{option}\b[^-].*?\(default: {re.escape(default)}\)", shown), option
    assert "microsoft/DialoGPT-medium" in shown


def test_build_then_check(tmp_path, capsys):
    documents = [
        {"document_id": f"d{n}", "title": f"Title {n}", "content": f"Words about {word} and {n}.", "year": 2000 + n}
        for n, word in enumerate(["rivers", "stars", "bread", "music", "bridges", "cells"])
    ]
    source, folder = tmp_path / "documents.jsonl.xz", tmp_path / "dataset"
    with lzma.open(source, "wt") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents)
    assert main(["build", "--input", str(source), "--out", str(folder), "--synthetic", "--licence", "CC0"]) == 0
    dataset = load_dataset(folder)
    assert dataset.titles == [document["title"] for document in documents]
    assert dataset.description["synthetic"] is True and dataset.description["licence"] == "CC0"
    assert main(["check", str(folder)]) == 0
    assert "6 documents, 384 dimensions: all checks passed" in capsys.readouterr().out


def test_check_names_every_problem_and_exits_1(tmp_path, capsys):
    folder = tmp_path / "broken"
    shutil.copytree(project_root() / "data" / "arxiv_test", folder)
    records = json.loads((folder / "all_embeddings.json").read_text())
    records[0]["embedding"][0] = float("nan")
    records[1]["embedding"] = records[1]["embedding"][:5]
    (folder / "all_embeddings.json").write_text(json.dumps(records))
    assert main(["check", str(folder)]) == 1
    out = capsys.readouterr().out
    for record in records[:2]:
        assert any(record["document_id"] in line and "all_embeddings.json" in line for line in out.splitlines())


def broken_json(tmp_path: Path) -> list[str]:
    folder = tmp_path / "d"
    shutil.copytree(project_root() / "data" / "arxiv_test", folder)
    (folder / "all_metadata.json").write_text("[{]")
    return ["train", "--data-dir", str(folder), "--output-dir", str(tmp_path / "m"), "--base-model", "embedded"]


def unwritable(tmp_path: Path) -> list[str]:
    (tmp_path / "file").touch()
    return ["train", "--data-dir", "data/arxiv_test", "--output-dir", str(tmp_path / "file" / "m")]


BAD = {
    "a missing file": (["build", "--input", "nowhere.jsonl", "--out", "x"], "nowhere.jsonl: no such file"),
    "a missing dataset": (["check", "nowhere"], "nowhere: no such dataset folder"),
    "broken JSON": (broken_json, r"all_metadata\.json.*line 1"),
    "an unknown profile": (["run", "--profile", "tiny"], "unknown profile 'tiny'; choose one of smoke, quick, full"),
    "an unknown parameter": (["run", "-p", "epoch", "3", "--run-id", "never"], "unknown parameter 'epoch'"),
    "an unreachable base model": (
        ["train", "--data-dir", "data/arxiv_test", "--output-dir", "MODELS", "--base-model", "nobody/none"],
        "base model 'nobody/none'.*nor reachable",
    ),
    "an unwritable folder": (unwritable, "cannot be written"),
    "a point that is none": (["generate", "--x", "nan", "--y", "0"], "finite"),
    "missing models": (["generate", "--x", "0", "--y", "0", "--models", "nowhere"], "holds no parametric_umap/"),
    "an unknown method": (["generate", "--x", "0", "--y", "0", "--method", "magic"], "unknown method 'magic'"),
    "no point": (["generate"], "give a point as --x and --y, or a file"),
    "half a point": (["generate", "--x", "1"], "give a point as --x and --y, or a file"),
    "a point and a file": (
        ["generate", "--x", "1", "--y", "1", "--input", "f"],
        "give a point as --x and --y, or a file",
    ),
    "a missing file of points": (["generate", "--input", "nowhere.csv"], "nowhere.csv: no such file"),
    "an unknown objective": (["generate", "--x", "1", "--y", "1", "--objective", "luck"], "unknown objective 'luck'"),
    "a page of nothing": (["gaps", "--empty", "--page", "p.html"], "leave out --empty or --page"),
    "no text": (["invert"], "give one text, or a file"),
    "a missing text file": (["invert", "--input", "nowhere.txt"], "nowhere.txt: no such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_exit_code_2(name, tmp_path, capsys):
    arguments, expected = BAD[name]
    arguments = arguments(tmp_path) if callable(arguments) else arguments
    arguments = [str(tmp_path / "m") if argument == "MODELS" else argument for argument in arguments]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    lines = err.strip().splitlines()
    assert lines[-1].startswith("e2t: error: ") and re.search(expected, lines[-1])
    assert "Traceback" not in err


def test_train_generate_and_write_metrics(tmp_path, gpt2_folder, capsys):
    models, figures = tmp_path / "models", tmp_path / "metrics.json"
    training = ["train", "--data-dir", "data/arxiv_test", "--output-dir", str(models), "--metrics", str(figures)]
    training += ["--base-model", str(gpt2_folder), "--umap-epochs", "2", "--vec2text-epochs", "1", "--max-length", "16"]
    assert main([*training, "--batch-size", "4"]) == 0
    out = capsys.readouterr().out
    for name in ("coordinate_mse", "avg_cosine_similarity", "average_embedding_distance", "convergence_rate"):
        assert f"{name}: " in out
    assert set(json.loads(figures.read_text())) == {"parametric_umap", "vec2text"}

    assert main(["generate", "--x", "0.5", "--y", "-0.3", "--models", str(models), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["request"]["x"] == 0.5 and record["text_generation_result"]["title"]
    points, answers, page = tmp_path / "points.csv", tmp_path / "answers.jsonl", tmp_path / "map.html"
    points.write_text("x,y\n0.5,-0.3\n0.1,0.2\n")
    assert main(["generate", "--input", str(points), "--models", str(models), "--output", str(answers)]) == 0
    records = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [(record["request"]["x"], record["request"]["y"]) for record in records] == [(0.5, -0.3), (0.1, 0.2)]
    capsys.readouterr()

    gaps = ["gaps", "--count", "1", "--models", str(models), "--output", str(answers)]
    assert main([*gaps, "--empty"]) == 0
    assert set(json.loads(answers.read_text())) == {"x", "y", "radius"} and "radius" in capsys.readouterr().out
    assert main([*gaps, "--page", str(page)]) == 0
    [gap] = map(json.loads, answers.read_text().splitlines())
    assert gap["x"] == gap["request"]["x"] and gap["text_generation_result"]["title"] in page.read_text()

    target, output = tmp_path / "texts.txt", tmp_path / "results.jsonl"
    target.write_text("Rivers and stones\n\nAn old tree house\n")
    asked = ["invert", "--input", str(target), "--output", str(output), "--models", str(models), "--iterations", "1"]
    assert main(asked) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["target_text"] for row in rows] == ["Rivers and stones", "An old tree house"]
    assert all({"text", "cosine", "iterations", "converged"} <= set(row) and "trace" not in row for row in rows)
    assert main([*asked, "--trace", "--batch-size", "1"]) == 0
    for row in map(json.loads, output.read_text().splitlines()):
        assert [step["iteration"] for step in row["trace"]] == list(range(row["iterations"] + 1))
        assert row["trace"][-1]["best"]["text"] == row["text"]


def test_invert_prints_one_json_object_for_one_text(capsys):
    assert main(["invert", "Spin waves in thin films", "--iterations", "0", "--beam-width", "1"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["target_text"] == "Spin waves in thin films" and -1 <= record["cosine"] <= 1
    short = ["invert", "Spin waves in thin films", "--iterations", "0", "--beam-width", "1", "--min-length", "80"]
    assert main(short) == 0
    longer = json.loads(capsys.readouterr().out)["text"]
    assert len(longer) > 2 * len(record["text"]) and len(longer.split()) > 20


def test_a_hub_that_cannot_be_reached_is_one_line_too(tmp_path):
    """Online, the hub's client retries and says so each time; the address refuses at once."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    code = "import sys; from e2t_lib.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = [
        "train",
        "--data-dir",
        "data/arxiv_test",
        "--output-dir",
        str(tmp_path / "m"),
        "--base-model",
        "no/body",
    ]
    out = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert out.returncode == 2
    assert out.stderr.count("\n") == 1 and "base model 'no/body'" in out.stderr, out.stderr
