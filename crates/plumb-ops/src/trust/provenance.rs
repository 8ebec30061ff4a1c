//! What a release was built from, as SLSA provenance (<https://slsa.dev/spec/v1.0/provenance>).
//!
//! ```text
//!  buildDefinition
//!    buildType               urn:plumb:release:v1: the same lock and definition give the same bytes
//!    externalParameters      the definition, by digest
//!    resolvedDependencies    the lock, the signed indices, every package, by digest
//!  runDetails
//!    builder                 this version of plumb
//!    metadata                the release's name and time
//! ```

use plumb_model::lock::Lock;
use plumb_model::release::Release;
use serde_json::{Value, json};

use crate::purl::{self, Qualifiers};

/// The kind of build: what the parameters mean.
const BUILD_TYPE: &str = "urn:plumb:release:v1";

/// Who builds.
const BUILDER: &str = "urn:plumb:builder:local";

pub(super) fn of(release: &Release, lock: &Lock) -> Value {
    let digest = |digest: &plumb_model::Digest| json!({"sha256": digest.hex()});
    let mut dependencies = vec![json!({"name": "plumb.lock", "digest": digest(&release.lock)})];
    dependencies.extend(lock.sources.iter().map(|source| {
        json!({
            "name": "InRelease",
            "uri": format!("{}/dists/{}/InRelease", source.uri, source.suite),
            "digest": digest(&source.in_release),
        })
    }));
    dependencies.extend(lock.packages.iter().map(|package| {
        let qualifiers = Qualifiers {
            vendor: purl::DEBIAN,
            arch: &package.architecture,
            distro: &package.suite,
            upstream: None,
        };
        json!({
            "name": package.name,
            "uri": purl::debian(package.name.as_str(), package.version.as_str(), &qualifiers),
            "digest": digest(&package.digest),
        })
    }));
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"definition": digest(&release.definition)},
            "internalParameters": {},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"plumb": env!("CARGO_PKG_VERSION")}},
            "metadata": {
                "invocationId": release.name().to_string(),
                "finishedOn": plumb_trust::time::text(release.created_s),
            },
        },
    })
}
