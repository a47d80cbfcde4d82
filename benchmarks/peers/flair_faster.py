"""The same numbers as Flair's loops over sentences, words and time steps, sooner. For the quality of Flair's models, never for its speed.

Flair 0.15.1 writes each word's spelling into a tensor row by row, and takes (B, T, K, K) scores apart step by step, so that a backward
pass copies whole tensors for every word and every step. Here the same values come from whole-tensor operations.

What is kept, though it looks unmeant: the backward LSTM's part of a spelling is its output at the last character, thus after that one
character; and of a word that occurs several times in a sentence only the last occurrence has its own spelling: one before, at position p,
has that of the word which is p-th by length.
"""

from __future__ import annotations

from typing import Any

import torch
from flair.data import Sentence
from flair.embeddings import CharacterEmbeddings
from flair.models.sequence_tagger_utils.crf import CRF
from flair.models.sequence_tagger_utils.viterbi import ViterbiLoss
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Word = tuple[int, ...]


def spelled(words: list[Word]) -> list[Word]:
    """Which word's spelling each position of a sentence gets."""
    by_length, last = sorted(words, key=len, reverse=True), {word: position for position, word in enumerate(words)}
    return [word if last[word] == position else by_length[position] for position, word in enumerate(words)]


def embed_spellings(self: CharacterEmbeddings, sentences: list[Sentence]) -> None:
    """CharacterEmbeddings' vectors of all words of all sentences, each distinct word once."""
    find = self.char_dictionary.get_idx_for_item
    wanted = [word for sentence in sentences for word in spelled([tuple(map(find, token.text)) for token in sentence])]
    distinct = sorted(set(wanted), key=len, reverse=True)
    lengths = [len(word) for word in distinct]
    ids = torch.zeros(lengths[0], len(distinct), dtype=torch.long)
    for row, word in enumerate(distinct):
        ids[: len(word), row] = torch.tensor(word)
    packed, _ = self.char_rnn(pack_padded_sequence(self.char_embedding(ids), lengths))
    outputs, _ = pad_packed_sequence(packed)
    vectors = outputs[torch.tensor(lengths) - 1, torch.arange(len(distinct))]
    rows = {word: row for row, word in enumerate(distinct)}
    each = vectors[torch.tensor([rows[word] for word in wanted])].unbind()
    for vector, token in zip(each, (token for sentence in sentences for token in sentence)):
        token.set_embedding(self.name, vector)


def negative_log_likelihood(loss: ViterbiLoss, emissions: Tensor, lengths: Tensor, transitions: Tensor, targets: Tensor) -> Tensor:
    """log Z − score, summed over the sentences. emissions: (B, T, K); transitions: [to, from]; targets: those of all sentences, joined."""
    mask = torch.arange(emissions.shape[1]) < lengths[:, None]  # (B, T)
    tags = torch.zeros(mask.shape, dtype=torch.long)
    tags[mask] = targets
    start = torch.full((len(tags), 1), loss.start_tag)
    arcs = transitions[tags, torch.cat([start, tags[:, :-1]], 1)] + emissions.gather(2, tags[:, :, None])[:, :, 0]
    final = tags[torch.arange(len(tags)), lengths - 1]
    score = arcs[mask].sum() + transitions[loss.stop_tag, final].sum()
    alpha = emissions[:, 0] + transitions[:, loss.start_tag]
    for step, real in zip(emissions.unbind(1)[1:], mask.T[1:]):
        alpha = torch.where(real[:, None], (alpha[:, None, :] + transitions).logsumexp(2) + step, alpha)
    return (alpha + transitions[loss.stop_tag]).logsumexp(1).sum() - score


def install() -> None:
    """Puts these in the place of Flair's own, for training; evaluation and prediction keep Flair's Viterbi decoder."""
    full_scores, full_loss = CRF.forward, ViterbiLoss.forward

    def scores(self: CRF, features: Tensor) -> Tensor:
        return features if self.training else full_scores(self, features)

    def loss(self: ViterbiLoss, given: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Any:
        return negative_log_likelihood(self, *given, targets) if given[0].dim() == 3 else full_loss(self, given, targets)

    CharacterEmbeddings._add_embeddings_internal = embed_spellings
    CRF.forward, ViterbiLoss.forward = scores, loss
