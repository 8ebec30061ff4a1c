//! update-perl-sax-parsers(8): which parsers of XML Perl has. Each says of itself what it can by a function of its own, which
//! nobody calls here, so the answers are data.

use super::file::{get, options};
use super::world::World;

const FOLDER: &str = "/var/lib/libxml-sax-perl/ParserDetails.d";
const FILE: &str = "/etc/perl/XML/SAX/ParserDetails.ini";

/// Priority where none is given.
const PRIORITY: &str = "50";

/// The parsers of Debian; all of them can the same.
const KNOWN: [&str; 5] = [
    "XML::LibXML::SAX",
    "XML::LibXML::SAX::Parser",
    "XML::SAX::Expat",
    "XML::SAX::ExpatXS",
    "XML::SAX::PurePerl",
];

/// `--add PARSER [--priority N]` or `--update`; `None` for anything else, or another parser.
pub(super) fn update(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["--add", "--priority"]);
    if !operands.is_empty()
        || given.iter().any(|(name, _)| !matches!(*name, "--add" | "--priority" | "--update" | "--quiet"))
    {
        return None;
    }
    let origin = World::origin(source);
    if let Some(parser) = get(&given, &["--add"]) {
        if !KNOWN.contains(&parser) {
            return None;
        }
        let priority = get(&given, &["--priority"]).unwrap_or(PRIORITY);
        let text = format!("[{parser}]\nhttp://xml.org/sax/features/namespaces = 1\n\n\n");
        return world.write(&format!("{FOLDER}/{priority}-{parser}"), text.as_bytes(), 0o644, &origin).ok();
    }
    let below = format!("{FOLDER}/");
    let paths: Vec<String> = world
        .tree
        .entries
        .range(below.clone()..)
        .map(|(path, _)| path.clone())
        .take_while(|path| path.starts_with(&below))
        .collect();
    let mut all = String::new();
    for path in paths {
        all.push_str(&world.text(&path).ok()??);
    }
    world.write(FILE, all.as_bytes(), 0o644, &origin).ok()
}
