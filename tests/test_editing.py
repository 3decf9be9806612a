"""Edits of words and of sentences, and the correction loop that tries them; the models are those of test_vec2text.py, in miniature."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2t_lib.embedder import Embedder
from e2t_lib.settings import CorrectionSettings, Vec2TextSettings
from e2t_lib.vec2text import Vec2Text, editing
from e2t_lib.vec2text.batches import PairDataset
from e2t_lib.vec2text.correction import Draft, correct
from e2t_lib.vec2text.editing import Editor, _edits, word_edits
from e2t_lib.vec2text.recombination import Sentence, sentence_edits, sentences
from e2t_lib.vec2text.reordering import SPAN, reorderings

TEXTS = ["red cat sleeps", "old house falls", "blue river sleeps", "tall tree falls", "green stone sleeps"]
EOS = 0


@pytest.fixture(scope="module", params=[True, False], ids=["corrector", "inverter only"])
def untrained(gpt2_folder, request):
    rng = np.random.default_rng(0)
    vectors: dict[str, np.ndarray] = {}

    def hashed(texts: list[str]) -> np.ndarray:
        return np.array(
            [np.mean([vectors.setdefault(w, rng.normal(size=32)) for w in f"{t} .".split()], 0) for t in texts]
        )

    settings = Vec2TextSettings(
        base_model=str(gpt2_folder), prefix_width=64, lexical_width=64, max_length=12, corrector=request.param
    )
    return Vec2Text.from_base(settings, Embedder(hashed))


@given(ids=st.lists(st.integers(1, 6), min_size=1, max_size=8), place=st.integers(0, 8), token=st.integers(1, 7))
def test_an_edit_changes_one_token_or_moves_one_or_two(ids, place, token):
    ids, place = [*ids, EOS], min(place, len(ids))
    for edited in _edits(ids, [(place, token)], EOS):
        assert edited[-1] == EOS and EOS not in edited[:-1]
        gone, new = Counter(ids) - Counter(edited), Counter(edited) - Counter(ids)
        assert gone.total() <= 1 and new.total() <= 1 and set(new) <= {token}
        if not gone and not new:
            assert token in ids
            assert sum(a != b for a, b in zip(ids, edited, strict=True)) <= 2 or any(
                ids[:i] + ids[i + 1 :] == edited[:j] + edited[j + 1 :] for i in range(len(ids)) for j in range(len(ids))
            )


def test_edits_differ_from_their_text_and_come_likeliest_first(untrained):
    targets = untrained.embedder.encode(TEXTS)
    rows = zip(targets, TEXTS, np.roll(targets, 1, axis=0), strict=True)
    ranked = word_edits(untrained, [Draft(*row, TEXTS) for row in rows], range(1, 12))
    for target, text, edits in zip(targets, TEXTS, ranked, strict=True):
        assert len(edits) >= 6 and text not in edits
        pairs = PairDataset(np.repeat(target[None], len(edits), axis=0), edits, untrained.tokenizer, 12)
        one_by_one = [untrained.model.likelihood(**pairs.collate([row])).item() for row in range(len(edits))]
        assert (np.diff(one_by_one) < 0.05).all()  # bf16, and another batch


def test_beyond_the_target_is_so_many_times_farther_as_the_text_is_off():
    targets, landed = np.float32([[1, 0], [0, 1]]), np.float32([[0, 1], [0, 1]])
    aimed = editing.beyond(targets, landed, 2.0)
    assert np.allclose(aimed[0], np.array([3, -2]) / np.sqrt(13)) and np.allclose(aimed[1], [0, 1])


@torch.inference_mode()
def test_the_likelihood_of_texts_is_their_loss(untrained):
    pairs = PairDataset(untrained.embedder.encode(TEXTS), TEXTS, untrained.tokenizer, 12)
    batch = pairs.collate(range(len(TEXTS)))
    tokens = sum(pairs.lengths)
    assert untrained.model.likelihood(**batch).sum().item() == pytest.approx(
        -untrained.model(**batch).item() * tokens, rel=1e-4
    )


@pytest.mark.parametrize("shortest", [1, 3])
def test_no_word_edit_is_shorter_than_asked(untrained, monkeypatch, shortest):
    """The second token is wanted first: to be put in there, for the first, or by leaving the first out."""
    monkeypatch.setattr(editing, "_wanted", lambda model, batch: [[(0, int(ids[1]))] for ids in batch["labels"]])
    draft = Draft(
        *untrained.embedder.encode(["red cat"]), "red cat sleeps", untrained.embedder.encode(["red"])[0], TEXTS
    )
    [edits] = word_edits(untrained, [draft], range(shortest, 12))
    assert "cat cat sleeps" in edits and ("cat sleeps" in edits) == (shortest == 1)


@given(words=st.lists(st.sampled_from(["red", "cat", "sleeps", "of", "2+1"]), max_size=9))
def test_a_reordering_has_the_words_of_its_text_two_exchanged_or_some_in_a_row_elsewhere(words):
    orders = [order.split() for order in reorderings(" ".join(words))]
    assert len(orders) == len(set(map(tuple, orders)))
    for order in orders:
        assert order != words and Counter(order) == Counter(words)
        assert sum(a != b for a, b in zip(words, order, strict=True)) == 2 or any(
            order == [*rest[:j], *words[i : i + span], *rest[j:]]
            for span in range(1, SPAN + 1)
            for i in range(len(words))
            for rest in [words[:i] + words[i + span :]]
            for j in range(len(rest) + 1)
        )
    assert len(words) < 2 or len(set(words)) < len(words) or len(orders) >= len(words) - 1


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("Waves in Fluids", "Fluids in Waves"),
        ("Waves in Fluids", "In Waves Fluids"),
        ("Waves in fluids", "Fluids in waves"),
        ("DNA in fluids", "Fluids in DNA"),
        ("waves in Fluids", "in waves Fluids"),
    ],
)
def test_the_first_capital_goes_to_the_word_that_comes_first(text, order):
    assert order in reorderings(text)


def test_a_draft_near_its_target_has_its_words_reordered_first(untrained, monkeypatch):
    """An embedder of bags of words cannot tell orders apart: the draft is on its target, and the order alone is wrong."""
    target = untrained.embedder.encode(["tall tree falls"])[0]
    draft = Draft(target, "falls tall tree", target, ["falls tall tree", "tall falls tree"])
    far = Draft(-target, draft.text, target, draft.tried)
    editor = Editor(untrained, CorrectionSettings(max_length=12))
    near, off, of_several = editor([[draft], [far], [far, draft]])
    untried = {"tall tree falls", "tree tall falls", "falls tree tall", "tree falls tall"}
    orders = near[: len(untried)]
    assert set(orders) == untried
    assert near[len(untried) :] == word_edits(untrained, [draft], range(1, 12))[0]
    assert off == word_edits(untrained, [far], range(1, 12))[0]
    assert len(of_several) == len(off) + len(near) - len(untried)  # the best of the search is not near
    targets = np.repeat(target[None], len(orders), axis=0)
    likelihoods = editing._likelihoods(untrained, orders, targets, 12, own_tokens=True)
    assert (np.diff(likelihoods) < 0.05).all()
    monkeypatch.setattr(editing, "WORDS", 2)
    assert Editor(untrained, CorrectionSettings(max_length=12))([[draft]])[0] == near[len(untried) :]


@pytest.mark.parametrize("text", ["red", "red red", ""])
def test_a_draft_near_its_target_that_has_no_other_order_is_edited_all_the_same(untrained, text):
    target = untrained.embedder.encode(["red"])[0]
    draft = Draft(target, text, target, [text])
    assert Editor(untrained, CorrectionSettings(max_length=12))([[draft]]) == word_edits(
        untrained, [draft], range(1, 12)
    )


def test_orders_are_kept_for_the_drafts_of_now_alone(untrained, monkeypatch):
    target = untrained.embedder.encode(["tall tree falls"])[0]
    first, second = (Draft(target, text, target, [text]) for text in ("falls tall tree", "tall falls tree"))
    editor = Editor(untrained, CorrectionSettings(max_length=12))
    editor([[first]])
    asked = []
    monkeypatch.setattr(editing, "reorderings", lambda text: asked.append(text) or reorderings(text))
    editor([[first], [second]])
    editor([[second]])
    assert asked == [second.text] and len(editor.orders) == 1


@torch.inference_mode()
def test_the_likelihood_among_some_tokens_is_that_of_a_model_without_the_others(untrained):
    pairs = PairDataset(untrained.embedder.encode(TEXTS), TEXTS, untrained.tokenizer, 12)
    batch = pairs.collate(range(len(TEXTS)))
    own = torch.tensor(sorted({token for ids in pairs.tokens for token in ids.tolist()}))
    scores = untrained.model.scores(batch["embeddings"], batch["input_ids"], batch["lengths"])
    others = torch.ones(scores.shape[2], dtype=torch.bool)
    others[own] = False
    scores[:, :, others] = -torch.inf
    kept = batch["labels"] >= 0
    expected = scores.log_softmax(2).gather(2, batch["labels"].clamp(min=0)[:, :, None])[:, :, 0][kept].sum()
    length = untrained.model.conditioning.length
    if length is not None:
        expected -= length.loss(batch["embeddings"], batch["lengths"]).sum()
    assert untrained.model.likelihood(**batch, among=own).sum().item() == pytest.approx(expected.item(), rel=1e-4)


@torch.inference_mode()
def test_an_echo_of_nothing_is_the_text(untrained):
    pairs = PairDataset(untrained.embedder.encode(TEXTS), TEXTS, untrained.tokenizer, 12)
    batch, noise = pairs.collate(range(len(TEXTS))), torch.Generator().manual_seed(0)
    same = untrained.model.echo(**batch, share=torch.zeros(len(TEXTS)), generator=noise)
    assert [text.strip() for text in untrained.tokenizer.batch_decode(same, skip_special_tokens=True)] == TEXTS
    other = untrained.model.echo(**batch, share=torch.ones(len(TEXTS)), generator=noise)
    assert (other != same).float().mean() > 0.5


@st.composite
def drafts(draw):
    """A draft, other texts tried for its target, and what is known of their sentences."""
    words = st.sampled_from(["cat", "dog", "sun", "sea", "elm"])
    sentence = st.lists(words, min_size=1, max_size=4).map(lambda chosen: " ".join(chosen) + ".")
    text = st.lists(sentence, min_size=3, max_size=5).map(lambda parts: parts[0] + "\n\n" + " ".join(parts[1:]))
    tried = draw(st.lists(text, min_size=2, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    parts = sorted({part for one in tried for part in sentences(one)})
    vectors = rng.normal(size=(len(parts) + 2, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    known = {part: Sentence(vector, len(part.split())) for part, vector in zip(parts, vectors, strict=False)}
    return Draft(vectors[-1], tried[0], vectors[-2], tried), known


@given(given=drafts(), most=st.integers(6, 20))
def test_sentence_edits_are_made_of_whole_sentences_and_stay_within_bounds(given, most):
    draft, known = given
    for edited in sentence_edits(draft, known, range(3, most), 12):
        title, *rest = sentences(edited)
        assert len(set(rest)) == len(rest)
        assert edited != draft.text and edited.startswith(title + "\n\n")
        assert title in {sentences(text)[0] for text in draft.tried}
        assert set(rest) <= {part for text in draft.tried for part in sentences(text)[1:]}
        grown = len(edited.split()) - len(draft.text.split())
        assert 3 <= len(edited.split()) < most or grown < 0  # a draft that is too long gets shorter


def test_sentence_edits_find_the_points_that_other_texts_made():
    """The target's three sentences stand in three texts, each in bad company."""
    rng = np.random.default_rng(3)
    wanted, noise = ["a good title", "first point.", "second point."], [f"noise {number}." for number in range(12)]
    parts = [*wanted, *noise, "a bad title"]
    vectors = rng.normal(size=(len(parts), 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = {part: Sentence(vector, 4) for part, vector in zip(parts, vectors, strict=True)}

    def embedding(text):
        total = sum(known[part].embedding for part in sentences(text))
        return total / np.linalg.norm(total)

    tried = [
        "a bad title\n\nnoise 0. first point. noise 1.",
        "a good title\n\nnoise 2. noise 3.",
        "a bad title\n\nnoise 4. noise 5. second point.",
    ]
    truth = "a good title\n\nfirst point. second point."
    draft = Draft(embedding(truth), tried[0], embedding(tried[0]), tried)
    best = sentence_edits(draft, known, range(1, 99), 4)[0]
    assert sorted(sentences(best)) == sorted(wanted)


def test_a_sentence_that_breaks_off_stays_at_the_end():
    rng = np.random.default_rng(0)
    tried = [
        "a title\n\nfirst point. second point. a third that breaks",
        "another\n\nfourth point. fifth point. sixth point.",
        "one more\n\nseventh point. another that breaks",
    ]
    parts = list(dict.fromkeys(part for text in tried for part in sentences(text)))
    vectors = rng.normal(size=(len(parts) + 1, 16)).astype(np.float32)
    known = {part: Sentence(vector, 4) for part, vector in zip(parts, vectors, strict=False)}
    edits = [
        edit
        for text in tried
        for edit in sentence_edits(Draft(vectors[-1], text, known["a title"][0], tried), known, range(1, 99), 32)
    ]
    assert any("breaks" in text for text in edits) and all(text.find("breaks") in (-1, len(text) - 6) for text in edits)


def test_a_long_draft_has_its_sentences_edited_and_a_short_one_its_words(untrained):
    texts = ["red cat\n\nred cat sleeps. old house falls.", "old house\n\nblue river. green stone sleeps.", "red cat"]
    landed = untrained.embedder.encode(texts)
    drafts = [Draft(landed[0], texts[1], landed[1], texts), Draft(landed[0], texts[2], landed[2], texts)]
    long, short = Editor(untrained, CorrectionSettings(max_length=40))([[draft] for draft in drafts])
    assert long[0] == texts[0]  # which the target is the embedding of
    assert short and all(len(sentences(text)) < 3 for text in short)


def letters(texts: list[str]) -> np.ndarray:
    counts = np.array([[text.count(letter) + 0.1 for letter in "abcdef"] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_the_loop_tries_no_text_twice_and_keeps_what_is_nearer():
    tried: list[str] = []

    def embed(texts):
        tried.extend(texts)
        return letters(texts)

    def edit(beams):
        for draft in itertools.chain(*beams):
            assert np.allclose(draft.embedding, letters([draft.text])[0]) and draft.text in draft.tried
        return [[draft.text + letter for letter in "abcdef" for draft in beam] for beam in beams]

    settings = CorrectionSettings(
        num_beams=2, proposals=4, edits=0.5, embedding_tolerance=1e-6, max_correction_iterations=8
    )
    result = correct(letters(["abbccc"]), lambda goals, heat, known: ["f"] * len(goals), embed, settings, edit=edit)[0]
    # "f" is written again and again, and edits take its place: six of "f" itself, then as many as may be tried.
    assert len(tried) == len(set(tried)) == 1 + 6 + 8 * (len(result.trace) - 2)
    steps = [step.best.distance for step in result.trace]
    assert steps == sorted(steps, reverse=True) and steps[-1] < steps[0] - 0.2
    without = correct(letters(["abbccc"]), lambda goals, heat, known: ["f"] * len(goals), letters, settings)[0]
    assert without.text == "f"


def test_a_draft_is_among_the_texts_tried_even_if_another_case_of_it_was_tried_later():
    cases = iter(["red cat.", "Red Cat.", "RED CAT."])
    seen = []

    def propose(goals, heat, known):
        return [next(cases)] * len(goals)

    def edit(beams):
        seen.extend(itertools.chain(*beams))
        return [[] for _ in beams]

    settings = CorrectionSettings(num_beams=1, proposals=2, max_correction_iterations=2)
    correct(letters(["fff"]), propose, lambda texts: letters([text.lower() for text in texts]), settings, edit=edit)
    assert [draft.text for draft in seen] == ["red cat."] * 2
    assert all(draft.text in draft.tried for draft in seen) and "Red Cat." in seen[1].tried


def test_a_hypothesis_is_rewritten_greedily_once():
    heats = []

    def propose(goals, heat, known):
        heats.append(heat.tolist())
        return [f"f{len(heats)}{number}" for number in range(len(goals))] if len(heats) == 1 else ["e"] * len(goals)

    settings = CorrectionSettings(num_beams=2, proposals=2, max_correction_iterations=2, temperature=0.7)
    correct(letters(["fa"]), propose, letters, settings)
    assert heats == [[0.0, 0.7, 0.7, 0.7], [0.0, 0.0, 0.7, 0.7], [0.7, 0.7, 0.7, 0.7]]


def test_where_all_are_edits_nothing_is_written_anew():
    asked = []

    def propose(goals, heat, known):
        asked.append(len(goals))
        return ["f"] * len(goals)

    def edit(beams):
        return [[beam[0].text + letter for letter in "abcdef"] for beam in beams]

    settings = CorrectionSettings(num_beams=1, proposals=4, edits=1.0, max_correction_iterations=3)
    result = correct(letters(["abbccc"]), propose, letters, settings, edit=edit)[0]
    assert asked == [4] and result.cosine > 0.5


def test_where_all_texts_are_blank_the_answer_is_one_of_them_and_lands_where_it_does():
    elsewhere = np.array([0.0, 1.0], np.float32)
    settings = CorrectionSettings(num_beams=2, proposals=2, max_correction_iterations=1)
    [result] = correct(
        np.array([[1.0, 0.0]], np.float32),
        lambda goals, heat, known: [" "] * len(goals),
        lambda texts: np.tile(elsewhere, (len(texts), 1)),
        settings,
    )
    assert result.text == " " and not result.converged and np.isfinite(result.miss)
    np.testing.assert_array_equal(result.embedding, elsewhere)


def test_of_several_targets_each_text_goes_for_the_nearest_and_all_share_one_budget():
    targets, goals_seen, drafts_seen = letters(["aab", "cdd"]), [], []

    def propose(goals, heat, known):
        goals_seen.append(goals)
        return ["cd" if known else letter for letter in "acac"[: len(goals)]]

    def edit(beams):
        drafts_seen.extend(itertools.chain(*beams))
        return [[] for _ in beams]

    settings = CorrectionSettings(num_beams=2, proposals=2, max_correction_iterations=1, embedding_tolerance=1e-6)
    [result] = correct(targets[None], propose, letters, settings, edit=edit)
    np.testing.assert_array_equal(goals_seen[0], targets[[0, 1, 0, 1]])
    assert [len(goals) for goals in goals_seen] == [4, 4]
    for draft in drafts_seen:
        np.testing.assert_array_equal(draft.target, targets[(targets @ draft.embedding).argmax()])
    assert result.text == "cd" and result.distance == pytest.approx(1 - letters(["cd"])[0] @ targets[1], abs=1e-6)
    np.testing.assert_array_equal(result.target, targets[1])
