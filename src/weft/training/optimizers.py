"""Optimizers: one `torch.optim.Optimizer` for all of a model's parameters, with penalties and sparse rows.

The rules are torch's, in their fused kernels where there are such (E20–E22 say where the literature's forms differ). Added here:

- parameter groups: biases, gains of normalisations and every other vector are left out of penalties and decay (E18); rates and
  penalties may differ by the part of the model, named by the beginning of its parameters' names (discriminative rates, E108);
- L1, L2 and elastic-net penalties on the mean loss, the L1 part by subgradient or by soft threshold;
- lazy rows: where a gradient is sparse (an embedding made with `sparse=True`), the rule is applied to the rows that occur, with
  their rows of the optimizer's state, and to no other. Rows that do not occur stay as they are to the last bit, and a step costs
  what those rows cost, not what the table costs.

Polyak, 1964 (momentum); Duchi et al., 2011 (AdaGrad); Tieleman & Hinton, 2012 (RMSProp); Kingma & Ba, 2015 (Adam); Loshchilov &
Hutter, 2019 (AdamW); Zou & Hastie, 2005 (elastic net).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weft.errors import InputError

Setting = float | Mapping[str, float]


@dataclass
class _Narrowed:
    """A parameter of which only some rows are being stepped: what it was, so that it can be put back."""

    parameter: Tensor
    full: Tensor
    gradient: Tensor
    rows: Tensor
    state: dict[str, Tensor]


class _Lazy(torch.optim.Optimizer):
    """Mixed into a rule of torch: penalties, and sparse gradients stepped on their rows only.

    For its step a parameter with a sparse gradient becomes the small dense tensor of its occurring rows, its state likewise, so
    that torch's rule needs to know nothing of it; afterwards both are written back. What a rule carries from step to step for a
    row (momentum, decay) moves only at the row's own occurrences; the count of steps in Adam's bias correction is the table's.
    """

    _update: Callable[..., Any]

    # without torch's guard against tracing, whose first call loads its compiler: a second or more before the first step
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. Penalties are added to the gradients in place: zero them before the next backward pass."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        narrowed: list[_Narrowed] = []
        aside: list[tuple[Tensor, Tensor, dict[str, Any]]] = []
        sparse = [(parameter, group) for group in self.param_groups for parameter in self._stepped(group) if parameter.grad.is_sparse]  # type: ignore[union-attr]
        try:
            for parameter, group in sparse:
                if self._has_kernel(parameter, group):
                    aside.append((parameter, _coalesced(parameter.grad), group))  # type: ignore[arg-type]
                    parameter.grad = None
                else:
                    narrowed.append(_narrow(parameter, self.state[parameter]))
            self._penalise()
            self._update()
            self._threshold()
            for parameter, gradient, group in aside:
                self._step_rows(parameter, gradient, group)
        finally:  # also on Ctrl-C: a table must never stay narrowed
            for item in narrowed:
                _widen(item, self.state[item.parameter])
            for parameter, gradient, _ in aside:
                parameter.grad = gradient
        return loss

    def _has_kernel(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        """Whether `_step_rows` steps this parameter's rows where they lie, faster than the narrowed tensor."""
        return False

    def _step_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        raise AssertionError("only where there is a kernel")

    def _stepped(self, group: dict[str, Any] | None = None) -> list[Tensor]:
        groups = self.param_groups if group is None else [group]
        return [parameter for one in groups for parameter in one["params"] if parameter.grad is not None]

    def _penalise(self) -> None:
        for group in self.param_groups:
            for parameter in self._stepped(group) if group["l1"] or group["l2"] else ():
                if group["l2"]:
                    parameter.grad.add_(parameter, alpha=2 * group["l2"])  # type: ignore[union-attr]
                if group["l1"] and not group["proximal"]:
                    parameter.grad.add_(parameter.sign(), alpha=group["l1"])  # type: ignore[union-attr]

    def _threshold(self) -> None:
        for group in self.param_groups:
            for parameter in self._stepped(group) if group["l1"] and group["proximal"] else ():
                parameter.copy_(nn.functional.softshrink(parameter, group["lr"] * group["l1"]))


class SGD(_Lazy, torch.optim.SGD):
    """Θ ← Θ − ηv, v ← βv + g; β = 0 is plain descent (E16, E20)."""

    _raw = inspect.unwrap(torch.optim.SGD.step)

    def _update(self) -> None:
        for group in self.param_groups:
            for parameter in self._stepped(group) if group["momentum"] else ():
                # torch's fused kernel takes a group's velocities all at once or none: a parameter freed later would break it
                if self.state[parameter].get("momentum_buffer") is None:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self._raw()


class Adagrad(_Lazy, torch.optim.Adagrad):
    """Θ ← Θ − ηg/(√V + ε), V ← V + g² (E21)."""

    _update = inspect.unwrap(torch.optim.Adagrad.step)


class RMSprop(_Lazy, torch.optim.RMSprop):
    """Θ ← Θ − ηg/(√S + ε), S ← βS + (1 − β)g² (E21)."""

    _update = inspect.unwrap(torch.optim.RMSprop.step)


class Adam(_Lazy, torch.optim.Adam):
    """Θ ← Θ − ηm̂/(√û + ε) (E22)."""

    _update = inspect.unwrap(torch.optim.Adam.step)

    def _has_kernel(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        return not group["weight_decay"] and _fits_adam_rows(parameter, group)  # this decay goes through the moments

    def _step_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        _step_adam_rows(parameter, gradient, group, self.state[parameter], decay=0.0)


class AdamW(_Lazy, torch.optim.AdamW):
    """Adam that also takes ηλΘ off, outside the moments (E22)."""

    _update = inspect.unwrap(torch.optim.AdamW.step)

    def _has_kernel(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        return _fits_adam_rows(parameter, group)

    def _step_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        _step_adam_rows(parameter, gradient, group, self.state[parameter], decay=group["lr"] * group["weight_decay"])


@dataclass(frozen=True)
class Rule:
    """An optimizer by name: its class, its rate unless told otherwise, its settings, and the names of those that can be given."""

    make: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    settings: Mapping[str, Any]
    options: tuple[str, ...]
    fused: bool = True


OPTIMIZERS: Mapping[str, Rule] = {
    "sgd": Rule(SGD, 0.1, {"momentum": 0.0}, ()),
    "momentum": Rule(SGD, 0.01, {"momentum": 0.9}, ("momentum", "nesterov")),
    "adagrad": Rule(Adagrad, 0.01, {"eps": 1e-10}, ("eps", "initial_accumulator_value")),
    "rmsprop": Rule(RMSprop, 0.001, {"alpha": 0.9, "eps": 1e-8, "foreach": True}, ("alpha", "eps", "momentum", "centered"), fused=False),
    "adam": Rule(Adam, 0.001, {"betas": (0.9, 0.999), "eps": 1e-8}, ("betas", "eps", "amsgrad")),
    "adamw": Rule(AdamW, 0.001, {"betas": (0.9, 0.999), "eps": 1e-8}, ("betas", "eps", "amsgrad")),
}


def make_optimizer(
    model: nn.Module | Iterable[tuple[str, nn.Parameter]],
    name: str = "adamw",
    learning_rate: float | None = None,
    *,
    l1: Setting = 0.0,
    l2: Setting = 0.0,
    weight_decay: Setting = 0.0,
    multipliers: Mapping[str, float] | None = None,
    proximal: bool = False,
    **options: Any,
) -> torch.optim.Optimizer:
    """The optimizer `name` over a model's parameters (or over pairs of name and parameter).

    `l2` = λ adds λΣw² to the mean loss (gradient 2λw) and `l1` = λ adds λΣ|w| (gradient λ·sign w or, with `proximal`, a step of
    soft threshold, |w| − ηλ down to exactly 0); both together are the elastic net. `weight_decay` = λ is torch's: λw in the
    gradient, for "adamw" ηλw off the weight. Vectors are exempt from all three. Each may be one number or a mapping from the
    beginning of parameters' names ("encoder.layers.0") to one; `multipliers` maps such beginnings to a factor of the rate. The longest
    that fits counts; no fit means 0, or a factor of 1. On sparse gradients penalties and decay act on the rows that occur.

    Every group holds its own "base_lr", "l1" and "l2", its names under "param_names"; `state_dict()` has all that a resume needs.
    `options` are the rule's own: momentum, nesterov, betas, eps, alpha, centered, amsgrad, initial_accumulator_value.
    Parameters that are frozen now are taken in too, and untouched until they have gradients. Raises InputError on an unknown
    name, option or beginning, on a negative number, and where there is no parameter.
    """
    rule = optimizer_rule(name)
    unknown = sorted(set(options) - set(rule.options))
    if unknown:
        raise InputError(f"optimizer {name!r} has no option {unknown[0]!r}; it has {', '.join(rule.options) or 'none'}")
    rate = rule.learning_rate if learning_rate is None else learning_rate
    named = list(model.named_parameters() if isinstance(model, nn.Module) else model)
    if not named:
        raise InputError("there are no parameters to train")
    settings: dict[str, Setting] = {"l1": l1, "l2": l2, "weight_decay": weight_decay, "multiplier": multipliers or {}}
    for key, setting in {**settings, "learning_rate": rate}.items():
        _check_setting(key, setting, [name for name, _ in named])
    groups = _grouped(named, rate, settings, proximal)
    kernels = {"fused": True} if rule.fused and all(_has_fused_kernel(parameter) for _, parameter in named) else {}
    return rule.make(groups, lr=rate, weight_decay=0.0, **{**rule.settings, **options, **kernels})


def optimizer_rule(name: str) -> Rule:
    """The rule of that name. Raises InputError listing the names there are."""
    if name not in OPTIMIZERS:
        raise InputError(f"there is no optimizer {name!r}; there are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Gives every group the rate factor × its base rate: what a schedule says, kept apart from what each group was made with."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["base_lr"]


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], maximum: float) -> Tensor:
    """Scales all gradients, in place, by one factor so that their joint 2-norm is at most `maximum`; returns the norm before.

    Sparse gradients are coalesced first: a row that occurs twice counts by its sum. Without any gradient the norm is 0.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = _coalesced(parameter.grad)
            gradients.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    norm = nn.utils.get_total_norm(gradients)
    factor = (maximum / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients if float(factor) != 1.0 else ():
        gradient.mul_(factor.to(gradient.device))
    return norm


@torch.no_grad()
def penalty(optimizer: torch.optim.Optimizer) -> float:
    """λ₁Σ|w| + λ₂Σw² over the groups of an optimizer made here: what the penalties add to the mean loss (E11, E18)."""
    total = 0.0
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["l1"] or group["l2"] else ():
            total += group["l1"] * float(parameter.abs().sum()) + group["l2"] * float(parameter.square().sum())
    return total


def _grouped(named: list[tuple[str, nn.Parameter]], rate: float, settings: dict[str, Setting], proximal: bool) -> list[dict[str, Any]]:
    """Parameters that share rate and penalties, together, in the order of their first."""
    groups: dict[tuple[float, ...], dict[str, Any]] = {}
    for name, parameter in named:
        base = rate * _for_name(settings["multiplier"], name, 1.0)
        exempt = parameter.dim() <= 1
        l1, l2, decay = (0.0 if exempt else _for_name(settings[key], name, 0.0) for key in ("l1", "l2", "weight_decay"))
        fresh = {"params": [], "lr": base, "base_lr": base, "l1": l1, "l2": l2, "weight_decay": decay, "proximal": proximal}
        groups.setdefault((base, l1, l2, decay), fresh)["params"].append((name, parameter))
    return list(groups.values())


def _for_name(setting: Setting, name: str, otherwise: float) -> float:
    if not isinstance(setting, Mapping):
        return float(setting)
    fitting = [beginning for beginning in setting if _begins(name, beginning)]
    return float(setting[max(fitting, key=len)]) if fitting else otherwise


def _begins(name: str, beginning: str) -> bool:
    return beginning == "" or name == beginning or name.startswith(beginning + ".")


def _check_setting(key: str, setting: Setting, names: list[str]) -> None:
    for beginning, number in setting.items() if isinstance(setting, Mapping) else [("", setting)]:
        if not 0 <= number < float("inf"):
            raise InputError(f"{key} must be finite and not negative, not {number}")
        if not any(_begins(name, beginning) for name in names):
            raise InputError(f"no parameter begins with {beginning!r}, for which a {key} was given; the first is {names[0]!r}")


def _has_fused_kernel(parameter: Tensor) -> bool:
    return parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point()


def _fits_adam_rows(parameter: Tensor, group: dict[str, Any]) -> bool:
    plain = parameter.device.type == "cpu" and parameter.dtype in (torch.float32, torch.float64) and parameter.is_contiguous()
    rows_only = parameter.dim() == 2 and parameter.grad.sparse_dim() == 1  # type: ignore[union-attr]
    return plain and rows_only and not (group["l1"] or group["l2"] or group["amsgrad"])


def _step_adam_rows(parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any], decay: float) -> None:
    """One step of Adam in place on the rows of a coalesced gradient; `decay` is taken off them first, as a share."""
    from weft.nn import rows  # numba takes half a second to start

    if not state:  # as torch's rule begins
        state["step"] = torch.zeros(())
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    state["step"] += 1
    tables, options = (parameter, state["exp_avg"], state["exp_avg_sq"]), {"betas": group["betas"], "epsilon": group["eps"]}
    rows.adam(*tables, gradient, rate=float(group["lr"]), decay=decay, step=int(state["step"]), **options)


def _coalesced(gradient: Tensor) -> Tensor:
    """A sparse gradient with each row once. Where rows ascend they are so already: accumulating gradients forgets it, and sorting costs."""
    rows = gradient._indices()
    if not gradient.is_coalesced() and gradient.sparse_dim() == 1 and bool((rows[0, 1:] > rows[0, :-1]).all()):
        return gradient._coalesced_(True)
    return gradient.coalesce()


def _narrow(parameter: Tensor, state: dict[str, Any]) -> _Narrowed:
    gradient = _coalesced(parameter.grad)  # type: ignore[arg-type]
    if gradient.sparse_dim() != 1:
        raise ValueError(f"a sparse gradient must be sparse in its rows alone, not in {gradient.sparse_dim()} dimensions")
    rows, full = gradient.indices()[0], parameter.detach()
    kept = {key: value for key, value in state.items() if torch.is_tensor(value) and value.shape == full.shape}
    parameter.grad = None  # a gradient must have its parameter's shape, so it goes before and comes after
    parameter.data = full.index_select(0, rows)
    parameter.grad = gradient.values()
    for key, value in kept.items():
        state[key] = value.index_select(0, rows)
    return _Narrowed(parameter, full, gradient, rows, kept)


def _widen(item: _Narrowed, state: dict[str, Any]) -> None:
    parameter, full, rows = item.parameter, item.full, item.rows
    for key, value in list(state.items()):
        if torch.is_tensor(value) and value.dim() and value.shape == parameter.shape:
            whole = item.state.get(key)
            if whole is None:
                whole = value.new_zeros(full.shape)  # every rule's state begins at 0, so rows not seen yet have theirs
            state[key] = whole.index_copy_(0, rows, value)
    full.index_copy_(0, rows, parameter.detach())
    parameter.grad = None
    parameter.data = full
    parameter.grad = item.gradient
