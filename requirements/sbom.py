"""What a wheel is made of and needs: a CycloneDX list beside it, and docs/reference/licenses.md.

    make sbom

The list is the same for the same wheel and the same versions. Licenses are what each package says of itself.
"""

from __future__ import annotations

import hashlib
import re
import sys
import uuid
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "licenses.md"

# how packages without an SPDX expression name their license, in their metadata or by a classifier
_SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "BSD",  # which of them, the package does not say
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
PERMISSIVE = frozenset(
    (
        "Apache-2.0",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "0BSD",
        "Zlib",
        "CC0-1.0",
        "PSF-2.0",
    )
) | {"BSL-1.0", "ISC", "LLVM-exception"}
WEAK_COPYLEFT = frozenset(("MPL-2.0",))  # of single files: using them asks nothing of what uses them
ALLOWED = PERMISSIVE | WEAK_COPYLEFT


def canonical(name: str) -> str:
    """Return the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(package: Distribution, extra: str = "") -> Iterator[str]:
    """Yield what a package asks for on this machine, with one of its extras or none."""
    for text in package.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield canonical(requirement.name)


def closure(*roots: str) -> dict[str, Distribution]:
    """Return packages with all that they need, by name."""
    found: dict[str, Distribution] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = distribution(name)
            waiting += needed(found[name])
    return found


def library() -> dict[str, Distribution]:
    """Return what the library needs."""
    return closure(*needed(distribution("vicinal")))


def runtime() -> dict[str, Distribution]:
    """Return what the library and the command need."""
    return closure(*needed(distribution("vicinal"), "lab"))


def license_of(package: Distribution) -> str:
    """Return the license that a package names, as an SPDX expression where it can be told; "unknown" where there is none."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    named = (metadata.get("License") or "").strip().partition("\n")[0]  # some write the whole text
    if named in _SPDX or (named and _words(named) <= ALLOWED):
        return _SPDX.get(named, named)
    classified = [
        line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    known = [_SPDX[name] for name in classified if name in _SPDX]
    return " AND ".join(known) if known else "unknown"


def _words(expression: str) -> set[str]:
    return set(re.findall(r"[\w.+-]+", expression)) - {"AND", "OR", "WITH"}


def refused(expression: str) -> set[str]:
    """Return the licenses in an expression that are not among those allowed; of several to choose from, one is enough."""
    choices = [_words(part) - ALLOWED for part in re.split(r"\bOR\b", expression)]
    return min(choices, key=len)


def version_of(package: Distribution) -> str:
    """Return its version without the mark of a build, such as +cpu."""
    return package.version.partition("+")[0]


def table() -> str:
    """Return docs/reference/licenses.md."""
    core = library().keys()
    lines = [_HEAD]
    for name, package in sorted(runtime().items()):
        lines.append(f"| {name} | {version_of(package)} | {license_of(package)} | {'yes' if name in core else ''} |")
    return "\n".join(lines) + "\n"


_HEAD = """# Licenses

vicinal is under the Apache License 2.0, [LICENSE](../../LICENSE), and its wheel holds nothing of anybody else. What it
needs is installed beside it, under permissive licenses, or the Mozilla Public License 2.0, whose terms stay with its
own files. (Wheels of others may hold further libraries, whose licenses lie in these wheels.) The library needs what is
marked, the command `vicinal` the rest too. Written by `make sbom` from what each package says of itself, at the
versions of `requirements/*.lock`.

| package | version | license | library |
|---|---|---|---|"""


def bill(wheel: Path) -> str:
    """Return the list of a wheel as CycloneDX JSON, checked against its schema."""
    factory = LicenseFactory()
    core, packages = library(), runtime()

    def component(name: str, package: Distribution) -> Component:
        return Component(
            name=name,
            version=version_of(package),
            type=ComponentType.LIBRARY,
            scope=ComponentScope.REQUIRED if name in core else ComponentScope.OPTIONAL,
            licenses=[factory.make_from_string(license_of(package))],
            purl=PackageURL("pypi", None, name, version_of(package)),
            bom_ref=f"pypi/{name}",
        )

    components = {name: component(name, package) for name, package in sorted(packages.items())}
    content = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        written = max(datetime(*info.date_time, tzinfo=UTC) for info in archive.infolist())
    ours = component("vicinal", distribution("vicinal"))
    ours.scope = None
    ours.hashes = [HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(content).hexdigest())]
    bom = Bom(components=components.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_OID, ours.hashes[0].content))
    bom.metadata.component = ours
    bom.metadata.timestamp = written
    bom.register_dependency(ours, [components[name] for name in needed(distribution("vicinal"), "lab")])
    for name, package in packages.items():
        bom.register_dependency(components[name], [components[other] for other in needed(package)])
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"the list is not what CycloneDX's schema asks for: {error}")
    return text + "\n"


def main() -> None:
    """Write the list of a wheel beside it, and the table."""
    for wheel in map(Path, sys.argv[1:]):
        path = wheel.with_suffix(".cdx.json")
        path.write_text(bill(wheel))
        print(path)
    PAGE.write_text(table())


if __name__ == "__main__":
    main()
