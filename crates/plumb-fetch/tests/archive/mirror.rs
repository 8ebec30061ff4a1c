//! A small archive, signed for the test.

use std::collections::BTreeMap;
use std::io::Write as _;

use liblzma::write::XzEncoder;
use plumb_fetch::{ArchiveSource, PackageRef};
use plumb_model::Digest;

use crate::key::TestKey;

/// The clock of the tests: 2026-09-21 13:33:20 UTC.
pub const NOW: i64 = 1_790_000_000;

/// What the archive's release file says.
#[derive(Clone)]
pub struct MirrorSpec {
    pub suite: String,
    pub codename: String,
    pub origin: String,
    pub components: String,
    pub date: i64,
    pub valid_until: Option<i64>,
    pub by_hash: bool,
    /// Distinguishes two states of the archive.
    pub state: u32,
}

impl Default for MirrorSpec {
    fn default() -> MirrorSpec {
        MirrorSpec {
            suite: "stable".into(),
            codename: "bookworm".into(),
            origin: "Debian".into(),
            components: "main contrib".into(),
            date: NOW - 86_400,
            valid_until: Some(NOW + 86_400),
            by_hash: true,
            state: 1,
        }
    }
}

/// The files of an archive by their path on the server.
pub struct Mirror {
    pub files: BTreeMap<String, Vec<u8>>,
    pub packages: Vec<u8>,
    pub debs: Vec<PackageRef>,
}

pub const IN_RELEASE: &str = "/debian/dists/bookworm/InRelease";

pub fn date(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s).unwrap().strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzEncoder::new(Vec::new(), 6);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not repeat, so that a mix-up of offsets is seen.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    (0..size).map(|_| step()).collect()
}

impl Mirror {
    pub fn new(spec: &MirrorSpec, key: &TestKey) -> Mirror {
        let mut files = BTreeMap::new();
        let mut debs = Vec::new();
        for number in 0..6_u64 {
            let bytes = noise(number + 1, 100_000 + usize::try_from(number).unwrap() * 10_007);
            let filename = format!("pool/main/p/p{number}/p{number}_1.0~rc+{number}_amd64.deb");
            debs.push(PackageRef {
                name: format!("p{number}"),
                version: format!("1.0~rc+{number}"),
                uri: String::new(),
                filename: filename.clone(),
                size: bytes.len() as u64,
                sha256: Digest::of(&bytes),
            });
            files.insert(format!("/debian/{filename}"), bytes);
        }
        let packages = format!("Package: p{}\nVersion: 1\n\n", spec.state).repeat(5000).into_bytes();
        let packed = xz(&packages);
        let mut table = String::new();
        for (name, bytes) in [("Packages", &packages), ("Packages.xz", &packed)] {
            let path = format!("main/binary-amd64/{name}");
            table += &format!(" {} {} {path}\n", Digest::of(bytes).hex(), bytes.len());
        }
        let release = release_text(spec, &table);
        let hex = Digest::of(&packed).hex();
        if spec.by_hash {
            files.insert(format!("/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/{hex}"), packed);
        } else {
            files.insert("/debian/dists/bookworm/main/binary-amd64/Packages.xz".into(), packed);
        }
        files.insert(IN_RELEASE.into(), key.sign(&release, spec.date.min(NOW)).into_bytes());
        Mirror { files, packages, debs }
    }

    pub fn index_path(&self) -> String {
        self.files.keys().find(|path| path.contains("binary-amd64")).unwrap().clone()
    }

    /// The packages as a lock would name them for the server at `base`.
    pub fn debs_at(&self, base: &str) -> Vec<PackageRef> {
        let uri = format!("{base}/debian");
        self.debs.iter().map(|deb| PackageRef { uri: uri.clone(), ..deb.clone() }).collect()
    }
}

fn release_text(spec: &MirrorSpec, table: &str) -> String {
    let valid_until = spec.valid_until.map(|end| format!("Valid-Until: {}\n", date(end))).unwrap_or_default();
    format!(
        "Origin: {}\nSuite: {}\nCodename: {}\nDate: {}\n{valid_until}Acquire-By-Hash: {}\n\
         Architectures: all amd64 arm64\nComponents: {}\nDescription: - dashes are escaped\nSHA256:\n{table}",
        spec.origin,
        spec.suite,
        spec.codename,
        date(spec.date),
        if spec.by_hash { "yes" } else { "no" },
        spec.components,
    )
}

pub fn source(base: &str) -> ArchiveSource {
    ArchiveSource {
        uri: format!("{base}/debian"),
        suite: "bookworm".into(),
        components: vec!["main".into()],
        origin: Some("Debian".into()),
    }
}
