"""Transformers: blocks of attention and feed-forward, a residual and a norm around each; encoders, and decoders that keep what they read.

Vaswani et al. (2017); with the norm before instead of after: Radford et al. (2019), Xiong et al. (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from weft.nn import masks
from weft.nn.activations import activation as activation_named
from weft.nn.attention import Attended, MultiHeadAttention
from weft.nn.dropout import dropout as drop
from weft.nn.initialisation import xavier_
from weft.nn.positions import rotated

EPSILON = 1e-5  # what a layer norm adds to the variance, where nothing else is said


class FeedForward(nn.Module):
    """W_2 f(W_1 x + b_1) + b_2 at every position, with dropout on the inner layer. Weights start as Xavier's, biases at zero."""

    def __init__(self, *, size: int, inner: int, activation: str = "gelu", dropout: float = 0.0) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(size, inner), nn.Linear(inner, size)
        self.function, self.dropout = activation_named(activation), dropout
        for linear in (self.enter, self.leave):
            xavier_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        inner = self.function(self.enter(x))
        return self.leave(drop(inner, self.dropout) if self.training else inner)


class Block(nn.Module):
    """What encoder and decoder blocks share: sub-layers, a residual around each, the norm after (post) or before it (pre)."""

    attention: MultiHeadAttention

    def __init__(self, *, norm: str, dropout: float) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"{norm=} must be 'pre' or 'post'")
        self.norm, self.dropout = norm, dropout

    def around(self, x: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """x + layer(norm(x)), or norm(x + layer(x))."""
        if self.norm == "pre":
            return x + self.drop(layer(norm(x)))
        return norm(x + self.drop(layer(x)))

    def drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout) if self.training else x

    def before(self, x: Tensor, cache: Cache, layer: int) -> Attended:
        """Self-attention of the next tokens of each row, x (N, T', D), to themselves and those in the cache, where their keys and values
        are put; several tokens only where it is empty.
        """
        queries, keys, values = (self.attention.split(part) for part in self.attention.input(x).chunk(3, -1))  # (N, H, T', d)
        if self.attention.rotary:
            queries, keys = rotated(queries, cache.length), rotated(keys, cache.length)
        return self.attention.mix(queries, *cache.put(layer, keys, values), causal=x.shape[1] > 1)


class EncoderBlock(Block):
    """Post-norm, as printed: x <- LN(x + SelfAtt(x)), x <- LN(x + FF(x)); or pre-norm: x <- x + SelfAtt(LN(x)), x <- x + FF(LN(x)) (E99).

    `inner` is 4 * size where it is None; `dropout` is applied to attention weights, to the feed-forward's inner layer and
    to what either adds to x; `epsilon` is what norms add to variances. 12 size^2 + 13 size parameters for inner = 4 * size.
    """

    def __init__(
        self,
        *,
        size: int,
        heads: int,
        inner: int | None = None,
        dropout: float = 0.0,
        norm: str = "post",
        activation: str = "gelu",
        causal: bool = False,
        rotary: bool = False,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__(norm=norm, dropout=dropout)
        self.causal = causal
        self.attention = MultiHeadAttention(size=size, heads=heads, dropout=dropout, rotary=rotary)
        self.feed_forward = FeedForward(size=size, inner=4 * size if inner is None else inner, activation=activation, dropout=dropout)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(size, epsilon), nn.LayerNorm(size, epsilon)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), mask (B, T), or (B, T, T) for one a query, True is visible -> (B, T, D), meaningless at padding."""
        x = self.around(x, self.attention_norm, lambda y: self.attention(y, y, y, mask, self.causal).context)
        return self.around(x, self.feed_forward_norm, self.feed_forward)

    def step(self, x: Tensor, cache: Cache, layer: int) -> Tensor:
        """The next tokens of each row, x (N, T', D), after those in the cache, of a causal block -> (N, T', D)."""
        x = self.around(x, self.attention_norm, lambda y: self.before(y, cache, layer).context)
        return self.around(x, self.feed_forward_norm, self.feed_forward)


class DecoderBlock(Block):
    """Causal self-attention, cross-attention from it to a source, feed-forward; a residual and a norm around each (E100).

    As EncoderBlock otherwise. 16 size^2 + 19 size parameters for inner = 4 * size.
    """

    def __init__(
        self,
        *,
        size: int,
        heads: int,
        inner: int | None = None,
        dropout: float = 0.0,
        norm: str = "post",
        activation: str = "gelu",
        rotary: bool = False,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__(norm=norm, dropout=dropout)
        self.attention = MultiHeadAttention(size=size, heads=heads, dropout=dropout, rotary=rotary)
        self.cross_attention = MultiHeadAttention(size=size, heads=heads, dropout=dropout)
        self.feed_forward = FeedForward(size=size, inner=4 * size if inner is None else inner, activation=activation, dropout=dropout)
        self.attention_norm, self.cross_norm, self.feed_forward_norm = (nn.LayerNorm(size, epsilon) for _ in range(3))

    def forward(
        self, x: Tensor, source: Tensor, mask: Tensor | None = None, own: Tensor | None = None, *, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D), source (B, S, D) -> (B, T, D), and cross-attention's weights (B, H, T, S) when asked for.

        mask (B, S) of the source, own (B, T) of x: True is visible.
        """
        found: list[Tensor | None] = []

        def across(y: Tensor) -> Tensor:
            attended = self.cross_attention(y, source, source, mask, weights=weights)
            found.append(attended.weights)
            return attended.context

        x = self.around(x, self.attention_norm, lambda y: self.attention(y, y, y, own, True).context)
        x = self.around(x, self.cross_norm, across)
        return self.around(x, self.feed_forward_norm, self.feed_forward), found[0]

    def step(self, x: Tensor, cache: Cache, layer: int, source: Source, *, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """One token a row, x (N, 1, D), after those in the cache -> (N, 1, D), and weights (N, H, S) when asked for."""
        found: list[Tensor | None] = []

        def across(y: Tensor) -> Tensor:
            groups = len(source.mask)  # of hypotheses that share a source: their queries stand side by side
            queries = self.cross_attention.queries(y.view(groups, -1, y.shape[-1]))  # (B, H, K, d)
            keys, values = source.layers[layer]
            attended = self.cross_attention.mix(queries, keys, values, source.mask[:, None], weights=weights)
            if attended.weights is not None:
                found.append(attended.weights.transpose(1, 2).flatten(0, 1))
            return attended.context.reshape(y.shape)

        x = self.around(x, self.attention_norm, lambda y: self.before(y, cache, layer).context)
        x = self.around(x, self.cross_norm, across)
        return self.around(x, self.feed_forward_norm, self.feed_forward), found[0] if found else None


def stacked(
    block: Callable[..., Block], layers: int, *, size: int, norm: str, epsilon: float = EPSILON, **options: Any
) -> tuple[nn.ModuleList, nn.Module]:
    """`layers` blocks, and what comes after the last one: a layer norm with pre-norm, else nothing. Raises ValueError for no layers."""
    if layers < 1:
        raise ValueError(f"{layers=} must be at least 1")
    blocks = nn.ModuleList(block(size=size, norm=norm, epsilon=epsilon, **options) for _ in range(layers))
    return blocks, nn.LayerNorm(size, epsilon) if norm == "pre" else nn.Identity()


class TransformerEncoder(nn.Module):
    """`layers` encoder blocks, and with pre-norm one layer norm after the last (E99). `causal` hides the future.

    Positions are the caller's to add.
    """

    def __init__(
        self,
        *,
        size: int,
        heads: int,
        layers: int,
        inner: int | None = None,
        dropout: float = 0.0,
        norm: str = "post",
        activation: str = "gelu",
        causal: bool = False,
        rotary: bool = False,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.output_size = size
        self.blocks, self.norm = stacked(
            EncoderBlock, layers, size=size, heads=heads, inner=inner, dropout=dropout, norm=norm, activation=activation, causal=causal,
            rotary=rotary, epsilon=epsilon,
        )  # fmt: skip

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D), mask (B, T) -> (hidden (B, T, D), mask); hidden is zero at padding."""
        if mask is not None:
            masks.check(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        hidden = self.norm(x)
        return hidden if mask is None else masks.zeroed(hidden, mask), mask

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """The next tokens of each row, x (N, T', D), several only where the cache is empty -> (N, T', D), with causal blocks.

        The same as the last positions of `forward` over all of them; their keys and values are added to the cache.
        """
        for layer, block in enumerate(self.blocks):
            x = block.step(x, cache, layer)  # type: ignore[operator]
        cache.advance(x.shape[1])
        hidden: Tensor = self.norm(x)
        return hidden


class Source(NamedTuple):
    """A source as decoder blocks attend to it: each layer's keys and values (B, H, S, d), and which positions are real (B, S)."""

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor

    def of(self, sources: Tensor) -> Source:
        """Some of the sources, by their numbers."""
        return Source([(keys[sources], values[sources]) for keys, values in self.layers], self.mask[sources])


class Cache:
    """Keys and values of the tokens read so far, of all layers, in one buffer (room, layers, 2, N, D) that doubles when it is full."""

    def __init__(self, layers: int, rows: int, like: Tensor, room: int = 16) -> None:
        self.data = like.new_empty(room, layers, 2, rows, like.shape[-1])
        self.length = 0

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the next tokens' (N, H, T', d) of one layer -> those of all tokens (N, H, T, d). `advance` follows the last layer."""
        rows, heads, count = keys.shape[:3]
        end = self.length + count
        while end > len(self.data):
            self.data = torch.cat([self.data, torch.empty_like(self.data)])
        for place, part in enumerate((keys, values)):
            self.data[self.length : end, layer, place] = part.permute(2, 0, 1, 3).flatten(2)
        read = self.data[:end, layer].view(end, 2, rows, heads, -1)  # (T, 2, N, H, d)
        return read[:, 0].permute(1, 2, 0, 3), read[:, 1].permute(1, 2, 0, 3)

    def advance(self, count: int = 1) -> None:
        self.length += count

    def reorder(self, rows: Tensor) -> None:
        """These rows (N',), in this order."""
        kept = self.data.new_empty(*self.data.shape[:3], len(rows), self.data.shape[-1])
        torch.index_select(self.data[: self.length], 3, rows, out=kept[: self.length])
        self.data = kept


class TransformerDecoder(nn.Module):
    """`layers` decoder blocks, and with pre-norm one layer norm after the last (E100). Positions are the caller's to add."""

    def __init__(
        self,
        *,
        size: int,
        heads: int,
        layers: int,
        inner: int | None = None,
        dropout: float = 0.0,
        norm: str = "post",
        activation: str = "gelu",
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = size
        self.blocks, self.norm = stacked(
            DecoderBlock, layers, size=size, heads=heads, inner=inner, dropout=dropout, norm=norm, activation=activation, rotary=rotary
        )

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None, *, weights: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Whole targets, x (B, T, D), against sources (B, S, D) with their mask (B, S) -> (B, T, D), and each layer's weights (B, H, T, S).

        Position t sees the positions up to t, so what stands after a target's end reaches nothing before it. The weights only when asked
        for. Raises ValueError where sizes do not fit.
        """
        if mask is not None:
            masks.check(source, mask)
        found = []
        for block in self.blocks:
            x, seen = block(x, source, mask, weights=weights)
            if seen is not None:
                found.append(seen)
        return self.norm(x), found

    def read(self, source: Tensor, mask: Tensor) -> Source:
        """Sources (B, S, D) and their mask (B, S), ready to be attended to."""
        masks.check(source, mask)
        layers = [block.cross_attention.keys_values(source) for block in self.blocks]  # type: ignore[union-attr, operator]
        return Source(layers, mask)

    def step(self, x: Tensor, cache: Cache, source: Source, *, weights: bool = False) -> tuple[Tensor, list[Tensor]]:
        """The next token of each row, x (N, 1, D), its rows grouped by source -> (N, 1, D), and each layer's weights (N, H, S).

        The same as the last position of `forward` over all of them; its keys and values are added to the cache.
        """
        found = []
        for layer, block in enumerate(self.blocks):
            x, seen = block.step(x, cache, layer, source, weights=weights)  # type: ignore[operator]
            if seen is not None:
                found.append(seen)
        cache.advance()
        return self.norm(x), found
