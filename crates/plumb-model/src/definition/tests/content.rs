//! What a machine takes from elsewhere.
#![expect(clippy::too_many_lines, reason = "what is said stands beside the text that it is said about")]

use super::*;

#[test]
fn app_contents() {
    check_machine(
        r#"volume.data = { size = "1GiB", mount = "/var/lib/data" }
[machine.web.app]
"/srv/a" = "../a"
"/srv/b" = "/etc/passwd"
"/srv/c" = "."
"/srv/d" = "d"
"/srv/d/" = "e"
"/proc/x" = "x"
"srv" = "x"
"/srv/../etc" = "x"
"/" = "x"
"/var/lib/data/seed" = "seed"
"/srv/e" = { owner = "a b", mode = "rwx" }
"/srv/f" = { from = "f", mode = 755 }
"/srv/g" = 1"#,
        &expect![[r#"
            error: `shop/plumb.toml` line 5: `/srv/a` in `[machine.web.app]`: `../a` leads out of the definition's directory
              |
            5 | "/srv/a" = "../a"
              |            ^^^^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 6: `/srv/b` in `[machine.web.app]`: `/etc/passwd` is an absolute path, but sources lie beside the definition
              |
            6 | "/srv/b" = "/etc/passwd"
              |            ^^^^^^^^^^^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 7: `/srv/c` in `[machine.web.app]`: `.` is the definition's own directory
              |
            7 | "/srv/c" = "."
              |            ^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 9: `/srv/d` stands twice in `app` in `[machine.web]`
              |
            9 | "/srv/d/" = "e"
              | ^^^^^^^^^

            error: `shop/plumb.toml` line 10: `app` in `[machine.web]`: `/proc/x` is below `/proc`, which is made new at every boot
               |
            10 | "/proc/x" = "x"
               | ^^^^^^^^^

            error: `shop/plumb.toml` line 11: `app` in `[machine.web]`: `srv` is not an absolute path
               |
            11 | "srv" = "x"
               | ^^^^^

            error: `shop/plumb.toml` line 12: `app` in `[machine.web]`: `/srv/../etc` holds an empty part, `.` or `..`
               |
            12 | "/srv/../etc" = "x"
               | ^^^^^^^^^^^^^

            error: `shop/plumb.toml` line 13: `app` in `[machine.web]`: `/` is the whole machine
               |
            13 | "/" = "x"
               | ^^^

            error: `shop/plumb.toml` line 14: `/var/lib/data/seed` would be hidden by the volume `data` at `/var/lib/data`
               |
            14 | "/var/lib/data/seed" = "seed"
               | ^^^^^^^^^^^^^^^^^^^^

            error: `shop/plumb.toml` line 15: `from` is missing in `[machine.web.app./srv/e]`
               |
            15 | "/srv/e" = { owner = "a b", mode = "rwx" }
               | ^^^^^^^^
            hint: Add `from = "api/"`.

            error: `shop/plumb.toml` line 16: `mode` in `[machine.web.app./srv/f]` is not a mode of octal digits
               |
            16 | "/srv/f" = { from = "f", mode = 755 }
               |                                 ^^^
            hint: Write it like `"0755"`.

            error: `shop/plumb.toml` line 17: `/srv/g` in `[machine.web.app]` must be a table, not a whole number
               |
            17 | "/srv/g" = 1
               |            ^
            hint: Write it like `{ from = "api/", owner = "api" }`."#]],
    );
}

#[test]
fn content_by_url() {
    let digest = "ab".repeat(32);
    let text = format!(
        "app = \"x\"\n[machine.a.app]\n\"/srv/a\" = {{ url = \"https://example.org/a-1.tar.gz\", sha256 = \"{digest}\", strip = 1, owner = \"a\" }}\n\"/srv/b\" = {{ url = \"file:///b\", sha256 = \"sha256:{digest}\", unpack = false, mode = \"0755\" }}\n"
    );
    let definition = Definition::parse(&text, "plumb.toml").expect("right");
    let sources: Vec<&Source> =
        definition.machines.values().flat_map(|m| &m.app).map(|app| &app.source).collect();
    let sha256: Digest = digest.parse::<Digest>().or_else(|_| Digest::from_hex(&digest)).expect("right");
    let url =
        |url: &str, strip, unpack| Source::Url(UrlSource { url: url.to_owned(), sha256, strip, unpack });
    assert_eq!(sources, [&url("https://example.org/a-1.tar.gz", 1, true), &url("file:///b", 0, false)]);
    check_machine(
        "app = { \"/a\" = { url = \"ftp://x/y\", sha256 = \"12\", from = \"x\" }, \"/b\" = { url = \"x\" }, \"/c\" = { url = \"https://x/y\", sha256 = \"AB\", strip = 1, unpack = false, extract = 1 }, \"/d\" = { strip = 1 } }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: both `from` and `url` in `[machine.web.app./a]`
              |
            3 | app = { "/a" = { url = "ftp://x/y", sha256 = "12", from = "x" }, "/b" = { url = "x" }, "/c" = { url = "https://x/y", sha
              |         ^^^^
            hint: An entry of `app` comes from one place: keep one.

            error: `shop/plumb.toml` line 3: `sha256` is missing in `[machine.web.app./b]`
              |
            3 | app = { "/a" = { url = "ftp://x/y", sha256 = "12", from = "x" }, "/b" = { url = "x" }, "/c" = { url = "https://x/y", sha
              |                                                                  ^^^^
            hint: Add `sha256 = "…64 hex digits…"`.

            error: `shop/plumb.toml` line 3: `url` in `[machine.web.app./b]`: `x` is not the URL of a file
              |
            3 | app = { "/a" = { url = "ftp://x/y", sha256 = "12", from = "x" }, "/b" = { url = "x" }, "/c" = { url = "https://x/y", sha
              |                                                                                 ^^^
            hint: Write it like `https://example.org/x.tar.gz`; `http` and `file` are known, too.

            error: `shop/plumb.toml` line 3: `sha256` in `[machine.web.app./c]`: `AB` is not a SHA-256 in 64 lower-case hex digits
              |
            3 | ps://x/y", sha256 = "AB", strip = 1, unpack = false, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^
            hint: `sha256sum FILE` prints it.

            error: `shop/plumb.toml` line 3: `strip` in `[machine.web.app./c]` has no meaning with `unpack = false`
              |
            3 | /y", sha256 = "AB", strip = 1, unpack = false, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^^

            error: `shop/plumb.toml` line 3: unknown key `extract` in `[machine.web.app./c]`
              |
            3 |  1, unpack = false, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^^^^
            hint: Known keys: group, owner, mode, sha256, strip, unpack, url.

            error: `shop/plumb.toml` line 3: `from` is missing in `[machine.web.app./d]`
              |
            3 | lse, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^
            hint: Add `from = "api/"`."#]],
    );
}

#[test]
fn a_container_image_is_the_whole_userland() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let text = format!(
        "app = \"x\"\n[machine.a]\noci = \"nginx:1.27@{digest}\"\n[machine.b]\noci = {{ layout = \"images/b\", digest = \"{digest}\" }}\nservice.b.ready.tcp = 80\n"
    );
    let definition = Definition::parse(&text, "plumb.toml").expect("right");
    let machines: Vec<&Machine> = definition.machines.values().collect();
    let places: Vec<Option<&OciPlace>> =
        machines.iter().map(|machine| machine.oci.as_ref().map(|oci| &oci.place)).collect();
    let registry = OciPlace::Registry { host: "docker.io".into(), repository: "library/nginx".into() };
    assert_eq!(places, [Some(&registry), Some(&OciPlace::Layout { path: "images/b".into() })]);
    let service = machines[1].services.values().next().expect("a service");
    assert_eq!((&service.from, &service.exec), (&None, &None));
    check_machine(
        "oci = \"nginx:1.27\"\nos = [\"dash\"]\nvolume.data = { size = \"1GiB\", mount = \"/data\" }\nservice.nginx.from = \"nginx\"",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `oci` in `[machine.web]`: `nginx:1.27` has no digest
              |
            3 | oci = "nginx:1.27"
              |       ^^^^^^^^^^^^
            hint: A tag may mean other bytes tomorrow. `skopeo inspect --format '{{.Digest}}' docker://nginx:1.27` prints the digest: add it behind `@`.

            error: `shop/plumb.toml` line 4: `os` and `oci` in `[machine.web]`
              |
            4 | os = ["dash"]
              | ^^
            hint: A container image is the whole userland of its machine: no package is added to it.

            error: `shop/plumb.toml` line 5: `volume` and `oci` in `[machine.web]`: volumes are formatted by the image's own tools, which container images do not have
              |
            5 | volume.data = { size = "1GiB", mount = "/data" }
              | ^^^^^^
            hint: Keep the data in a machine of packages.

            error: `shop/plumb.toml` line 6: `from` in `[machine.web.service.nginx]` of a container image
              |
            6 | service.nginx.from = "nginx"
              |               ^^^^
            hint: Without `exec` the service is what the image itself says (its entrypoint)."#]],
    );
    check_machine(
        "oci = { layout = \"/x\", digest = \"ab\", tag = \"1\" }",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `layout` in `[machine.web.oci]`: `/x` is an absolute path, but sources lie beside the definition
          |
        3 | oci = { layout = "/x", digest = "ab", tag = "1" }
          |                  ^^^^

        error: `shop/plumb.toml` line 3: `digest` in `[machine.web.oci]`: `ab` is not a SHA-256 in 64 lower-case hex digits
          |
        3 | oci = { layout = "/x", digest = "ab", tag = "1" }
          |                                 ^^^^
        hint: `sha256sum FILE` prints it.

        error: `shop/plumb.toml` line 3: unknown key `tag` in `[machine.web.oci]`
          |
        3 | oci = { layout = "/x", digest = "ab", tag = "1" }
          |                                       ^^^
        hint: Known keys: digest, layout."#]],
    );
    check_machine(
        "oci = \"Nginx@sha256:0\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `oci` in `[machine.web]`: `Nginx@sha256:0` is not the reference of an image
          |
        3 | oci = "Nginx@sha256:0"
          |       ^^^^^^^^^^^^^^^^
        hint: Write it like `docker.io/library/nginx@sha256:…`."#]],
    );
}

#[test]
fn packages_of_npm() {
    check_machine(
        "app = { \"/a\" = { npm = \"service/\", skip_scripts = [\"esbuild\", 1], strip = 1 }, \"/b\" = { npm = \"../x\" } }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `skip_scripts` in `[machine.web.app./a]` must be a string, not a whole number
              |
            3 | app = { "/a" = { npm = "service/", skip_scripts = ["esbuild", 1], strip = 1 }, "/b" = { npm = "../x" } }
              |                                                               ^
            hint: Write it like `"esbuild"`.

            error: `shop/plumb.toml` line 3: unknown key `strip` in `[machine.web.app./a]`
              |
            3 | app = { "/a" = { npm = "service/", skip_scripts = ["esbuild", 1], strip = 1 }, "/b" = { npm = "../x" } }
              |                                                                   ^^^^^
            hint: Known keys: group, owner, npm, skip_scripts.

            error: `shop/plumb.toml` line 3: `npm` in `[machine.web.app./b]`: `../x` leads out of the definition's directory
              |
            3 | app = { "/a" = { npm = "service/", skip_scripts = ["esbuild", 1], strip = 1 }, "/b" = { npm = "../x" } }
              |                                                                                               ^^^^^^
            hint: Name a file or directory beside the definition, like `api/`."#]],
    );
}

#[test]
fn requirements_of_python() {
    check(
        "app = \"x\"\nbase.pypi = \"x\"\n[machine.a.app]\n\"/a\" = { pip = \"/etc/x\", mode = \"0644\" }\n",
        &expect![[r#"
            error: `shop/plumb.toml` line 2: `pypi` in `[base]`: `x` is not the URL of an archive
              |
            2 | base.pypi = "x"
              |             ^^^
            hint: Write it like `"http://deb.debian.org/debian"`.

            error: `shop/plumb.toml` line 4: `pip` in `[machine.a.app./a]`: `/etc/x` is an absolute path, but sources lie beside the definition
              |
            4 | "/a" = { pip = "/etc/x", mode = "0644" }
              |                ^^^^^^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 4: unknown key `mode` in `[machine.a.app./a]`
              |
            4 | "/a" = { pip = "/etc/x", mode = "0644" }
              |                          ^^^^
            hint: Known keys: group, owner, pip."#]],
    );
}
