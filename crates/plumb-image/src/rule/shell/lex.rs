//! Characters to tokens.

use super::{MAX_DEPTH, ParseError, Part, Word, parse};

/// A token with the line it starts on.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Newline,
    /// `;`, `;;`, `&`, `&&`, `|`, `||`, `(`, `)` and redirections.
    Operator(&'static str),
    /// Digits right before a redirection.
    Descriptor(u32),
    /// `raw` tells reserved words from quoted ones.
    Word {
        word: Word,
        raw: String,
    },
    /// The body of a here-document, right behind its delimiter word.
    Here(Word),
}

const OPERATORS: [&str; 16] =
    ["<<-", "&&", "||", ";;", "<<", ">>", ">&", "<&", ">|", "<>", ";", "&", "|", "(", ")", ">"];

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    source: &'a str,
    at: usize,
    line: usize,
    depth: usize,
    tokens: Vec<Token>,
    /// Token index of the delimiter, delimiter, quoted, tabs stripped.
    pending: Vec<(usize, String, bool, bool)>,
}

/// All tokens of a script.
pub(super) fn tokens(source: &str, first_line: usize, depth: usize) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer {
        text: source.as_bytes(),
        source,
        at: 0,
        line: first_line,
        depth,
        tokens: Vec::new(),
        pending: Vec::new(),
    };
    if depth > MAX_DEPTH {
        return Err(lexer.error("nested too deeply"));
    }
    while lexer.next()? {}
    lexer.newline()?;
    Ok(lexer.tokens)
}

impl Lexer<'_> {
    fn error(&self, reason: &'static str) -> ParseError {
        ParseError { line: self.line, reason }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn next(&mut self) -> Result<bool, ParseError> {
        while matches!(self.peek(0), b' ' | b'\t' | b'\r') || (self.peek(0) == b'\\' && self.peek(1) == b'\n')
        {
            if self.peek(0) == b'\\' {
                self.line += 1;
                self.at += 1;
            }
            self.at += 1;
        }
        if self.at >= self.text.len() {
            return Ok(false);
        }
        match self.peek(0) {
            b'#' => {
                while self.at < self.text.len() && self.peek(0) != b'\n' {
                    self.at += 1;
                }
            }
            b'\n' => {
                self.at += 1;
                self.newline()?;
                self.line += 1;
            }
            _ => self.operator_or_word()?,
        }
        Ok(true)
    }

    fn operator_or_word(&mut self) -> Result<(), ParseError> {
        let rest = &self.text[self.at..];
        if let Some(operator) = OPERATORS.iter().chain(&["<"]).find(|op| rest.starts_with(op.as_bytes())) {
            self.at += operator.len();
            self.push(Kind::Operator(operator));
            return Ok(());
        }
        let start = self.at;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if (1..4).contains(&digits) && matches!(rest.get(digits), Some(b'<' | b'>')) {
            self.at += digits;
            let number = self.source[start..self.at].parse().map_err(|_| self.error("bad descriptor"))?;
            self.push(Kind::Descriptor(number));
            return Ok(());
        }
        let line = self.line;
        let word = self.word()?;
        let raw = self.source[start..self.at].to_owned();
        let here = match self.tokens.last().map(|token| &token.kind) {
            Some(Kind::Operator("<<")) => Some(false),
            Some(Kind::Operator("<<-")) => Some(true),
            _ => None,
        };
        if let Some(strip) = here {
            let quoted = raw.contains(['\'', '"', '\\']);
            let delimiter = raw.replace(['\'', '"', '\\'], "");
            self.pending.push((self.tokens.len() + 1, delimiter, quoted, strip));
            self.tokens.push(Token { kind: Kind::Word { word, raw }, line });
            self.push(Kind::Here(Vec::new()));
            return Ok(());
        }
        self.tokens.push(Token { kind: Kind::Word { word, raw }, line });
        Ok(())
    }

    /// Ends a line: the here-documents announced on it follow.
    fn newline(&mut self) -> Result<(), ParseError> {
        self.push(Kind::Newline);
        for (index, delimiter, quoted, strip) in std::mem::take(&mut self.pending) {
            let mut body = String::new();
            loop {
                if self.at >= self.text.len() {
                    return Err(self.error("a here-document does not end"));
                }
                let end = self.source[self.at..].find('\n').map_or(self.text.len(), |cut| self.at + cut);
                let mut line = &self.source[self.at..end];
                self.at = (end + 1).min(self.text.len());
                self.line += 1;
                if strip {
                    line = line.trim_start_matches('\t');
                }
                if line == delimiter {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            let word = if quoted || !body.contains(['$', '`', '\\']) {
                vec![Part::Text { text: body, quoted: true }]
            } else {
                let mut inner = Lexer {
                    text: body.as_bytes(),
                    source: &body,
                    at: 0,
                    line: self.line,
                    depth: self.depth + 1,
                    tokens: Vec::new(),
                    pending: Vec::new(),
                };
                let mut word = Vec::new();
                inner.quoted(&mut word, 0)?;
                word
            };
            self.tokens[index].kind = Kind::Here(word);
        }
        Ok(())
    }

    fn word(&mut self) -> Result<Word, ParseError> {
        let mut word = Vec::new();
        loop {
            match self.peek(0) {
                0 if self.at >= self.text.len() => break,
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>' => break,
                b'\'' => {
                    let start = self.at + 1;
                    let length =
                        self.source[start..].find('\'').ok_or_else(|| self.error("unclosed quote"))?;
                    self.line += self.source[start..start + length].matches('\n').count();
                    self.at = start + length + 1;
                    word.push(Part::Text {
                        text: self.source[start..start + length].to_owned(),
                        quoted: true,
                    });
                }
                b'"' => {
                    self.at += 1;
                    if self.peek(0) == b'"' {
                        word.push(Part::Text { text: String::new(), quoted: true });
                    }
                    self.quoted(&mut word, b'"')?;
                    self.at += 1;
                }
                b'\\' => self.escape(&mut word),
                b'$' | b'`' => self.dollar(&mut word, false)?,
                _ => {
                    let start = self.at;
                    while !b" \t\r\n;&|()<>'\"\\$`".contains(&self.peek(0)) && self.at < self.text.len() {
                        self.at += 1;
                    }
                    word.push(Part::Text { text: self.source[start..self.at].to_owned(), quoted: false });
                }
            }
        }
        Ok(word)
    }

    fn escape(&mut self, word: &mut Word) {
        self.at += 1;
        if self.peek(0) == b'\n' {
            self.line += 1;
            self.at += 1;
            return;
        }
        let text: String = self.source[self.at..].chars().take(1).collect();
        self.at += text.len();
        word.push(Part::Text { text, quoted: true });
    }

    /// Inside double quotes, or in a here-document (`end` 0: up to the end of the text).
    fn quoted(&mut self, word: &mut Word, end: u8) -> Result<(), ParseError> {
        loop {
            let start = self.at;
            while self.at < self.text.len()
                && !b"$`\\".contains(&self.peek(0))
                && (end == 0 || self.peek(0) != end)
            {
                self.line += usize::from(self.peek(0) == b'\n' && end != 0);
                self.at += 1;
            }
            if self.at > start {
                word.push(Part::Text { text: self.source[start..self.at].to_owned(), quoted: true });
            }
            if self.at >= self.text.len() {
                return if end == 0 { Ok(()) } else { Err(self.error("unclosed quote")) };
            }
            match self.peek(0) {
                b'\\' if matches!(self.peek(1), b'$' | b'`' | b'\\' | b'\n') || self.peek(1) == end => {
                    self.escape(word);
                }
                b'\\' => {
                    self.at += 1;
                    word.push(Part::Text { text: "\\".into(), quoted: true });
                }
                b'$' | b'`' => self.dollar(word, true)?,
                _ => return Ok(()),
            }
        }
    }

    /// The commands between backquotes: a backslash stands there for itself but before `$`, a backquote and another one
    /// (dash(1), "Command Substitution").
    fn backquoted(&mut self, quoted: bool) -> Result<String, ParseError> {
        let mut body = String::new();
        let mut rest = self.source[self.at + 1..].char_indices();
        while let Some((at, c)) = rest.next() {
            match c {
                '`' => {
                    self.at += at + 2;
                    return Ok(body);
                }
                '\\' => {
                    let next = rest.next().map(|(_, c)| c).ok_or_else(|| self.error("unclosed backquote"))?;
                    if !(matches!(next, '$' | '`' | '\\') || next == '"' && quoted) {
                        body.push('\\');
                    }
                    body.push(next);
                }
                c => body.push(c),
            }
        }
        Err(self.error("unclosed backquote"))
    }

    fn dollar(&mut self, word: &mut Word, quoted: bool) -> Result<(), ParseError> {
        if self.peek(0) == b'`' {
            let body = self.backquoted(quoted)?;
            return self.command(word, &body, quoted);
        }
        match self.peek(1) {
            b'(' if self.peek(2) == b'(' => {
                let start = self.at + 3;
                self.balanced(self.at + 1, b'(', b')')?;
                let inner = self.source.get(start..self.at - 2).unwrap_or_default();
                word.push(Part::Arithmetic(inner.to_owned()));
                Ok(())
            }
            b'(' => {
                let start = self.at + 2;
                self.balanced(self.at + 1, b'(', b')')?;
                let body = self.source[start..self.at - 1].to_owned();
                self.command(word, &body, quoted)
            }
            b'{' => {
                let start = self.at + 2;
                self.balanced(self.at + 1, b'{', b'}')?;
                let body = self.source[start..self.at - 1].to_owned();
                word.push(self.braced(&body, quoted)?);
                Ok(())
            }
            first => {
                let start = self.at + 1;
                let length = if first.is_ascii_alphabetic() || first == b'_' {
                    self.text[start..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count()
                } else {
                    usize::from(first.is_ascii_digit() || b"@*#?$!-".contains(&first))
                };
                self.at = start + length;
                if length == 0 {
                    word.push(Part::Text { text: "$".into(), quoted });
                } else {
                    let name = self.source[start..self.at].to_owned();
                    word.push(Part::Variable { name, change: None, quoted });
                }
                Ok(())
            }
        }
    }

    fn command(&self, word: &mut Word, body: &str, quoted: bool) -> Result<(), ParseError> {
        let body = parse::parse_at(body, self.line, self.depth + 1)?;
        word.push(Part::Command { body, quoted });
        Ok(())
    }

    /// Moves behind the bracket that closes the one at `open`; quotes hide brackets.
    fn balanced(&mut self, open: usize, opening: u8, closing: u8) -> Result<(), ParseError> {
        let mut depth = 0usize;
        let mut quote = 0u8;
        self.at = open;
        while self.at < self.text.len() {
            let byte = self.peek(0);
            self.line += usize::from(byte == b'\n');
            self.at += 1;
            match byte {
                b'\\' if quote != b'\'' => self.at += 1,
                b'\'' | b'"' if quote == byte => quote = 0,
                b'\'' | b'"' if quote == 0 => quote = byte,
                _ if quote != 0 => {}
                _ if byte == opening => depth += 1,
                _ if byte == closing => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        Err(self.error("unclosed bracket"))
    }

    /// The inside of `${…}`.
    /// What is left of a word inside braces.
    fn rest_of_braces(&mut self) -> Result<Word, ParseError> {
        let mut word = Word::new();
        while self.at < self.text.len() {
            let plain = |b: &u8| b" \t\n;&|()<>".contains(b);
            let count = self.text[self.at..].iter().take_while(|b| plain(b)).count();
            if count == 0 {
                let start = self.at;
                word.extend(self.word()?);
                if self.at == start {
                    return Ok(vec![Part::Opaque]);
                }
                continue;
            }
            word.push(Part::Text { text: self.source[self.at..self.at + count].to_owned(), quoted: false });
            self.at += count;
        }
        Ok(word)
    }

    fn braced(&self, body: &str, quoted: bool) -> Result<Part, ParseError> {
        let name_length = body.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let (name, rest) = body.split_at(name_length);
        let length = body.strip_prefix('#').filter(|name| is_name(name));
        if let Some(name) = length {
            let change = Some(("length".to_owned(), Vec::new()));
            return Ok(Part::Variable { name: name.to_owned(), change, quoted });
        }
        if name.is_empty() && !matches!(rest.chars().next(), Some('@' | '*' | '#')) {
            return Ok(Part::Opaque);
        }
        let (name, rest) = if name.is_empty() { body.split_at(1) } else { (name, rest) };
        let operator = [":-", ":+", ":=", ":?", "##", "%%", "-", "+", "=", "?", "#", "%"]
            .into_iter()
            .find(|operator| rest.starts_with(operator));
        let change = match operator {
            None if rest.is_empty() => None,
            None if rest.starts_with('[') && rest.ends_with(']') => Some(("element".to_owned(), Vec::new())),
            None => return Ok(Part::Opaque),
            Some(operator) => {
                let argument = &rest[operator.len()..];
                let mut inner = Lexer {
                    text: argument.as_bytes(),
                    source: argument,
                    at: 0,
                    line: self.line,
                    depth: self.depth + 1,
                    tokens: Vec::new(),
                    pending: Vec::new(),
                };
                if inner.depth > MAX_DEPTH {
                    return Err(self.error("nested too deeply"));
                }
                let mut word = inner.word()?;
                if inner.at < argument.len() {
                    // Spaces and operators inside the braces are plain text, but what else stands there is as ever.
                    word.extend(inner.rest_of_braces()?);
                }
                Some((operator.to_owned(), word))
            }
        };
        Ok(Part::Variable { name: name.to_owned(), change, quoted })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A text as it would stand between double quotes.
pub(in crate::rule) fn quoted_word(source: &str) -> Option<Word> {
    let mut lexer = Lexer {
        text: source.as_bytes(),
        source,
        at: 0,
        line: 1,
        depth: MAX_DEPTH / 2,
        tokens: Vec::new(),
        pending: Vec::new(),
    };
    let mut word = Vec::new();
    lexer.quoted(&mut word, 0).ok()?;
    Some(word)
}
