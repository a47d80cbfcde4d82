"""What the tests of readers share."""

import pytest


@pytest.fixture
def write(tmp_path):
    """write("a.csv", content) → its path."""

    def put(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    return put
