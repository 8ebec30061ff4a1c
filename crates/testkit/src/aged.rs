//! A lock as it would have been before a security update.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use plumb_model::lock::{Lock, LockedPackage};

use crate::World;

/// Seconds by which every source of an aged lock is older.
const AGE_S: i64 = 7 * 86_400;

/// The lock of `folder` with one package at the version that the archive had before the security suite fixed it, and that
/// package's name; of `wanted`, or of the first package that has an older version. Nothing if none has, which is so for
/// days after a point release at most.
///
/// # Errors
/// If a lock cannot be read.
pub fn aged(world: &World, folder: &Path, wanted: Option<&str>) -> Result<Option<(Lock, String)>> {
    let mut lock = Lock::parse(&fs::read_to_string(folder.join("plumb.lock"))?)?;
    let is_meant = |package: &&mut LockedPackage| {
        package.suite.ends_with("-security")
            && wanted
                .map_or(!package.name.as_str().starts_with("linux-"), |name| package.name.as_str() == name)
    };
    for package in lock.packages.iter_mut().filter(is_meant) {
        let Some(older) = older(world, package)? else { continue };
        let name = package.name.to_string();
        *package = older;
        for source in &mut lock.sources {
            source.date -= AGE_S;
        }
        return Ok(Some((lock, name)));
    }
    Ok(None)
}

/// The newest version of the archive below that of `package`, as another lock has it.
fn older(world: &World, package: &LockedPackage) -> Result<Option<LockedPackage>> {
    let folder = world.folder().join(format!("older-{}", package.name));
    fs::create_dir_all(&folder)?;
    let relation = format!("{} (<< {})", package.name, package.version);
    let text = format!("app = \"older\"\n[machine.a]\nmiddleware = [{relation:?}]\n");
    fs::write(folder.join("plumb.toml"), text)?;
    let shown = folder.to_str().context("UTF-8")?;
    if world.run(&["lock", shown])?.code != 0 {
        return Ok(None);
    }
    let lock = Lock::parse(&fs::read_to_string(folder.join("plumb.lock"))?)?;
    Ok(lock.package(package.name.as_str()).cloned())
}
