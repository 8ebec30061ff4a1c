//! A container image as a machine: from a real registry, as it is, and offline afterwards.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use plumb_model::Digest;
use testkit::{Registry, World, free_port, get};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Says who and where it is, then serves that. Everything it needs stands in the image's configuration.
const ENTRY: &str = r#"#!/bin/sh
set -e
{
    echo "args: $*"
    echo "env: $GREETING $HOME"
    echo "id: $(id -u):$(id -g) $(id -G)"
    echo "pwd: $(pwd)"
    echo "below: $(cat /etc/below) $(ls /gone 2>/dev/null | wc -l) $(ls /opaque)"
    echo "hosts: $(grep -c "$(hostname)" /etc/hosts)"
    echo "shm: $(stat -c %a /dev/shm) tmp: $(stat -c %a /tmp)"
    echo "setuid: $(stat -c %a /bin/su-like)"
    echo "conf: $(cat /srv/conf)"
    echo "told: $LEVEL $(cat /srv/told) $(cat "${TOKEN_FILE:-/dev/null}")"
} > index.html
touch /tmp/written /dev/shm/written
exec "$@"
"#;

/// A second service, of another user: what it is told, and what it cannot read.
const OTHER: &str = r#"#!/bin/sh
mkdir /tmp/other
{
    echo "told: $LEVEL $(cat "$TOKEN_FILE") $(stat -c '%a %u:%g' "$TOKEN_FILE") $(ls "$CREDENTIALS_DIRECTORY")"
    for file in secrets/web/token settings/other.env; do
        cat "/run/plumb/$file"
    done
    ls /run/plumb/secrets
} > /tmp/other/index.html 2>&1
exec httpd -f -p 8001 -h /tmp/other
"#;

/// A secret; nothing else on this machine is called so.
const TOKEN: &str = "canary-0b6e4f17d3";

/// What its dpkg says that it is made of.
const STATUS: &str = "Package: busybox-static
Status: install ok installed
Architecture: amd64
Source: busybox
Version: 1:1.30.1-7ubuntu3
Depends: base-files

Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12ubuntu4

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
";

/// What the second release adds to the definition.
const TOLD: &str = r#"
config."/srv/told" = { from = "told.in", mode = "0400" }

[machine.web.service.web]
environment = { GREETING = "again", LEVEL = "{config.level}", TOKEN_FILE = "{secret-file.token}" }
user        = "root"
ready.http  = ":8000/"

[machine.web.service.other]
exec        = "/other.sh"
user        = "other"
environment = { LEVEL = "{config.level}", TOKEN_FILE = "{secret-file.token}" }
ready.tcp   = 8001

[config]
level = { type = "string", default = "quiet", one_of = ["quiet", "loud"] }
token = { type = "secret" }
"#;

/// One entry of a layer.
enum Item<'a> {
    Folder(&'a str, u32, u32),
    File(&'a str, u32, &'a [u8]),
    Link(&'a str, &'a str),
}

fn layer(items: &[Item<'_>]) -> Result<Vec<u8>> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for item in items {
        let mut header = tar::Header::new_gnu();
        let (path, data): (&str, &[u8]) = match item {
            Item::Folder(path, mode, owner) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                header.set_uid(u64::from(*owner));
                header.set_gid(u64::from(*owner));
                (path, b"")
            }
            Item::File(path, mode, data) => {
                header.set_mode(*mode);
                (path, data)
            }
            Item::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_link_name(target)?;
                (path, b"")
            }
        };
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, data)?;
    }
    Ok(builder.into_inner()?.finish()?)
}

/// A folder of the form OCI image layout.
struct Layout(PathBuf);

impl Layout {
    /// Keeps a blob and returns its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<String> {
        let digest = Digest::of(bytes);
        let folder = self.0.join("blobs/sha256");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(digest.hex()), bytes)?;
        Ok(format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{}}}", bytes.len()))
    }

    /// An image of layers, and its digest.
    fn image(&self, config: &str, layers: &[Vec<u8>]) -> Result<Digest> {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.as_bytes())?;
        let layers: Result<Vec<String>> = layers
            .iter()
            .map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar+gzip", layer))
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{media_type}\",\"config\":{config},\"layers\":[{}]}}",
            layers?.join(",")
        );
        let descriptor = self.blob(media_type, manifest.as_bytes())?;
        let listed = descriptor
            .replace("\"digest\"", "\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"},\"digest\"");
        fs::write(self.0.join("index.json"), format!("{{\"schemaVersion\":2,\"manifests\":[{listed}]}}"))?;
        fs::write(self.0.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
        Ok(Digest::of(manifest.as_bytes()))
    }
}

/// A statically linked busybox of Debian.
fn busybox(folder: &Path) -> Result<Vec<u8>> {
    fs::create_dir_all(folder)?;
    let run = |program: &str, arguments: &[&str]| -> Result<()> {
        let output =
            Command::new(program).args(arguments).current_dir(folder).output().context(program.to_owned())?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    run("apt-get", &["download", "-qq", "busybox-static"])?;
    let deb =
        fs::read_dir(folder)?.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some());
    run("dpkg-deb", &["-x", deb.context("no package came")?.to_str().context("UTF-8")?, "x"])?;
    let found = ["x/bin/busybox", "x/usr/bin/busybox"]
        .iter()
        .map(|path| folder.join(path))
        .find(|path| path.exists());
    Ok(fs::read(found.context("the package has no busybox")?)?)
}

/// An image with all that container images are known for: whiteouts, links, owners, set-uid, a user, an entry point.
fn web_image(folder: &Path) -> Result<(Layout, Digest)> {
    let busybox = busybox(&folder.join("busybox"))?;
    let applets =
        ["cat", "grep", "hostname", "httpd", "id", "ls", "mkdir", "pwd", "sh", "stat", "touch", "wc"];
    let names: Vec<String> = applets.iter().map(|applet| format!("bin/{applet}")).collect();
    let mut base = vec![
        Item::File("bin/busybox", 0o755, &busybox),
        Item::File("bin/su-like", 0o4755, b"#!/bin/sh\n"),
        Item::Folder("etc", 0o755, 0),
        Item::File(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\nother:x:1002:1003::/:/bin/sh\n",
        ),
        Item::File("etc/group", 0o644, b"root:x:0:\nother:x:1003:\nweb:x:1001:\nmedia:x:44:web\n"),
        Item::File("etc/below", 0o644, b"lower"),
        Item::File("etc/os-release", 0o644, b"ID=ubuntu\nVERSION_CODENAME=jammy\n"),
        Item::File("var/lib/dpkg/status", 0o644, STATUS.as_bytes()),
        Item::File("gone/x", 0o644, b""),
        Item::File("opaque/old", 0o644, b""),
        Item::Folder("srv/www", 0o755, 1000),
    ];
    base.extend(names.iter().map(|name| Item::Link(name, "busybox")));
    let upper = [
        Item::File("etc/below", 0o644, b"upper"),
        Item::File(".wh.gone", 0o644, b""),
        Item::File("opaque/.wh..wh..opq", 0o644, b""),
        Item::File("opaque/new", 0o644, b""),
        Item::File("entry.sh", 0o755, ENTRY.as_bytes()),
        Item::File("other.sh", 0o755, OTHER.as_bytes()),
    ];
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{
        "User":"web","Env":["PATH=/usr/bin:/bin","GREETING=hello $HOME"],"Entrypoint":["/entry.sh"],
        "Cmd":["httpd","-f","-p","8000","-h","."],"WorkingDir":"/srv/www","ExposedPorts":{"8000/tcp":{}},"StopSignal":"SIGKILL"}}"#;
    let layout = Layout(folder.join("layout"));
    let digest = layout.image(config, &[layer(&base)?, layer(&upper)?])?;

    Ok((layout, digest))
}

/// Copies it to the registry with the tool that people use.
fn push(layout: &Layout, folder: &Path, registry: &Registry) -> Result<()> {
    let target = format!("docker://127.0.0.1:{}/test/web:1", registry.port);
    let source = format!("oci:{}", layout.0.display());
    let policy = folder.join("policy.json");
    fs::write(&policy, "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}")?;
    let pushed = Command::new("skopeo")
        .args([
            "--policy",
            policy.to_str().context("UTF-8")?,
            "copy",
            "--dest-tls-verify=false",
            "--preserve-digests",
            &source,
            &target,
        ])
        .output()
        .context("skopeo is missing: `scripts/setup docker-registry skopeo`")?;
    ensure!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    Ok(())
}

#[test]
fn a_container_image_runs_unchanged() -> Result<()> {
    let world = World::new("container", PLUMB)?;
    let folder = world.folder().to_owned();
    let (layout, digest) = web_image(&folder)?;
    let registry = Registry::start(&folder, "")?;
    push(&layout, &folder, &registry)?;

    let (port, other) = (free_port()?, free_port()?);
    let project = folder.join("project");
    fs::create_dir_all(&project)?;
    fs::File::create(project.join("conf"))?.write_all(b"ours")?;
    let definition = |extra: &str| {
        format!(
            "app = \"contained\"\n\n[machine.web]\noci = \"127.0.0.1:{}/test/web@{digest}\"\napp = {{ \"/srv/conf\" = \"conf\" }}\npublish = [\"{port}:8000\", \"{other}:8001\"]\n{extra}",
            registry.port
        )
    };
    fs::write(project.join("plumb.toml"), definition(""))?;
    let path = project.to_str().context("UTF-8")?.to_owned();
    world.ok(&["up", &path])?;
    world.share()?;
    let said = get(port, "/")?.body;
    for line in [
        "args: httpd -f -p 8000 -h .",
        "env: hello $HOME /home/web",
        "id: 1000:1001 1001 44",
        "pwd: /srv/www",
        "below: upper 0 new",
        "hosts: 1",
        "shm: 1777 tmp: 1777",
        "setuid: 4755",
        "conf: ours",
    ] {
        ensure!(said.contains(line), "`{line}` is not in:\n{said}");
    }

    // A bill of materials has what its dpkg has.
    let bill = world.json(&["sbom", "contained@1"])?;
    let components = bill["components"].as_array().context("components")?;
    let purls: Vec<&str> = components.iter().filter_map(|one| one["purl"].as_str()).collect();
    let busybox = "pkg:deb/ubuntu/busybox-static@1:1.30.1-7ubuntu3?arch=amd64&distro=jammy&upstream=busybox";
    let base = "pkg:deb/ubuntu/base-files@12ubuntu4?arch=amd64&distro=jammy";
    ensure!(purls.contains(&busybox) && purls.contains(&base), "{purls:?}");
    ensure!(!purls.iter().any(|purl| purl.contains("/gone@")), "{purls:?}");
    ensure!(purls.iter().any(|purl| purl.starts_with("pkg:deb/debian/linux-image-")), "{purls:?}");
    let edges = bill["dependencies"].as_array().context("dependencies")?;
    let own = edges.iter().find(|edge| edge["ref"] == format!("web/{busybox}")).context("its edges")?;
    ensure!(own["dependsOn"][0] == format!("web/{base}"), "{own}");
    assert_eq!(bill["compositions"][0]["aggregate"], "complete");

    // What Debian says is not said of another distribution's packages, and that is told.
    let feed = folder.join("tracker.json");
    let tracked =
        r#"{"busybox":{"CVE-2099-1001":{"releases":{"bookworm":{"status":"open","urgency":"low"}}}}}"#;
    fs::write(&feed, tracked)?;
    world.ok(&["advisory", "add", "lab", feed.to_str().context("UTF-8")?])?;
    let affected = world.run(&["affected", "CVE-2099-1001"])?;
    let told = format!("{}{}", affected.stdout, affected.stderr);
    ensure!(told.contains("no feed speaks of packages of `ubuntu:jammy`"), "{told}");

    drop(registry);
    check_told(&world, &project, (port, other))?;

    // The release alone is enough to build the same bytes again.
    fs::remove_dir_all(&project)?;
    world.ok(&["verify", "--rebuild", "contained@2", "--offline"])?;
    world.end()
}

/// The registry is gone: everything is in the store, and the definition's word counts more than the image's. What the
/// deployment has set is told to who is to know it, and to nobody else.
fn check_told(world: &World, project: &Path, (port, other): (u16, u16)) -> Result<()> {
    let path = project.to_str().context("UTF-8")?;
    let text = fs::read_to_string(project.join("plumb.toml"))?;
    fs::write(project.join("plumb.toml"), format!("{text}{TOLD}"))?;
    fs::write(project.join("told.in"), "{config.level} {secret.token}\n")?;
    ensure!(world.run(&["up", path, "--offline"])?.code == 1, "a secret is missing");
    let file = world.folder().join("token");
    fs::write(&file, TOKEN)?;
    world.ok(&[
        "secret",
        "set",
        "contained",
        "token",
        "--file",
        file.to_str().context("UTF-8")?,
        "--no-apply",
    ])?;
    world.ok(&["up", path, "--offline", "--set", "level=loud"])?;
    let said = get(port, "/")?.body;
    let told = format!("told: loud loud {TOKEN} {TOKEN}");
    for line in ["env: again /root", "id: 0:0 0", "args: httpd -f -p 8000 -h .", &told] {
        ensure!(said.contains(line), "`{line}` is not in:\n{said}");
    }
    let said = get(other, "/")?.body;
    ensure!(said.contains(&format!("told: loud {TOKEN} 400 1002:1003 token")), "{said}");
    ensure!(said.matches("Permission denied").count() == 3 && said.matches(TOKEN).count() == 1, "{said}");
    ensure!(!world.ok(&["logs", "web-1"])?.stdout.contains(TOKEN), "the log has it");
    Ok(())
}
