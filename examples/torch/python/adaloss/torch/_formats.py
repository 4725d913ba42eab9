"""Arithmetic on scales that stays on the device: nothing here waits for it."""

from __future__ import annotations

import functools
import math
import struct

import torch
from torch import Tensor

# The least float32 that rounds beyond the largest number of a format.  In E4M3, 464 is half-way to what is no number any
# more, and rounds to 448, which is even.
_OVERFLOW = {
    "binary16": 65520.0,
    "binary16-flushing": 65520.0,
    "e5m2": 61440.0,
    "e4m3": 464.0 + 2.0**-15,
}
FORMATS = tuple(_OVERFLOW)

# Scales stay within these exponents, so that the quotient of two of them is a normal number in float32.
LEAST_LOG2, GREATEST_LOG2 = -60, 60


def largest(values: Tensor) -> Tensor:
    """Returns the largest magnitude in float32: infinite or NaN where an element is, 0 where there is none."""
    if values.requires_grad:
        values = values.detach()
    if values.is_sparse:
        values = values._values()
    if values.numel() == 0:
        return torch.zeros((), dtype=torch.float32, device=values.device)
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if values.dtype == torch.float64:
        return torch.linalg.vector_norm(values, math.inf).float()
    if values.device.type == "cpu":
        # Two passes of vectors, where the norm is one of scalars and takes ten times as long.
        return values.abs().max().float()
    return torch.linalg.vector_norm(values, math.inf, dtype=torch.float32)


def _carry(overflow: float) -> tuple[int, int]:
    """Returns what `ceiling` adds to the bits of a magnitude, and the exponent that 1 has in it, as it is then read."""
    (bits,) = struct.unpack("<i", struct.pack("<f", overflow))
    fraction = bits & (2**23 - 1)
    return (2**23 - fraction) % 2**23, (bits >> 23) - (fraction == 0)


_CARRY = {format: _carry(overflow) for format, overflow in _OVERFLOW.items()}


@functools.cache
def _word(number: int) -> Tensor:
    """Returns a number as a tensor of the host's, which every device takes for one: PyTorch makes one anew of each number."""
    return torch.tensor(number, dtype=torch.int32)


def ceiling(magnitude: Tensor, format: str = "binary16", plus: int = 0) -> Tensor:
    """Returns the exponent of the greatest scale at which a magnitude in float32 does not overflow a format, and `plus`.

    A float32 is its exponent in the bits from 23 on, and a fraction below.  What is added to the fraction carries into the
    exponent from the format's bound on.  In binary16 the bound is 65520 = 2^15 * 1.99951; of 3 = 2^1 * 1.5, which is below
    1.99951 times a power of two, the exponent stays 1, and the greatest scale is 15 - 1 = 14: 3 * 2^14 is 49152, and
    twice that is infinite.  Of 0 it is more than any scale, of what is not finite less.
    """
    added, greatest = _CARRY[format]
    return _word(greatest + plus) - torch.bitwise_right_shift(magnitude.view(torch.int32) + _word(added), _word(23))


def within_bounds(log2: int) -> int:
    """Returns the exponent of a scale kept within those that scales have."""
    return max(LEAST_LOG2, min(GREATEST_LOG2, log2))


def greatest_scale(magnitude: Tensor, format: str = "binary16", plus: int = 0, most: int = GREATEST_LOG2) -> Tensor:
    """Returns 2^(ceiling + plus) in float32, 2^most at most, within the bounds that scales have.

    The bits of a power of two are its exponent's alone.
    """
    biased = ceiling(magnitude, format, plus + 127).clamp(LEAST_LOG2 + 127, within_bounds(most) + 127)
    return torch.bitwise_left_shift(biased, _word(23)).view(torch.float32)


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
