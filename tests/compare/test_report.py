"""The report parses, is closed in itself, escapes every text, and says what the results say, whatever is missing from them."""

import copy
import re
from html.parser import HTMLParser

import pytest

from weft.compare.report import render, write_report
from weft.markup import VOID, Html, element, escape, join

NASTY = """<script>alert("x")</script> & 'quoted' <img src=http://evil.example/x.png onerror=go()> \ud800\x00"""


def rung(name, mean, **more):
    made = {
        "name": name,
        "paper": "Somebody, 1999",
        "line": f"what {name} is",
        "engine": "neural",
        "status": "done",
        "error": None,
        "settings": {"size": 3},
        "steps": 1200,
        "epochs": 4.5,
        "dev": {"mean": mean + 0.01, "sd": 0.004, "values": [mean] * 3},
        "test": {"mean": mean, "sd": 0.005, "values": [mean] * 3, "interval": [mean - 0.02, mean + 0.02]},
        "test_metrics": {"macro_f1": mean - 0.03, "log_loss": 0.51234},
        "p_value": 0.2,
        "p_holm": 0.4,
        "train_seconds": 12.34,
        "texts_per_second": 4321.0,
        "latency_ms": 2.5,
        "parameters": 1_234_567,
        "bytes": 4_938_268,
    }
    return {**made, **more}


def results():
    return {
        "weft": "0.1.0",
        "command": "weft compare reviews.csv",
        "started": "2026-01-02T03:04:05+00:00",
        "dataset": {
            "name": "reviews.csv",
            "task": "classification",
            "train": 8000,
            "dev": 1000,
            "test": 1066,
            "labels": ["bad", "good"],
            "split": "files given",
            "checks": [
                {
                    "kind": "leakage-test",
                    "level": "warning",
                    "count": 7,
                    "examples": ["line 3: seen before"],
                    "message": "7 test texts are also in training",
                },
                {"kind": "duplicates", "level": "note", "count": 1, "examples": [], "message": "1 training text repeats another"},
            ],
        },
        "machine": {"processor": "a processor", "cores": 2},
        "budget": {"minutes": 5.0, "seeds": [0, 1, 2], "trials": 1, "note": ""},
        "metric": "accuracy",
        "rungs": [
            rung("majority", 0.5, engine="baseline", p_holm=1e-9, latency_ms=0.01, settings={}, steps=None, epochs=None),
            rung("svm", 0.76, engine="baseline", latency_ms=0.2),
            rung("cnn", 0.755, p_holm=0.01),
            rung("lstm", 0.77, p_value=None, p_holm=None, latency_ms=8.0),
            {"name": "rnn", "paper": "", "line": "fails", "status": "failed", "error": "loss is nan at step 3", "settings": {}},
            {"name": "gru", "paper": "", "line": "waits", "status": "pending", "error": None, "settings": {}},
        ],
        "best": {
            "name": "lstm",
            "split": "test",
            "seed": 1,
            "confusion": [[400, 133], [112, 421]],
            "mistakes": [{"text": "not bad at all", "label": "good", "predicted": "bad", "confidence": 0.987, "line": 1042}],
            "report": {"bad": {"precision": 0.781, "recall": 0.75, "f1": 0.765, "support": 533}},
        },
        "curve": {
            "rung": "lstm",
            "sizes": [500, 1000, 8000],
            "mean": [0.6, 0.65, 0.77],
            "sd": [0.01, None, 0.005],
            "projection": {
                "size": 8500,
                "mean": 0.772,
                "interval": [0.765, 0.78],
                "sentence": "500 more labels would bring about +0.2 points.",
            },
        },
    }


class Page(HTMLParser):
    """Checks that tags are balanced; gathers texts, attributes and tag names."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def assert_closed_in_itself(source):
    """Nothing on the page makes a request or runs."""
    page = Page(source)
    assert not {"script", "img", "iframe", "link", "object", "embed", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "xlink:href", "data", "action"), (tag, name)
        assert name != "href" or value.startswith("#")
        assert name != "style" or "url(" not in value
    style = re.search(r"<style>(.*?)</style>", source, re.S).group(1)
    assert not re.search(r"url\(|@import|https?:|//|</", style)
    return page


def test_the_page_says_what_the_results_say():
    page = assert_closed_in_itself(render(results()))
    for expected in [
        "lstm is best on development data; on test its accuracy is 77.0 ± 0.5 %, not distinguishable from svm (p = 0.40).",
        "svm cannot be told from it here and answers 40 times faster (0.2 ms against 8 ms a text)",
        "8,000 training, 1,000 development, 1,066 test",
        "Look at the data first: 7 test texts are also in training",
        "76.0 ± 0.5",
        "74.0–78.0",
        "▾ 0.010",
        "≈ 0.40",
        "12.3 s",
        "4.32 k",
        "1.23 M",
        "4.94 MB",
        "loss is nan at step 3",
        "not run yet",
        "majority ↓ 50 %",
        "labelled good , predicted bad with 99 % confidence · line 1,042",
        "bad 78.1 75.0 76.5 533",
        "500 more labels would bring about +0.2 points.",
        "… and 6 more",
        "weft compare reviews.csv",
        "5 minutes for the whole ladder",
        "processor: a processor, cores: 2",
        "files given",
        "size=3",
        "1,200 steps, 4.5 epochs",
        "log loss 0.512",
    ]:
        assert expected in page.text, expected
    assert page.tags.count("tr") > 8


def test_every_text_is_escaped():
    def poisoned(value):
        if isinstance(value, dict):
            return {key: poisoned(each) for key, each in value.items()}
        if isinstance(value, list):
            return [poisoned(each) for each in value]
        return value + NASTY if isinstance(value, str) else value

    given = results()
    clean = poisoned({key: value for key, value in given.items() if key != "metric"})
    clean["metric"] = "accuracy"
    for row, original in zip(clean["rungs"], given["rungs"], strict=True):
        row["status"], row["engine"] = original["status"], original.get("engine", "neural")
    for row, original in zip(clean["dataset"]["checks"], given["dataset"]["checks"], strict=True):
        row["level"] = original["level"]
    clean["best"]["split"] = "test"
    clean["best"]["report"] = {NASTY: given["best"]["report"]["bad"]}
    clean["machine"] = {NASTY: NASTY}
    clean["rungs"][0]["settings"] = {NASTY: NASTY}
    source = render(clean)
    page = assert_closed_in_itself(source)
    assert "<script" not in source
    assert "<img" not in source
    assert page.text.count('<script>alert("x")</script>') > 20
    source.encode("utf-8")  # no lone surrogates are left
    assert "\x00" not in source


def test_written_as_utf8(tmp_path):
    path = tmp_path / "report.html"
    write_report(results(), path)
    assert path.read_bytes().decode("utf-8") == render(results())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>\n<html")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def without_test(given):
    given["dataset"]["test"] = None
    given["best"]["split"] = "dev"
    for row in given["rungs"]:
        row["test"] = None
        if row.get("dev"):
            row["dev"]["interval"] = [0.7, 0.8]


def nothing_done(given):
    given["rungs"] = [row for row in given["rungs"] if row["status"] != "done"]
    given["best"] = given["curve"] = None


def many_classes(given):
    names = [f"class-{i}" for i in range(20)]
    given["dataset"]["labels"] = names
    given["best"]["confusion"] = [[50 if i == j else int(j == (i + 3) % 20) * (i + 1) for j in range(20)] for i in range(20)]


def regression(given):
    given["metric"] = "r2"
    given["dataset"].update(task="regression", labels=[], checks=[])
    given["best"].update(confusion=None, report={}, mistakes=[{"text": "", "label": "4.5", "predicted": "1.2", "confidence": None}])


def one_of_everything(given):
    given["rungs"] = [given["rungs"][3]]
    given["budget"].update(seeds=[0], minutes=None)
    given["rungs"][0]["test"].update(sd=None, interval=None)
    given["rungs"][0]["dev"]["sd"] = None
    given["best"].update(mistakes=[], confusion=None, report={})
    given["curve"].update(sizes=[500], mean=[0.6], sd=[None], projection=None)


def some_seeds(given):
    given["rungs"][2].update(status="pending", p_holm=None)
    given["rungs"][2]["dev"]["values"] = [0.7]


def equal_rungs(given):
    given["rungs"] = [rung(name, 0.75, latency_ms=2.0) for name in ("a", "b", "c", "lstm")]


def labels_of_their_own(given):
    given["best"].update(labels=["bad", "good", "unseen"], confusion=[[1, 2, 0], [3, 4, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_test, "No test set: the best rung's figure flatters it a little."),
        (nothing_done, "No rung has finished; rnn failed."),
        (many_classes, "class-19 class-2 20 29 %"),
        (regression, "its R² is 0.770 ± 0.005"),
        (regression, "Its largest errors"),
        (one_of_everything, "One seed: how much trainings differ is not known"),
        (some_seeds, "1 seed so far"),
        (equal_rungs, "not distinguishable from a, b and c".replace("a, b and c", "a (p = 0.40), b (p = 0.40) and c (p = 0.40)")),
        (labels_of_their_own, "unseen"),
    ],
)
def test_whatever_is_missing(change, expected):
    given = copy.deepcopy(results())
    change(given)
    assert expected in assert_closed_in_itself(render(given)).text


def test_rendering_changes_nothing_and_repeats_itself():
    given = results()
    first = render(given)
    assert given == results()
    assert render(given) == first


def test_the_best_row_is_marked():
    source = render(results())
    marked = re.findall(r'<tr class="best"><th[^>]*>([^<]*)</th>', source)
    assert marked == ["lstm"]


def test_markup():
    assert element("p", "a < b", class_="x", hidden=True, id=None) == '<p class="x" hidden>a &lt; b</p>'
    assert element("p", element("b", "&"), None, False, 0) == "<p><b>&amp;</b>0</p>"
    assert element("meta", http_equiv='"') == '<meta http-equiv="&quot;">'
    assert escape(Html("<b>")) == "<b>"
    assert escape("\ud83d \x07 ok\n") == "\ufffd \ufffd ok\n"
    assert join("<", Html("<")) == "&lt;<"
