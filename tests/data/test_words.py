"""Words against lists made by hand, re.findall, str.split and a brute-force bag of n-grams."""

import re
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data.hashing import word_hash
from weft.data.tokenizers import train_tokenizer
from weft.data.vocabulary import Vocabulary
from weft.data.words import HashingTokenizer, WhitespaceTokenizer, WordTokenizer
from weft.errors import InputError

CUT = WordTokenizer(Vocabulary(()))
MASK = 2**64 - 1

# text, and its tokens by hand joined by "|"
BY_HAND = [
    ("Don't miss it, it's GREAT!", "do|n't|miss|it|,|it|'s|great|!"),
    ("can't won't shouldn't've cannot N'T", "ca|n't|wo|n't|should|n't|'ve|cannot|n't"),
    ("I'd say they're we've she'll I'm dogs'", "i|'d|say|they|'re|we|'ve|she|'ll|i|'m|dogs|'"),
    ("isn’t it the film’s ‘best’ “part”?", "is|n't|it|the|film|'s|'|best|'|\"|part|\"|?"),
    ("O'Brien's rock'n'roll in the '90s, 'so there'", "o'brien|'s|rock'n'roll|in|the|'|90s|,|'|so|there|'"),
    ("3.14 1,000 10:30 $5.50 1.2.3. 7, 2nd 50%", "3.14|1,000|10:30|$|5.50|1.2.3|.|7|,|2nd|50|%"),
    ("The U.S. economy e.g. A.I. end.", "the|u.s.|economy|e.g.|a.i.|end|."),
    ("well-made so-so -- really... yes!!", "well|-|made|so|-|so|--|really|...|yes|!|!"),
    ("a_b _very_ good", "a|_|b|_|very|_|good"),
    ("İSTANBUL'da Straße", "i̇stanbul'da|straße"),
    ("cafe\u0301 café नमस्ते दुनिया", "café|café|नमस्ते|दुनिया"),
    ("東京タワー2020年", "東|京|タ|ワ|ー|2020|年"),
    ("a\u200bb x\x00y so\xadft \ufeffstart", "a|b|x|y|soft|start"),
    ("good\U0001f600\U0001f44d", "good|\U0001f600|\U0001f44d"),
    ("  \t\n\u3000 ", ""),
]


@pytest.mark.parametrize(("text", "tokens"), BY_HAND)
def test_tokens_by_hand(text, tokens) -> None:
    assert CUT.tokens(text) == [token for token in tokens.split("|") if token]


def test_treebank_text_comes_through_as_it_is() -> None:
    text = "it 's n't -- `` a '' -lrb- or b -rrb- ... , ca n't they 've mr. o'connor u.s. 2\\/3"
    assert WhitespaceTokenizer(Vocabulary(())).tokens(text) == text.split()
    assert CUT.tokens(text) == text.replace("mr.", "mr .").replace("2\\/3", "2 \\ / 3").split()


def test_raw_and_treebank_text_give_the_same_tokens() -> None:
    raw = "It isn't the film's best part: they're so-so, I can't."
    treebank = "it is n't the film 's best part : they 're so-so , i ca n't ."
    assert CUT.tokens(raw) == CUT.tokens(treebank)


@given(st.text("ab1 ,!?;()", max_size=30))
def test_plain_text_is_cut_as_findall_cuts_it(text) -> None:
    plain = re.sub(r"(?<=1),(?=1)", "", text)  # 1,1 is one number
    assert CUT.tokens(plain) == re.findall(r"[a-z0-9]+|[^a-z0-9\s]", plain)


@given(st.text(max_size=40) | st.text("aé'’n tTİ.-1\u0301東", max_size=20))
def test_offsets_point_at_the_token_in_the_text_as_given(text) -> None:
    encoding = CUT.encode(text)
    last = 0
    for token, (start, end) in zip(CUT.tokens(text), encoding.offsets, strict=True):
        assert last <= start < end
        assert not re.search(r"\w", text[last:start])  # nothing but blanks and invisible characters is passed over
        form = unicodedata.normalize("NFC", text[start:end]).replace("\xad", "")
        for curly, straight in ("’'", "‘'", '“"', '”"'):
            form = form.replace(curly, straight)
        assert token == form.lower()
        last = end
    assert not re.search(r"\w", text[last:])


def test_offsets_survive_lower_casing_that_changes_lengths() -> None:
    text = "İİ Big İ end"
    offsets = CUT.encode(text).offsets
    assert [text[start:end] for start, end in offsets] == ["İİ", "Big", "İ", "end"]
    assert CUT.tokens(text)[0] == "i̇i̇" and len(CUT.tokens(text)[0]) == 4


@given(st.text(max_size=40), st.booleans())
def test_whitespace_is_split(text, lowercase) -> None:
    made = WhitespaceTokenizer(Vocabulary(()), lowercase=lowercase)
    assert made.tokens(text) == ([word.lower() for word in text.split()] if lowercase else text.split())
    assert [text[start:end] for start, end in made.encode(text).offsets] == text.split()


@given(st.lists(st.text("abA ,", max_size=12), min_size=1, max_size=6), st.integers(1, 3), st.none() | st.integers(2, 5))
def test_the_vocabulary_is_that_of_the_counted_tokens(texts, minimum_count, maximum_size) -> None:
    made = WordTokenizer.train(texts, minimum_count=minimum_count, maximum_size=maximum_size)
    counts = Counter(token for text in texts for token in CUT.tokens(text))
    assert made.vocabulary == Vocabulary.build(counts, minimum_count, maximum_size)
    assert made.size == len(made.vocabulary)


def test_settings_change_what_is_said_they_change() -> None:
    texts = ["The film's the-film 12 films"]
    assert "The" in WordTokenizer.train(texts, lowercase=False).vocabulary
    only_letters = WordTokenizer.train(texts, pattern=r"[^\W\d_]+")
    assert only_letters.tokens(texts[0]) == ["the", "film", "s", "the", "film", "films"]
    assert only_letters.decode(only_letters.encode("the 12 film 's unseen").ids) == "the film s <unk>"


def brute_force_ids(made: WordTokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Words, then for each length the runs of neighbours, hashed with plain integers."""

    def mix(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) & MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
        return value ^ (value >> 31)

    tokens = made.tokens(text)
    spans = WordTokenizer(Vocabulary(()), pattern=made.pattern).encode(text).offsets
    ids, offsets = [made.vocabulary.id(token) for token in tokens], list(spans)
    for n in range(2, made.ngrams + 1):
        for start in range(len(tokens) - n + 1):
            first, *rest = map(word_hash, tokens[start : start + n])
            for value in rest:
                first = (mix(first) + value) & MASK
            ids.append(len(made.vocabulary) + mix(first) % made.buckets)
            offsets.append((spans[start][0], spans[start + n - 1][1]))
    return ids, offsets


@given(st.lists(st.text("ab c.", max_size=16), max_size=6), st.integers(2, 4), st.integers(1, 9))
def test_hashed_ngrams_follow_the_words(texts, n, buckets) -> None:
    made = WordTokenizer.train(["a a. ab c"], ngrams=n, buckets=buckets)
    assert made.size == len(made.vocabulary) + buckets
    for text, row in zip(texts, made.encode_ids(texts), strict=True):
        ids, offsets = brute_force_ids(made, text)
        assert row.tolist() == ids
        assert made.encode(text).offsets == offsets
        assert made.decode(row) == " ".join(made.vocabulary.token(number) for number in ids if number < len(made.vocabulary))


def test_unknown_words_take_part_in_ngrams_by_their_letters() -> None:
    made = WordTokenizer.train(["good film"], ngrams=2, buckets=10**6)
    one, other = made.encode("good zebra").ids, made.encode("good okapi").ids
    assert one[:2] == other[:2] and one[1] == 1
    assert one[2] != other[2]


def test_hashing_needs_no_vocabulary_and_knows_every_word() -> None:
    made = train_tokenizer("hashing", [], buckets=1000)
    encoding = made.encode("Never seen, never")
    assert encoding.ids == [2 + word_hash(word) % 1000 for word in ("never", "seen", ",", "never")]
    assert made.size == 1002
    with_pairs = HashingTokenizer(buckets=1000, ngrams=2)
    assert len(with_pairs.encode("never seen")) == 3 and with_pairs.size == 1002
    assert all(2 <= number < 1002 for number in with_pairs.encode("a b c d e f g").ids)
    with pytest.raises(InputError, match="cannot be turned back"):
        made.decode([2])


def test_long_pieces_are_cut_like_short_ones() -> None:
    text = "ab," * 50_000
    (row,) = WordTokenizer.train(["ab ,"]).encode_ids([text])
    assert row.tolist() == [3, 2] * 50_000  # "," before "ab" by code point


@given(st.lists(st.text("ab1_ZéÅ東.'", max_size=5).map(str.strip), max_size=30), st.integers(1, 3))
def test_pieces_met_before_and_let_go_again_change_nothing(words, size) -> None:
    made, fresh = (WordTokenizer.train(["a b 1 z é ab zé"], ngrams=2, buckets=50) for _ in range(2))
    texts = [" ".join(words[i : i + 3]) for i in range(len(words))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weft.data.words._MEMO_SIZE", size)
        for text in texts:
            assert made.encode_ids([text])[0].tolist() == fresh.encode(text).ids
        assert [row.tolist() for row in made.encode_ids(texts * 2)] == [fresh.encode(text).ids for text in texts * 2]


def test_threads_may_share_a_tokenizer() -> None:
    made = WordTokenizer.train(["w0 w1"], ngrams=2, buckets=100)
    texts = [" ".join(f"w{(i * k) % 997}" for k in range(8)) for i in range(400)]
    right = [made.encode(text).ids for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: made.encode_ids(texts[i : i + 5]), range(0, 400, 5)))
    assert [row.tolist() for rows in found for row in rows] == right


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InputError, match="not 0"):
        WordTokenizer.train(["a"], ngrams=0)
    with pytest.raises(InputError, match="need buckets"):
        WordTokenizer.train(["a"], ngrams=2)
    with pytest.raises(InputError, match="no regular expression"):
        WordTokenizer.train(["a"], pattern="(")
    with pytest.raises(InputError, match="at least 1, not 0"):
        HashingTokenizer(buckets=0)
    assert WordTokenizer.train(["a"], buckets=50).size == 3  # buckets are for n-grams


@pytest.mark.parametrize("kind", [WordTokenizer, WhitespaceTokenizer])
@pytest.mark.parametrize("ngrams", [1, 3])
def test_learning_and_encoding_in_one_is_the_one_after_the_other(kind, ngrams):
    texts = ["the film's plot, the film", "", "u.s. film don't THE", "plot"]
    options = {"ngrams": ngrams, "buckets": 50 if ngrams > 1 else 0}
    made = kind.train(["something else"], **options)
    ids, lengths = made.learn_flat(texts, 2, end="\u2403")
    ended = [f"{text} \u2403" for text in texts]
    apart = kind.train(ended, minimum_count=2, **options)
    assert made.to_dict() == apart.to_dict()
    wanted = [apart.encode(text).ids for text in ended]
    assert [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] == wanted
    again, counts = made.encode_flat(texts, "\u2403")
    assert again.tolist() == ids.tolist() and counts.tolist() == lengths.tolist()
