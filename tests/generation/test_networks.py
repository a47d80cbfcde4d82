"""Searches over networks: what they say an answer's probability is, is what the network says of the whole answer at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from weft.data.batch import Batches
from weft.generation.search import Beam, Greedy, Hypothesis, Limits, Sample, generate
from weft.models.seq2seq import Seq2Seq, Seq2SeqConfig

RECURRENT = {"encoder_settings": {"hidden_size": 4, "bidirectional": True}, "decoder": "recurrent"}
NETWORKS = {
    "fixed context": {**RECURRENT, "decoder_settings": {"hidden_size": 8, "cell": "gru", "attention": "none"}},
    "additive": {**RECURRENT, "decoder_settings": {"hidden_size": 8, "cell": "gru", "attention": "additive", "attend": "before"}},
    "transformer": {
        "encoder": "transformer", "encoder_settings": {"hidden_size": 8, "heads": 2, "layers": 1}, "decoder": "transformer",
        "decoder_settings": {"hidden_size": 8, "heads": 2, "layers": 2},
    },
}  # fmt: skip
SOURCES = [np.random.default_rng(length).integers(2, 9, length).astype(np.int64) for length in (3, 7, 1, 5)]
WIDE = Beam(width=5, n_best=3, length_penalty=0.6)


def network(name: str) -> Seq2Seq:
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(source_vocabulary=9, target_vocabulary=11, embedding_size=8, **NETWORKS[name]))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


def answers(model: Seq2Seq, rows: list[int], search: Beam | Greedy | Sample) -> list[list[Hypothesis]]:
    batch = Batches([SOURCES[row] for row in rows], examples=len(rows)).gather(np.arange(len(rows)))
    return generate(model, batch, search, count=len(rows), limits=Limits(maximum=8), numbers=rows)


@pytest.mark.parametrize("search", [Greedy(), Sample(top_p=0.9), WIDE], ids=["greedy", "sample", "beam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_e82_probabilities_are_teacher_forced_and_batch_mates_change_nothing(name, search):
    model = network(name)
    together = answers(model, [0, 1, 2, 3], search)
    for row, found in enumerate(together):
        alone = answers(model, [row], search)[0]
        assert [one.ids for one in found] == [one.ids for one in alone]
        for one in found:
            target = np.array([*one.ids, model.end_symbol], dtype=np.int64)
            batch = Batches([SOURCES[row]], pairs=[target], examples=1).gather(np.arange(1))
            with torch.inference_mode():
                logp = model(batch).logits.log_softmax(-1).gather(1, torch.from_numpy(target)[:, None])[:, 0]
            total = float(logp.sum() if one.finished else logp[:-1].sum())
            assert one.log_probability == pytest.approx(total, abs=1e-4)
