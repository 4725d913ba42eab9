"""Decisions and histograms, compiled from Rust."""

__version__: str

class Cells:
    """The scales of a model's gradients, by name, decided by core's policy `measured`.

    `format` is "binary16", "binary16-flushing", "bfloat16", "e5m2" or "e4m3".
    """

    def __init__(self, format: str) -> None: ...
    def scale_log2(self, name: str) -> int | None:
        """Returns the exponent of the scale of a name, None before its first step with a value."""

    def step(self, looks: list[tuple[str, float, int, bool]]) -> str | None:
        """Ends a step and decides the scales of the next one.

        A look is a name, the largest magnitude of the gradient, unscaled (infinite or NaN where an element is), the
        exponent of the scale that the gradient had, and whether that scale can have made it infinite.  Returns the name
        whose scale made values infinite, if one did: the first, since infinities are passed on.
        """

    def save(self) -> list[tuple[str, bytes]]:
        """Returns name and bytes of each cell."""

    def load(self, saved: list[tuple[str, bytes]]) -> None:
        """Takes the cells that `save` returned.  ValueError, and nothing is changed, where one is damaged."""

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
