"""Attention of a prepared model: its projections are products with gradients of their own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._modules import PREPARED, Prepared
from ._products import _Linear, computed_in, multiply


class MultiheadAttention(Prepared, nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention`, whose projections have gradients with scales of their own.

    It computes what `torch.nn.functional.multi_head_attention_forward` does, in the same order: that function cannot be
    told to make its products otherwise.  The scores, and the values that are mixed by them, are PyTorch's products.
    """

    adaloss_plain = nn.MultiheadAttention

    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        dtype = self._computed_in(query, key, value)
        if dtype is None or not self._fits(query, key, value, key_padding_mask, attn_mask, is_causal):
            # What does not fit is PyTorch's to refuse.
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        is_causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if is_causal else self._mask(attn_mask, key_padding_mask, query.dtype)
        projected = self._projected(self._by_positions(query, key, value), dtype)
        q, k, v = (self._by_heads(x) for x in projected)
        mask = None if mask is None else mask.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            mixed, weights = self._mixed_by_weights(q, k, v, mask, dropout)
            weights = weights.mean(dim=1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
        mixed = mixed.permute(2, 0, 1, 3).flatten(2)
        # PyTorch takes the weights of this module, and does not call it.
        site = getattr(self.out_proj, "adaloss_site", None) or self.adaloss_site.part("out_proj")
        y = multiply(mixed, self.out_proj.weight, self.out_proj.bias, _Linear(), site, dtype)
        if query.dim() == 2:
            return y.squeeze(1), None if weights is None else weights.squeeze(0)
        return y.transpose(0, 1) if self.batch_first else y, weights

    def _computed_in(self, *inputs: Tensor) -> torch.dtype | None:
        """Returns the type that projections are computed in; None where they are left to PyTorch, as on its fast path."""
        if has_more_keys(self) or any(x.is_nested for x in inputs):
            return None
        # Not what may be computed from them at each look.
        parameters = tuple(self.parameters())
        if not any(t.requires_grad for t in (*inputs, *parameters)):
            return None
        return computed_in(self.adaloss_site, inputs, parameters)

    def _fits(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> bool:
        """Tells whether shapes and masks are as `torch.nn.MultiheadAttention` takes them."""
        dims = query.dim()
        if dims not in (2, 3) or key.dim() != dims or value.dim() != dims or (is_causal and attn_mask is None):
            return False
        positions = 1 if dims == 3 and self.batch_first else 0
        queries, keys = query.shape[positions], key.shape[positions]
        batch = query.shape[1 - positions] if dims == 3 else 1
        if dims == 3 and key.shape[1 - positions] != batch:
            return False
        if key.shape[:-1] != value.shape[:-1]:
            return False
        if (query.shape[-1], key.shape[-1], value.shape[-1]) != (self.embed_dim, self.kdim, self.vdim):
            return False
        if any(m is not None and m.dtype != torch.bool and not m.is_floating_point() for m in (key_padding_mask, attn_mask)):
            return False
        padded = (keys,) if dims == 2 else (batch, keys)
        if key_padding_mask is not None and key_padding_mask.shape != padded:
            return False
        return attn_mask is None or attn_mask.shape in ((queries, keys), (batch * self.num_heads, queries, keys))

    def _mask(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Returns what is added to the scores: by batch, head, query and key, of which any but the last may be 1."""
        masks = []
        if attn_mask is not None:
            of_heads = attn_mask[None, None] if attn_mask.dim() == 2 else attn_mask.unflatten(0, (-1, self.num_heads))
            masks.append(_added(of_heads, dtype))
        if key_padding_mask is not None:
            of_batch = key_padding_mask if key_padding_mask.dim() == 2 else key_padding_mask[None]
            masks.append(_added(of_batch[:, None, None], dtype))
        return sum(masks[1:], masks[0]) if masks else None

    def _by_positions(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the inputs by position, batch and feature; those that are the same stay so."""
        moved: dict[int, Tensor] = {}
        for x in inputs:
            if id(x) not in moved:
                moved[id(x)] = x.unsqueeze(1) if x.dim() == 2 else x.transpose(0, 1) if self.batch_first else x
        return tuple(moved[id(x)] for x in inputs)

    def _projected(self, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Returns queries, keys and values, by as few products as the inputs are different."""

        def product(x: Tensor, weight: Tensor, bias: Tensor | None, name: str) -> Tensor:
            return multiply(x, weight, bias, _Linear(), self.adaloss_site.part(name), dtype)

        def parts(y: Tensor, count: int) -> tuple[Tensor, ...]:
            # Each by itself in memory, as PyTorch has them.
            return y.unflatten(-1, (count, -1)).movedim(-2, 0).contiguous().unbind()

        (query, key, value), names = inputs, ("q_proj", "k_proj", "v_proj")
        bias: Tensor | None = self.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        if not self._qkv_same_embed_dim:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            return tuple(map(product, inputs, weights, biases, names))
        weight: Tensor = self.in_proj_weight
        if query is key and key is value:
            return parts(product(query, weight, bias, "in_proj"), 3)
        if key is value:
            sizes = [self.embed_dim, 2 * self.embed_dim]
            of_query, of_both = weight.split(sizes)
            bias_of_query, bias_of_both = (None, None) if bias is None else bias.split(sizes)
            q = product(query, of_query, bias_of_query, "q_proj")
            return q, *parts(product(key, of_both, bias_of_both, "kv_proj"), 2)
        return tuple(map(product, inputs, weight.chunk(3), biases, names))

    def _by_heads(self, x: Tensor) -> Tensor:
        """Returns a projection by batch, head, position and feature."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).permute(1, 2, 0, 3)

    def _mixed_by_weights(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float
    ) -> tuple[Tensor, Tensor]:
        """Returns the values as they are mixed, and the weights that they are mixed by."""
        heads = q.shape[:2]
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        scaled, keys = q * math.sqrt(1.0 / self.head_dim), k.transpose(-2, -1)
        if mask is None:
            scores = torch.bmm(scaled, keys)
        else:
            each = mask if mask.shape[:2] == (1, 1) else mask.expand(*heads, -1, -1)
            scores = torch.baddbmm(each.flatten(0, 1), scaled, keys)
        weights = F.softmax(scores, dim=-1)
        if dropout > 0.0:
            weights = F.dropout(weights, dropout)
        return torch.bmm(weights, v).unflatten(0, heads), weights.unflatten(0, heads)


PREPARED[nn.MultiheadAttention] = MultiheadAttention


def has_more_keys(module: nn.Module) -> bool:
    """Tells whether a module is attention with keys that are not of its input, which is left to PyTorch."""
    return isinstance(module, nn.MultiheadAttention) and (
        module.bias_k is not None or module.bias_v is not None or module.add_zero_attn
    )


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a mask as what is added to scores: minus infinity where it is true, or what it is itself."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
