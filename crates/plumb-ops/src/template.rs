//! What `plumb init` starts from: the example applications, carried in the program.

/// An application to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    /// Every file: path from the new directory, and content. Sorted by path; the definition is one of them.
    pub files: &'static [(&'static str, &'static str)],
}

/// A file of `examples/`, which is the only place where templates are kept.
macro_rules! file {
    ($directory:literal, $path:literal) => {
        ($path, include_str!(concat!("../../../examples/", $directory, "/", $path)))
    };
}

const TEMPLATES: &[Template] = &[
    Template {
        name: "hello",
        summary: "one machine: nginx with a page of your own",
        files: &[
            file!("hello", "hello.conf"),
            file!("hello", "plumb.toml"),
            file!("hello", "www/index.html"),
        ],
    },
    Template {
        name: "shop",
        summary: "three machines: nginx (two instances), Flask, PostgreSQL with a volume",
        files: &[
            file!("shop/v1", "api/app.py"),
            file!("shop/v1", "api/migrate.py"),
            file!("shop/v1", "api/static/shop.css"),
            file!("shop/v1", "api/templates/shop.html"),
            file!("shop/v1", "checks/order.py"),
            file!("shop/v1", "db/pg_hba.conf"),
            file!("shop/v1", "db/postgresql.conf"),
            file!("shop/v1", "db/prepare.sh"),
            file!("shop/v1", "plumb.toml"),
            file!("shop/v1", "web/shop.conf"),
        ],
    },
];

/// All templates, in the order in which they are offered.
#[must_use]
pub fn templates() -> &'static [Template] {
    TEMPLATES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use plumb_model::definition::{Definition, Source};

    use super::*;

    /// Paths of all files below `directory`.
    fn walk(directory: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).expect("example directory") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let relative = path.strip_prefix(root).expect("below the root");
                found.insert(relative.to_str().expect("UTF-8").to_owned());
            }
        }
    }

    #[test]
    fn templates_are_whole() {
        for (name, example) in [("hello", "hello"), ("shop", "shop/v1")] {
            let template = templates().iter().find(|template| template.name == name).expect("offered");
            let listed: Vec<&str> = template.files.iter().map(|(path, _)| *path).collect();
            assert!(listed.is_sorted(), "{listed:?}");

            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
            let mut there = BTreeSet::new();
            walk(&root, &root, &mut there);
            // What a try of the example leaves beside it.
            there.retain(|path| path != "plumb.lock" && !path.contains("__pycache__"));
            assert_eq!(there.iter().map(String::as_str).collect::<Vec<_>>(), listed, "{name}");
        }
    }

    #[test]
    fn every_template_is_a_right_definition_whose_sources_it_holds() {
        for template in templates() {
            let (_, text) =
                template.files.iter().find(|(path, _)| *path == "plumb.toml").expect("a definition");
            let definition =
                Definition::parse(text, "plumb.toml").unwrap_or_else(|errors| panic!("{errors}"));
            for content in definition.machines.values().flat_map(|machine| &machine.app) {
                let Source::Path(source) = &content.source else { continue };
                let folder = format!("{source}/");
                assert!(
                    template.files.iter().any(|(path, _)| path == source || path.starts_with(&folder)),
                    "`{source}` of template `{}`",
                    template.name
                );
            }
        }
    }
}
