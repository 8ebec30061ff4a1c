"""Judges two bills of materials by the libraries of those who wrote the standards; says nothing if all is well."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

cyclonedx, spdx = sys.argv[1:]
with open(cyclonedx) as file:
    text = file.read()
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if problem is not None:
    print("CycloneDX:", problem)
for message in validate_full_spdx_document(parse_file(spdx)):
    print("SPDX:", message.validation_message)
for component in json.loads(text)["components"]:
    purl = component.get("purl")
    if purl is not None and PackageURL.from_string(purl).to_string() != purl:
        print("package URL:", purl, "is not", PackageURL.from_string(purl).to_string())
