"""BPE and WordPiece against brute force: merges by rank, greedy longest match; the same pieces in every process."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data.subwords import BytePairTokenizer, WordPieceTokenizer
from weft.data.vocabulary import Vocabulary
from weft.errors import InputError

CORPUS = (["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3) * 2
SENTENCES = [
    "a flightless bird is no less a bird , a painless flight is a flight all the same",
    "the lowest of the low , newest and widest : lower , newer , wider still",
    "unfold the unfolded , undo the undone , unkind to the unkindest",
]
BPE = BytePairTokenizer.train(SENTENCES, maximum_size=320)
WORDPIECE = WordPieceTokenizer.train(SENTENCES, maximum_size=70)
letters = st.lists(st.text("abdefghilnorstuw", min_size=1, max_size=9), max_size=5).map(" ".join)


def pieces(tokenizer, text: str) -> list[str]:
    return [tokenizer.vocabulary.token(number) for number in tokenizer.encode(text).ids]


def merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """Every occurrence of the pair joined, from the left."""
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def longest_match(vocabulary: Vocabulary, word: str) -> list[str]:
    """E104: from the left, the longest piece that is in the vocabulary; one unknown token where there is none."""
    found, start = [], 0
    while start < len(word):
        ends = (end for end in range(len(word), start, -1) if "##" * (start > 0) + word[start:end] in vocabulary)
        end = next(ends, None)
        if end is None:
            return ["<unk>"]
        found.append("##" * (start > 0) + word[start:end])
        start = end
    return found


def test_e104_flightless_is_flight_and_less() -> None:
    made = WordPieceTokenizer(Vocabulary(["[CLS]", "[SEP]", "[MASK]", "flight", "fl", "f", "##light", "##less", "##le", "##ss", "##s"]))
    assert pieces(made, "Flightless flight") == ["flight", "##less", "flight"]
    assert made.encode("a Flightless").offsets == [(0, 1), (2, 8), (8, 12)]
    assert pieces(made, "less flights") == ["<unk>", "flight", "##s"]
    assert made.decode(made.encode("flightless, flights").ids) == "flightless <unk> flights"


@given(letters)
def test_e104_wordpiece_is_the_greedy_longest_match(text) -> None:
    expected = [piece for word in text.split() for piece in longest_match(WORDPIECE.vocabulary, word)]
    assert pieces(WORDPIECE, text) == expected


def test_wordpiece_reserves_ids_and_learns_frequent_pieces() -> None:
    assert WORDPIECE.vocabulary.tokens[:5] == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    assert [WORDPIECE.vocabulary.id(token) for token in WORDPIECE.special] == [2, 3, 4]
    assert WORDPIECE.size == len(WORDPIECE.vocabulary) == 70
    seen = set("".join(SENTENCES)) - {" "}
    assert seen <= set(WORDPIECE.vocabulary.tokens)  # every character that was seen can begin a word
    continuing = {"##" + character for sentence in SENTENCES for word in sentence.split() for character in word[1:]}
    assert continuing <= set(WORDPIECE.vocabulary.tokens)
    assert any(len(token.removeprefix("##")) > 2 for token in WORDPIECE.vocabulary.tokens[5:])


@given(letters)
def test_bpe_joins_pairs_in_the_order_learnt(text) -> None:
    expected: list[str] = []
    for word in text.split():
        symbols = ["Ġ", *word]
        for pair in BPE.merges:
            symbols = merged(symbols, pair)
        expected += symbols
    assert pieces(BPE, text) == expected


def test_bpe_always_joins_a_commonest_pair() -> None:
    words = Counter(CORPUS)
    made = BytePairTokenizer.train([" ".join(CORPUS)], maximum_size=258 + 10)
    state = {word: ["Ġ", *word] for word in words}
    assert len(made.merges) == 10 and made.size == 268
    for pair in made.merges:
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in state.items():
            for neighbours in pairwise(symbols):
                counts[neighbours] += words[word]
        assert counts[pair] == max(counts.values())
        state = {word: merged(symbols, pair) for word, symbols in state.items()}
    assert "est" in made.vocabulary and ("es", "t") in made.merges  # the example of Sennrich et al. (2016)


def test_pairs_below_the_minimum_count_are_not_joined() -> None:
    assert BytePairTokenizer.train(["abc xyz"], minimum_count=2).merges == []
    assert len(BytePairTokenizer.train(["abc xyz"], minimum_count=1).merges) == 6  # each word grows together, with its blank
    assert "abc" in WordPieceTokenizer.train(["abc abc xyz"], minimum_count=2).vocabulary
    assert "xyz" not in WordPieceTokenizer.train(["abc abc xyz"], minimum_count=2).vocabulary


@given(st.text(max_size=25), st.booleans())
def test_bpe_gives_any_text_back(text, lowercase) -> None:
    made = BytePairTokenizer(BPE.vocabulary, BPE.merges, lowercase=lowercase)
    ids = made.encode(text).ids
    assert 1 not in ids  # nothing is unknown
    expected = "".join(character.lower() for character in text) if lowercase else text
    assert made.decode(ids) == expected.removeprefix(" ")


@given(st.text(max_size=25))
def test_bpe_offsets_cover_everything_but_blanks(text) -> None:
    covered = {i for start, end in BPE.encode(text).offsets for i in range(start, end)}
    assert all(character.isspace() for i, character in enumerate(text) if i not in covered)


@pytest.mark.parametrize("made", [BPE, WORDPIECE], ids=["bpe", "wordpiece"])
def test_offsets_point_into_the_text_as_given(made) -> None:
    text = "İ UNFOLD  the İ lowest"
    spans = [text[start:end] for start, end in made.encode(text).offsets]
    assert re.sub(r"\s", "", "".join(spans)).count("UNFOLD") == 1
    assert "".join(spans).startswith("İ") and "".join(spans).endswith("lowest")


def test_the_blank_before_a_word_is_in_its_piece_but_not_in_its_offsets() -> None:
    made = BytePairTokenizer.train(["low low low"], maximum_size=270)
    assert pieces(made, "low  Low") == ["Ġlow", "Ġ", "Ġlow"]
    assert [(start, end) for start, end in made.encode("low  Low").offsets if end > start] == [(0, 3), (5, 8)]


def test_wordpiece_lowercase_drops_accents_and_case() -> None:
    assert pieces(WORDPIECE, "ÚNDÖ") == pieces(WORDPIECE, "undo")
    cased = WordPieceTokenizer.train(["Über Über über"], lowercase=False)
    assert "Über" in cased.vocabulary and pieces(cased, "über") != pieces(cased, "Über")


def test_wordpiece_keeps_within_its_size_and_drops_rare_characters() -> None:
    texts = ["a" * 9 + "b" * 8 + "c" * 7, "defghijkl"]
    made = WordPieceTokenizer.train(texts, maximum_size=5 + 6)
    assert made.size <= 11
    assert {"a", "b", "c"} <= set(made.vocabulary.tokens) and "d" not in made.vocabulary
    assert pieces(made, "abc abd") == ["a", "##b", "##c", "<unk>"]
    assert pieces(made, "a" * 101) == ["<unk>"]


def test_sizes_and_counts_that_cannot_be_are_named() -> None:
    with pytest.raises(InputError, match="at least 258"):
        BytePairTokenizer.train(["a"], maximum_size=257)
    with pytest.raises(InputError, match="at least 7"):
        WordPieceTokenizer.train(["a"], maximum_size=6)
    with pytest.raises(InputError, match="minimum_count"):
        WordPieceTokenizer.train(["a"], minimum_count=0)
    with pytest.raises(InputError, match="'a' and 'b'"):
        BytePairTokenizer(Vocabulary(["a", "b"]), [("a", "b")])


# Many words with the same counts, so that everything hangs on how ties are broken; characters enough to be in any order.
PROGRAM = """
import hashlib, json, random
from weft.data.tokenizers import train_tokenizer
random = random.Random(0)
texts = [" ".join("".join(random.choices("abcdefghijklmnopqrstuvwxyzäöüßéèçñ", k=4)) for _ in range(30)) for _ in range(60)]
texts += [chr(0x4E00 + i) + chr(0x400 + i) for i in range(600)]
made = [train_tokenizer(kind, texts, maximum_size=900).to_dict() for kind in ("bpe", "wordpiece")]
print(hashlib.sha256(json.dumps(made).encode()).hexdigest())
"""


def test_training_is_the_same_in_every_process_and_on_any_number_of_threads() -> None:
    printed = set()
    for seed, threads in (("0", "1"), ("1", "4"), ("2", "2")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": str(threads != "1").lower()}
        printed.add(subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True).stdout)
    assert len(printed) == 1


def test_the_library_is_imported_only_where_it_is_needed() -> None:
    program = "import json, sys; from weft.data.tokenizers import train_tokenizer; train_tokenizer('words', ['a']); "
    program += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"tokenizers", "torch"} & set(json.loads(done.stdout))
