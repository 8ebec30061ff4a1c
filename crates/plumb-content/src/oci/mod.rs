//! Container images: OCI image-spec 1.1, and Docker's image manifest version 2 schema 2, which differs in media types.
//!
//! ```text
//!  digest ─► index ─ linux/amd64 ─► manifest ─► config: what to run
//!         └─────────────────────────┘        └► layers, lowest first
//! ```
//!
//! Everything is named by the digest of its bytes, so nothing here has to be believed: the caller has checked them.

mod config;

use plumb_model::Digest;
use serde::Deserialize;

pub use config::{Config, Identity, User, resolve_user};

/// Largest manifest or index that is read: registries accept 4 MiB (distribution-spec 1.1, "Pushing Manifests").
pub const MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Largest configuration that is read. The longest history has some hundred lines.
pub const CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// Most layers of one image; Docker's own limit is 127.
const MAX_LAYERS: usize = 512;

/// Media types of manifests and indices, as a registry is asked for them.
pub const MEDIA_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Something named by digest and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Number of its bytes.
    pub size: u64,
}

/// What a digest of an image leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image.
    Image {
        /// What to run.
        config: Blob,
        /// Layers, lowest first.
        layers: Vec<Blob>,
    },
    /// A list of images; the one for linux/amd64.
    Index(Blob),
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OciError {
    /// Not JSON of this shape.
    #[error("the {what} is not understood: {message}")]
    Malformed {
        /// Manifest or configuration.
        what: &'static str,
        /// What the parser says.
        message: String,
    },
    /// Something else than an image.
    #[error("`{media_type}` is not an image")]
    MediaType {
        /// As found.
        media_type: String,
    },
    /// No image for this processor.
    #[error("the image list has nothing for linux/amd64, only {}", .offered.join(", "))]
    NoPlatform {
        /// What it has.
        offered: Vec<String>,
    },
    /// A digest that is no SHA-256.
    #[error("`{digest}` is not a SHA-256")]
    Digest {
        /// As found.
        digest: String,
    },
    /// Too many layers.
    #[error("the image has {count} layers, more than {MAX_LAYERS}")]
    Layers {
        /// How many.
        count: usize,
    },
    /// A user that the image does not have.
    #[error("the image runs as `{user}`, which its own /etc/passwd and /etc/group do not know")]
    User {
        /// As in the configuration.
        user: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    media_type: Option<String>,
    manifests: Option<Vec<Listed>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(flatten)]
    descriptor: Descriptor,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: String,
}

impl Descriptor {
    fn blob(&self) -> Result<Blob, OciError> {
        let digest = self.digest.parse().map_err(|_| OciError::Digest { digest: self.digest.clone() })?;
        Ok(Blob { digest, size: self.size })
    }
}

impl Manifest {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// [`OciError`].
    pub fn parse(bytes: &[u8]) -> Result<Manifest, OciError> {
        let malformed =
            |error: serde_json::Error| OciError::Malformed { what: "manifest", message: error.to_string() };
        let raw: Raw = serde_json::from_slice(bytes).map_err(malformed)?;
        if let Some(listed) = raw.manifests {
            return choose(&listed).map(Manifest::Index);
        }
        let (Some(config), Some(layers)) = (raw.config, raw.layers) else {
            let media_type =
                raw.media_type.unwrap_or_else(|| "a document without `config` and `layers`".to_owned());
            return Err(OciError::MediaType { media_type });
        };
        // Helm charts, signatures and other artifacts have the same shape.
        let media_type = config.media_type.clone().unwrap_or_default();
        let is_image =
            media_type.ends_with("image.config.v1+json") || media_type.ends_with("container.image.v1+json");
        if !is_image {
            return Err(OciError::MediaType { media_type });
        }
        if layers.len() > MAX_LAYERS {
            return Err(OciError::Layers { count: layers.len() });
        }
        let layers: Result<Vec<Blob>, OciError> = layers.iter().map(Descriptor::blob).collect();
        Ok(Manifest::Image { config: config.blob()?, layers: layers? })
    }
}

/// The image for linux/amd64; `v1` before other variants, which need newer processors.
fn choose(listed: &[Listed]) -> Result<Blob, OciError> {
    let fits =
        |item: &&Listed| item.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64");
    let variant = |item: &&Listed| item.platform.as_ref().map(|p| p.variant.clone()).unwrap_or_default();
    match listed.iter().filter(fits).min_by_key(variant) {
        Some(item) => item.descriptor.blob(),
        None => {
            let shown = |p: &Platform| format!("{}/{}", p.os, p.architecture);
            let offered = listed.iter().filter_map(|item| item.platform.as_ref()).map(shown).collect();
            Err(OciError::NoPlatform { offered })
        }
    }
}

#[cfg(test)]
mod tests;
