//! Tokens to commands.

use super::lex::{Kind, Token, tokens};
use super::{MAX_DEPTH, MAX_TEXT_CHARS, Node, ParseError, Part, Redirect, Simple, Word};

/// Parses a whole script.
pub(in crate::rule) fn parse(source: &str) -> Result<Vec<Node>, ParseError> {
    parse_at(source, 1, 0)
}

pub(super) fn parse_at(source: &str, first_line: usize, depth: usize) -> Result<Vec<Node>, ParseError> {
    let tokens = tokens(source, first_line, depth)?;
    let lines = source.lines().collect();
    let mut parser = Parser { tokens, lines, first_line, at: 0, depth };
    let nodes = parser.list(&[])?;
    if parser.at < parser.tokens.len() {
        return Err(parser.error("unexpected word or operator"));
    }
    Ok(nodes)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    lines: Vec<&'a str>,
    first_line: usize,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error(&self, reason: &'static str) -> ParseError {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        ParseError { line: token.map_or(self.first_line, |token| token.line), reason }
    }

    fn kind(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn is_operator(&self, operator: &str) -> bool {
        matches!(self.kind(), Some(Kind::Operator(found)) if *found == operator)
    }

    /// The word here as written, for reserved words.
    fn raw(&self) -> Option<&str> {
        match self.kind() {
            Some(Kind::Word { raw, .. }) => Some(raw),
            _ => None,
        }
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.raw() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn expect_word(&mut self, word: &str, reason: &'static str) -> Result<(), ParseError> {
        if self.accept_word(word) { Ok(()) } else { Err(self.error(reason)) }
    }

    fn skip_newlines(&mut self) {
        while matches!(self.kind(), Some(Kind::Newline)) {
            self.at += 1;
        }
    }

    /// Commands up to one of the reserved words or operators in `ends`, which stays.
    fn list(&mut self, ends: &[&str]) -> Result<Vec<Node>, ParseError> {
        let mut nodes = Vec::new();
        loop {
            while matches!(self.kind(), Some(Kind::Newline | Kind::Operator(";" | "&"))) {
                self.at += 1;
            }
            let ended = match self.kind() {
                None => true,
                Some(Kind::Word { raw, .. }) => ends.contains(&raw.as_str()),
                Some(Kind::Operator(operator)) => ends.contains(operator),
                Some(_) => false,
            };
            if ended {
                return Ok(nodes);
            }
            nodes.push(self.and_or()?);
        }
    }

    fn and_or(&mut self) -> Result<Node, ParseError> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            let and = self.is_operator("&&");
            if !and && !self.is_operator("||") {
                break;
            }
            self.at += 1;
            self.skip_newlines();
            rest.push((and, self.pipeline()?));
        }
        Ok(if rest.is_empty() { first } else { Node::Chain { first: Box::new(first), rest } })
    }

    fn pipeline(&mut self) -> Result<Node, ParseError> {
        let mut negated = false;
        while self.accept_word("!") {
            negated = !negated;
        }
        let mut parts = vec![self.command()?];
        while self.is_operator("|") {
            self.at += 1;
            self.skip_newlines();
            parts.push(self.command()?);
        }
        let node = if parts.len() == 1 { parts.remove(0) } else { Node::Pipe(parts) };
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    fn command(&mut self) -> Result<Node, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let node = match self.raw() {
            Some("if") => self.conditional()?,
            Some("case") => self.case()?,
            Some("for") => self.each()?,
            Some("while" | "until") => self.repeat()?,
            Some("{") => self.group("{", "}")?,
            Some("[[") => self.bash_test()?,
            Some("function") => {
                self.at += 1;
                let start = self.at;
                self.at += 1;
                if self.is_operator("(") { self.function(start)? } else { self.named(start)? }
            }
            _ if self.is_operator("(") => self.group("(", ")")?,
            _ => self.simple_or_function()?,
        };
        self.depth -= 1;
        Ok(node)
    }

    fn conditional(&mut self) -> Result<Node, ParseError> {
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        while self.accept_word("if") || self.accept_word("elif") {
            let condition = self.list(&["then"])?;
            self.expect_word("then", "`then` expected")?;
            arms.push((condition, self.list(&["elif", "else", "fi"])?));
        }
        if self.accept_word("else") {
            otherwise = self.list(&["fi"])?;
        }
        self.expect_word("fi", "`fi` expected")?;
        let redirects = self.redirects()?;
        Ok(with_redirects(Node::If { arms, otherwise }, redirects))
    }

    fn case(&mut self) -> Result<Node, ParseError> {
        self.at += 1;
        let word = self.take_word()?;
        self.skip_newlines();
        self.expect_word("in", "`in` expected")?;
        let mut arms = Vec::new();
        loop {
            self.skip_newlines();
            if self.accept_word("esac") {
                break;
            }
            if self.is_operator("(") {
                self.at += 1;
            }
            let mut patterns = vec![self.take_word()?];
            while self.is_operator("|") {
                self.at += 1;
                patterns.push(self.take_word()?);
            }
            if !self.is_operator(")") {
                return Err(self.error("`)` expected"));
            }
            self.at += 1;
            let body = self.list(&[";;", "esac"])?;
            if self.is_operator(";;") {
                self.at += 1;
            }
            arms.push((patterns, body));
        }
        let redirects = self.redirects()?;
        Ok(with_redirects(Node::Case { word, arms }, redirects))
    }

    fn each(&mut self) -> Result<Node, ParseError> {
        self.at += 1;
        let name = self.raw().ok_or_else(|| self.error("a name expected"))?.to_owned();
        self.at += 1;
        self.skip_newlines();
        let mut words = Vec::new();
        if self.accept_word("in") {
            while matches!(self.kind(), Some(Kind::Word { .. })) {
                words.push(self.take_word()?);
            }
        } else {
            words.push(vec![Part::Variable { name: "@".into(), change: None, quoted: true }]);
        }
        let body = self.body()?;
        let redirects = self.redirects()?;
        Ok(with_redirects(Node::For { name, words, body }, redirects))
    }

    fn repeat(&mut self) -> Result<Node, ParseError> {
        let until = self.raw() == Some("until");
        self.at += 1;
        let condition = self.list(&["do"])?;
        let body = self.body()?;
        let redirects = self.redirects()?;
        Ok(with_redirects(Node::Loop { condition, body, until }, redirects))
    }

    fn body(&mut self) -> Result<Vec<Node>, ParseError> {
        while matches!(self.kind(), Some(Kind::Newline | Kind::Operator(";"))) {
            self.at += 1;
        }
        self.expect_word("do", "`do` expected")?;
        let body = self.list(&["done"])?;
        self.expect_word("done", "`done` expected")?;
        Ok(body)
    }

    fn group(&mut self, open: &str, close: &str) -> Result<Node, ParseError> {
        self.at += 1;
        let body = self.list(&[close])?;
        if self.at >= self.tokens.len() {
            return Err(self.error("a group does not end"));
        }
        self.at += 1;
        let redirects = self.redirects()?;
        Ok(Node::Group { body, subshell: open == "(", redirects })
    }

    fn take_word(&mut self) -> Result<Word, ParseError> {
        match self.kind() {
            Some(Kind::Word { word, .. }) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.error("a word expected")),
        }
    }

    fn redirects(&mut self) -> Result<Vec<Redirect>, ParseError> {
        let mut redirects = Vec::new();
        while let Some(redirect) = self.redirect()? {
            redirects.push(redirect);
        }
        Ok(redirects)
    }

    fn redirect(&mut self) -> Result<Option<Redirect>, ParseError> {
        let descriptor = match self.kind() {
            Some(Kind::Descriptor(number)) => Some(*number),
            _ => None,
        };
        self.at += usize::from(descriptor.is_some());
        let Some(Kind::Operator(operator)) = self.kind() else { return Ok(None) };
        let operator = match *operator {
            "<<" | "<<-" => "<<",
            ">" | ">|" => ">",
            other @ (">>" | "<" | ">&" | "<&" | "<>") => other,
            _ => return Ok(None),
        };
        self.at += 1;
        let mut word = self.take_word()?;
        if operator == "<<" {
            let Some(Kind::Here(body)) = self.kind() else {
                return Err(self.error("a here-document has no text"));
            };
            word = body.clone();
            self.at += 1;
        }
        Ok(Some(Redirect { operator: operator.to_owned(), descriptor, word }))
    }

    fn simple_or_function(&mut self) -> Result<Node, ParseError> {
        let start = self.at;
        let line = self.tokens.get(self.at).map_or(self.first_line, |token| token.line);
        let text = self.lines.get(line - self.first_line).map_or("", |text| text.trim());
        let text = text.chars().take(MAX_TEXT_CHARS).collect();
        let mut simple = Simple { text, ..Simple::default() };
        loop {
            if let Some(redirect) = self.redirect()? {
                simple.redirects.push(redirect);
                continue;
            }
            let Some(Kind::Word { word, raw }) = self.kind() else { break };
            match assignment(word, raw).filter(|_| simple.words.is_empty()) {
                Some(assign) => simple.assigns.push(assign),
                None => simple.words.push(word.clone()),
            }
            self.at += 1;
            if simple.words.len() == 1 && simple.assigns.is_empty() && self.is_operator("(") {
                return self.function(start);
            }
        }
        if self.at == start {
            return Err(self.error("a command expected"));
        }
        Ok(Node::Simple(simple))
    }

    fn function(&mut self, start: usize) -> Result<Node, ParseError> {
        let Some(Kind::Word { raw, .. }) = self.tokens.get(start).map(|token| token.kind.clone()) else {
            return Err(self.error("a name expected"));
        };
        self.at += 1;
        if !self.is_operator(")") {
            return Err(self.error("`)` expected"));
        }
        self.at += 1;
        self.skip_newlines();
        Ok(Node::Function { name: raw, body: [self.command()?].into() })
    }

    /// `function name { … }` of bash, behind the name.
    fn named(&mut self, start: usize) -> Result<Node, ParseError> {
        let Some(Kind::Word { raw, .. }) = self.tokens.get(start).map(|token| token.kind.clone()) else {
            return Err(self.error("a name expected"));
        };
        self.skip_newlines();
        Ok(Node::Function { name: raw, body: [self.command()?].into() })
    }

    /// `[[ … ]]` of bash: its operators are words of the test.
    fn bash_test(&mut self) -> Result<Node, ParseError> {
        let line = self.tokens.get(self.at).map_or(self.first_line, |token| token.line);
        let text = self.lines.get(line - self.first_line).map_or("", |text| text.trim());
        let text = text.chars().take(MAX_TEXT_CHARS).collect();
        let mut simple = Simple { text, ..Simple::default() };
        loop {
            let last = self.raw() == Some("]]");
            match self.kind() {
                Some(Kind::Word { word, .. }) => simple.words.push(word.clone()),
                Some(Kind::Operator(operator)) => {
                    simple.words.push(vec![Part::Text { text: (*operator).to_owned(), quoted: true }]);
                }
                Some(Kind::Newline) => {}
                _ => return Err(self.error("`]]` expected")),
            }
            self.at += 1;
            if last {
                simple.redirects = self.redirects()?;
                return Ok(Node::Simple(simple));
            }
        }
    }
}

fn with_redirects(node: Node, redirects: Vec<Redirect>) -> Node {
    if redirects.is_empty() { node } else { Node::Group { body: vec![node], subshell: false, redirects } }
}

/// `name=value`: the name is unquoted text at the start of the word.
fn assignment(word: &Word, raw: &str) -> Option<(String, Word)> {
    let (name, _) = raw.split_once('=')?;
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let Some(Part::Text { text, quoted: false }) = word.first().filter(|_| is_name) else { return None };
    let mut value = word.clone();
    value[0] = Part::Text { text: text[name.len() + 1..].to_owned(), quoted: false };
    Some((name.to_owned(), value))
}
