"""Arithmetic on scales that stays on the device: nothing here waits for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# What rounds to infinity, as mantissa and exponent of `frexp`: 65520 = 0.999755859375 * 2^16.
_OVERFLOW_MANTISSA = 65520 / 65536
_OVERFLOW_EXPONENT = 16

# Scales stay within these exponents, so that the quotient of two of them is a normal number in float32.
LEAST_LOG2, GREATEST_LOG2 = -60, 60


def largest(values: Tensor) -> Tensor:
    """Returns the largest magnitude in float32: infinite or NaN where an element is, 0 where there is none."""
    if values.is_sparse:
        values = values._values()
    if values.numel() == 0:
        return torch.zeros((), dtype=torch.float32, device=values.device)
    return torch.linalg.vector_norm(values.detach(), math.inf, dtype=torch.float32)


def ceiling(magnitude: Tensor) -> Tensor:
    """Returns the exponent of the greatest scale at which a magnitude does not overflow binary16.

    Of 3.0 = 0.75 * 2^2 it is 16 - 2 = 14: 3 * 2^14 is 49152, and twice that is infinite.  Of 0 and what is not finite it
    is the greatest scale.
    """
    mantissa, exponent = torch.frexp(magnitude)
    exponent = exponent + (mantissa >= _OVERFLOW_MANTISSA)
    known = torch.isfinite(magnitude) & (magnitude > 0)
    return torch.where(known, _OVERFLOW_EXPONENT - exponent, GREATEST_LOG2)


def power(log2: Tensor) -> Tensor:
    """Returns 2^log2 in float32, kept within the exponents that scales have."""
    log2 = log2.clamp(LEAST_LOG2, GREATEST_LOG2)
    return torch.ldexp(torch.ones((), dtype=torch.float32, device=log2.device), log2)


def scaled(values: Tensor, factor: Tensor | float, dtype: torch.dtype) -> Tensor:
    """Returns values * factor, computed in float32 and rounded once."""
    if values.is_sparse:
        return values * factor
    if dtype == torch.float16 and values.dtype == torch.float32:
        return torch.mul(values, factor, out=torch.empty_like(values, dtype=dtype))
    # Not in binary16, where a factor beyond 65504 would be infinite.
    return (values.float() * factor).to(dtype)
