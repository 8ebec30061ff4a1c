//! sysusers.d and tmpfiles.d.

use std::collections::BTreeMap;

use plumb_image::fuzz;
use plumb_image::rule::account::Wanted;

use crate::object::Memory;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut wanted = Wanted::default();
    let refused = wanted.sysusers(text);
    assert!(refused.len() <= text.lines().count());
    if let Ok(accounts) = wanted.allocate(&BTreeMap::new()) {
        let names = |file: &str, fields: usize| -> Vec<String> {
            let line = |line: &str| {
                assert_eq!(line.split(':').count(), fields, "forged line `{line}`");
                line.split(':').next().unwrap_or_default().to_owned()
            };
            let mut names: Vec<String> = file.lines().map(line).collect();
            names.sort();
            names
        };
        assert_eq!(names(&accounts.passwd(), 7), accounts.users.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(&accounts.shadow(), 9), accounts.users.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(&accounts.group(), 4), accounts.groups.keys().cloned().collect::<Vec<_>>());
        let root = |uid: u32, name: &str| uid != 0 || name == "root";
        assert!(accounts.users.iter().all(|(name, user)| root(user.uid, name)), "a second root");
        let again = wanted.allocate(&accounts.allocated).expect("as before");
        assert_eq!(again, accounts, "ids change from build to build");
    }
    let objects = Memory::default();
    let mut tree = crate::script::image(&objects);
    objects.file(&mut tree, "/usr/lib/tmpfiles.d/x.conf", 0o644, data);
    let evaluated = fuzz::tmpfiles(tree, &objects).expect("memory does not fail");
    crate::path::check_tree(&evaluated.tree, (64 << 10) + 16 * data.len());
}
