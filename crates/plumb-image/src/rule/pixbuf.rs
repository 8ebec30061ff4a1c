//! `gdk-pixbuf-query-loaders`: what the loaders of Debian say of themselves. A loader says it by a function of its own,
//! which nobody calls here, so the answers are data: one block for each, as the program wrote it.

use super::world::World;

/// Blocks with an empty line between; the first line is the file's name in quotes.
const KNOWN: &str = include_str!("pixbuf.txt");

/// The versions that wrote [`KNOWN`]: package, how its version begins. Another may have other loaders to say other things.
const VERSIONS: [(&str, &str); 2] = [("libgdk-pixbuf-2.0-0", "2.42."), ("librsvg2-common", "2.54.")];

/// The cache for these loaders; `None` if one is not known.
pub(super) fn cache(world: &World<'_>, paths: &[String]) -> Option<String> {
    let fits = |(package, begin): &(&str, &str)| {
        world.packages.get(*package).is_none_or(|version| version.starts_with(begin))
    };
    if !VERSIONS.iter().all(fits) {
        return None;
    }
    // `2.42.10+dfsg-1+deb12u4`: what Debian adds is none of the program's own version.
    let version = world.packages.get(VERSIONS[0].0)?.split(['+', '-', '~']).next()?;
    let mut out = format!(
        "# GdkPixbuf Image Loader Modules file\n# Automatically generated file, do not edit\n\
         # Created by gdk-pixbuf-query-loaders from gdk-pixbuf-{version}\n#\n"
    );
    for path in paths {
        let name = path.rsplit('/').next()?;
        let mut blocks = KNOWN.split("\n\n").filter_map(|block| block.trim().split_once('\n'));
        let (_, said) = blocks.find(|(first, _)| first.trim_matches('"') == name)?;
        out.push_str(&format!("\"{path}\"\n{said}\n\n"));
    }
    Some(format!("{out}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Folder;

    #[test]
    fn loaders_are_known_by_name_and_version() {
        let objects = Folder::new();
        let mut world = World::new(&objects);
        let folder = "/usr/lib/x86_64-linux-gnu/gdk-pixbuf-2.0/2.10.0/loaders";
        let paths = [format!("{folder}/libpixbufloader-gif.so")];
        assert_eq!(cache(&world, &paths), None);
        world.packages.insert("libgdk-pixbuf-2.0-0".into(), "2.42.10+dfsg-1+deb12u4".into());
        let text = cache(&world, &paths).unwrap();
        assert!(text.contains("from gdk-pixbuf-2.42.10\n#\n"), "{text}");
        assert!(text.contains(&format!("\"{folder}/libpixbufloader-gif.so\"\n\"gif\" 4 ")), "{text}");
        assert!(text.ends_with("\"GIF8\" \"\" 100\n\n\n"), "{text}");
        assert_eq!(cache(&world, &["/x/libpixbufloader-new.so".to_owned()]), None);
        world.packages.insert("librsvg2-common".into(), "2.60.0".into());
        assert_eq!(cache(&world, &paths), None);
    }
}
