"""Strings in many scripts, the same on every machine: what tokenizers are held to their references with."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

SCRIPTS = (
    (0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0xA0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x20A0, 0x20BF),
    (0x300, 0x36F), (0x3040, 0x30FF), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFE00, 0xFE0F), (0xFF01, 0xFF5E), (0x1F300, 0x1F64F),
    (0x20000, 0x200FF), (0x0, 0x1F), (0x7F, 0x9F),
)  # fmt: skip
SAID = "the flightless birds of a naïve café don't won't it's İstanbul Straße ΑΣ 東京 3.14 $5 ... -- _x_ ##ing 👍🏽 can't I'll"
WORDS = SAID.split(" ")


def strings(count: int, seed: int = 0) -> list[str]:
    """`count` of them: the empty one, words, runs of one script, mixtures, with blanks of many kinds between."""
    draw = random.Random(seed)
    made = ["", " ", "\t\n"]
    while len(made) < count:
        parts = []
        for _ in range(draw.randint(1, 4)):
            first, last = draw.choice(SCRIPTS)
            run = "".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, 5)))
            parts.append(draw.choice(WORDS) if draw.random() < 0.5 else run)
        made.append(draw.choice(["", " ", " ", "  ", "\n", "\u00a0", "\u3000"]).join(parts))
    return made[:count]


def digests(rows: Sequence[Sequence[int]]) -> list[str]:
    """Four digits for each row of ids."""
    return [hashlib.sha256(",".join(map(str, row)).encode()).hexdigest()[:4] for row in rows]
