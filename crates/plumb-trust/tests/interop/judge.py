"""Judges what plumb-trust signs, and signs what it should read. Usage: judge.py FOLDER

The folder holds root.json, timestamp.json, snapshot.json, targets.json, *.dsse and key.hex; theirs/ is written.
"""

import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

PREDICATES = {
    "https://slsa.dev/provenance/v1": (provenance_pb2.Provenance, False),
    # The time is a field of ours; the rules for readers say to pass over it.
    "https://in-toto.io/attestation/test-result/v0.1": (test_result_pb2.TestResult, True),
}


def judge_metadata(folder):
    read = lambda name: (folder / f"{name}.json").read_bytes()
    trusted = TrustedMetadataSet(read("root"), EnvelopeType.METADATA)
    trusted.update_timestamp(read("timestamp"))
    trusted.update_snapshot(read("snapshot"))
    targets = trusted.update_targets(read("targets"))
    target = targets.targets["releases/1"]
    target.verify_length_and_hashes(b"the document")
    return len(targets.targets)


def judge_statements(folder):
    public = (folder / "key.hex").read_text().strip()
    found = []
    for path in sorted(folder.glob("*.dsse")):
        envelope = Envelope.from_dict(json.loads(path.read_text()))
        keyid = next(iter(envelope.signatures))
        envelope.verify([SSlibKey(keyid, "ed25519", "ed25519", {"public": public})], 1)
        assert envelope.payload_type == "application/vnd.in-toto+json", envelope.payload_type
        statement = json.loads(envelope.payload)
        wire = {("type" if key == "_type" else key): value for key, value in statement.items()}
        Statement.copy_from_pb(ParseDict(wire, statement_pb2.Statement())).validate()
        kind = statement["predicateType"]
        if kind in PREDICATES:
            message, lenient = PREDICATES[kind]
            ParseDict(statement["predicate"], message(), ignore_unknown_fields=lenient)
            found.append(kind)
    return found


def sign_theirs(folder):
    theirs = folder / "theirs"
    theirs.mkdir()
    signer = CryptoSigner.generate_ed25519()
    expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
    root = Root(expires=expires, consistent_snapshot=True)
    root.unrecognized_fields["x-plumb-app"] = "shop"
    root.unrecognized_fields["x-plumb-names"] = {signer.public_key.keyid: "theirs"}
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(signer.public_key, role)
    targets = Targets(expires=expires)
    targets.targets["releases/1"] = TargetFile.from_data("releases/1", b"the document", ["sha256"])
    write = lambda name, content: write_signed(theirs / f"{name}.json", content, signer)
    write("root", root)
    data = write("targets", targets)
    data = write("snapshot", Snapshot(expires=expires, meta={"targets.json": MetaFile.from_data(1, data, ["sha256"])}))
    write("timestamp", Timestamp(expires=expires, snapshot_meta=MetaFile.from_data(1, data, ["sha256"])))
    (theirs / "key.hex").write_text(signer.public_key.keyval["public"])
    (theirs / "keyid").write_text(signer.public_key.keyid)
    envelope = Envelope(b"signed by them", "text/plain", {})
    envelope.sign(signer)
    (theirs / "envelope.json").write_text(json.dumps(envelope.to_dict()))


def write_signed(path, content, signer):
    metadata = Metadata(content)
    metadata.sign(signer)
    data = metadata.to_bytes()
    path.write_bytes(data)
    return data


folder = Path(sys.argv[1])
print(judge_metadata(folder), *judge_statements(folder))
sign_theirs(folder)
