//! The order of versions against the real `dpkg --compare-versions`.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::process::Command;

use plumb_debian::Version;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Pairs compared by one shell: few processes, and its command line stays far below the kernel's limit.
const BATCH: usize = 100;
const BATCHES: usize = 15;

/// Pieces that lie close together in the order, so that two random versions often differ only in one rule.
fn piece() -> impl Strategy<Value = String> {
    "[0-9]|0{0,3}[0-9]{1,3}|[a-cA-C~+.]|~~|rc1|deb12u[0-9]|[.]|99999999999999999999[0-9]"
}

fn version() -> impl Strategy<Value = String> {
    let part = |max| proptest::collection::vec(piece(), 0..max).prop_map(|pieces| pieces.concat());
    ("([0-9]:)?", "[0-9]", part(5), "(-[0-9a]:?)?", part(3)).prop_map(
        |(epoch, first, upstream, middle, revision)| {
            // A colon is only a character of the upstream part when there is an epoch.
            let middle = if epoch.is_empty() { middle.replace(':', "") } else { middle.replace(':', ":1-1") };
            format!("{epoch}{first}{upstream}{middle}{revision}")
        },
    )
}

/// The same version, spelled with a zero before its first number: equal in the order.
fn respelled() -> impl Strategy<Value = (String, String)> {
    version().prop_map(|a| {
        let zeros = format!("0{a}");
        (a, zeros)
    })
}

/// A pair of versions: independent, with one piece put in somewhere behind the epoch, or spelled in two ways.
fn pair() -> impl Strategy<Value = (String, String)> {
    let near = (version(), piece(), 0usize..12).prop_map(|(a, piece, at)| {
        let first = a.find(':').map_or(1, |colon| colon + 2);
        let mut b = a.clone();
        b.insert_str((first + at).min(a.len()), &piece);
        (a, b)
    });
    proptest::prop_oneof![4 => (version(), version()), 8 => near, 1 => respelled()]
}

#[test]
fn order_is_dpkgs() {
    let mut runner = TestRunner::deterministic();
    let mut orders = [0usize; 3];
    for _ in 0..BATCHES {
        let pairs: Vec<(String, String)> =
            (0..BATCH).map(|_| pair().new_tree(&mut runner).expect("a pair").current()).collect();
        let mut script = String::new();
        for (a, b) in &pairs {
            writeln!(
                script,
                "if dpkg --compare-versions '{a}' lt '{b}'; then echo lt; elif dpkg --compare-versions '{a}' eq '{b}'; then echo eq; else echo gt; fi"
            )
            .expect("write to a string");
        }
        let output = Command::new("sh").arg("-c").arg(&script).output().expect("sh and dpkg run");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let answers = String::from_utf8(output.stdout).expect("text");
        assert_eq!(answers.lines().count(), pairs.len());
        for ((a, b), answer) in pairs.iter().zip(answers.lines()) {
            let ours = a.parse::<Version>().expect(a).cmp(&b.parse::<Version>().expect(b));
            let theirs = match answer {
                "lt" => Ordering::Less,
                "eq" => Ordering::Equal,
                _ => Ordering::Greater,
            };
            assert_eq!(ours, theirs, "`{a}` and `{b}`");
            orders[(ours as i8 + 1) as usize] += 1;
        }
    }
    assert!(orders.iter().all(|&count| count >= 20), "the pairs test too little: lt, eq, gt = {orders:?}");
}
