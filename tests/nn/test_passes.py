"""Several passes: in a classifier, in training, their maps. The recurrence: tests/equations/test_section14_attention.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weft.models.classifier import Classifier, ClassifierConfig
from weft.nn.passes import Passes, PassesPooling
from weft.nn.pooling import Pooling


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_a_classifier_reads_as_often_as_it_is_told(passes: int) -> None:
    config = ClassifierConfig(vocabulary_size=9, outputs=2, encoder="bag", embedding_size=6, pooling="passes", passes=passes)
    pooling = Classifier(config).pooling
    assert isinstance(pooling, Pooling) and isinstance(pooling.passes, PassesPooling)
    x, mask = torch.randn(2, 5, pooling.size), torch.tensor([[True] * 5, [True, True, False, False, False]])
    maps = pooling.passes.weights(x, mask)
    assert maps.shape == (2, passes, 5)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, passes))
    assert not maps[1, :, 2:].any()
    torch.testing.assert_close(pooling(x, mask), (maps[:, -1:] @ x)[:, 0])


def test_one_pass_has_no_recurrence_and_every_parameter_gets_a_gradient() -> None:
    x, mask = torch.randn(3, 5, 6), torch.ones(3, 5, dtype=torch.bool)
    for passes in (1, 2, 3):
        pool = PassesPooling(size=6, passes=passes)
        assert (pool.passes.update is None) == (passes == 1)
        pool(x, mask).square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in pool.parameters())


def test_the_second_pass_finds_what_only_the_first_can_tell() -> None:
    """Of (name, place) pairs, one is the start: it names the place to read. One look cannot follow the hint, two can.

    The best of those who know the four answers but not which is asked for takes the commonest: E[largest count] / 4 = 0.531.
    """
    rights = {}
    for passes in (1, 2):
        torch.manual_seed(0)
        model, head = Passes(query_size=16, key_size=16, passes=passes, score="general", final=False), nn.Linear(16, 4)
        optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=2e-2)
        for step in range(161):
            count = 64 if step < 160 else 1000
            order = torch.rand(count, 4).argsort(-1)  # which key stands where
            answers, hint = torch.randint(4, (count, 4)), torch.randint(4, (count,))
            items = torch.cat([nn.functional.one_hot(order, 4), nn.functional.one_hot(answers, 4), torch.zeros(count, 4, 8)], -1).float()
            start = torch.cat([torch.zeros(count, 8), nn.functional.one_hot(hint, 4), torch.ones(count, 1), torch.zeros(count, 3)], -1)
            source = torch.cat([start[:, None], items], 1)
            wanted = answers[(order == hint[:, None])]
            query = torch.zeros(count, 16).index_fill(1, torch.tensor([12]), 1.0)  # asks for the start
            logits = head(model(query, source, torch.ones(count, 5, dtype=torch.bool)).contexts[:, -1])
            if step < 160:
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits, wanted).backward()
                optimizer.step()
        rights[passes] = (logits.argmax(-1) == wanted).float().mean().item()
    assert rights[1] < 0.6 < 0.95 < rights[2]


def test_wrong_calls_are_named() -> None:
    with pytest.raises(ValueError, match=r"passes=0"):
        Passes(query_size=4, key_size=4, passes=0)
    passes = Passes(query_size=4, key_size=3)
    with pytest.raises(ValueError, match=r"queries of size 5.*query_size=4"):
        passes(torch.zeros(2, 5), torch.zeros(2, 6, 3), torch.ones(2, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"keys of size 4.*key_size=3"):
        passes(torch.zeros(2, 4), torch.zeros(2, 6, 4), torch.ones(2, 6, dtype=torch.bool))
