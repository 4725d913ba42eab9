"""The page of a watch: pictures by matplotlib, in one file."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._watch import Layer, Watch

# Binades below and above what binary16 holds at 2^0: its least subnormal number, and what rounds to infinity.
_LEAST, _GREATEST = -24, 16

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; font-size: 13px; }
svg { width: 100%; height: auto; }
"""


def page(watch: Watch) -> str:
    """Returns the page as HTML, with the pictures in it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the page is drawn by matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg", force=False)
    layers = [layer for layer in watch.layers if layer.histograms["binary16"].nonzero]
    pictures = "<p>No gradient was seen yet.</p>"
    if layers:
        pictures = (
            "<h2>Where gradients are</h2><p>Each row is the gradient that a layer returns for its input, unscaled: the "
            "darker, the more of its elements have this magnitude. Between the marks is what binary16 holds at the scale in "
            "use; left of them is lost, right of them is infinite.</p>"
            + _svg(_magnitudes(layers))
            + "<h2>What is lost at every scale</h2><p>The share of each gradient's elements that underflow or overflow in "
            "binary16 if all are scaled by the same power of two.</p>" + _svg(_losses(layers))
        )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>What gradients lose</title>"
        f"<style>{_STYLE}</style><h1>What gradients lose</h1><p>{html.escape(watch.advice())}.</p>"
        f"{pictures}<h2>In numbers</h2><pre>{html.escape(watch.table())}</pre></html>\n"
    )


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _magnitudes(layers: list[Layer]) -> Any:
    from matplotlib.figure import Figure

    # An element that underflows at 2^(K - 1) and not at 2^K has the magnitude 2^(-25 - K), or up to twice that.
    exponents = range(-100, 60)
    rows = []
    for layer in layers:
        histogram = layer.histograms["binary16"]
        rows.append([histogram.underflow(_LEAST - 2 - e) - histogram.underflow(_LEAST - 1 - e) for e in exponents])
    seen = [any(row[column] for row in rows) for column in range(len(exponents))]
    first, last = seen.index(True), len(seen) - seen[::-1].index(True)
    shares = [[count / max(sum(row), 1) for count in row[first:last]] for row in rows]
    figure = Figure(figsize=(9, 1.2 + 0.22 * len(layers)))
    axes = figure.add_subplot()
    left, right = exponents[first], exponents[last - 1] + 1
    axes.imshow(shares, aspect="auto", cmap="Blues", extent=(left, right, len(layers), 0), interpolation="nearest")
    for row, layer in enumerate(layers):
        scale = layer.scale_log2 or 0
        for edge in (_LEAST - scale, _GREATEST - scale):
            axes.plot([edge, edge], [row, row + 1], color="#c03020", linewidth=2)
    axes.set_yticks([row + 0.5 for row in range(len(layers))], [layer.name for layer in layers], fontsize=7)
    axes.set_xlabel("exponent of the magnitude, base 2")
    return figure


def _losses(layers: list[Layer]) -> Any:
    from matplotlib.figure import Figure

    scales = range(-60, 61)
    figure = Figure(figsize=(9, 4))
    axes = figure.add_subplot()
    for layer in layers:
        axes.plot(scales, [100.0 * layer.lost_at(log2) for log2 in scales], linewidth=1, label=layer.name)
    axes.set_xlabel("exponent of the scale, base 2")
    axes.set_ylabel("% lost")
    if len(layers) <= 20:
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
