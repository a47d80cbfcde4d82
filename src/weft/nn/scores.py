"""Scores: how well a query s and a key h match, every one of the family (E89).

Cosine: Graves et al. (2014); additive: Bahdanau et al. (2015); location, general, dot: Luong et al. (2015); scaled dot: Vaswani et al.
(2017); biaffine: Dozat and Manning (2017).

What depends on the source alone is `keys`, worked out once a source; what is left to do at every step of a decoder is `forward`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.nn.activations import activation as activation_named
from weft.nn.attention import scaled_dot
from weft.nn.initialisation import xavier_


class Score(nn.Module):
    """score(s, h): `score(query, score.keys(key))` gives (..., T, S) for queries (..., T, Dq) and keys (..., S, Dk).

    options: what a subclass takes beside the two sizes, by its name in `make_score`.
    """

    options: tuple[str, ...] = ()

    def __init__(self, *, query_size: int, key_size: int) -> None:
        super().__init__()
        if min(query_size, key_size) < 1:
            raise ValueError(f"{query_size=} and {key_size=} must be at least 1")
        self.query_size, self.key_size = query_size, key_size

    def keys(self, key: Tensor) -> Tensor:
        """What depends on the source alone: (..., S, Dk) -> (..., S, ·). ValueError names both sizes where they differ."""
        if key.shape[-1] != self.key_size:
            raise ValueError(f"keys of size {key.shape[-1]}, but the score has key_size={self.key_size}")
        return self.prepare(key)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Queries (..., T, Dq) and what `keys` gave (..., S, ·) -> (..., T, S). ValueError names both sizes where they differ."""
        if query.shape[-1] != self.query_size:
            raise ValueError(f"queries of size {query.shape[-1]}, but the score has query_size={self.query_size}")
        return self.scores(query, keys)

    def prepare(self, key: Tensor) -> Tensor:
        """`keys` of a subclass, sizes checked."""
        return key

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """`forward` of a subclass, sizes checked."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"query_size={self.query_size}, key_size={self.key_size}"


class _SameSize(Score):
    """Scores of query and key entry by entry: both have one size."""

    def __init__(self, *, query_size: int, key_size: int) -> None:
        super().__init__(query_size=query_size, key_size=key_size)
        if query_size != key_size:
            raise ValueError(f"query and key must have one size here, not {query_size=} and {key_size=}")


class Dot(_SameSize):
    """s·h (Luong et al., 2015)."""

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.mT


class ScaledDot(_SameSize):
    """s·h / √n, n the size of a key (Vaswani et al., 2017)."""

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return scaled_dot(query, keys)


class Cosine(_SameSize):
    """β s·h / (‖s‖ ‖h‖) (Graves et al., 2014). A vector of zeros scores 0 with everything.

    sharpness: β. Cosines are at most 1, so that β = 1 is nearly uniform over many keys. learnt: β is a parameter that starts there,
    kept as its logarithm and thus positive.
    """

    options = ("sharpness", "learnt")

    def __init__(self, *, query_size: int, key_size: int, sharpness: float = 1.0, learnt: bool = False) -> None:
        super().__init__(query_size=query_size, key_size=key_size)
        if sharpness <= 0:
            raise ValueError(f"{sharpness=} must be above 0")
        self.sharpness = sharpness
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness))) if learnt else None

    def prepare(self, key: Tensor) -> Tensor:
        return _directions(key)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        sharpness = self.sharpness if self.log_sharpness is None else self.log_sharpness.exp()
        return (_directions(query) * sharpness) @ keys.mT


def _directions(x: Tensor) -> Tensor:
    norm = x.norm(dim=-1, keepdim=True)
    return x / norm.masked_fill(norm == 0, 1.0)  # a decoder's first state may be zeros: neither NaN nor a gradient of 1/ε there


class Location(Score):
    """(W s)_i, i the position: the query alone, the source unseen (Luong et al., 2015). W (maximum_length, Dq), no bias.

    A source of more positions than `maximum_length` is a ValueError naming both.
    """

    options = ("maximum_length",)

    def __init__(self, *, query_size: int, key_size: int, maximum_length: int = 512) -> None:
        super().__init__(query_size=query_size, key_size=key_size)
        if maximum_length < 1:
            raise ValueError(f"{maximum_length=} must be at least 1")
        self.maximum_length = maximum_length
        self.weight = nn.Parameter(xavier_(torch.empty(maximum_length, query_size)))

    def prepare(self, key: Tensor) -> Tensor:
        if key.shape[-2] > self.maximum_length:
            raise ValueError(f"a source of {key.shape[-2]} positions, but the location score has maximum_length={self.maximum_length}")
        return key[..., :0]  # how many there are, and nothing else

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return F.linear(query, self.weight[: keys.shape[-2]])


class General(Score):
    """sᵀ W h, W (Dq, Dk) (Luong et al., 2015)."""

    def __init__(self, *, query_size: int, key_size: int) -> None:
        super().__init__(query_size=query_size, key_size=key_size)
        self.weight = nn.Parameter(xavier_(torch.empty(query_size, key_size)))

    def prepare(self, key: Tensor) -> Tensor:
        return F.linear(key, self.weight)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.mT


class Biaffine(Score):
    """sᵀ U h + w·[s; h] + b (Dozat and Manning, 2017): general, and linear terms. U (Dq, Dk); w (Dq + Dk) and b start at zero."""

    def __init__(self, *, query_size: int, key_size: int) -> None:
        super().__init__(query_size=query_size, key_size=key_size)
        self.weight = nn.Parameter(xavier_(torch.empty(query_size, key_size)))
        self.linear = nn.Parameter(torch.zeros(query_size + key_size))
        self.bias = nn.Parameter(torch.zeros(()))

    def prepare(self, key: Tensor) -> Tensor:
        """[U h; w_h·h + b]: against [s; 1] one product is all terms but w_s·s."""
        row = self.linear[None, self.query_size :]
        shift = torch.cat([self.bias.new_zeros(self.query_size), self.bias[None]])
        return F.linear(key, torch.cat([self.weight, row]), shift)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return F.pad(query, (0, 1), value=1.0) @ keys.mT + (query @ self.linear[: self.query_size]).unsqueeze(-1)


class _Joined(Score):
    """Scores that begin with W [s; h] = W_s s + W_h h: the key's part once a source, the query's once a step. Both start as Xavier's."""

    def __init__(self, *, query_size: int, key_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__(query_size=query_size, key_size=key_size)
        if hidden_size < 1:
            raise ValueError(f"{hidden_size=} must be at least 1")
        self.query_weight = nn.Parameter(torch.empty(hidden_size, query_size))
        self.key_weight = nn.Parameter(torch.empty(hidden_size, key_size))
        xavier_(self.query_weight)
        xavier_(self.key_weight)
        self.bias = nn.Parameter(torch.zeros(hidden_size)) if bias else None

    def prepare(self, key: Tensor) -> Tensor:
        return F.linear(key, self.key_weight, self.bias)

    def joined(self, query: Tensor, keys: Tensor) -> Tensor:
        """W [s; h] + b for every pair: (..., T, S, A)."""
        return F.linear(query, self.query_weight).unsqueeze(-2) + keys.unsqueeze(-3)


class Additive(_Joined):
    """v·tanh(W [s; h] (+ b)), W (A, Dq + Dk), A = hidden_size (Bahdanau et al., 2015, A.1.2); b where `bias` asks for it."""

    options = ("hidden_size", "bias")

    def __init__(self, *, query_size: int, key_size: int, hidden_size: int, bias: bool = False) -> None:
        super().__init__(query_size=query_size, key_size=key_size, hidden_size=hidden_size, bias=bias)
        self.vector = nn.Parameter(xavier_(torch.empty(1, hidden_size))[0])

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.joined(query, keys).tanh_() @ self.vector  # in place: the sum is the largest tensor here, and nobody else's


class MLP(_Joined):
    """A small network, v·f(W_L … f(W_1 [s; h] + b_1) … + b_L), of `layers` hidden layers of hidden_size units, f the activation.

    One hidden layer of tanh is the additive score with its bias. The last product has no bias: a softmax would not see it.
    """

    options = ("hidden_size", "layers", "activation")

    def __init__(self, *, query_size: int, key_size: int, hidden_size: int, layers: int = 2, activation: str = "tanh") -> None:
        super().__init__(query_size=query_size, key_size=key_size, hidden_size=hidden_size, bias=True)
        if layers < 1:
            raise ValueError(f"{layers=} must be at least 1")
        self.function = activation_named(activation)
        inner = [nn.Linear(hidden_size, hidden_size) for _ in range(layers - 1)]
        for linear in inner:
            xavier_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.inner = nn.ModuleList(inner)
        self.vector = nn.Parameter(xavier_(torch.empty(1, hidden_size))[0])

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        hidden = self.function(self.joined(query, keys))
        for linear in self.inner:
            hidden = self.function(linear(hidden))
        return hidden @ self.vector


SCORES: dict[str, type[Score]] = {
    "cosine": Cosine,
    "additive": Additive,
    "location": Location,
    "general": General,
    "dot": Dot,
    "scaled-dot": ScaledDot,
    "biaffine": Biaffine,
    "mlp": MLP,
}


def make_score(name: str, *, query_size: int, key_size: int, hidden_size: int | None = None, **options: Any) -> Score:
    """The score of that name. hidden_size (None: key_size) goes to those that have hidden units; options to those that name them.

    ValueError for a name or an option that there is not, with those there are, and for sizes that do not fit, naming both.
    """
    if name not in SCORES:
        raise ValueError(f"no score {name!r}; there are: {', '.join(SCORES)}")
    kind = SCORES[name]
    if "hidden_size" in kind.options:
        options["hidden_size"] = key_size if hidden_size is None else hidden_size
    unknown = sorted(set(options) - set(kind.options))
    if unknown:
        raise ValueError(f"the score {name!r} takes no {', '.join(unknown)}; it takes: {', '.join(kind.options) or 'nothing'}")
    return kind(query_size=query_size, key_size=key_size, **options)
