"""Loss scales per layer: decisions and exact counts from the Rust library, for Python.

`adaloss.torch` is what to use with PyTorch.
"""

from adaloss._core import Cells, Histogram, __version__

__all__ = ["Cells", "Histogram", "__version__"]
