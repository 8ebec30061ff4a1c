//! chmod(1) modes: octal and symbolic.

/// The mode after `change`; `None` for a form that is not understood.
pub(super) fn change(old: u32, change: &str, is_directory: bool) -> Option<u32> {
    if change.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(change, 8).ok().filter(|mode| *mode <= 0o7777);
    }
    change.split(',').try_fold(old, |mode, clause| symbolic(mode, clause, is_directory))
}

fn symbolic(old: u32, clause: &str, is_directory: bool) -> Option<u32> {
    let at = clause.find(['+', '-', '='])?;
    let (who, rest) = clause.split_at(at);
    let (operator, what) = rest.split_at(1);
    let all = who.is_empty() || who.contains('a');
    if !who.bytes().all(|b| b"ugoa".contains(&b)) {
        return None;
    }
    let mut scope = 0;
    for (letter, bits) in [('u', 0o4700), ('g', 0o2070), ('o', 0o1007)] {
        if all || who.contains(letter) {
            scope |= bits;
        }
    }
    let mut bits = 0;
    for letter in what.chars() {
        bits |= match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            'X' if is_directory || old & 0o111 != 0 => 0o111,
            'X' => 0,
            's' => 0o6000,
            't' => 0o1000,
            _ => return None,
        };
    }
    let sticky = if what.contains('t') { 0o1000 } else { 0 };
    let bits = bits & (scope | sticky);
    Some(match operator {
        "+" => old | bits,
        "-" => old & !bits,
        _ => (old & !scope) | bits,
    })
}

#[cfg(test)]
mod tests {
    use super::change;

    #[test]
    fn modes() {
        for (old, wanted, new) in [
            (0o644, "0750", 0o750),
            (0o755, "o-rwx,g-w", 0o750),
            (0o644, "u+s", 0o4644),
            (0o644, "a+X", 0o644),
            (0o1777, "u=rwx,go=rx", 0o755),
            (0o755, "g+s", 0o2755),
        ] {
            assert_eq!(change(old, wanted, false), Some(new), "{wanted}");
        }
        assert_eq!(change(0, "q", false), None);
        assert_eq!(change(0, "99999", false), None);
    }
}
