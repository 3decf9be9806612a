"""Word edits, and the correction loop that tries them; the models are those of test_vec2text.py, in miniature."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2t_lib.embedder import Embedder
from e2t_lib.settings import CorrectionSettings, Vec2TextSettings
from e2t_lib.vec2text import Vec2Text
from e2t_lib.vec2text.batches import PairDataset
from e2t_lib.vec2text.correction import correct
from e2t_lib.vec2text.editing import _edits, word_edits

TEXTS = ["red cat sleeps", "old house falls", "blue river sleeps", "tall tree falls", "green stone sleeps"]
EOS = 0


@pytest.fixture(scope="module")
def untrained(gpt2_folder):
    rng = np.random.default_rng(0)
    vectors: dict[str, np.ndarray] = {}

    def hashed(texts: list[str]) -> np.ndarray:
        return np.array(
            [np.mean([vectors.setdefault(w, rng.normal(size=32)) for w in f"{t} .".split()], 0) for t in texts]
        )

    settings = Vec2TextSettings(base_model=str(gpt2_folder), prefix_width=64, lexical_width=64, max_length=12)
    return Vec2Text.from_base(settings, Embedder(hashed))


@given(ids=st.lists(st.integers(1, 50), min_size=1, max_size=8), place=st.integers(0, 8), token=st.integers(1, 50))
def test_an_edit_changes_one_token(ids, place, token):
    ids, place = [*ids, EOS], min(place, len(ids))
    for edited in _edits(ids, [(place, token)], EOS):
        assert edited[-1] == EOS and abs(len(edited) - len(ids)) <= 1
        before = next(
            (i for i, pair in enumerate(zip(ids, edited, strict=False)) if pair[0] != pair[1]),
            min(len(ids), len(edited)),
        )
        assert ids[before + (len(edited) <= len(ids)) :] == edited[before + (len(edited) >= len(ids)) :]


def test_edits_differ_from_their_text_and_come_likeliest_first(untrained):
    targets = untrained.embedder.encode(TEXTS)
    ranked = word_edits(untrained, targets, TEXTS, np.roll(targets, 1, axis=0), 12)
    for target, text, edits in zip(targets, TEXTS, ranked, strict=True):
        assert len(edits) >= 6 and text not in edits
        pairs = PairDataset(np.repeat(target[None], len(edits), axis=0), edits, untrained.tokenizer, 12)
        one_by_one = [untrained.model.likelihood(**pairs.collate([row])).item() for row in range(len(edits))]
        assert (np.diff(one_by_one) < 0.05).all()  # bf16, and another batch


@torch.inference_mode()
def test_the_likelihood_of_texts_is_their_loss(untrained):
    pairs = PairDataset(untrained.embedder.encode(TEXTS), TEXTS, untrained.tokenizer, 12)
    batch = pairs.collate(range(len(TEXTS)))
    tokens = sum(pairs.lengths)
    assert untrained.model.likelihood(**batch).sum().item() == pytest.approx(
        -untrained.model(**batch).item() * tokens, rel=1e-4
    )


@torch.inference_mode()
def test_an_echo_of_nothing_is_the_text(untrained):
    pairs = PairDataset(untrained.embedder.encode(TEXTS), TEXTS, untrained.tokenizer, 12)
    batch, noise = pairs.collate(range(len(TEXTS))), torch.Generator().manual_seed(0)
    same = untrained.model.echo(**batch, share=torch.zeros(len(TEXTS)), generator=noise)
    assert [text.strip() for text in untrained.tokenizer.batch_decode(same, skip_special_tokens=True)] == TEXTS
    other = untrained.model.echo(**batch, share=torch.ones(len(TEXTS)), generator=noise)
    assert (other != same).float().mean() > 0.5


def letters(texts: list[str]) -> np.ndarray:
    counts = np.array([[text.count(letter) + 0.1 for letter in "abcdef"] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_the_loop_tries_each_edit_once_and_keeps_what_is_nearer():
    tried: list[str] = []

    def embed(texts):
        tried.extend(texts)
        return letters(texts)

    def edit(targets, texts, landed):
        assert np.allclose(landed, letters(texts))
        return [[text + letter for letter in "abcdef"] for text in texts]

    settings = CorrectionSettings(
        num_beams=2, proposals=4, edits=0.5, embedding_tolerance=1e-6, max_correction_iterations=8
    )
    result = correct(letters(["abbccc"]), lambda goals, heat, known: ["f"] * len(goals), embed, settings, edit=edit)[0]
    edited = [text for text in tried if text != "f"]
    assert len(edited) == len(set(edited)) and len(tried) <= settings.most_texts
    steps = [step.best.distance for step in result.trace]
    assert steps == sorted(steps, reverse=True) and steps[-1] < steps[0] - 0.2
    without = correct(letters(["abbccc"]), lambda goals, heat, known: ["f"] * len(goals), letters, settings)[0]
    assert without.text == "f"
