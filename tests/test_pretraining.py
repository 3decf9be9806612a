"""The base model's vocabulary and its pre-training, on a corpus of moments."""

import json
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2t_lib.cli import main
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text import Sampling, Vec2Text
from e2t_lib.vec2text.bases import base_model_folder, load_tokenizer
from e2t_lib.vec2text.pretraining import embed_once, install, pretrain, read_corpus
from e2t_lib.vec2text.vocabulary import train_tokenizer

TOKENIZER = load_tokenizer(base_model_folder() / "tokenizer")


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "documents.jsonl"
    words = ["red", "blue", "green", "tall", "small", "old"], ["cat", "dog", "tree", "house", "river", "stone"]
    pairs = [(a, b) for a in words[0] for b in words[1]]
    records = [
        {"document_id": f"d{n}", "title": f"{a} {b} falls", "content": f"a {b} sleeps. the {a} one falls. old."}
        for n, (a, b) in enumerate(pairs)
    ]
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), max_size=80))
def test_every_text_comes_back_up_to_white_space(text):
    expected = re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFC", text)).strip(" ")
    if "▁" in expected or "<|end|>" in expected:  # the marks themselves
        return
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids, skip_special_tokens=True).strip(" ") == expected


def test_title_and_content_keep_their_empty_line():
    text = "A GaN study, re-visited: $x_{1}$ (v2)\n\nWe can't say 5.3% more, e.g. “naïve” ones."
    assert TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == text


def test_a_vocabulary_is_cased_word_pieces_of_its_texts():
    tokenizer = train_tokenizer(["Neural networks learn", "neural NETWORKS learn slowly"] * 20, 400)
    known = set(tokenizer.get_vocab())
    assert {"▁Neural", "▁neural", "▁networks", "▁NETWORKS", "▁slowly"} <= known and len(known) <= 400
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.pad_token


def test_a_corpus_is_titles_then_documents_and_the_last_are_held_out(corpus_file):
    corpus = read_corpus([corpus_file], titles=20, documents=8, held_out=6)
    assert corpus.training[:20] == [text for text in corpus.training if "\n\n" not in text]
    assert len(corpus.training) == 28 and all("\n\n" in text for text in corpus.training[20:])
    assert len(corpus.held_out) == 6 and sum("\n\n" in text for text in corpus.held_out) == 3
    titles = {text.partition("\n\n")[0] for text in corpus.training}
    assert not titles & {text.partition("\n\n")[0] for text in corpus.held_out}
    assert corpus == read_corpus([corpus_file], titles=20, documents=8, held_out=6)


def test_asking_for_more_documents_than_there_are_is_an_error(corpus_file):
    with pytest.raises(E2TError, match="30 documents to learn from, but 40 titles"):
        read_corpus([corpus_file], titles=40, documents=0, held_out=6)
    with pytest.raises(E2TError, match="36 documents, of which 36"):
        read_corpus([corpus_file], titles=1, documents=0, held_out=36)


def test_texts_are_embedded_once(tmp_path):
    calls = []

    def embed(texts):
        calls.append(len(texts))
        return np.ones((len(texts), 4)) + np.arange(len(texts))[:, None]

    first = embed_once(["a", "bb", "ccc"], Embedder(embed), tmp_path)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    assert np.array_equal(first, embed_once(["a", "bb", "ccc"], Embedder(embed), tmp_path)) and calls == [3]


def test_a_pretrained_base_is_used_and_trained_further(corpus_file, gpt2_folder, tmp_path):
    corpus = read_corpus([corpus_file], titles=20, documents=8, held_out=6)
    values = {"max_length": 24, "batch_size": 8, "prefix_width": 32, "lexical_width": 32, "lexical_rank": 8}
    embedder = Embedder()
    model = pretrain(corpus, embedder, Vec2TextSettings(base_model=str(gpt2_folder), epochs=2, **values), tmp_path)
    install(model, tmp_path / "base")
    assert sorted(p.name for p in (tmp_path / "base").iterdir()) == [
        "README.md",
        "language_model",
        "tokenizer",
        "vec2text_config.json",
    ]

    again = Vec2TextSettings(base_model=str(tmp_path / "base"), epochs=1, **values)
    further = pretrain(corpus, embedder, again, tmp_path / "further")
    histories = [json.loads((folder / "vec2text_config.json").read_text())["history"] for folder in (model, further)]
    assert histories[1]["val_loss"][-1] < histories[0]["val_loss"][0]
    base = Vec2Text.from_base(again, embedder)
    assert any(base.write(embedder.encode(corpus.held_out), Sampling(max_length=8)))


def test_the_clock_ends_a_pretraining(corpus_file, gpt2_folder, tmp_path):
    corpus = read_corpus([corpus_file], titles=20, documents=0, held_out=6)
    asked = Vec2TextSettings(
        base_model=str(gpt2_folder), epochs=10_000, minutes=0.02, corrector_epochs=0, max_length=16, batch_size=4
    )
    history = json.loads((pretrain(corpus, Embedder(), asked, tmp_path) / "vec2text_config.json").read_text())[
        "history"
    ]
    assert 0 < len(history["loss"]) < 10_000


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main(["pretrain", "--corpus", str(tmp_path / "none.jsonl"), "--work", str(tmp_path / "work")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
