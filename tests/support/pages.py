"""What is asked of every chart of a page: small, whole, and a picture."""

import json

import altair as alt

from ponderttt.report.display import renderer


def assert_draws(chart) -> dict:
    """A chart is a small specification without a number that JSON has not, and a picture of it."""
    renderer.enable()
    bundle = chart._repr_mimebundle_()
    alt.renderers.enable("default")
    assert bundle["image/svg+xml"].startswith("<svg")
    spec = bundle[renderer.VEGALITE_MIME]
    json.dumps(spec, allow_nan=False)
    assert "?" in spec["title"]["text"]
    for rows in spec["datasets"].values():
        assert 0 < len(rows) <= renderer.MAX_ROWS
    return spec
