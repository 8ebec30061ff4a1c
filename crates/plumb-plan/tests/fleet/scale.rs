//! Many applications at once, with failures in some of their upgrades.

use std::collections::BTreeMap;

use plumb_model::MachineName;
use plumb_model::release::Publish;

use super::host::{Host, Trouble};
use super::script::{plain, release};

/// Applications, of 20 instances each.
const APPS: u64 = 500;

/// Numbers that look random and are the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn application(dice: &mut Dice) -> Host {
    let mut host = Host::new("app");
    let sizes = [1, 3 + dice.throw(4), 0];
    let web = 20 - sizes[0] - sizes[1];
    for number in 1..=2 {
        let mut machines: BTreeMap<MachineName, _> = BTreeMap::new();
        let all = [("db", sizes[0], ""), ("api", sizes[1], "db"), ("web", web, "api")];
        for (name, instances, needs) in all {
            let mut made = plain(&format!("{name} {number}"), u32::try_from(instances).expect("small"));
            made.needs.extend((!needs.is_empty()).then(|| needs.parse().expect("a name")));
            made.rolling.max_unavailable = u32::try_from(instances.div_ceil(4)).expect("small");
            if name == "web" {
                made.publish =
                    vec![Publish { address: [127, 0, 0, 1].into(), host_port: 8080, guest_port: 80 }];
            }
            machines.insert(name.parse().expect("a name"), made);
        }
        host.releases.insert(number, release(number, 0, &machines));
    }
    host
}

#[test]
fn ten_thousand_instances_are_upgraded_and_never_too_many_are_away() {
    let mut dice = Dice(7);
    let (mut failed, mut instances) = (0, 0);
    for _ in 0..APPS {
        let mut host = application(&mut dice);
        host.go(1).expect("it starts");
        host.count_from_here();
        let machines = host.releases[&2].content.machines.clone();
        instances += machines.values().map(|machine| u64::from(machine.instances)).sum::<u64>();
        // In every third upgrade one instance, somewhere, does not become ready.
        if dice.throw(3) == 0 {
            let at = usize::try_from(dice.throw(3)).expect("small");
            let (name, machine) = machines.iter().nth(at).expect("three machines");
            let victim = format!("{name}-{}", 1 + dice.throw(u64::from(machine.instances)));
            host.troubles.push(Trouble::NeverReady(victim.parse().expect("a name"), 2));
        }
        let is_doomed = !host.troubles.is_empty();
        assert_eq!(host.go(2).is_err(), is_doomed, "{}", host.trace.join("\n"));
        failed += u64::from(is_doomed);
        assert_eq!(host.whole(), Some(if is_doomed { 1 } else { 2 }), "{}", host.trace.join("\n"));
        for (name, machine) in &machines {
            let least = (machine.instances - machine.rolling.max_unavailable) as usize;
            assert!(host.fewest[name] >= least, "{name}: {} of {}", host.fewest[name], machine.instances);
        }
    }
    assert_eq!(instances, APPS * 20);
    assert!(failed > APPS / 5 && failed < APPS / 2, "{failed} failed");
}
