"""Kernels between the bytes of vectors' files and float32 rows: decimals read, decimals written, binary rows.

A decimal that is read is the float32 nearest to it: it is worked out in float64, whose 29 spare bits tell all but about one
value in sixteen million; those are left to the caller, exactly. What is written is the shortest decimal that reads back as the
same float32 (a digit or two more where a shorter one lies at the very border). All input is bytes of the caller's buffer,
which ends in a line end of its own behind the last valid byte, so that no loop runs past it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.vectors.compiled import compiled

POWERS = np.array([float(f"1e{k}") for k in range(80)])
TENS = 10 ** np.arange(11)
TWOS = np.ldexp(1.0, np.arange(255) - 150)  # the unit of the last place of a float32, by its exponent's bits
WHOLE, ODD, FULL = 0, 1, 2  # read_text: up to the last whole line; a line that is no plain row; no place left
EMPTY, BROKEN = 3, 4  # read_binary: no word; no blank behind it, or a line end within
BLANK, TAB, LINE, RETURN = 32, 9, 10, 13
LONGEST_WORD = 1 << 16
WIDEST = 18  # bytes of a value with its blank, at most: " -1.23456789e-38"


@compiled
def read_text(data: Any, stop: Any, size: Any, out: Any, filled: Any, names: Any, hard: Any) -> Any:
    """Rows "word number … number" out of data[:stop] into `out` from row `filled` on; data[stop] is a line end.

    Numbers that float64 cannot decide are listed in `hard` as (row, column, first byte, byte behind). Words go into `names`, a line
    end behind each. Returns (rows, bytes used, bytes of names, hard ones, WHOLE, ODD or FULL).
    """
    one, place, limit, named = np.uint64(1), np.uint64(0), np.uint64(stop), np.uint64(0)
    rows = hards = 0
    while place < limit:
        row = filled + rows
        if row >= len(out) or hards + size > len(hard):
            return rows, place, named, hards, FULL
        at = place
        while data[at] != BLANK and data[at] != TAB and data[at] != LINE:
            at += one
        word_end, before = at, hards
        plain = at > place
        if plain:
            at, hards, plain = numbers(data, at, out[row], hard, hards, row)
        while data[at] == BLANK or data[at] == TAB or data[at] == RETURN:
            at += one
        if at >= limit:  # the line goes on in the next block
            return rows, place, named, before, WHOLE
        if data[at] != LINE or not plain:
            return rows, place, named, before, ODD
        for k in range(place, word_end):
            names[named] = data[k]
            named += one
        names[named] = LINE
        named += one
        rows += 1
        place = at + one
    return rows, place, named, hards, WHOLE


@compiled
def numbers(data: Any, at: Any, out: Any, hard: Any, hards: Any, row: Any) -> Any:
    """A row's numbers, from data[at] on. Returns (the place behind, hard ones so far, whether all were numbers).

    A function a row and not a number: Numba counts the references to each array that a call is given. Places are uint64, so that no
    index can count from the end.
    """
    one, ten, zero = np.uint64(1), np.uint64(10), np.uint64(48)
    for column in range(len(out)):
        while data[at] == BLANK or data[at] == TAB:
            at += one
        start = at
        negative = data[at] == 45
        if negative or data[at] == 43:
            at += one
        first, mantissa = at, np.uint64(0)
        digit = np.uint64(data[at]) - zero
        while digit < ten:
            mantissa = mantissa * ten + digit
            at += one
            digit = np.uint64(data[at]) - zero
        point = at
        if data[at] == 46:
            at += one
            digit = np.uint64(data[at]) - zero
            while digit < ten:
                mantissa = mantissa * ten + digit
                at += one
                digit = np.uint64(data[at]) - zero
        seen, exponent = at - first - np.uint64(at > point), np.int64(point - at) + np.int64(at > point)
        if seen > 19:
            mantissa, exponent = long_number(data, first, at)
        if seen and (data[at] == 101 or data[at] == 69):
            power, at = power_of_ten(data, at + one)
            exponent += power
            seen = np.uint64(data[at - one] - 48 < 10)
        if not (seen and (data[at] == BLANK or data[at] == LINE or data[at] == TAB or data[at] == RETURN)):
            return at, hards, False
        out[column], decided = nearest(mantissa, exponent, negative)
        if not decided:
            hard[hards, 0], hard[hards, 1], hard[hards, 2], hard[hards, 3] = row, column, start, at
            hards += 1
    return at, hards, True


@compiled
def nearest(mantissa: Any, exponent: Any, negative: Any) -> Any:
    """The float32 nearest to ± mantissa · 10^exponent, and whether float64 could decide that."""
    if mantissa == 0:
        return np.float32(-0.0 if negative else 0.0), True
    if not -70 < exponent < 60:
        return np.float32(0), False
    value = np.float64(mantissa)
    value = value / POWERS[np.uint64(-exponent)] if exponent < 0 else value * POWERS[np.uint64(exponent)]
    low, high = np.float32(value * (1 - 2.0**-49)), np.float32(value * (1 + 2.0**-49))  # wider apart than it can be wrong
    return -low if negative else low, low == high and 1.2e-38 < value < 3.4e38


@compiled
def long_number(data: Any, at: Any, end: Any) -> Any:
    """The first 19 significant digits of a number of more, data[at:end], and the power of ten that belongs to them."""
    mantissa, exponent, fraction = np.uint64(0), 0, 0
    kept: Any = 0
    while at < end:
        if data[at] == 46:
            fraction = 1
        elif kept < 19:
            mantissa = mantissa * np.uint64(10) + np.uint64(data[at] - 48)
            kept += np.int64(mantissa > 0)
            exponent -= fraction
        else:
            exponent += 1 - fraction
        at += np.uint64(1)
    return mantissa, exponent


@compiled
def power_of_ten(data: Any, at: Any) -> Any:
    """The whole number at data[at], behind an "e", and the place behind it."""
    down = data[at] == 45
    if down or data[at] == 43:
        at += np.uint64(1)
    power: Any = 0
    while 48 <= data[at] <= 57:
        power = min(power * 10 + np.int64(data[at]) - 48, 1_000_000_000)
        at += np.uint64(1)
    return -power if down else power, at


@compiled
def read_binary(data: Any, stop: Any, out: Any, filled: Any, names: Any) -> Any:
    """Rows "word", a blank, the bytes of float32 numbers out of data[:stop] into `out` (V, 4 D) uint8 from row `filled` on.

    Line ends before a word (the original program's) are passed over. Returns (rows, bytes used, bytes of names, WHOLE, FULL, EMPTY or
    BROKEN). Whether the numbers are finite is not looked at.
    """
    width = out.shape[1]
    place = rows = named = 0
    while True:
        if filled + rows >= len(out):
            return rows, place, named, FULL
        start = place
        while start < stop and data[start] == LINE:
            start += 1
        end = start
        while end < stop and data[end] != BLANK and data[end] != LINE and end - start <= LONGEST_WORD:
            end += 1
        if end < stop and data[end] != BLANK:
            return rows, place, named, BROKEN
        if end < stop and end == start:
            return rows, place, named, EMPTY
        if end + 1 + width > stop:
            return rows, place, named, WHOLE
        row, source = out[filled + rows], data[end + 1 :]
        for k in range(np.uint64(width)):
            row[k] = source[k]
        for k in range(start, end):
            names[named] = data[k]
            named += 1
        names[named] = LINE
        named += 1
        rows += 1
        place = end + 1 + width


@compiled
def write_text(bits: Any, names: Any, offsets: Any, out: Any) -> Any:
    """Rows "word number … number" and a line end each into `out`; word i is names[offsets[i]:offsets[i + 1]]. Returns the bytes used.

    bits: float32 vectors (V, D) seen as uint32, all finite.
    """
    at = np.uint64(0)
    for row in range(len(bits)):
        for k in range(offsets[row], offsets[row + 1]):
            out[at] = names[k]
            at += np.uint64(1)
        at = write_numbers(bits[row], out, at)
        out[at] = LINE
        at += np.uint64(1)
    return at


@compiled
def write_numbers(bits: Any, out: Any, at: Any) -> Any:
    """Each number with a blank before it, at out[at:]: with a point from 1e-5 on up to 1e9, else with an exponent."""
    one = np.uint64(1)
    for number in bits:
        out[at] = BLANK
        at += one
        if number >> np.uint32(31):
            out[at] = 45
            at += one
        digits, count, power = shortest(number & np.uint32(0x7FFFFFFF))
        plain = -5 <= power < 9
        point = power + 1 if plain else 1  # digits before the point
        if point <= 0:
            out[at], out[at + one] = 48, 46
            at += np.uint64(2)
            for _ in range(-point):
                out[at] = 48
                at += one
        divisor = TENS[np.uint64(count - 1)]
        for k in range(max(count, point)):
            if k < count:
                digit = digits // divisor
                digits -= digit * divisor
                divisor //= 10
                out[at] = 48 + digit
            else:
                out[at] = 48
            at += one
            if k + 1 == point and (plain or count > 1):
                out[at] = 46
                at += one
        if plain and point > 0 and count <= point:
            out[at] = 48
            at += one
        if not plain:
            out[at], at = 101, at + one
            if power < 0:
                out[at], at = 45, at + one
            power = abs(power)
            if power >= 10:
                out[at], at = 48 + power // 10, at + one
            out[at], at = 48 + power % 10, at + one
    return at


@compiled
def shortest(bits: Any) -> Any:
    """The shortest decimal that only this float32 ≥ 0 is nearest to: its digits as a number, how many, the power of ten of the first."""
    if bits == 0:
        return 0, 1, 0
    exponent, fraction = np.int64(bits >> np.uint32(23)), np.int64(bits & np.uint32(0x7FFFFF))
    unit = TWOS[np.uint64(exponent if exponent > 1 else 1)]
    value = (fraction + (0x800000 if exponent else 0)) * unit
    half = unit * 0.5  # of a unit of the last place; below a power of two they are half as far apart
    power: Any = ((exponent - 127) * 78913) >> 18 if exponent else -45  # log₁₀ 2 · 2¹⁸; too low at most
    while value >= (POWERS[np.uint64(power + 1)] if power + 1 >= 0 else 1 / POWERS[np.uint64(-power - 1)]):
        power += 1
    scale = POWERS[np.uint64(8 - power)] if power <= 8 else 1 / POWERS[np.uint64(power - 8)]
    scaled, above = value * scale, half * scale * 0.999999  # nine digits before the point
    below = above if fraction or exponent <= 1 else above * 0.5
    digits, count = np.int64(scaled + 0.5), 9
    for fewer in range(8, 0, -1):
        step = TENS[np.uint64(9 - fewer)]
        rounded = np.int64(scaled / step + 0.5)
        if not -below < rounded * step - scaled < above:
            break
        digits, count = rounded, fewer
    if digits >= TENS[np.uint64(count)]:
        digits, power = digits // 10, power + 1  # 9.99… became 10, and its last digit is 0
    while count > 1 and digits % 10 == 0:
        digits, count = digits // 10, count - 1
    return digits, count, power
