"""Licences: whole texts, several of them, riders, and expressions against a list; judged by what packages say of themselves."""

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
from licence_samples import BSD, COMMONS_CLAUSE, GPL_NOTICE, LLVM_EXCEPTION, MIT, OWNER

from codemix_megatron.corpus.input_identity import fingerprint_inputs
from codemix_megatron.readers.documents import Document
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.readers.licence_texts import is_licence_file, licence_of_text
from codemix_megatron.readers.licences import licence_allowed
from codemix_megatron.recipe.schema import CorpusSpec

REPOSITORY = Path(__file__).resolve().parents[3]
COMMON_LICENCES = Path("/usr/share/common-licenses")  # Debian's own copies


@pytest.fixture(scope="module")
def apache() -> str:
    return (REPOSITORY / "LICENSE").read_text()


def is_permissive(licence: str | None) -> bool:
    return licence is not None and licence_allowed(licence, ("permissive",))


def licences(root: Path, files: dict[str, str]) -> dict[str, str | None]:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    found = [d for f in find_inputs(CorpusSpec(kind="code", documents=(str(root),)), where="x") for d in f.read()]
    assert all(isinstance(document, Document) for document in found)
    return {document.origin: document.licence for document in found}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("LICENSE", True), ("license.txt", True), ("LICENCE.md", True), ("COPYING", True), ("COPYING.LESSER", True), ("LICENSE-APACHE", True),
        ("LICENSE.third-party", True), ("UNLICENSE", True), ("LICENSES.txt", True), ("licenses.py", False), ("license.go", False),
        ("licensecheck", False), ("license_manager.rs", False), ("LICENSE.json", False), ("copying_files.c", False), ("licensing.md", False),
    ],
)  # fmt: skip
def test_only_files_named_as_licences_are_licences(name, is_one):
    assert is_licence_file(Path(name)) == is_one


def test_licence_texts_in_sources_are_no_licence_of_the_project(tmp_path):
    files = {"licenses.py": f'MIT = """{MIT}"""\n', "COPYING": GPL_NOTICE, "a.py": "x = 1\n", "sub/licence_texts.c": f"/* {BSD} */"}
    found = licences(tmp_path, files)
    assert set(found.values()) == {"GPL-3.0-or-later"}
    assert not any(map(is_permissive, found.values()))


def test_all_of_several_licence_files_hold(tmp_path):
    found = licences(tmp_path, {"LICENSE": GPL_NOTICE, "LICENSE.third-party": MIT, "a.py": "x = 1\n"})
    assert found == {"a.py": "GPL-3.0-or-later AND MIT"} and not is_permissive(found["a.py"])


def test_two_permissive_files_are_permissive_and_one_that_is_not_known_spoils_them(tmp_path, apache):
    files = {"a/LICENSE-MIT": MIT, "a/LICENSE-APACHE": apache, "a/x.rs": "fn a() {}", "b/LICENSE": MIT, "b/LICENSE.extra": "Ask Bob."}
    found = licences(
        tmp_path, {**files, "b/y.rs": "fn b() {}", "c/LICENSES/MIT.txt": MIT, "c/LICENSES/BSD.txt": BSD, "c/z.rs": "fn c() {}"}
    )
    assert found == {
        "a/x.rs": "Apache-2.0 AND MIT", "b/y.rs": "MIT AND LicenseRef-unknown", "c/z.rs": "BSD-2-Clause AND MIT",
    }  # fmt: skip
    assert [is_permissive(found[name]) for name in sorted(found)] == [True, False, True]


def test_folder_whose_licence_is_not_known_does_not_take_that_of_the_folder_around_it(tmp_path):
    found = licences(tmp_path, {"LICENSE": MIT, "a.py": "x = 1", "vendor/LICENSE": "All rights reserved, Acme.", "vendor/b.py": "y = 2"})
    assert found == {"a.py": "MIT", "vendor/b.py": "LicenseRef-unknown"}


def test_texts_are_known_whatever_their_titles_owners_and_line_ends(apache):
    assert licence_of_text(MIT) == licence_of_text(MIT.removeprefix("MIT License\n")) == "MIT"
    assert licence_of_text("# The MIT License (MIT)\n\nThis project is free software.\n\n" + MIT.replace("\n", "\r\n")) == "MIT"
    assert licence_of_text(" ".join(BSD.split())) == "BSD-2-Clause"
    assert licence_of_text(apache) == "Apache-2.0" and licence_of_text(" \n") is None
    assert licence_of_text(f"{MIT}\n\nThe parser is from elsewhere:\n\n{BSD}") == "MIT AND BSD-2-Clause"


def test_riders_make_a_licence_unknown(apache):
    proprietary = "PROPRIETARY AND CONFIDENTIAL. You may not copy this software. It contains parts under these licences:\n\n"
    non_commercial = BSD.replace("are permitted provided", "are permitted for non-commercial purposes only, provided")
    spoilt = [
        COMMONS_CLAUSE + apache, proprietary + MIT, non_commercial, "For non-commercial purposes only.\n\n" + BSD,
        MIT.replace(OWNER, "Copyright (c) 2020 Jane Doe. Academic use only.\n"), MIT + "\nMilitary use is prohibited.\n",
        BSD.replace("2. Redistributions in", "2. You may not train models on this software.\n3. Redistributions in"),
        MIT + "\nAdditional terms: " + "see the contract we sent to you " * 20, "MIT", "See LICENSE in the other repository",
        LLVM_EXCEPTION.replace("may redistribute", "may not redistribute") + apache,
    ]  # fmt: skip
    for text in spoilt:
        found = licence_of_text(text)
        assert not is_permissive(found) and "LicenseRef-unknown" in found, text[:200]


def test_exceptions_are_told_from_riders(apache):
    assert licence_of_text(f"{apache}\n\n{LLVM_EXCEPTION}") == "Apache-2.0 WITH LLVM-exception"
    assert is_permissive("Apache-2.0 WITH LLVM-exception")
    assert not is_permissive("GPL-2.0-only WITH Classpath-exception-2.0")
    assert not is_permissive("Apache-2.0 WITH Commons-Clause") and not is_permissive("MIT WITH")


@pytest.mark.parametrize(
    ("licence", "kept"),
    [
        ("(MIT)", True), ("MIT AND (GPL-2.0 OR BSD-3-Clause)", True), ("MIT AND (GPL-2.0 OR AGPL-3.0)", False), ("MIT OR", False),
        ("((MIT", False), ("MIT)", False), ("MIT MIT", False), ("LicenseRef-unknown", False), ("MIT AND LicenseRef-unknown", False),
        ("MIT (non-commercial use only)", False), ("Apache-2.0 (GPL-3.0 parts)", False), ("MIT (Expat)", True),
        ("Apache-2.0, MIT", True), ("MIT; GPL-3.0", False), ("", False), ("OR", False), ("(" * 3000 + "MIT" + ")" * 3000, False),
    ],
)  # fmt: skip
def test_expressions_are_read_as_spdx_means_them(licence, kept):
    assert is_permissive(licence) == kept


def test_only_and_plain_names_are_the_same_licence():
    assert licence_allowed("GPL-3.0-only", ("GPL-3.0",)) and licence_allowed("GPL-3.0", ("GPL-3.0-only",))
    assert not licence_allowed("GPL-3.0-or-later", ("GPL-3.0",))


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("// SPDX-License-Identifier: Apache-2.0 OR MIT\nfn main() {}", "Apache-2.0 OR MIT"),
        ("/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) */\nint x;", "(GPL-2.0 WITH Linux-syscall-note)"),
        ("<!-- SPDX-License-Identifier: MIT -->", "MIT"), ('TAG = "SPDX-License-Identifier: MIT"\n', None),
        ("# we look for `SPDX-License-Identifier: MIT` here\n", None),
    ],
)  # fmt: skip
def test_tag_of_a_source_counts_inside_a_comment(tmp_path, text, licence):
    assert licences(tmp_path, {"a.py": text}) == {"a.py": licence}


def test_all_tags_of_a_source_hold(tmp_path):
    text = "# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0-only OR MIT\n# SPDX-License-Identifier: MIT\nx = 1\n"
    assert licences(tmp_path, {"a.py": text}) == {"a.py": "MIT AND (GPL-2.0-only OR MIT)"}


@pytest.mark.parametrize(
    ("several", "kept"),
    [
        (["MIT", "Apache-2.0"], True), (["MIT OR GPL-2.0-only", "LicenseRef-own"], False), (["MIT OR GPL-2.0-only", "BSD-3-Clause"], True),
        (["LicenseRef-own", "GPL-2.0-only OR MIT"], False), (["GPL-2.0-only OR MIT"], True),
    ],
)  # fmt: skip
def test_each_of_the_licences_a_record_lists_holds_as_a_whole(tmp_path, several, kept):
    """`A OR B` and `C` are `(A OR B) AND C`; without the parentheses A alone would do."""
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": "x = 1", key: several}) + "\n" for key in ("license", "max_stars_repo_licenses"))
    )
    found = [d for f in find_inputs(CorpusSpec(kind="code", documents=(str(tmp_path / "a.jsonl"),)), where="x") for d in f.read()]
    assert [is_permissive(document.licence) for document in found] == [kept, kept]
    every = all(any(word in ("MIT", "Apache-2.0", "BSD-3-Clause") for word in one.split(" OR ")) for one in several)
    assert every == kept, "each of the list has to be permissive"


def test_change_of_a_licence_file_is_a_change_of_the_documents(tmp_path):
    spec = CorpusSpec(kind="code", documents=(str(tmp_path),))
    licences(tmp_path, {"LICENSE": MIT, "a.py": "x = 1"})
    before = fingerprint_inputs(spec, find_inputs(spec, where="x"))
    (tmp_path / "LICENSE").write_text(GPL_NOTICE)
    assert fingerprint_inputs(spec, find_inputs(spec, where="x")) != before


# What Debian calls its files, and SPDX the same.
DEBIAN_NAMES = {
    "Apache-2.0": "Apache-2.0", "BSD": "BSD-3-Clause", "CC0-1.0": "CC0-1.0", "GPL-2": "GPL-2.0", "GPL-3": "GPL-3.0", "LGPL-2": "LGPL-2.0",
    "LGPL-2.1": "LGPL-2.1", "LGPL-3": "LGPL-3.0", "MPL-1.1": "MPL-1.1", "MPL-2.0": "MPL-2.0", "GFDL-1.3": "GFDL-1.3",
    "Artistic": "Artistic-1.0-Perl",
}  # fmt: skip


@pytest.mark.skipif(not COMMON_LICENCES.is_dir(), reason=f"no Debian licences at {COMMON_LICENCES}")
def test_licences_that_debian_keeps_are_known():
    texts = {name: COMMON_LICENCES / name for name in DEBIAN_NAMES if (COMMON_LICENCES / name).is_file()}
    found = {name: (licence_of_text(path.read_text(errors="replace")) or "").split(" AND ")[0] for name, path in texts.items()}
    assert found == {name: DEBIAN_NAMES[name] for name in texts}


def test_installed_packages_are_under_the_licence_they_declare(measured):
    """Packages with one licence file that declare one SPDX name: the two must agree, or the text be held unknown."""
    agree, unknown, other = 0, [], []
    for distribution in metadata.distributions():
        declared = distribution.metadata.get("License-Expression")
        files = [file for file in distribution.files or [] if ".dist-info" in str(file) and is_licence_file(Path(str(file)))]
        if not declared or not re.fullmatch(r"[\w.+-]+", declared) or len(files) != 1:
            continue
        found = licence_of_text(Path(files[0].locate()).read_text(errors="replace")) or "none"
        if "LicenseRef-unknown" in found:
            unknown.append(distribution.name)
        elif all(name.startswith(declared.removesuffix("-only").removesuffix("-or-later")) for name in found.split(" AND ")):
            agree += 1
        else:
            other.append((distribution.name, declared, found))
    measured(f"licences: {agree} installed packages agree with what they declare, unknown {unknown}, others {other}")
    assert agree >= 10 * len(other) and agree >= 3 * len(unknown)
    assert not [row for row in other if not is_permissive(row[1]) and is_permissive(row[2])]
