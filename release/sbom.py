"""What a release is made of, as a CycloneDX 1.6 list that its own schema accepts.

python release/sbom.py OUT.json [EXTRA ...]     of what is installed here of codemix_megatron with these extras (default: all)
"""

import argparse
import importlib.metadata
from pathlib import Path

from cyclonedx.builder.this import this_component
from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "codemix-megatron"


def needs_of(name: str, extras: frozenset[str]) -> list[Requirement]:
    """Return what an installed package asks for here, with these extras."""
    requirements = [Requirement(text) for text in importlib.metadata.requires(name) or []]
    return [r for r in requirements if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in {"", *extras})]


def closure(root: str, extras: frozenset[str]) -> dict[str, set[str]]:
    """Return each package that is needed -> what it needs itself; an optional one that is not installed is no part of a release."""
    found: dict[str, set[str]] = {}
    asked: dict[str, frozenset[str]] = {}
    left = [(root, extras)]
    while left:
        name, wanted = left.pop()
        if name in asked and wanted <= asked[name]:
            continue
        asked[name] = asked.get(name, frozenset()) | wanted
        needs = needs_of(name, asked[name])
        found[name] = {canonicalize_name(need.name) for need in needs}
        left += [(canonicalize_name(need.name), frozenset(need.extras)) for need in needs]
    return found


def component_of(name: str) -> Component:
    """Return an installed package as a component, with its licence as its own metadata states it."""
    stated = importlib.metadata.metadata(name)
    version = stated["Version"]
    licence = stated.get("License-Expression") or next((c for c in stated.get_all("Classifier", []) if c.startswith("License ::")), "")
    return Component(
        name=stated["Name"],
        version=version,
        type=ComponentType.APPLICATION if name == ROOT else ComponentType.LIBRARY,
        purl=PackageURL("pypi", name=name, version=version),
        bom_ref=f"{name}@{version}",
        licenses=[LicenseFactory().make_from_string(licence.rpartition(" :: ")[2])] if licence else [],
    )


def bill_of(extras: frozenset[str]) -> Bom:
    """Return the list of the root and all it needs, with who needs whom."""
    needs = closure(ROOT, extras)
    components = {name: component_of(name) for name in needs}
    bill = Bom()
    bill.metadata.component = components[ROOT]
    bill.metadata.tools.components.add(this_component())
    for name, component in components.items():
        if name != ROOT:
            bill.components.add(component)
        bill.register_dependency(component, [components[need] for need in sorted(needs[name])])
    return bill


def main(words: list[str] | None = None) -> None:
    """Write the list; raises where CycloneDX's schema refuses it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("extras", nargs="*", default=["all"])
    arguments = parser.parse_args(words)
    bill = bill_of(frozenset(arguments.extras))
    text = JsonV1Dot6(bill).output_as_string(indent=2)
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"{arguments.out}: the schema of CycloneDX refuses the list: {fault}")
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(bill.components)} packages")


if __name__ == "__main__":
    main()
