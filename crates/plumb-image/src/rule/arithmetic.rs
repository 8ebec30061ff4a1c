//! `$((…))`: whole numbers with `+ - * / %`, comparisons and brackets (dash(1), "Arithmetic Expansion").

/// Deepest nesting of brackets.
const MAX_DEPTH: usize = 16;

/// The value; `None` for a form that is not understood. `variable` gives the values of names.
pub(super) fn evaluate(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<i64> {
    let mut reader = Reader { text: text.as_bytes(), at: 0, depth: 0, variable };
    let value = reader.comparison()?;
    reader.skip();
    (reader.at == reader.text.len()).then_some(value)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn skip(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn accept(&mut self, operators: &[&'static str]) -> Option<&'static str> {
        self.skip();
        let found =
            operators.iter().find(|operator| self.text[self.at..].starts_with(operator.as_bytes()))?;
        self.at += found.len();
        Some(found)
    }

    fn comparison(&mut self) -> Option<i64> {
        let left = self.sum()?;
        let Some(operator) = self.accept(&["==", "!=", "<=", ">=", "<", ">"]) else { return Some(left) };
        let right = self.sum()?;
        Some(i64::from(match operator {
            "==" => left == right,
            "!=" => left != right,
            "<=" => left <= right,
            ">=" => left >= right,
            "<" => left < right,
            _ => left > right,
        }))
    }

    fn sum(&mut self) -> Option<i64> {
        let mut value = self.product()?;
        while let Some(operator) = self.accept(&["+", "-"]) {
            let right = self.product()?;
            value = if operator == "+" { value.checked_add(right)? } else { value.checked_sub(right)? };
        }
        Some(value)
    }

    fn product(&mut self) -> Option<i64> {
        let mut value = self.atom()?;
        while let Some(operator) = self.accept(&["*", "/", "%"]) {
            let right = self.atom()?;
            value = match operator {
                "*" => value.checked_mul(right)?,
                "/" => value.checked_div(right)?,
                _ => value.checked_rem(right)?,
            };
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if self.accept(&["("]).is_some() {
            let value = self.comparison()?;
            self.accept(&[")"])?;
            value
        } else if self.accept(&["-"]).is_some() {
            self.atom()?.checked_neg()?
        } else {
            self.word()?
        };
        self.depth -= 1;
        Some(value)
    }

    fn word(&mut self) -> Option<i64> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') {
            self.at += 1;
        }
        let word = std::str::from_utf8(&self.text[start..self.at]).ok()?;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return match word.strip_prefix('0').filter(|rest| !rest.is_empty()) {
                Some(octal) => i64::from_str_radix(octal, 8).ok(),
                None => word.parse().ok(),
            };
        }
        let value = (self.variable)(word).filter(|_| !word.is_empty())?;
        if value.is_empty() { Some(0) } else { value.trim().parse().ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let of = |text: &str| evaluate(text, &|name| (name == "n").then(|| "3".to_owned()));
        assert_eq!(of("1 + 2 * n"), Some(7));
        assert_eq!(of("(1+2)*-n"), Some(-9));
        assert_eq!(of("010 % 3 == 2"), Some(1));
        assert_eq!((of("1 / 0"), of("x"), of("1 +"), of("1 2")), (None, None, None, None));
        assert_eq!(of(&"(".repeat(100_000)), None);
    }
}
