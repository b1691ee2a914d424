"""A page as PDF, by a browser that is there: Chromium, Chrome or Edge without a window. Without one, a browser's own print does the same."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from codemix_megatron.errors import CodemixError

__all__ = ["find_browser", "write_pdf"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "chrome")
SECONDS = 120


def find_browser() -> str | None:
    """Return a browser that prints without a window: $CODEMIX_BROWSER, else the first of the usual names."""
    named = os.environ.get("CODEMIX_BROWSER")
    return named or next((found for name in BROWSERS if (found := shutil.which(name))), None)


def write_pdf(page: Path) -> Path:
    """Print an HTML file into a PDF beside it and return its path; raises CodemixError where no browser does."""
    browser, pdf = find_browser(), page.with_suffix(".pdf")
    if browser is None:
        raise CodemixError(
            f"--pdf: no browser found ({', '.join(BROWSERS)}); open {page} in one and print it, or name one in CODEMIX_BROWSER"
        )
    pdf.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="codemix-print-") as profile:
        # Its own sandbox needs rights that containers and root do not have; the page is ours and loads nothing.
        words = [browser, "--headless", "--disable-gpu", "--no-sandbox", f"--user-data-dir={profile}", "--no-pdf-header-footer"]
        try:
            done = subprocess.run([*words, f"--print-to-pdf={pdf}", page.as_uri()], capture_output=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise CodemixError(f"--pdf: {browser} did not print {page} ({fault}); open it in a browser and print it", exit_code=1) from None
    if not pdf.is_file():
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CodemixError(f"--pdf: {browser} did not print {page} ({said[0][:200]}); open it in a browser and print it", exit_code=1)
    return pdf
