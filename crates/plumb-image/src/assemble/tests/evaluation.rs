//! What scripts ask and compute, by what they then write.

use super::*;

/// Runs a `postinst` with more scripts and files of its package; returns the text that it wrote to `/etc/out`.
fn out(scripts: &[(&str, &str)], files: &[(&str, &str)]) -> String {
    let objects = Folder::new();
    let contents = [("x", content(&objects, "Package: x", files, scripts))];
    let made = assemble(&input(&contents), &objects).unwrap();
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    let Kind::File { digest, .. } = made.tree.get("/etc/out").unwrap().kind else { panic!("no file") };
    String::from_utf8(objects.read(&digest, 1000).unwrap()).unwrap()
}

#[test]
fn config_scripts_run_where_the_questions_are_asked() {
    // exim4-config knows by the environment that its postinst runs, and sets what has no default.
    let config = "[ \"$from_postinst\" = yes ] || exit 0\n[ -z \"$own\" ] || exit 0\n. /usr/share/debconf/confmodule\n\
                  [ -e /etc/made ] && db_set x/place there\n";
    let postinst = "export from_postinst=yes\nown=1\necho 1 > /etc/made\n. /usr/share/debconf/confmodule\n\
                    db_get x/place\necho \"$RET\" > /etc/out\n";
    let templates = "Template: x/place\nType: string\nDefault: here\n";
    let objects = Folder::new();
    let mut package = content(&objects, "Package: x", &[], &[("config", config), ("postinst", postinst)]);
    package.scripts.insert("templates".into(), templates.into());
    let contents = [("x", package)];
    let made = assemble(&input(&contents), &objects).unwrap();
    let Kind::File { digest, .. } = made.tree.get("/etc/out").unwrap().kind else { panic!("no file") };
    assert_eq!(objects.read(&digest, 100).unwrap(), b"there\n");
}

#[test]
fn questions_about_files_and_ids() {
    let script = "\
adduser --system --group daemon-of-x
[ \"$(id -u daemon-of-x)\" = 0 ] && echo root
[ \"$(id -u daemon-of-x)\" -ne 65534 ] && echo somebody
for path in /usr/share/x/ /usr/share/of-nobody /etc/rule /lib /lib64; do
    dpkg-query -S $path >/dev/null 2>&1 && echo $path
done
echo abc | md5sum | cut -d' ' -f1
echo 'edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb  /etc/abc' > /etc/sums
sha256sum --status -c /etc/sums && echo same
echo changed > /etc/abc
sha256sum --status -c /etc/sums || echo other
md5sum /etc/missing || echo missing
";
    let text = out(
        &[("postinst", &format!("echo 1 > /etc/rule\n{{ {script} }} > /etc/out\n"))],
        &[("/usr/share/x/file", ""), ("/lib/x", ""), ("/etc/abc", "abc\n")],
    );
    assert_eq!(
        text,
        "somebody\n/usr/share/x/\n/lib\n0bee89b07a248e27c83fc3d5951213c1\nsame\nother\nmissing\n"
    );
}

#[test]
fn a_file_that_holds_a_secret_is_told_and_not_made() {
    let script = "\
password=$(tr -dc A-Za-z0-9 < /dev/urandom | head -c 16)
[ -n \"$password\" ] || exit 1
[ \"$password\" = changeme ] && exit 1
cp /usr/share/x/template /etc/x.conf
sed -i \"s/@PASSWORD@/$password/\" /etc/x.conf
chmod 600 /etc/x.conf
hash=$(echo -n \"$password\" | md5sum | cut -d' ' -f1)
temporary=$(mktemp)
sed \"s/@PASSWORD@/$hash/\" /usr/share/x/template > $temporary
mv $temporary /etc/hash.conf
sed \"s/@OTHER@/$password/\" /usr/share/x/template > /etc/plain.conf
echo name=x > /etc/name
id=$(uuidgen); echo \"id=${id}\" >> /etc/name
";
    let template = ("/usr/share/x/template", "user = x\npassword = @PASSWORD@\n");
    let made = run(script, &[template]);
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    let told = |path: &str| {
        made.notes.iter().any(
            |note| matches!(note, Note::LeftToInstance { line, .. } if *line == format!("writing {path}")),
        )
    };
    for path in ["/etc/x.conf", "/etc/hash.conf", "/etc/name"] {
        assert!(made.tree.get(path).is_none() && told(path), "{path}: {:?}", made.notes);
    }
    assert!(made.tree.get("/etc/plain.conf").is_some(), "nothing of it is secret");

    let own = ("/etc/own.conf", "password = @PASSWORD@\n");
    let made = run("sed -i \"s/@PASSWORD@/$(pwgen 9 1)/\" /etc/own.conf\n", &[own]);
    assert!(unhandled(&made)[0].contains("/etc/own.conf"), "{:?}", made.reports);
    let made = run("case $(pwgen 9 1) in a*) chmod 700 /etc ;; esac\nmkdir /etc/$(uuidgen)\n", &[]);
    assert_eq!(unhandled(&made).len(), 2, "{:?}", made.reports);
}

#[test]
fn a_config_script_that_cannot_be_followed_leaves_its_answers_unknown() {
    let objects = Folder::new();
    let postinst = "#!/bin/sh\n. /usr/share/debconf/confmodule\ndb_get x/a\necho \"$RET\" > /etc/out\n";
    let mut package = content(&objects, "Package: x", &[], &[]);
    package.scripts.insert("config".into(), "#!/usr/bin/perl\nset('x/a', 'b');\n".into());
    package.scripts.insert("postinst".into(), postinst.into());
    package.scripts.insert("templates".into(), "Template: x/a\nType: string\nDefault: a\n".into());
    let contents = [("x", package)];
    let made = assemble(&input(&contents), &objects).unwrap();
    assert_eq!(unhandled(&made), ["echo \"$RET\" > /etc/out"]);
}

#[test]
fn words_and_states_are_those_of_a_shell() {
    let script = r#"
line='flush     unix  n'
echo "${line%% *}" "${line#* }" ${none:-a  b} "${none:-a  $line}"
row=$(printf 'cdb\tpost'); echo "X${row#\#}" "${row%%[[:space:]]*}"
false || code=$?
echo "code $code"
IFS=:
for part in $PATH; do [ -x "$part/tool" ] && echo "$part"; done
unset IFS
FILES='/etc/x/*.conf'
for file in $FILES; do echo "$file"; done
cd /etc/x; for file in *.conf; do echo "$file"; done
set -f; echo *.conf; set +f
IFS=, read a b <<EOF
1,2 3
EOF
printf '%s\n' "$a/$b/`printf '%s' 'a\\b'`"
chgrp nobodys /etc/x 2>/dev/null || echo 'no such group'
[ -z "${ARRAY[0]}" ] && echo empty
"#;
    let text = out(
        &[("postinst", &format!("{{ {script} }} > /etc/out\n"))],
        &[("/usr/bin/tool", "#!/bin/sh\n"), ("/etc/x/a.conf", ""), ("/etc/x/b.conf", "")],
    );
    assert_eq!(
        text,
        "flush     unix  n a b a  flush     unix  n\nXcdb\tpost cdb\ncode 1\n/usr/bin\n/bin\n/etc/x/a.conf\n/etc/x/b.conf\n\
         a.conf\nb.conf\n*.conf\n1/2 3/a\\b\nno such group\nempty\n"
    );
}
