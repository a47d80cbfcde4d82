"""What the tests of commands share."""

from types import SimpleNamespace

import pytest

from weft.cli import main as cli


@pytest.fixture
def weft_(capsys):
    """weft_("train", …) → code, out, err; lines: those of out."""

    def run(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err, lines=captured.out.splitlines())

    return run
