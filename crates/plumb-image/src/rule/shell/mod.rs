//! The part of the shell language that maintainer scripts use (dash(1)), parsed but never run by a shell.

use std::rc::Rc;

mod lex;
mod parse;
pub(super) mod pattern;

pub(super) use lex::quoted_word as parse_word;
pub(super) use parse::parse;

/// Deepest nesting of compound commands and substitutions; hand-written scripts stay below 10.
const MAX_DEPTH: usize = 48;

/// Longest source text of a command: every command of a line has the whole line.
const MAX_TEXT_CHARS: usize = 240;

/// One word: its parts are joined.
pub(super) type Word = Vec<Part>;

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text; `quoted` text is never a pattern.
    Text { text: String, quoted: bool },
    /// `$name`, `${name}`, `${name:-word}`…
    Variable { name: String, change: Option<(String, Word)>, quoted: bool },
    /// `$(…)` or backquotes.
    Command { body: Vec<Node>, quoted: bool },
    /// The inside of `$((…))`.
    Arithmetic(String),
    /// Anything whose value is not computed.
    Opaque,
}

/// `> file`, `< file`, `<< here`…
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    /// `>`, `>>`, `<`, `>&`, `<&`, `<<`.
    pub(super) operator: String,
    /// File descriptor, if one stands before the operator.
    pub(super) descriptor: Option<u32>,
    /// File name, or the whole text of a here-document.
    pub(super) word: Word,
}

/// A simple command with its source line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Simple {
    /// The source text of its first line, cut to [`MAX_TEXT_CHARS`], for reports.
    pub(super) text: String,
    pub(super) assigns: Vec<(String, Word)>,
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Simple(Simple),
    /// Conditions with their bodies, in order, and the `else`.
    If {
        arms: Vec<(Vec<Node>, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, Vec<Node>)>,
    },
    For {
        name: String,
        words: Vec<Word>,
        body: Vec<Node>,
    },
    /// `while` and `until`.
    Loop {
        condition: Vec<Node>,
        body: Vec<Node>,
        until: bool,
    },
    /// The body is shared: a definition in a loop is not copied each time.
    Function {
        name: String,
        body: Rc<[Node]>,
    },
    /// `{ … }` and `( … )`; a subshell's variables and its `exit` stay inside.
    Group {
        body: Vec<Node>,
        subshell: bool,
        redirects: Vec<Redirect>,
    },
    /// `first && second || third`: the flag says whether `&&` stands before.
    Chain {
        first: Box<Node>,
        rest: Vec<(bool, Node)>,
    },
    Not(Box<Node>),
    Pipe(Vec<Node>),
}

/// Why a script cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct ParseError {
    pub(super) line: usize,
    pub(super) reason: &'static str,
}
