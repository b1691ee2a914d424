"""Pages of studies: what a browser shows of them, with texts that try to be more than text."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape

import pytest
from patience import PATIENCE_SECONDS
from seeded_study import seeded_study
from tiny_run import tiny  # noqa: F401

from codemix_megatron.cli.main import main
from codemix_megatron.records.item_scores import ItemScores
from codemix_megatron.study.pages.samples import sample_documents
from codemix_megatron.study.pages.writing import write_pages

HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A begun study of two variants and three seeds; one model wrote something hostile."""
    folder = tmp_path_factory.mktemp("pages") / "mixes"
    seeded_study(folder / "runs", {"text-only": (0.0, 1.5), "half-code": (0.5, 1.4)}, seeds=3, noise=0.001)
    names = sorted(path.name for path in (folder / "runs").iterdir())
    (folder / "study.json").write_text(json.dumps({"study": "mixes.yaml", "variants": {name: [name] for name in names}}))
    items = ItemScores(task="story", keys=["a"], metrics={}, texts=[f"once {HOSTILE}"])
    (folder / "runs" / names[0] / "scores" / "items").mkdir(parents=True, exist_ok=True)
    items.write(folder / "runs" / names[0] / "scores" / "items" / "story-0.json")
    return folder


@pytest.fixture(scope="module")
def pages(study, tmp_path_factory):
    return write_pages([study], tmp_path_factory.mktemp("public"), samples=2)


def shown(page, tmp_path) -> str:
    """Return the page after its scripts have run in a real browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here; install Debian's chromium to look at the pages")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    words += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True).stdout


def test_a_search_finds_variants_and_texts_and_runs_nothing_in_them(pages, tmp_path):
    found = shown(f"{pages.as_uri()}?q=once+half", tmp_path)
    assert "<title>Studies</title>" in found and "taken" not in re.sub(r"<(li|script)\b.*?</\1>", "", found, flags=re.DOTALL)
    hits = re.findall(r"<li>.*?</li>", found, re.DOTALL)
    assert len(hits) == 1 and "story 0, half-code-seed-1" in hits[0] and 'href="mixes/index.html#generations"' in hits[0]
    assert "nothing found" in shown(f"{pages.as_uri()}?q=nowhere-at-all", tmp_path)


def test_a_study_shows_its_lineage_mixtures_and_verdicts(pages, tmp_path):
    found = shown((pages.parent / "mixes" / "index.html").as_uri(), tmp_path)
    assert "<title>mixes</title>" in found and "taken" in unescape(found)
    assert found.count('<g class="scores">') == 6 and found.count('<g class="corpus">') == 2
    compared = re.search(r'<div class="result">(.*?)</div>', found, re.DOTALL)[1]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", compared)]
    tokens = {source: (one, other, change) for _, source, one, other, change in filter(None, cells)}
    assert tokens["code"][0].replace(",", "") == str(int(tokens["text"][0].replace(",", "")))  # half and half
    assert tokens["code"][1] == "0" and tokens["code"][2] == f"\u2212{tokens['code'][0]}"
    assert "worse" in found or "better" in found
    assert (pages.parent / "mixes" / "report" / "index.html").is_file() and 'href="report/index.html"' in found


def test_documents_of_a_corpus_are_drawn_and_those_gone_are_left_out(tiny):  # noqa: F811
    from codemix_megatron.records.manifest import CorpusManifest

    prefix = str(next(tiny.folder.rglob("*snippets*.manifest.json"))).removesuffix(".manifest.json")
    manifest = CorpusManifest.read(prefix)
    drawn = sample_documents("snippets", manifest, 3, seed=1)
    assert len(drawn) == 3 and all(document.text.startswith("def f") for document in drawn)
    assert sample_documents("snippets", replace(manifest, prefix=f"{prefix}-gone"), 3, seed=1) == []


def test_what_is_no_study_is_refused(tmp_path, capsys):
    assert main(["pages", str(tmp_path), "--output", str(tmp_path / "public")]) == 2
    assert "not a begun study" in capsys.readouterr().err
    assert not (tmp_path / "public").exists()
