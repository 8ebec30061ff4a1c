//! pam-auth-update(8): the profiles of `/usr/share/pam-configs` become `/etc/pam.d/common-*`.

use std::collections::BTreeMap;

use super::world::World;

/// The stacks: file and its name in profiles.
const STACKS: [(&str, &str); 5] = [
    ("common-auth", "Auth"),
    ("common-account", "Account"),
    ("common-password", "Password"),
    ("common-session", "Session"),
    ("common-session-noninteractive", "Session"),
];

/// One profile.
struct Profile {
    priority: i64,
    name: String,
    interactive_only: bool,
    fields: BTreeMap<String, Vec<String>>,
}

/// Writes all stacks anew from the profiles that are enabled by default; `None` without libpam-runtime's templates.
pub(crate) fn update(world: &mut World<'_>) -> Option<()> {
    let folder = "/usr/share/pam-configs/";
    let paths: Vec<String> = world
        .tree
        .entries
        .range(folder.to_owned()..)
        .map(|(path, _)| path.clone())
        .take_while(|path| path.starts_with(folder))
        .collect();
    let mut profiles = Vec::new();
    for path in paths {
        let text = world.text(&path).ok()??;
        profiles.extend(profile(&path[folder.len()..], &text));
    }
    // The order of pam-auth-update: by priority, highest first, then by name.
    profiles.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.name.cmp(&b.name)));
    for (file, stack) in STACKS {
        let chosen: Vec<&Profile> = profiles
            .iter()
            .filter(|profile| !(profile.interactive_only && file == "common-session-noninteractive"))
            .collect();
        let template = world.text(&format!("/usr/share/pam/{file}")).ok()??;
        let text = write(&chosen, stack, &template);
        world
            .write(&format!("/etc/pam.d/{file}"), text.as_bytes(), 0o644, &World::origin("rule:pam"))
            .ok()?;
    }
    Some(())
}

/// A profile that is enabled by default.
fn profile(name: &str, text: &str) -> Option<Profile> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            fields.entry(last.clone()).or_default().push(line.trim().to_owned());
        } else if let Some((field, value)) = line.split_once(':') {
            field.clone_into(&mut last);
            let values = fields.entry(last.clone()).or_default();
            if !value.trim().is_empty() {
                values.push(value.trim().to_owned());
            }
        }
    }
    let first = |field: &str| fields.get(field).and_then(|values| values.first()).map(String::as_str);
    if first("Default") != Some("yes") {
        return None;
    }
    Some(Profile {
        priority: first("Priority").and_then(|text| text.parse().ok()).unwrap_or(0),
        name: name.to_owned(),
        interactive_only: first("Session-Interactive-Only") == Some("yes"),
        fields,
    })
}

/// pam-auth-update writes a module, a blank and its options, also if it has none.
fn with_options(line: &str) -> String {
    let blank = if line.ends_with(".so") { " " } else { "" };
    format!("{line}{blank}")
}

/// One stack from its template: primary modules, of which one must agree, what happens if none does, and additional
/// modules.
fn write(profiles: &[&Profile], stack: &str, template: &str) -> String {
    let kind = stack.to_ascii_lowercase();
    let modules = |class: &str| -> Vec<&String> {
        let of_class = profiles.iter().filter(|profile| {
            let field = profile.fields.get(&format!("{stack}-Type")).and_then(|values| values.first());
            field.is_some_and(|text| text == class)
        });
        let lines = of_class.enumerate().filter_map(|(at, profile)| {
            let initial = profile.fields.get(&format!("{stack}-Initial")).filter(|_| at == 0);
            initial.or_else(|| profile.fields.get(stack))
        });
        lines.flatten().collect()
    };
    let (primary, additional) = (modules("Primary"), modules("Additional"));
    let mut first = String::new();
    for (at, line) in primary.iter().enumerate() {
        // `end` means: past what is left of the primary block and past pam_deny.
        let line = with_options(line).replace("=end", &format!("={}", primary.len() - at));
        first.push_str(&format!("{kind}\t{line}\n"));
    }
    if primary.is_empty() && stack == "Session" {
        first.push_str(&format!("{kind}\t[default=1]\t\t\tpam_permit.so\n"));
    }
    let second: String = additional.iter().map(|line| format!("{kind}\t{}\n", with_options(line))).collect();
    let mut out = String::new();
    for line in template.lines() {
        match line.strip_prefix('$') {
            Some(block) if block.ends_with("_primary") => out.push_str(&first),
            Some(block) if block.ends_with("_additional") => out.push_str(&second),
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_those_of_pam_auth_update() {
        let unix = "Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\t\
                    pam_unix.so try_first_pass\nAuth-Initial:\n\t[success=end default=ignore]\tpam_unix.so nullok\n\
                    Session-Type: Additional\nSession:\n\trequired\tpam_unix.so\n";
        let krb5 = "Name: K\nDefault: yes\nPriority: 704\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_krb5.so\n";
        let unix = profile("unix", unix).unwrap();
        let krb5 = profile("krb5", krb5).unwrap();
        assert!(profile("x", "Name: X\nDefault: no\n").is_none());
        let auth = write(&[&krb5, &unix], "Auth", "$auth_primary\nauth deny\n$auth_additional\n");
        assert_eq!(
            auth,
            "auth\t[success=2 default=ignore]\tpam_krb5.so \nauth\t[success=1 default=ignore]\tpam_unix.so try_first_pass\nauth deny\n"
        );
        let session = write(&[&krb5, &unix], "Session", "$session_primary\n$session_additional\n");
        assert_eq!(session, "session\t[default=1]\t\t\tpam_permit.so\nsession\trequired\tpam_unix.so \n");
    }
}
