"""The house: imports are read with ast, and none may climb, cross between rooms of a floor, or go round in a circle.

Each rule is tried on a small house that breaks it, so that a rule which finds nothing is known to be able to find something.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "weft"
PLAN = Path(__file__).parents[1] / "docs" / "architecture.md"

# What stands on which floor. A room (a folder) may import from lower floors and from itself, a single file from lower floors
# and from other single files of its own floor. Building a new room? Give it a floor here and in docs/architecture.md.
FLOORS = {
    "errors": 0,
    "compiling": 0,
    "huffman": 0,
    "files": 0,
    "markup": 0,
    "device": 0,
    "data": 1,
    "nn": 1,
    "losses": 2,
    "metrics": 2,
    "metrics_tagging": 2,
    "metrics_text": 2,
    "models": 3,
    "generation": 4,
    "saving": 5,
    "training": 6,
    "vectors": 7,
    "estimators": 8,
    "compare": 9,
    "explain": 9,
    "cli": 10,
    "__main__": 11,
    "weft": 11,  # the front door, weft/__init__.py
}

PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
UNSAFE_CALLS = {"torch.load", "torch.save", "torch.jit.load", "numpy.load", "np.load", "importlib.import_module"}
UNSAFE_NAMES = {"eval", "exec", "__import__"}
# What has to start fast, or to work where torch is not: neither these nor what they import when they are imported may load torch.
WITHOUT_TORCH = ("data", "errors", "files", "markup", "device", "vectors", "explain", "cli", "estimators.rungs", "weft")
WITH_TORCH = {"data.batch", "vectors.neural"}  # those in them that are made of it
HEAVY = {"torch", "sklearn", "scipy", "numba", "matplotlib"}
ALLOWED = {"data": HEAVY - {"torch"}, "vectors": {"numba"}}  # kernels are compiled where they stand
LONGEST_FILE, LONGEST_FUNCTION = 600, 60


class House:
    """The modules below a folder, by dotted name within it ("" is its __init__), and what each imports."""

    def __init__(self, root: Path) -> None:
        self.paths = {self.name(path.relative_to(root)): path for path in sorted(root.rglob("*.py"))}
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in self.paths.items()}
        self.known: dict[tuple[str, bool], set[str]] = {}

    @staticmethod
    def name(path: Path) -> str:
        parts = path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports(self, name: str, *, at_once: bool = False) -> Iterator[str]:
        """Whatever a module imports, absolute, as deep as can be told: `from weft.nn import pooling` is "weft.nn.pooling".

        at_once: only what importing the module imports, not what its functions do later, nor what only a type checker sees.
        """
        for node in _when_imported(self.trees[name]) if at_once else ast.walk(self.trees[name]):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def inside(self, name: str, *, at_once: bool = False) -> set[str]:
        """The modules of this house that a module imports; the rooms' own __init__ files, run on the way, are among them."""
        if (name, at_once) in self.known:
            return self.known[name, at_once]
        found: set[str] = set()
        for imported in self.imports(name, at_once=at_once):
            top, *rest = imported.split(".")
            if top != "weft" or imported == "weft.__version__":  # the version is a constant, not a room
                continue
            while rest and ".".join(rest) not in self.paths:
                rest.pop()
            found.update(".".join(rest[:length]) for length in range(1, len(rest) + 1) if ".".join(rest[:length]) in self.paths)
            found.update({""} if not rest else set())
        self.known[name, at_once] = found - {name}
        return found - {name}

    def climbs(self) -> list[str]:
        """Imports that are not from a lower floor nor from the same room."""
        wrong = []
        for name in self.paths:
            for imported in sorted(self.inside(name)):
                room, other = _room(name), _room(imported)
                beside = room == other or (self.alone(room) and self.alone(other) and FLOORS[room] == FLOORS[other])
                if not beside and FLOORS[other] >= FLOORS[room]:
                    wrong.append(f"{name or 'weft'} (floor {FLOORS[room]}) imports {imported or 'weft'} (floor {FLOORS[other]})")
        return wrong

    def alone(self, room: str) -> bool:
        """Whether it is a single file beside the rooms."""
        return not any(name.startswith(room + ".") for name in self.paths)

    def cycles(self) -> list[str]:
        """Circles of imports, wherever in the files the imports stand."""
        done: set[str] = set()
        wrong = []

        def walk(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                wrong.append(" → ".join((*path[path.index(name) :], name)))
            elif name not in done:
                for imported in sorted(self.inside(name)):
                    walk(imported, (*path, name))
                done.add(name)

        for name in self.paths:
            walk(name, ())
        return wrong

    def relative(self) -> list[str]:
        return [
            f"{name}:{node.lineno}"
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level
        ]

    def heavy(self) -> list[str]:
        """Modules that load torch or the like, themselves or through others, and should not."""
        wrong = []
        for name in self.paths:
            if name in WITH_TORCH or not any((name or "weft") == part or name.startswith(part + ".") for part in WITHOUT_TORCH):
                continue
            banned = HEAVY - ALLOWED.get(_room(name), set())
            for module in {name} | self.reached(name):
                loaded = banned & {imported.split(".")[0] for imported in self.imports(module, at_once=True)}
                wrong += [f"{name or 'weft'} loads {one} (in {module or 'weft'})" for one in sorted(loaded)]
        return wrong

    def reached(self, name: str) -> set[str]:
        """Everything in the house that importing this module runs."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = self.inside(waiting.pop(), at_once=True) - found
            found |= new
            waiting += new
        return found

    def torch_in_data(self) -> list[str]:
        """data/ is for those without torch too, wherever its imports stand; batch.py makes the tensors."""
        names = [name for name in self.paths if _room(name) == "data" and name != "data.batch"]
        return [
            f"{name} imports {found}"
            for name in names
            for found in self.imports(name)
            if found.split(".")[0] == "torch" or found == "weft.data.batch"
        ]

    def unsafe(self) -> list[str]:
        """Anything that could run code out of a file or a string."""
        wrong = []
        for name, tree in self.trees.items():
            wrong += [f"{name} imports {found}" for found in self.imports(name) if found.split(".")[0] in PICKLERS or found in UNSAFE_CALLS]
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS | UNSAFE_NAMES:
                    wrong.append(f"{name}:{node.lineno} calls {ast.unparse(node.func)}")
                if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                    wrong.append(f"{name}:{node.lineno} has allow_pickle")
        return wrong

    def distributed(self) -> list[str]:
        """Who speaks to other processes, beside training/distributed.py."""
        wrong = []
        for name, tree in self.trees.items():
            named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            if name != "training.distributed" and any(
                f"{found}.".startswith("torch.distributed.") for found in {*self.imports(name), *named}
            ):
                wrong.append(name)
        return wrong

    def long(self) -> list[str]:
        """Files and functions that have outgrown themselves."""
        files = [(name, len(path.read_text(encoding="utf-8").splitlines())) for name, path in self.paths.items()]
        functions = [
            (f"{name}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1)
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        long = [one for one in files if one[1] > LONGEST_FILE] + [one for one in functions if one[1] > LONGEST_FUNCTION]
        return [f"{what}: {lines} lines" for what, lines in long]


def _room(name: str) -> str:
    return name.split(".")[0] or "weft"


def _when_imported(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: not the bodies of functions, not what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _when_imported(child)


RULES = ["climbs", "cycles", "relative", "heavy", "torch_in_data", "unsafe", "distributed", "long"]


@pytest.fixture(scope="module")
def house() -> House:
    return House(SOURCE)


def test_every_room_has_a_floor(house):
    assert {_room(name) for name in house.paths} == set(FLOORS)


def test_every_file_is_on_the_plan(house):
    plan = PLAN.read_text(encoding="utf-8").split("```")[1]
    files = {path.name for path in house.paths.values() if not path.name.startswith("__")}
    assert {name for name in files if name not in plan} == set()
    assert {name for name in re.findall(r"\w+\.py", plan) if name not in files} == set()


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(house, rule):
    assert getattr(house, rule)() == []


@pytest.mark.parametrize(
    ("rule", "files", "found"),
    [
        ("climbs", {"nn/a.py": "from weft.models import b", "models/b.py": ""}, "nn.a (floor 1) imports models.b (floor 3)"),
        ("climbs", {"data/a.py": "from weft.nn.b import f", "nn/b.py": "f = 1"}, "data.a (floor 1) imports nn.b (floor 1)"),
        (
            "climbs",
            {"models/a.py": "def f():\n    import weft.training.b", "training/b.py": ""},
            "models.a (floor 3) imports training.b (floor 6)",
        ),
        ("climbs", {"saving.py": "from weft import TextClassifier", "__init__.py": ""}, "saving (floor 5) imports weft (floor 11)"),
        ("climbs", {"errors.py": "from weft.saving import x", "saving.py": ""}, "errors (floor 0) imports saving (floor 5)"),
        ("cycles", {"nn/a.py": "from weft.nn import b", "nn/b.py": "from weft.nn.a import f"}, "nn.a → nn.b → nn.a"),
        (
            "cycles",
            {"nn/__init__.py": "from weft.nn import a", "nn/a.py": "def f():\n    from weft.nn import c", "nn/c.py": ""},
            "nn → nn.a → nn",
        ),
        ("relative", {"nn/a.py": "from . import b", "nn/b.py": ""}, "nn.a:1"),
        (
            "heavy",
            {"cli/a.py": "from weft.losses import x", "losses.py": "try:\n    import numba\nexcept ImportError:\n    pass"},
            "cli.a loads numba (in losses)",
        ),
        ("heavy", {"data/a.py": "from weft.device import x", "device.py": "import torch.nn"}, "data.a loads torch (in device)"),
        (
            "heavy",
            {"vectors/a.py": "from weft.vectors import neural", "vectors/neural.py": "import torch"},
            "vectors.a loads torch (in vectors.neural)",
        ),
        ("heavy", {"vectors/a.py": "from sklearn.cluster import KMeans"}, "vectors.a loads sklearn (in vectors.a)"),
        ("torch_in_data", {"data/a.py": "def f():\n    from torch import Tensor"}, "data.a imports torch.Tensor"),
        ("torch_in_data", {"data/a.py": "from weft.data import batch", "data/batch.py": "import torch"}, "data.a imports weft.data.batch"),
        ("unsafe", {"saving.py": "def f():\n    import pickle"}, "saving imports pickle"),
        ("unsafe", {"saving.py": "import torch\ntorch.load('x')"}, "saving:2 calls torch.load"),
        ("unsafe", {"saving.py": "from torch import load"}, "saving imports torch.load"),
        ("unsafe", {"saving.py": "eval('1')"}, "saving:1 calls eval"),
        ("unsafe", {"saving.py": "f(allow_pickle=True)"}, "saving:1 has allow_pickle"),
        ("distributed", {"models/a.py": "import torch\ntorch.distributed.barrier()"}, "models.a"),
        ("distributed", {"models/a.py": "from torch.distributed import barrier"}, "models.a"),
        ("long", {"nn/a.py": "def f():\n" + "    x = 1\n" * 60}, "nn.a:1 f: 61 lines"),
        ("long", {"nn/a.py": "x = 1\n" * 601}, "nn.a: 601 lines"),
    ],
)
def test_a_broken_rule_is_found(tmp_path, rule, files, found):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert found in getattr(House(tmp_path), rule)()


@pytest.mark.parametrize(
    "files",
    [
        {"files.py": "from weft.errors import InputError", "errors.py": "InputError = 1"},
        {"data/batch.py": "import torch", "data/a.py": "from typing import TYPE_CHECKING"},
        {"cli/a.py": "def f():\n    import torch"},
        {"vectors/a.py": "import numba", "vectors/neural.py": "import torch"},
        {"device.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"},
        {"compare/a.py": "from weft import __version__, metrics", "metrics.py": "", "__init__.py": "__version__ = '1'"},
        {"training/distributed.py": "import torch.distributed as d", "models/a.py": "x.eval()"},
    ],
)
def test_what_is_allowed_is_not_found(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert {rule: getattr(House(tmp_path), rule)() for rule in RULES} == {rule: [] for rule in RULES}


def test_no_helper_of_the_tests_hides_a_benchmark():
    """Both folders are put on the path of imports, where the first module of a name hides the other."""
    helpers, benchmarks = ({path.stem for path in (SOURCE.parents[1] / folder).glob("*.py")} for folder in ("tests/support", "benchmarks"))
    assert helpers and benchmarks and not helpers & benchmarks
