"""These tests read a made run."""

import pytest
from made_run import finished  # noqa: F401

EMPTY = {"svg": b'<svg width="1" height="1"></svg>', "png": b"\x89PNG\r\n\x1a\n"}


@pytest.fixture
def drawn():
    """Ask for it where a test looks at figures, not only at what the page says."""


@pytest.fixture(autouse=True)
def quick_figures(request, monkeypatch):
    """Figures are filled and not written: layout and files take nine tenths of a report's time."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("codemix_megatron.report.canvas.files_of", lambda canvas, *kinds: [EMPTY[kind] for kind in kinds])
