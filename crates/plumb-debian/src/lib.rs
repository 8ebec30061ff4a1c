//! Debian's words: version order, control stanzas, dependency grammar, package index, release file.
