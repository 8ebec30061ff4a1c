//! getopt(1) of util-linux: arguments in their normal form.

use super::call::known;
use super::filter::Outcome;
use super::script::Argument;

/// `getopt [-o SHORT] [--long LONG] [-n NAME] -- ARGUMENT…`.
pub(super) fn run(arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (mut short, mut long) = (String::new(), Vec::new());
    let mut rest = arguments.iter();
    let mut words: Vec<&str> = Vec::new();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-o" | "--options" => short.clone_from(rest.next()?),
            "-l" | "--long" | "--longoptions" => long.extend(rest.next()?.split(',').map(str::to_owned)),
            "-n" | "--name" => drop(rest.next()?),
            "-a" | "--alternative" | "-q" | "--quiet" => {}
            "--" => {
                words = rest.map(String::as_str).collect();
                break;
            }
            other => {
                if let Some(options) = other.strip_prefix("--options=") {
                    options.clone_into(&mut short);
                } else if let Some(names) =
                    other.strip_prefix("--long=").or(other.strip_prefix("--longoptions="))
                {
                    long.extend(names.split(',').map(str::to_owned));
                } else if let Some(options) = other.strip_prefix("-o") {
                    options.clone_into(&mut short);
                } else {
                    return None;
                }
            }
        }
    }
    if short.is_empty() && !words.is_empty() {
        words.remove(0).trim_start_matches(['+', '-']).clone_into(&mut short);
    }
    let (mut options, mut operands) = (Vec::new(), Vec::new());
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            operands.extend(words.by_ref().map(quoted));
        } else if let Some(given) = word.strip_prefix("--") {
            let (name, value) =
                given.split_once('=').map_or((given, None), |(name, value)| (name, Some(value)));
            let form = long.iter().find(|form| form.trim_end_matches(':') == name)?;
            options.push(format!("--{name}"));
            match form.len() - form.trim_end_matches(':').len() {
                0 => {}
                1 => options.push(quoted(value.or_else(|| words.next())?)),
                _ => options.push(quoted(value.unwrap_or(""))),
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut left = letters;
            while let Some(letter) = left.chars().next() {
                left = &left[letter.len_utf8()..];
                let at = short.find(letter)?;
                let colons = short[at + letter.len_utf8()..].chars().take_while(|c| *c == ':').count();
                options.push(format!("-{letter}"));
                if colons > 0 {
                    let value = if left.is_empty() && colons == 1 { words.next()? } else { left };
                    options.push(quoted(value));
                    break;
                }
            }
        } else {
            operands.push(quoted(word));
        }
    }
    let all: Vec<String> = options.into_iter().chain(["--".to_owned()]).chain(operands).collect();
    Some((Some(format!(" {}\n", all.join(" "))), Some(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form() {
        let of = |line: &str| {
            let words: Vec<Argument> = shlex::split(line).unwrap().into_iter().map(Some).collect();
            run(&words).and_then(|(text, _)| text)
        };
        assert_eq!(
            of("-o ab:c:: --long all,name: -- -ab x y --name=n -c").as_deref(),
            Some(" -a -b 'x' --name 'n' -c '' -- 'y'\n")
        );
        assert_eq!(of("-o a -- -z"), None);
    }
}
