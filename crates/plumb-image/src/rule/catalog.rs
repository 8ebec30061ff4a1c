//! update-xmlcatalog(8): which file stands for the identifier of an XML document type.

use super::file::{get, options};
use super::world::World;

const HEAD: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE catalog PUBLIC \"-//OASIS//DTD XML Catalogs V1.0//EN\"\n  \
     \"file:///usr/share/xml/schema/xml-core/catalog.dtd\">\n<catalog prefer=\"public\" \
     xmlns=\"urn:oasis:names:tc:entity:xmlns:xml:catalog\">\n";
const END: &str = "</catalog>\n";

/// `--add --type TYPE --id ID --package PACKAGE (--local FILE | --root)`.
pub(super) fn add(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, _) = options(arguments, &["--type", "--id", "--package", "--local"]);
    get(&given, &["--add"])?;
    let (kind, id) = (get(&given, &["--type"])?, get(&given, &["--id"])?);
    let package = get(&given, &["--package"])?;
    if id.contains(['"', '<', '&']) || package.contains('/') {
        return None;
    }
    let (path, file) = match get(&given, &["--local"]) {
        Some(local) => (format!("/etc/xml/{package}.xml"), local.to_owned()),
        None => ("/etc/xml/catalog".to_owned(), format!("/etc/xml/{package}.xml")),
    };
    let (element, attribute) = match kind {
        "public" => ("delegatePublic", "publicIdStartString"),
        "system" => ("delegateSystem", "systemIdStartString"),
        "uri" => ("delegateURI", "uriStartString"),
        _ => return None,
    };
    let line = format!("<{element} {attribute}=\"{id}\" catalog=\"file://{file}\"/>");
    let old = world.text(&path).ok()?.unwrap_or_else(|| format!("{HEAD}{END}"));
    let body = old.split_once("catalog\">\n").map_or("", |(_, body)| body).trim_end_matches(END);
    let mut lines: Vec<&str> = body.lines().filter(|old| *old != line).collect();
    lines.push(&line);
    lines.sort_unstable();
    let text = format!("{HEAD}{}\n{END}", lines.join("\n"));
    world.write(&path, text.as_bytes(), 0o644, &World::origin(source)).ok()
}
