//! systemd units: a template with its drop-ins, separated by lines of `---`, translated for an instance of it.

use plumb_guest_proto::ServiceSpec;
use plumb_image::unit::{Accounts, ServiceInput, UnitSource, UserRecord, from_unit};

struct Text<'a>(Vec<&'a str>);

impl UnitSource for Text<'_> {
    fn unit(&self, name: &str) -> Option<String> {
        (name == "web@.service").then(|| self.0[0].to_owned())
    }

    fn drop_ins(&self, name: &str) -> Vec<String> {
        let mine = if name == "web@.service" { &self.0[1..] } else { &[] };
        mine.iter().map(|text| (*text).to_owned()).collect()
    }

    fn names(&self) -> Vec<String> {
        vec!["web@.service".into()]
    }
}

struct Etc;

impl Accounts for Etc {
    fn user(&self, name: &str) -> Option<UserRecord> {
        let (uid, home) = match name {
            "root" => (0, "/root"),
            "www-data" => (33, "/var/www"),
            _ => return None,
        };
        Some(UserRecord { uid, gid: uid, home: home.into(), shell: "/bin/sh".into() })
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.user(name).map(|user| user.gid)
    }

    fn groups_of(&self, _: &str) -> Vec<u32> {
        Vec::new()
    }
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let resolve = |name: &str| {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("/usr/bin/{name}") };
        (!path.contains("missing")).then_some(path)
    };
    let input = ServiceInput::new("web", &resolve);
    let source = Text(text.split("\n---\n").collect());
    let Ok(translated) = from_unit("web@15-main", &input, &source, &Etc) else { return };
    check(&translated.spec);
}

/// What PID 1 takes for granted.
fn check(spec: &ServiceSpec) {
    let groups = [&spec.prepare, &spec.start_pre, &spec.start, &spec.start_post, &spec.stop];
    for command in groups.into_iter().flatten() {
        assert!(command.argv.first().is_some_and(|program| program.starts_with('/')), "{command:?}");
        assert!(command.argv.iter().all(|word| !word.contains('\0')), "{command:?}");
    }
    assert!(!spec.start.is_empty());
    assert!(spec.working_directory.starts_with('/'), "{}", spec.working_directory);
    spec.directories.iter().for_each(|directory| crate::path::check(&directory.path));
    for (name, value) in &spec.environment {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'), "{name}={value}");
    }
    let written = serde_json::to_vec(spec).expect("a service is written");
    assert_eq!(&serde_json::from_slice::<ServiceSpec>(&written).expect("and read again"), spec);
}
