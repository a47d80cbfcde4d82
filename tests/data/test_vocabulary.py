"""The vocabulary against a plain reading of what it promises: counts sorted by hand, ids and tokens as inverses."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data.vocabulary import PADDING, SPECIALS, UNKNOWN, Vocabulary
from weft.errors import InputError

words = st.text("abc", min_size=1, max_size=3)
counters = st.dictionaries(words, st.integers(1, 5), max_size=12)


def reference(counts: dict[str, int], minimum_count: int, maximum_size: int | None) -> list[str]:
    """Takes the best remaining token, over and over."""
    left, taken = {token: count for token, count in counts.items() if count >= minimum_count}, list(SPECIALS)
    while left and (maximum_size is None or len(taken) < maximum_size):
        most = max(left.values())
        best = min(token for token, count in left.items() if count == most)
        taken.append(best)
        del left[best]
    return taken


@given(counters, st.integers(1, 4), st.none() | st.integers(2, 10), st.randoms(use_true_random=False))
def test_build_takes_the_commonest_and_breaks_ties_by_code_point(counts, minimum_count, maximum_size, random) -> None:
    assert Vocabulary.build(counts, minimum_count, maximum_size).tokens == reference(counts, minimum_count, maximum_size)
    shuffled = list(counts.items())
    random.shuffle(shuffled)
    assert Vocabulary.build(dict(shuffled), minimum_count, maximum_size) == Vocabulary.build(counts, minimum_count, maximum_size)


@given(counters)
def test_ids_and_tokens_are_inverses(counts) -> None:
    vocabulary = Vocabulary.build(counts)
    assert len(vocabulary) == len(counts) + 2
    assert [vocabulary.id(vocabulary.token(number)) for number in range(1, len(vocabulary))] == list(range(1, len(vocabulary)))
    assert all(token in vocabulary for token in counts) and "never" not in vocabulary


def test_specials_have_their_ids_and_no_text_can_write_padding() -> None:
    vocabulary = Vocabulary.build(Counter({"<pad>": 9, "<unk>": 7, "good": 1}))
    assert vocabulary.tokens == ["<pad>", "<unk>", "good"]
    assert (PADDING, UNKNOWN) == (0, 1)
    assert vocabulary.token(0) == "<pad>"
    assert vocabulary.id("<pad>") == 1 and vocabulary.id("<unk>") == 1 and vocabulary.id("bad") == 1
    assert "<pad>" not in vocabulary


def test_what_was_left_out_is_said(caplog) -> None:
    with caplog.at_level("INFO", "weft"):
        Vocabulary.build({"a": 3, "b": 1, "c": 2})
        assert not caplog.records
        Vocabulary.build({"a": 3, "b": 1, "c": 2}, minimum_count=2)
    assert "2 of 3" in caplog.text


@pytest.mark.parametrize("tokens", [["a", "b", "a"], ["<pad>"], ["a", "<unk>"]])
def test_a_token_may_not_come_twice(tokens) -> None:
    with pytest.raises(InputError, match=repr(tokens[-1])):
        Vocabulary(tokens)


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(InputError, match="not 0"):
        Vocabulary.build({"a": 1}, minimum_count=0)
    with pytest.raises(InputError, match="not 1"):
        Vocabulary.build({"a": 1}, maximum_size=1)
    for number in (-1, 3):
        with pytest.raises(InputError, match="ids 0 to 2"):
            Vocabulary(["a"]).token(number)
