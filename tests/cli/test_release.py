"""What a release consists of: a wheel that holds all it names, a list of packages, hashes, and known vulnerabilities."""

import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

RELEASE = REPOSITORY / "release"
needs_release = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("build", "twine", "cyclonedx")),
    reason="build, twine and cyclonedx are not installed; `make check-release` installs them",
)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program of this checkout."""
    return subprocess.run(
        [sys.executable, *map(str, words)], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Wheel and sources, built of the files that git knows."""
    folder = tmp_path_factory.mktemp("release")
    archive = subprocess.run(["git", "archive", "--format=tar", "HEAD"], cwd=REPOSITORY, capture_output=True)
    if archive.returncode:
        pytest.skip("not a git checkout")
    (folder / "sources").mkdir()
    subprocess.run(["tar", "-x", "-C", folder / "sources"], input=archive.stdout, check=True)
    done = run("-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "sources")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return folder / "dist"


@needs_release
@pytest.mark.slow
def test_twine_accepts_wheel_and_sources(built):
    done = run("-m", "twine", "check", "--strict", *built.iterdir())
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout


@needs_release
@pytest.mark.slow
def test_the_wheel_holds_types_templates_suites_and_examples(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = REPOSITORY / "codemix_megatron"
    data = {f"codemix_megatron/{p.relative_to(source)}" for p in source.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert data <= names, data - names
    assert {"codemix_megatron/py.typed", "codemix_megatron/files/examples/demo/recipe.yaml"} <= names
    code = {f"codemix_megatron/{p.relative_to(source)}" for p in source.rglob("*.py")}
    assert code <= names and not [name for name in names if name.startswith(("tests/", "build/", "benchmarks/"))]


@needs_release
@pytest.mark.slow
def test_from_the_wheel_alone_examples_are_copied_and_planned(built, tmp_path):
    """The wheel unpacked somewhere, beside the packages that are installed here: nothing of the checkout is on the path."""
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    env = {**clean_environment(), "PYTHONPATH": str(tmp_path / "site")}

    def codemix(*words):
        return subprocess.run([sys.executable, "-m", "codemix_megatron", *words], cwd=tmp_path, env=env, capture_output=True, text=True)

    assert codemix("examples", "--copy", ".").returncode == 0
    done = codemix("plan", "examples/paper/470m/text-only.yaml", "--assume-tokens", "examples/paper/sizes.yaml")
    assert done.returncode == 0 and "470" in done.stdout, done.stderr[-2000:]


@needs_release
@pytest.mark.slow
def test_the_list_of_packages_is_cyclonedx_and_names_each_with_who_needs_it(tmp_path):
    """release/sbom.py has the standard's own schema judge it; here, that nothing is missing of what is pinned and needed."""
    done = run(RELEASE / "sbom.py", tmp_path / "sbom.json", "eval")
    assert done.returncode == 0, done.stderr[-2000:]
    bill = json.loads((tmp_path / "sbom.json").read_text())
    names = {component["name"].lower(): component for component in bill["components"]}
    assert bill["specVersion"] == "1.6" and bill["metadata"]["component"]["name"].replace("_", "-") == "codemix-megatron"
    assert {"torch", "megatron-core", "numpy", "sqlitedict"} <= set(names)
    assert names["torch"]["purl"].startswith("pkg:pypi/torch@")
    (of_lm_eval,) = [entry for entry in bill["dependencies"] if entry["ref"].startswith("lm-eval@")]
    assert any(ref.startswith("sqlitedict@") for ref in of_lm_eval["dependsOn"])


def advisory(events: list[dict], **others) -> dict:
    """Return an advisory of one package, as OSV has them."""
    package = {"ecosystem": "PyPI", "name": "Some_Package"}
    return {"id": "X-1", "affected": [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}], **others}


@pytest.mark.parametrize(
    ("version", "events", "is_refused"),
    [
        ("1.5", [{"introduced": "0"}, {"fixed": "1.6"}], True),
        ("1.6", [{"introduced": "0"}, {"fixed": "1.6"}], False),
        ("1.10", [{"introduced": "1.9"}], True),
        ("2.1.0", [{"introduced": "0"}, {"last_affected": "2.1.0"}], True),
        ("2.1.1", [{"introduced": "0"}, {"last_affected": "2.1.0"}], False),
        ("3.5", [{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "3.0"}, {"fixed": "4.0"}], True),
        ("2.0", [{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "3.0"}, {"fixed": "4.0"}], False),
        ("1.0rc1", [{"introduced": "0"}, {"fixed": "1.0"}], True),
    ],
)
def test_affected_versions_are_those_of_the_ranges(tmp_path, version, events, is_refused):
    (tmp_path / "pins.txt").write_text(f"some-package=={version}  # pinned\n")
    (tmp_path / "list").mkdir()
    (tmp_path / "list/X-1.json").write_text(json.dumps(advisory(events)))
    assert advisories(tmp_path, "list")[0] == (1 if is_refused else 0)


def advisories(folder: Path, listed: str) -> tuple[int, str]:
    """Run release/advisories.py in this process; return its exit code and what it printed."""
    import contextlib
    import io

    spec = importlib.util.spec_from_file_location("advisories", RELEASE / "advisories.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = module.main(["--list", str(folder / listed), "--constraints", str(folder / "pins.txt")])
    return code, out.getvalue()


def test_an_archive_as_osv_publishes_it_is_read_and_what_was_withdrawn_is_no_fault(tmp_path):
    (tmp_path / "pins.txt").write_text("some-package==1.0\nother==2.0\n")
    everything = [{"introduced": "0"}]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("X-1.json", json.dumps(advisory(everything, withdrawn="2026-01-01T00:00:00Z")))
        archive.writestr("X-2.json", json.dumps({**advisory(everything), "id": "X-2", "aliases": ["CVE-1"], "summary": "It burns"}))
    code, said = advisories(tmp_path, "all.zip")
    assert code == 1 and "some-package 1.0: X-2, CVE-1: It burns\n  NOT ACCEPTED" in said and "2 advisories" in said


def test_pins_of_this_release_have_no_known_vulnerability_that_nobody_accepted():
    done = run(RELEASE / "advisories.py")
    assert done.returncode == 0, done.stdout
    assert "sqlitedict 2.1.0: CVE-2024-35515" in done.stdout and "accepted: comes with lm-eval" in done.stdout


def test_hashes_are_those_of_pips_report_and_a_package_without_one_is_refused(tmp_path):
    digest = hashlib.sha256(b"").hexdigest()
    entry = {"metadata": {"name": "Torch", "version": "2.13.0+cpu"}, "download_info": {"archive_info": {"hashes": {"sha256": digest}}}}
    (tmp_path / "report.json").write_text(json.dumps({"install": [entry]}))
    assert run(RELEASE / "hashes.py", tmp_path / "report.json").stdout == f"torch==2.13.0+cpu --hash=sha256:{digest}\n"
    (tmp_path / "report.json").write_text(json.dumps({"install": [{**entry, "download_info": {"dir_info": {}}}]}))
    done = run(RELEASE / "hashes.py", tmp_path / "report.json")
    assert done.returncode == 1 and "no SHA-256" in done.stderr
