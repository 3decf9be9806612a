"""The words of a text in another order.

Near its target a hypothesis often has the right words, or nearly, and not their order: "Loop Invariants for 2+1
Independent Gravity". An embedder reads both much alike, and what lies between them, one token moved, may be farther off.
"""

import itertools

SPAN = 3  # words that move together


def reorderings(text: str) -> list[str]:
    """All texts that have two words of a text exchanged, or one to three in a row elsewhere.

    Of ten different words there are 191. Where an order begins with a small letter and the text with a capital, the
    capital goes to its first word; it stays with the other as well where it is not the text's only one.
    """
    words = text.split()
    places = range(len(words) + 1)
    exchanged = (
        [*words[:i], words[j], *words[i + 1 : j], words[i], *words[j + 1 :]]
        for i, j in itertools.combinations(places[:-1], 2)
    )
    moved = (
        [*words[:i], *words[j:k], *words[i:j], *words[k:]]
        for i, j, k in itertools.combinations(places, 3)
        if min(j - i, k - j) <= SPAN
    )
    orders = dict.fromkeys(map(tuple, itertools.chain(exchanged, moved)))
    return list(dict.fromkeys(" ".join(_capitalised(order, words[0])) for order in orders if order != tuple(words)))


def _capitalised(order: tuple[str, ...], first: str) -> list[str]:
    """An order of words, with the capital of the word that was first."""
    if not (first[0].isupper() and order[0][0].islower()):
        return list(order)
    only = not any(word[0].isupper() for word in order if word != first) and first[1:].islower()
    rest = [word.lower() if only and word == first else word for word in order[1:]]
    return [order[0][0].upper() + order[0][1:], *rest]
