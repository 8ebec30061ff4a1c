//! One lock, one image: whoever builds it, where, and however the files got there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, copy_example};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// A user id that nobody has.
const STRANGER: u32 = 54_321;

/// A file system in memory that every Linux system has.
const MEMORY: &str = "/dev/shm";

/// Copies a folder, its names in the order of `order`: directory order follows from it on most file systems.
fn copy(from: &Path, to: &Path, order: fn(&mut Vec<PathBuf>)) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut paths: Vec<PathBuf> = fs::read_dir(from)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    order(&mut paths);
    for path in paths {
        let target = to.join(path.file_name().unwrap_or(OsStr::new("x")));
        if path.is_dir() {
            copy(&path, &target, order)?;
        } else {
            fs::copy(&path, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o640))?;
        }
    }
    Ok(())
}

/// Packages and indices of `world` for a home of its own.
fn seed(world: &World, home: &Path) -> Result<()> {
    let store = home.join("store");
    fs::create_dir_all(&store)?;
    for part in ["objects", "entries"] {
        // Copies: another user must be able to own them.
        let status =
            Command::new("cp").arg("-r").arg(world.home().join("store").join(part)).arg(&store).status()?;
        ensure!(status.success(), "cp failed");
    }
    let entries = store.join("entries");
    for entry in fs::read_dir(&entries)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["unpacked", "image", "kernel"].iter().any(|kind| name.starts_with(kind)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The images' digests of a build by this command.
fn images(mut command: Command, home: &Path, folder: &Path) -> Result<Vec<String>> {
    command.env("PLUMB_HOME", home).arg("--offline").arg("--json").arg("build").arg(folder);
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let images: Value = serde_json::from_slice(&output.stdout)?;
    let images = images.as_array().context("a list")?;
    ensure!(images.iter().all(|image| image["cached"] == false), "nothing was built: {images:?}");
    Ok(images.iter().filter_map(|image| image["image"].as_str()).map(str::to_owned).collect())
}

/// plumb as another user: with root's rights by changing the id, else by a user namespace. `program` is a copy that a
/// stranger may reach.
fn as_stranger(program: &Path, home: &Path, folder: &Path) -> Result<Command> {
    let id = STRANGER.to_string();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        for path in [home, folder] {
            let owner = format!("{id}:{id}");
            ensure!(
                Command::new("chown").arg("-R").arg(&owner).arg(path).status()?.success(),
                "chown failed"
            );
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
        return Ok(command);
    }
    let mut command = Command::new("unshare");
    command.arg("--user").arg(format!("--map-user={id}")).arg(program);
    Ok(command)
}

#[test]
fn everybody_builds_the_same_bytes() -> Result<()> {
    let world = World::new("reproducible", PLUMB)?;
    let folder = copy_example(&world, "hello", "app", 8080)?;
    for number in 0..40 {
        fs::write(folder.join(format!("www/page-{number}.html")), format!("page {number}\n"))?;
    }
    world.ok(&["build", folder.to_str().context("UTF-8")?])?;
    world.share()?;
    // With the lock as the first build completed it.
    world.forget_builds()?;
    let plain = images(Command::new(PLUMB), world.home(), &folder)?;
    ensure!(plain.len() == 1, "{plain:?}");

    // Another user, umask, time zone, language, number of threads, order of files, and file system.
    let away = tempfile::Builder::new().prefix("plumb-test-").tempdir_in(MEMORY)?;
    fs::set_permissions(away.path(), fs::Permissions::from_mode(0o755))?;
    let (home, copied) = (away.path().join("home"), away.path().join("app"));
    seed(&world, &home)?;
    copy(&folder, &copied, |paths| paths.reverse())?;
    let elsewhere = tempfile::Builder::new().prefix("plumb-test-").tempdir()?;
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755))?;
    let program = elsewhere.path().join("plumb");
    fs::copy(PLUMB, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let inner = as_stranger(&program, &home, &copied)?;
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.env("TZ", "Asia/Kolkata").env("LC_ALL", "tr_TR.UTF-8").env("RAYON_NUM_THREADS", "1");
    command.current_dir("/");
    assert_eq!(images(command, &home, &copied)?, plain, "a stranger built other bytes");

    // Many threads, another order again, on the first file system.
    let (home, copied) = (world.folder().join("home-2"), world.folder().join("app-2"));
    seed(&world, &home)?;
    copy(&folder, &copied, |paths| paths.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len())))?;
    let mut command = Command::new(PLUMB);
    command.env("TZ", "America/St_Johns").env("LC_ALL", "C").env("RAYON_NUM_THREADS", "8");
    assert_eq!(images(command, &home, &copied)?, plain, "many threads built other bytes");
    world.end()
}
