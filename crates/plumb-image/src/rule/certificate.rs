//! Certificate authorities: what update-ca-certificates(8) would write, but for links named by subject hash.
//! OpenSSL and everything built on it falls back to the bundle by way of `/usr/lib/ssl/cert.pem`.

use std::io;

use super::world::World;
use crate::tree::{Entry, Kind};

/// Where certificates come from, the user's last.
const SOURCES: [&str; 2] = ["/usr/share/ca-certificates/", "/usr/local/share/ca-certificates/"];
/// The one file that most programs read.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Writes bundle and links if the tree has any certificate.
///
/// # Errors
/// What reading or keeping file contents says.
pub(crate) fn apply(world: &mut World<'_>) -> io::Result<()> {
    let mut found = Vec::new();
    for source in SOURCES {
        for (path, (entry, _)) in world.tree.entries.range(source.to_owned()..) {
            if !path.starts_with(source) {
                break;
            }
            if path.ends_with(".crt") && matches!(entry.kind, Kind::File { .. }) {
                found.push(path.clone());
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut bundle = String::new();
    for path in &found {
        let Some(text) = world.text(path)? else { continue };
        bundle.push_str(text.trim_end());
        bundle.push('\n');
        let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".crt");
        // The names that update-ca-certificates gives.
        let name = name.replace([' ', ','], "_").replace(['(', ')'], "=");
        world.add(&format!("/etc/ssl/certs/{name}.pem"), Entry::symlink(path), "rule:certificates");
    }
    let origin = World::origin("rule:certificates");
    world.write(BUNDLE, bundle.as_bytes(), 0o644, &origin)?;
    world.add("/usr/lib/ssl/cert.pem", Entry::symlink(BUNDLE), "rule:certificates");
    world.add("/usr/lib/ssl/certs", Entry::symlink("/etc/ssl/certs"), "rule:certificates");
    let lines = found.iter().filter_map(|path| path.strip_prefix(SOURCES[0]));
    let list: String = lines.map(|line| format!("{line}\n")).collect();
    world.write("/etc/ca-certificates.conf", list.as_bytes(), 0o644, &origin)
}
