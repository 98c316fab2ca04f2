"""Multi-head attention written out in functions whose weights the gradient engine can follow.

`F.multi_head_attention_forward` multiplies by a packed in-projection and an out-projection without calling them as
layers. Here the same is computed through `F.linear` with the weights themselves, so that each is seen.

L target positions, S source positions, N examples, E numbers a position.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_SIGNATURE = inspect.signature(F.multi_head_attention_forward)
_UNUSUAL = ("bias_k", "bias_v", "add_zero_attn", "use_separate_proj_weight", "static_k", "static_v")


def bound(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `F.multi_head_attention_forward` by name, defaults included."""
    found = _SIGNATURE.bind(*args, **kwargs)
    found.apply_defaults()
    return found.arguments


def can_attend(arguments: Mapping[str, Any]) -> bool:
    """Whether `attend` covers the call: a batch, one packed in-projection, nothing added to keys and values."""
    unusual = any(arguments[name] is not None and arguments[name] is not False for name in _UNUSUAL)
    return arguments["query"].dim() == 3 and not unusual


def attend(arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """What the function returns: outputs (L, N, E), and where wanted the weights (N, L, S) or (N, heads, L, S)."""
    query, heads = arguments["query"], arguments["num_heads"]
    L, N, E = query.shape
    q, k, v = (_split(side, heads) for side in _projected(arguments))
    mask = _mask(arguments, heads, q)
    dropout = arguments["dropout_p"] if arguments["training"] else 0.0
    weights = None
    if arguments["need_weights"]:
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
        weights = torch.softmax(scores if mask is None else scores + mask, 3)
        mixed = F.dropout(weights, dropout) @ v if dropout else weights @ v
        weights = weights.mean(1) if arguments["average_attn_weights"] else weights
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
    joined = mixed.permute(2, 0, 1, 3).reshape(L, N, E)
    return F.linear(joined, arguments["out_proj_weight"], arguments["out_proj_bias"]), weights


def _projected(arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Queries, keys and values, (L or S, N, E) each."""
    sides = [arguments[name] for name in ("query", "key", "value")]
    weight, bias = arguments["in_proj_weight"], arguments["in_proj_bias"]
    if sides[0] is sides[1] and sides[1] is sides[2]:
        return F.linear(sides[0], weight, bias).chunk(3, 2)
    # Each by the whole weight, of which it takes its third: a part of a weight is not the weight.
    return tuple(F.linear(side, weight, bias).chunk(3, 2)[i] for i, side in enumerate(sides))


def _split(side: Tensor, heads: int) -> Tensor:
    """(L, N, E) → (N, heads, L, E / heads)."""
    return side.unflatten(2, (heads, -1)).permute(1, 2, 0, 3)


def _mask(arguments: Mapping[str, Any], heads: int, q: Tensor) -> Tensor | None:
    """The attention mask and the padding mask as one that is added, broadcast over (N, heads, L, S); None for none."""
    parts = []
    if arguments["attn_mask"] is not None:
        mask = _added(arguments["attn_mask"], q)
        parts.append(mask if mask.dim() == 2 else mask.unflatten(0, (-1, heads)))
    if arguments["key_padding_mask"] is not None:
        parts.append(_added(arguments["key_padding_mask"], q)[:, None, None, :])
    return sum(parts[1:], parts[0]) if parts else None


def _added(mask: Tensor, q: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(q.dtype)
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, -torch.inf)
