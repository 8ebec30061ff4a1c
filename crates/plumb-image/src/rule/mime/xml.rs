//! As much of XML as descriptions of file types are written in: elements, attributes, text, the five entities.
//! Anything else (other namespaces, entities of its own) is refused.

/// Deepest nesting of elements; those of Debian have 8.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Appends the element as libxml2 writes it; `None` if there are elements in it.
    pub(super) fn write(&self, out: &mut String) -> Option<()> {
        out.push('<');
        out.push_str(&self.name);
        for (name, value) in &self.attributes {
            out.push_str(&format!(" {name}=\""));
            escape(value, true, out);
            out.push('"');
        }
        if self.nodes.is_empty() {
            out.push_str("/>");
            return Some(());
        }
        out.push('>');
        for node in &self.nodes {
            let Node::Text(text) = node else { return None };
            escape(text, false, out);
        }
        out.push_str(&format!("</{}>", self.name));
        Some(())
    }
}

pub(super) fn escape(text: &str, is_attribute: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' if is_attribute => out.push_str("&quot;"),
            '\n' if is_attribute => out.push_str("&#10;"),
            '\t' if is_attribute => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
}

/// The document's element.
pub(super) fn parse(text: &str) -> Option<Element> {
    let mut parser = Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text) };
    parser.prolog()?;
    let root = parser.element(0)?;
    parser.space();
    parser.rest.is_empty().then_some(root)
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn until(&mut self, end: &str) -> Option<&'t str> {
        let (inside, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(inside)
    }

    /// White space, comments and processing instructions.
    fn space(&mut self) -> Option<()> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
            if self.take("<!--") {
                self.until("-->")?;
            } else if self.take("<?") {
                self.until("?>")?;
            } else {
                return Some(());
            }
        }
    }

    fn prolog(&mut self) -> Option<()> {
        self.space()?;
        if !self.take("<!DOCTYPE") {
            return Some(());
        }
        // Declarations: of use are only entities, and none of them is known here.
        loop {
            let at = self.rest.find(['>', '[', '"', '\''])?;
            let c = self.rest[at..].chars().next()?;
            self.rest = &self.rest[at + 1..];
            match c {
                '>' => break,
                '[' => self.declarations()?,
                quote => _ = self.until(&quote.to_string())?,
            }
        }
        self.space()
    }

    fn declarations(&mut self) -> Option<()> {
        loop {
            self.space()?;
            if self.take("]") {
                return Some(());
            }
            if !self.take("<!") || self.rest.starts_with("ENTITY") {
                return None;
            }
            loop {
                let at = self.rest.find(['>', '"', '\''])?;
                let c = self.rest[at..].chars().next()?;
                self.rest = &self.rest[at + 1..];
                if c == '>' {
                    break;
                }
                self.until(&c.to_string())?;
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| c.is_whitespace() || "=/><\"'".contains(c))?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn element(&mut self, depth: usize) -> Option<Element> {
        if depth > MAX_DEPTH || !self.take("<") {
            return None;
        }
        let mut element = Element { name: self.name()?, attributes: Vec::new(), nodes: Vec::new() };
        if element.name.contains(':') {
            return None;
        }
        loop {
            self.rest = self.rest.trim_start();
            if self.take("/>") {
                return Some(element);
            }
            if self.take(">") {
                break;
            }
            let name = self.name()?;
            let is_space = name == "xmlns" || name.starts_with("xmlns:");
            if is_space && depth > 0 || name.contains(':') && name != "xml:lang" {
                return None;
            }
            self.rest = self.rest.trim_start();
            if !self.take("=") {
                return None;
            }
            self.rest = self.rest.trim_start();
            let quote = if self.take("\"") { "\"" } else { self.take("'").then_some("'")? };
            let value = self.until(quote)?;
            // Breaks of lines in a value are spaces (XML 1.0, 3.3.3).
            element.attributes.push((name, plain(&value.replace(['\n', '\t', '\r'], " "))?));
        }
        self.content(&mut element, depth)?;
        Some(element)
    }

    fn content(&mut self, element: &mut Element, depth: usize) -> Option<()> {
        loop {
            let at = self.rest.find('<')?;
            let (text, rest) = self.rest.split_at(at);
            self.rest = rest;
            if !text.is_empty() {
                element.nodes.push(Node::Text(plain(text)?));
            }
            if self.take("<!--") {
                self.until("-->")?;
            } else if self.take("</") {
                let name = self.name()?;
                self.rest = self.rest.trim_start();
                return (name == element.name && self.take(">")).then_some(());
            } else if self.rest.starts_with("<!") || self.rest.starts_with("<?") {
                return None;
            } else {
                element.nodes.push(Node::Element(self.element(depth + 1)?));
            }
        }
    }
}

/// Text without its entities.
fn plain(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, after) = after.split_once(';')?;
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            entity => {
                let number = entity.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written() {
        let text = "<?xml version=\"1.0\"?>\n<!DOCTYPE a [\n<!-- ]> --><!ATTLIST b c CDATA \">\">\n]>\n<!-- x --><a xmlns='n'>\n\
                    <b c='&lt;&#x41;\"'/> <b xml:lang=\"de\">1 &amp; 2</b></a>\n";
        let root = parse(text).unwrap();
        let mut out = String::new();
        root.elements().for_each(|element| element.write(&mut out).unwrap());
        assert_eq!(out, "<b c=\"&lt;A&quot;\"/><b xml:lang=\"de\">1 &amp; 2</b>");
        for bad in [
            "<a>",
            "<a></b>",
            "<a>&x;</a>",
            "<a><x:b/></a>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a/>",
            "<a/><a/>",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"<a>".repeat(100_000)), None);
    }
}
