"""Transformer blocks: self-attention and feed-forward, each with a residual and a norm around it.

Vaswani et al. (2017); with the norm before instead of after: Radford et al. (2019), Xiong et al. (2020).
"""

from __future__ import annotations

from torch import Tensor, nn

from weft.nn import masks
from weft.nn.activations import activation as activation_named
from weft.nn.attention import MultiHeadAttention
from weft.nn.dropout import dropout as drop
from weft.nn.initialisation import xavier_


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


class EncoderBlock(nn.Module):
    """Post-norm, as printed: x <- LN(x + SelfAtt(x)), x <- LN(x + FF(x)); or pre-norm: x <- x + SelfAtt(LN(x)), x <- x + FF(LN(x)) (E99).

    `inner` is 4 * size where it is None; `dropout` is applied to attention weights, to the feed-forward's inner layer and
    to what either adds to x. 12 size^2 + 13 size parameters for inner = 4 * size.
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
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"{norm=} must be 'pre' or 'post'")
        self.norm, self.dropout, self.causal = norm, dropout, causal
        self.attention = MultiHeadAttention(size=size, heads=heads, dropout=dropout)
        self.feed_forward = FeedForward(size=size, inner=4 * size if inner is None else inner, activation=activation, dropout=dropout)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(size), nn.LayerNorm(size)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), mask (B, T), or (B, T, T) for one a query, True is visible -> (B, T, D), meaningless at padding."""
        if self.norm == "pre":
            x = x + self.drop(self.attend(self.attention_norm(x), mask))
            return x + self.drop(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.drop(self.attend(x, mask)))
        return self.feed_forward_norm(x + self.drop(self.feed_forward(x)))

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.attention(x, x, x, mask, self.causal).context

    def drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout) if self.training else x


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
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"{layers=} must be at least 1")
        self.output_size = size
        self.blocks = nn.ModuleList(
            EncoderBlock(size=size, heads=heads, inner=inner, dropout=dropout, norm=norm, activation=activation, causal=causal)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(size) if norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D), mask (B, T) -> (hidden (B, T, D), mask); hidden is zero at padding."""
        if mask is not None:
            masks.check(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        hidden = self.norm(x)
        return hidden if mask is None else masks.zeroed(hidden, mask), mask
