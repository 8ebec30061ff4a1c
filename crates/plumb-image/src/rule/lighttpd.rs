//! lighttpd's switches (lighty-enable-mod(1)): links from `conf-available` to `conf-enabled`.

use super::world::World;
use crate::tree::Entry;

/// Where both lie.
const FOLDER: &str = "/etc/lighttpd";

/// `lighty-enable-mod NAME…`. A file is called `NN-NAME.conf`. One that needs others or bears none
/// beside it says so in a comment; such is not understood.
pub(super) fn enable(world: &mut World<'_>, source: &str, names: &[&str]) -> Option<()> {
    names.iter().try_for_each(|name| {
        let end = format!("-{name}.conf");
        let available = format!("{FOLDER}/conf-available/");
        let paths = world.tree.entries.range(available.clone()..).map(|(path, _)| path);
        let mut files = paths.map_while(|path| path.strip_prefix(&available));
        let is_it = |file: &str| {
            file.strip_suffix(&end)
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        };
        let file = files.find(|file| is_it(file))?.to_owned();
        let text = world.text(&format!("{available}{file}")).ok()??;
        if ["depends:", "conflicts:"].iter().any(|word| text.contains(&format!("# -*- {word}"))) {
            return None;
        }
        let link = Entry::symlink(format!("../conf-available/{file}"));
        world.add(&format!("{FOLDER}/conf-enabled/{file}"), link, source);
        Some(())
    })
}
