"""Arithmetic on scales that stays on the device: nothing here waits for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The least float32 that rounds beyond the largest number of a format, as mantissa and exponent of `frexp`: 65520 is
# 0.999755859375 * 2^16.  In E4M3, 464 is half-way to what is no number any more, and rounds to 448, which is even.
_OVERFLOW = {
    "binary16": (65520 / 2**16, 16),
    "binary16-flushing": (65520 / 2**16, 16),
    "e5m2": (61440 / 2**16, 16),
    "e4m3": (464 / 2**9 + 2**-24, 9),
}
FORMATS = tuple(_OVERFLOW)

# Scales stay within these exponents, so that the quotient of two of them is a normal number in float32.
LEAST_LOG2, GREATEST_LOG2 = -60, 60


def largest(values: Tensor) -> Tensor:
    """Returns the largest magnitude in float32: infinite or NaN where an element is, 0 where there is none."""
    values = values.detach()
    if values.is_sparse:
        values = values._values()
    if values.numel() == 0:
        return torch.zeros((), dtype=torch.float32, device=values.device)
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if values.dtype == torch.float64:
        return torch.linalg.vector_norm(values, math.inf).float()
    return torch.linalg.vector_norm(values, math.inf, dtype=torch.float32)


def ceiling(magnitude: Tensor, format: str = "binary16") -> Tensor:
    """Returns the exponent of the greatest scale at which a magnitude does not overflow a format.

    In binary16, of 3.0 = 0.75 * 2^2 it is 16 - 2 = 14: 3 * 2^14 is 49152, and twice that is infinite.  Of 0 and what is
    not finite it is the greatest scale.
    """
    overflow_mantissa, overflow_exponent = _OVERFLOW[format]
    mantissa, exponent = torch.frexp(magnitude)
    exponent = exponent + (mantissa >= overflow_mantissa)
    known = torch.isfinite(magnitude) & (magnitude > 0)
    return torch.where(known, overflow_exponent - exponent, GREATEST_LOG2)


def within_bounds(log2: int) -> int:
    """Returns the exponent of a scale kept within those that scales have."""
    return max(LEAST_LOG2, min(GREATEST_LOG2, log2))


def power(log2: Tensor) -> Tensor:
    """Returns 2^log2 in float32, kept within the exponents that scales have."""
    log2 = log2.clamp(LEAST_LOG2, GREATEST_LOG2)
    return torch.ldexp(torch.ones((), dtype=torch.float32, device=log2.device), log2)


def scaled(values: Tensor, factor: Tensor | float, dtype: torch.dtype) -> Tensor:
    """Returns values * factor, computed in float32 and rounded once."""
    if values.is_sparse or values.is_complex() or values.dtype == torch.float64:
        return (values * factor).to(dtype)
    if dtype == torch.float16 and values.dtype == torch.float32:
        return torch.mul(values, factor, out=torch.empty_like(values, dtype=dtype))
    # Not in binary16, where a factor beyond 65504 would be infinite.
    return (values.float() * factor).to(dtype)


def narrowed(values: Tensor, format: str) -> Tensor:
    """Returns float32 values rounded to a format, which they do not overflow, in float32 again."""
    if format == "e5m2":
        return values.to(torch.float8_e5m2).float()
    if format == "e4m3":
        return values.to(torch.float8_e4m3fn).float()
    half = values.to(torch.float16).float()
    if format == "binary16-flushing":
        return torch.where(half.abs() < 2.0**-14, 0.0, half)
    return half
