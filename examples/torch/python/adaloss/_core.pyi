"""Decisions and histograms, compiled from Rust."""

__version__: str

class Cells:
    """The scales of a model's gradients, by name, decided by core's policy `measured`.

    `format` is "binary16", "binary16-flushing", "bfloat16", "e5m2" or "e4m3".
    """

    def __init__(self, format: str) -> None: ...
    def scale_log2(self, name: str) -> int | None:
        """Returns the exponent of the scale of a name, None before its first step with a value."""

    def look(self, looks: list[tuple[str, float, int, bool]]) -> None:
        """Takes note of looks of the step under way, in order.

        A look is a name, the largest magnitude of the gradient, unscaled (infinite or NaN where an element is), the
        exponent of the scale that the gradient had, and whether that scale can have made it infinite.
        """

    def finish(self) -> str | None:
        """Ends the step and decides the scales of the next one.

        Returns the name whose scale made values infinite, if one did: the first, since infinities are passed on.
        """

    @property
    def steps(self) -> int:
        """Steps that were finished."""

    def __len__(self) -> int: ...
    def names(self) -> list[str]:
        """Returns all names, in the order of their numbers."""

    def has(self, name: str) -> bool:
        """Tells whether there is a cell of this name."""

    def add(self, names: list[str]) -> None:
        """Gives cells to names that have none, in this order."""

    def pack(self) -> bytes:
        """Returns what this rank brings to an agreement on the step: core's message of 80 + 6 n bytes for n cells."""

    def differs(self, merged: bytes) -> str | None:
        """Returns in what ranks differ, if they cannot share the step of a merged message, or of its first 80 bytes.

        It is the first of "version", "cells", "config", "step", "digest" (of the cells) and "damaged".
        """

    def unpack(self, merged: bytes) -> None:
        """Takes what all ranks brought, merged by the greatest of the bytes at each place.  ValueError: as `differs`."""

    def configuration(self) -> int:
        """Returns a digest of the configuration, of 32 bits."""

    def parts(self) -> list[tuple[str | None, int]]:
        """Returns digests of all that has to be alike as a step begins: of each cell with its name, and two of no cell."""

    def save(self) -> list[tuple[str, bytes]]:
        """Returns name and bytes of each cell."""

    def save_run(self) -> bytes:
        """Returns the bytes of what is kept of the run beside its cells: how many steps it has."""

    def load(self, saved: list[tuple[str, bytes]], run: bytes | None = None) -> None:
        """Takes what `save` and `save_run` returned; without a run, one begins.  ValueError: damaged; nothing is changed."""

class Histogram:
    """How many elements of a tensor a format would lose, exactly, at every scale from 2^-126 to 2^126."""

    def __init__(self, format: str) -> None: ...
    def observe(self, address: int, length: int, scale_log2: int) -> None:
        """Counts `length` elements in float32 from an address of the host's memory on, which carry the scale 2^scale_log2."""

    def merge(self, other: Histogram) -> None:
        """Adds the counts of another histogram of the same format."""

    @property
    def elements(self) -> int: ...
    @property
    def nonzero(self) -> int:
        """Elements that are finite and not 0."""

    @property
    def nonfinite(self) -> int: ...
    def underflow(self, log2: int) -> int:
        """Returns how many become 0 at the scale 2^log2."""

    def overflow(self, log2: int) -> int:
        """Returns how many overflow at the scale 2^log2."""

    def greatest_scale(self) -> int | None:
        """Returns the exponent of the greatest scale at which nothing overflows."""

    def least_scale(self, allowed: int) -> int | None:
        """Returns the exponent of the least scale at which at most `allowed` elements become 0."""
