"""Numbers and verdicts, each against the words a person would write."""

import pytest

from weft.compare import wording


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (wording.metric_value("accuracy", 0.7712), "77.1"),
        (wording.metric_value("r2", 0.7712), "0.771"),
        (wording.metric_value("accuracy", None), "–"),
        (wording.metric_value("log_loss", float("nan")), "–"),
        (wording.metric_value("bleu", 31.249), "31.2"),
        (wording.metric_value("exact_match", 0.312), "31.2"),
        (wording.interval("bleu", [0.0, 31.25]), "0.0–31.2"),
        (wording.metric_title("bleu") + wording.unit("bleu"), "BLEU"),
        (wording.metric_title("macro_f1"), "macro F1"),
        (wording.metric_title("something_new"), "something new"),
        (wording.spread("accuracy", {"mean": 0.771, "sd": 0.0049, "values": []}), "77.1 ± 0.5"),
        (wording.spread("r2", {"mean": 0.771, "sd": None, "values": []}), "0.771"),
        (wording.interval("accuracy", [0.752, 0.789]), "75.2–78.9"),
        (wording.interval("r2", [-0.1, 0.25]), "-0.100 to 0.250"),
        (wording.interval("r2", None), "–"),
        (wording.p_value(0.0004), "< 0.001"),
        (wording.p_value(0.0314), "0.031"),
        (wording.p_value(0.4141), "0.41"),
        (wording.p_value(1.0), "1"),
        (wording.p_value(None), "–"),
        (wording.significant(0.0001), "p < 0.001"),
        (wording.significant(0.3), "p = 0.30"),
        (wording.count(2), "2"),
        (wording.count(104_211), "104 k"),
        (wording.count(1_612_402), "1.61 M"),
        (wording.count(999_999), "1 M"),
        (wording.count(999.4), "999"),
        (wording.count(0), "0"),
        (wording.size(812), "812 B"),
        (wording.size(13_284_112), "13.3 MB"),
        (wording.milliseconds(0.19), "0.19 ms"),
        (wording.milliseconds(0.001), "< 0.01 ms"),
        (wording.milliseconds(1234), "1.23 s"),
        (wording.milliseconds(None), "–"),
        (wording.duration(12.34), "12.3 s"),
        (wording.duration(59.97), "1 min"),
        (wording.duration(125), "2 min 5 s"),
        (wording.duration(3599.8), "1 h"),
        (wording.duration(4800), "1 h 20 min"),
        (wording.listed([]), ""),
        (wording.listed(["a"]), "a"),
        (wording.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_figures(shown, expected):
    assert shown.replace("\u00a0", " ") == expected


def rung(name, mean, p=None, latency=1.0, **more):
    spread = {"mean": mean, "sd": 0.005, "values": [mean]}
    return {"name": name, "status": "done", "dev": spread, "test": spread, "p_holm": p, "latency_ms": latency, **more}


def results(*rungs, best="lstm", metric="accuracy"):
    return {"rungs": list(rungs), "best": {"name": best} if best else None, "metric": metric, "dataset": {"task": "classification"}}


OPENING = "lstm is best on development data; on test its accuracy is 77.1 ± 0.5 %"
BEST = rung("lstm", 0.771, latency=8.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (results(BEST), OPENING + "."),
        (
            results(BEST, rung("cnn", 0.70, 0.01)),
            OPENING + ", better than every other rung beyond chance.",
        ),
        (
            results(rung("svm", 0.7, 0.2), BEST, rung("cnn", 0.77, 1.0), rung("mlp", 0.6, 0.001)),
            OPENING + ", not distinguishable from cnn (p = 1) and svm (p = 0.20).",
        ),
        (
            results(BEST, *(rung(f"r{i}", 0.77, 0.9 - i / 10) for i in range(5))),
            OPENING + ", not distinguishable from r0, r1, r2 and 2 more.",
        ),
        (
            results(BEST, rung("cnn", 0.80, 0.01), rung("gru", 0.78, 0.3)),
            OPENING + ", yet worse than cnn (p = 0.010), not distinguishable from gru (p = 0.30).",
        ),
        (
            results(BEST | {"test": None}, metric="r2"),
            "lstm is best on development data; there (no test set was given) its R² is 0.771 ± 0.005.",
        ),
        (results({"name": "rnn", "status": "failed"}, best=None), "No rung has finished; rnn failed."),
        (results(best=None), "No rung has finished."),
        (
            results(BEST, {"name": "rnn", "status": "failed", "p_holm": None}, rung("cnn", 0.1)),
            OPENING + ".",
        ),
    ],
)
def test_verdict(given, expected):
    assert wording.verdict(given).replace("\u00a0", " ") == expected


def test_advice_names_the_fastest_that_cannot_be_told_apart():
    given = results(rung("majority", 0.5, 0.001, 0.01), rung("svm", 0.76, 0.2, 0.2), rung("bag", 0.765, 0.4, 0.4), BEST)
    said = wording.advice(given).replace("\u00a0", " ")
    assert said == "Where speed counts: svm cannot be told from it here and answers 40 times faster (0.2 ms against 8 ms a text)."


def test_advice_is_silent_when_there_is_nothing_to_gain():
    assert wording.advice(results(BEST, rung("gru", 0.77, 0.9, latency=6.0))) is None
    assert wording.advice(results(BEST, rung("svm", 0.70, 0.01, latency=0.1))) is None
    assert wording.advice(results(BEST | {"latency_ms": None}, rung("svm", 0.76, 0.5, 0.1))) is None
    assert wording.advice(results(best=None)) is None


def test_advice_warns_when_nothing_beats_the_majority():
    given = results(rung("majority", 0.75, 0.4, 0.01), rung("svm", 0.76, 0.2, 0.2), BEST)
    opening = "Even majority, which always answers the commonest label, cannot be told from it: "
    assert wording.advice(given) == opening + "nothing here is shown to have learned anything yet."
    given["dataset"]["task"] = "regression"
    assert "always answers the mean" in wording.advice(given)
    given = results(rung("copy", 5.0, 0.01, 0.01), rung("nearest", 7.0, 0.4, 0.02), rung("rnn", 7.1), best="rnn", metric="bleu")
    given["dataset"]["task"] = "translation"
    assert wording.advice(given).startswith("Even nearest, which answers with the target of the nearest training source, cannot be told")
