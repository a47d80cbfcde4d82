"""Vectors of products from baskets, and of a network's people from random walks: `python examples/items_and_nodes.py`.

What stands together is trained as words in a sentence are. In a basket order means nothing, so its whole is the window (window="all"); on a
walk the nodes a few steps away are the context, as in DeepWalk (Perozzi et al., 2014; E48).
"""

from __future__ import annotations

import random

import weft

THEMES = [
    [
        "oat flakes",
        "milk",
        "coffee",
        "rolls",
        "jam",
        "butter",
        "honey",
        "orange juice",
        "eggs",
        "yoghurt",
        "tea",
        "muesli",
        "toast",
        "cream cheese",
        "bananas",
    ],
    [
        "charcoal",
        "sausages",
        "mustard",
        "corn cobs",
        "buns",
        "ketchup",
        "tongs",
        "lighter",
        "steaks",
        "skewers",
        "foil",
        "beer",
        "salad",
        "marinade",
        "halloumi",
    ],
    [
        "nails",
        "hammer",
        "screws",
        "drill",
        "sandpaper",
        "wood glue",
        "varnish",
        "saw",
        "dowels",
        "pliers",
        "tape measure",
        "paint",
        "brush",
        "filler",
        "hinges",
    ],
]

# Zachary's karate club (1977): who met whom outside the club, which later split around members 0 and 33.
FRIENDS = """
0-1 0-2 0-3 0-4 0-5 0-6 0-7 0-8 0-10 0-11 0-12 0-13 0-17 0-19 0-21 0-31 1-2 1-3 1-7 1-13
1-17 1-19 1-21 1-30 2-3 2-7 2-8 2-9 2-13 2-27 2-28 2-32 3-7 3-12 3-13 4-6 4-10 5-6 5-10 5-16
6-16 8-30 8-32 8-33 9-33 13-33 14-32 14-33 15-32 15-33 18-32 18-33 19-33 20-32 20-33 22-32 22-33 23-25 23-27 23-29
23-32 23-33 24-25 24-27 24-31 25-31 26-29 26-33 27-33 28-31 28-33 29-32 29-33 30-32 30-33 31-32 31-33 32-33
"""
OFFICER_SIDE = {8, 9, *range(14, 34)} - {16, 17, 19, 21}


def baskets(count: int, draw: random.Random) -> list[list[str]]:
    """Each of one theme, now and then with something of another in it."""
    found = []
    for _ in range(count):
        main, other = draw.sample(THEMES, 2)
        found.append(draw.sample(main, draw.randint(2, 6)) + ([draw.choice(other)] if draw.random() < 0.2 else []))
    return found


def walks(count: int, length: int, draw: random.Random) -> list[list[str]]:
    """From every node `count` walks of `length` steps, each to a neighbour at random."""
    near: dict[int, list[int]] = {node: [] for node in range(34)}
    for pair in FRIENDS.split():
        a, b = map(int, pair.split("-"))
        near[a].append(b)
        near[b].append(a)
    found = []
    for start in [*near] * count:
        walk = [start]
        for _ in range(length):
            walk.append(draw.choice(near[walk[-1]]))
        found.append([str(node) for node in walk])
    return found


def main() -> tuple[float, float]:
    """Prints what stands near what; returns how many of the nearest products, and of the members' parties, are right."""
    draw = random.Random(1)
    items = weft.WordVectors(dim=16, window="all", min_count=1, sample=0, epochs=20, rate=0.05, threads=1)
    items = items.fit(baskets(2000, draw)).vectors_
    right = total = 0
    for theme in THEMES:
        for item in theme:
            nearest = items.most_similar(item, topn=3)
            right, total = right + sum(word in theme for word, _ in nearest), total + len(nearest)
        print(f"{theme[0]:>10}: {', '.join(f'{word} {value:.2f}' for word, value in items.most_similar(theme[0], topn=5))}")

    nodes = weft.WordVectors(dim=16, window=5, min_count=1, sample=0, epochs=5, rate=0.05, threads=1).fit(walks(40, 20, draw)).vectors_
    parties = nodes.word_classes(2)
    first = {int(node) for node in parties[0]}
    agree = max(len(first & OFFICER_SIDE) + 34 - len(first | OFFICER_SIDE), len(first ^ OFFICER_SIDE)) / 34
    print(f"karate club: {agree:.0%} of the members are in the party that they joined")
    return right / total, agree


if __name__ == "__main__":
    main()
