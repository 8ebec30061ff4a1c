//! What a plan means for whoever decides about it, seen as text.

use expect_test::{Expect, expect};
use plumb_model::Digest;
use plumb_model::release::{Quiesce, Release, ReleaseMachine, VolumeSize};
use plumb_plan::{Explanation, Known, Observed, PlanKind, explain, plan_down, start_order};

use super::world::{name, running, shop, up};

const STOP_MS: u64 = 90_000;

fn change(release: &mut Release, machine: &str, change: impl FnOnce(&mut ReleaseMachine)) {
    let name = machine.parse().expect("name");
    change(release.content.machines.get_mut(&name).expect("it has this machine"));
}

fn upgrade(observed: &Observed, before: Option<&Release>, after: &Release) -> Explanation {
    let plan = up(observed, after, PlanKind::Upgrade).expect("a plan");
    explain(&plan, Known { observed, before, after: Some(after), settings: (None, None), stop_ms: STOP_MS })
}

fn text(explanation: &Explanation) -> String {
    let json = |value: serde_json::Value| {
        let mut text = value.to_string();
        for digest in ["api", "api2", "db", "web"] {
            text = text.replace(&Digest::of(digest.as_bytes()).to_string(), digest);
        }
        text
    };
    let line = |title: &str, value: serde_json::Value| format!("{title} {}\n", json(value));
    let mut out = String::new();
    for one in &explanation.instances {
        out += &line("instance", serde_json::json!([one.instance, one.what, one.why]));
    }
    for one in &explanation.outages {
        let Some(each_ms) = one.each_at_most_ms else {
            out += &line("outage", serde_json::json!([one.machine, "for good"]));
            continue;
        };
        let ready = format!("{}/{}", one.ready_at_least, one.instances);
        out += &line("outage", serde_json::json!([one.machine, ready, each_ms, one.felt_by]));
    }
    for one in &explanation.volumes {
        out +=
            &line("volume", serde_json::json!([one.instance, one.volume, one.before_bytes, one.after_bytes]));
    }
    for one in &explanation.irreversible {
        out += &line("irreversible", serde_json::json!(one));
    }
    for one in &explanation.order {
        out += &line("order", serde_json::json!([one.first, one.needed_by]));
    }
    out + &format!("at most {} ms\n", explanation.at_most_ms)
}

fn expect_text(explanation: &Explanation, expected: &Expect) {
    expected.assert_eq(&text(explanation));
}

#[test]
fn from_nothing_everything_starts() {
    let release = shop(1, "");
    expect_text(
        &upgrade(&Observed::default(), None, &release),
        &expect![[r#"
            instance ["db-1","starts",[{"kind":"new"}]]
            instance ["api-1","starts",[{"kind":"new"}]]
            instance ["web-1","starts",[{"kind":"new"}]]
            instance ["web-2","starts",[{"kind":"new"}]]
            volume ["db-1","data",null,1073741824]
            order ["db",["api"]]
            order ["api",["web"]]
            at most 4000 ms
        "#]],
    );
}

#[test]
fn nothing_happens_to_what_is_as_it_should_be() {
    let release = shop(1, "");
    expect_text(
        &upgrade(&running(&release), Some(&release), &release),
        &expect![[r#"
            instance ["api-1","stays",[]]
            instance ["db-1","stays",[]]
            instance ["web-1","stays",[]]
            instance ["web-2","stays",[]]
            order ["db",["api"]]
            order ["api",["web"]]
            at most 4000 ms
        "#]],
    );
}

#[test]
fn an_upgrade_says_what_is_replaced_and_who_feels_it() {
    let (before, mut after) = (shop(1, ""), shop(2, ""));
    change(&mut after, "api", |api| api.image = Digest::of(b"api2"));
    change(&mut after, "web", |web| web.memory_mib = 512);
    expect_text(
        &upgrade(&running(&before), Some(&before), &after),
        &expect![[r#"
            instance ["db-1","stays",[]]
            instance ["api-1","is-replaced",[{"after":"api2","before":"api","kind":"image"}]]
            instance ["web-1","is-replaced",[{"after_mib":512,"before_mib":256,"kind":"memory"}]]
            instance ["web-2","is-replaced",[{"after_mib":512,"before_mib":256,"kind":"memory"}]]
            outage ["api","0/1",91000,["web"]]
            outage ["web","1/2",91000,[]]
            order ["db",["api"]]
            order ["api",["web"]]
            at most 274000 ms
        "#]],
    );
}

#[test]
fn what_cannot_be_undone_is_named() {
    let (before, mut after) = (shop(1, ""), shop(2, ""));
    after.content.fence = 2;
    change(&mut after, "db", |db| {
        db.volumes.insert(
            "data".parse().expect("name"),
            VolumeSize { size_bytes: 2 << 30, snapshot: Quiesce::Freeze },
        );
        db.volumes.insert(
            "wal".parse().expect("name"),
            VolumeSize { size_bytes: 1 << 20, snapshot: Quiesce::Freeze },
        );
    });
    expect_text(
        &upgrade(&running(&before), Some(&before), &after),
        &expect![[r#"
            instance ["api-1","stays",[]]
            instance ["web-1","stays",[]]
            instance ["web-2","stays",[]]
            instance ["db-1","is-replaced",[{"kind":"volumes"}]]
            outage ["db","0/1",91000,["api"]]
            volume ["db-1","data",1073741824,2147483648]
            volume ["db-1","wal",null,1048576]
            irreversible {"kind":"fence","lowest":2}
            irreversible {"instance":"db-1","kind":"growth","volume":"data"}
            order ["db",["api"]]
            order ["api",["web"]]
            at most 94000 ms
        "#]],
    );
    // Back again: what has grown stays, and the fence was the other one's.
    let mut observed = running(&after);
    observed.fence = 0;
    let back = upgrade(&observed, Some(&after), &before);
    assert_eq!(back.irreversible, []);
}

#[test]
fn a_machine_that_goes_and_an_instance_that_does_not_run() {
    let (before, mut after) = (shop(1, ""), shop(2, ""));
    after.content.machines.remove(&"web".parse().expect("name"));
    let mut observed = running(&before);
    observed.instances.get_mut(&"api-1".parse().expect("name")).expect("runs").running = false;
    expect_text(
        &upgrade(&observed, Some(&before), &after),
        &expect![[r#"
            instance ["db-1","stays",[]]
            instance ["api-1","starts",[{"kind":"stopped"}]]
            instance ["web-2","goes",[{"kind":"not-in-release"}]]
            instance ["web-1","goes",[{"kind":"not-in-release"}]]
            outage ["web","for good"]
            order ["db",["api"]]
            at most 182000 ms
        "#]],
    );
}

#[test]
fn down_stops_everything() {
    let release = shop(1, "");
    let observed = running(&release);
    let order = start_order(&release.content.machines).expect("no cycle");
    let plan = plan_down(&name(), &observed, &order, None);
    let known = Known {
        observed: &observed,
        before: Some(&release),
        after: None,
        settings: (None, None),
        stop_ms: STOP_MS,
    };
    expect_text(
        &explain(&plan, known),
        &expect![[r#"
        instance ["web-2","goes",[{"kind":"down"}]]
        instance ["web-1","goes",[{"kind":"down"}]]
        instance ["api-1","goes",[{"kind":"down"}]]
        instance ["db-1","goes",[{"kind":"down"}]]
        outage ["api","for good"]
        outage ["db","for good"]
        outage ["web","for good"]
        order ["db",["api"]]
        order ["api",["web"]]
        at most 360000 ms
    "#]],
    );
}
