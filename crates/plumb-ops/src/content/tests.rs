//! Content from real files by `file://`, up to the files that go into an image.

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};
use plumb_model::Digest;

use super::*;
use crate::{Home, Options, Proxies, Silent};

/// A folder with files to take, and a project in it.
struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        Setup { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file and returns `url = "…", sha256 = "…"`.
    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
        fs::write(&path, bytes).expect("writable");
        format!("url = \"file://{}\", sha256 = \"{}\"", path.display(), Digest::of(bytes).hex())
    }

    /// Every file of machine `a` with the content of `app`, a line each, or what is wrong.
    fn shown(&self, app: &str) -> String {
        fs::write(self.path().join("plumb.toml"), format!("app = \"x\"\n[machine.a.app]\n{app}\n"))
            .expect("writable");
        let options = Options {
            offline: false,
            proxies: Proxies::default(),
            environment: crate::Environment::default(),
            program: "plumb".into(),
            signer: None,
            user: "tester".parse().unwrap(),
            state: crate::StateOptions::default(),
            passphrase: |_| None,
            age_identity: None,
        };
        let plumb = Plumb::open(Home::new(self.path().join("home")), options, &Silent).expect("opens");
        let project = Project::load(self.path()).expect("a definition");
        let name: MachineName = "a".parse().expect("a name");
        let files = project.app_files(&name).expect("files");
        let lock = Lock {
            format: 1,
            app: project.definition.app.clone(),
            inputs: Digest::of(b""),
            sources: vec![],
            machines: BTreeMap::new(),
            packages: vec![],
        };
        let remotes = remotes(&project, &name, &project.definition.machines[&name], &lock).expect("remotes");
        let all = plumb.fetch_remotes(remotes.iter()).and_then(|()| plumb.unfold(&name, &files, &remotes));
        let line = |file: AppFile| {
            let what = match file.kind {
                AppFileKind::Directory => "folder".to_owned(),
                AppFileKind::Symlink { target } => format!("link to {target}"),
                AppFileKind::File { source: Some(_), .. } => "beside the definition".to_owned(),
                AppFileKind::File { digest, .. } => {
                    String::from_utf8_lossy(&plumb.store.read_bytes(&digest, 1 << 20).expect("there"))
                        .into_owned()
                }
            };
            let owner = file.owner.unwrap_or_else(|| "root".to_owned());
            format!("{} {:o} {owner} {what}\n", file.target, file.mode)
        };
        match all {
            Ok(files) => files.into_iter().map(line).collect(),
            Err(error) => {
                let chain =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
                text.replace(&self.path().display().to_string(), "")
            }
        }
    }

    fn check(&self, app: &str, expected: &Expect) {
        expected.assert_eq(&self.shown(app));
    }
}

/// A tar archive of files.
fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, mode, content) in files {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(header);
        out.extend(content.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn archives_and_files_by_url() {
    let setup = Setup::new();
    let archive =
        setup.put("x-1.tar", &tar(&[("x-1/bin/x", 0o755, "#!"), ("x-1/etc/x.conf", 0o644, "theirs")]));
    let program = setup.put("tool", b"program");
    setup.put("x.conf", b"ours");
    // The file beside the definition lies deeper than the archive's target, so it stays.
    let app = format!(
        "\"/opt/x\" = {{ {archive}, strip = 1, owner = \"x\" }}\n\"/opt/x/etc/x.conf\" = \"x.conf\"\n\
         \"/usr/bin/tool\" = {{ {program}, mode = \"0755\" }}\n\"/srv/x.tar\" = {{ {archive}, unpack = false }}"
    );
    let first = setup.shown(&app.replace(", unpack = false", ""));
    assert!(first.contains("/srv/x.tar/x-1/etc/x.conf 644 root theirs"), "{first}");
    setup.check(
        &app.lines().take(3).collect::<Vec<_>>().join("\n"),
        &expect![[r#"
        /opt/x/bin/x 755 x #!
        /opt/x/etc/x.conf 644 root beside the definition
        /usr/bin/tool 755 root program
    "#]],
    );
    // Everything is in the store: the files may go.
    fs::remove_file(setup.path().join("x-1.tar")).expect("was there");
    assert_eq!(first, setup.shown(&app.replace(", unpack = false", "")));
    assert!(setup.shown(&app).contains("/srv/x.tar 644 root x-1/bin/x"));
}

#[test]
fn content_that_cannot_be_used() {
    let setup = Setup::new();
    let plain = setup.put("x.conf", b"text");
    setup.check(
        &format!("\"/x\" = {{ {plain}, strip = 1 }}"),
        &expect![
            "`x.conf`, which machine `a` takes for `/x`, is no archive, so nothing can be stripped from it"
        ],
    );
    let hostile = setup.put("x.tar", &tar(&[("../../etc/passwd", 0o644, "root")]));
    setup.check(&format!("\"/x\" = {{ {hostile} }}"), &expect!["the content for `/x` cannot be used: path `../../etc/passwd` in member `x.tar` is refused: it has a `..`"]);
    let empty = setup.put("y.tar", &tar(&[("y", 0o644, "")]));
    setup.check(
        &format!("\"/x\" = {{ {empty}, strip = 1 }}"),
        &expect!["the content for `/x` cannot be used: `y.tar` has nothing below 1 folders"],
    );
    let forged = setup.put("z", b"z");
    fs::write(setup.path().join("z"), b"other").expect("writable");
    setup.check(&format!("\"/x\" = {{ {forged} }}"), &expect!["`file:///z` has the wrong digest: expected `sha256:594e519ae499312b29433b7dd8a97ff068defcba9755b6d5d00e84c524d67b06`, found `sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa`"]);
}
