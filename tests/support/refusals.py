"""How a reader refuses a file."""

from collections.abc import Callable
from typing import Any

import pytest

from weft.errors import InputError


def refusal(read: Callable[..., Any], path: Any, place: str, *words: str, **options: Any) -> str:
    """The reader's error for `path`, which must begin with its place and hold the words; one line."""
    with pytest.raises(InputError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}{place}: "), message
    assert "\n" not in message
    for word in words:
        assert word in message, (word, message)
    return message
