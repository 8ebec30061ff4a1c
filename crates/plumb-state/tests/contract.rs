//! What every state promises, whichever database it is in: one list of checks, carried out with SQLite and with a real
//! PostgreSQL server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use plumb_model::config::{ConfigRef, Configuration, Value as Setting};
use plumb_model::release::ReleaseName;
use plumb_model::{AppName, DeploymentName, Digest, Document as _, InstanceName};
use plumb_plan::lease::{Counted, Excess, Lease, Origin, Quota, Usage};
use plumb_plan::{Kept, Observed, OtherSet, Plan, Side, plan_down};
use plumb_state::{
    Claim, Configured, Copied, Credentials, DatabaseError, EventFilter, EventKind, EventRecord, Host, Limits,
    PlanStatus, PostgresAddress, RecipientRecord, Reservation, Running, SealedSecret, Serving, State,
    StateError, StepStatus,
};
use testkit::Postgres;

/// Opens one and the same database again and again.
type Open<'a> = &'a (dyn Fn() -> Result<State, StateError> + Sync);

/// A promise, by name.
type Promise = (&'static str, fn(Open<'_>) -> Result<()>);

const PROMISES: &[Promise] = &[
    ("what_is_set_is_kept_version_by_version_and_goes_with_its_deployment", configured),
    ("deployments_and_addresses_survive_reopening", reopening),
    ("names_are_in_the_order_of_their_bytes", order),
    ("only_what_ran_healthily_is_a_way_back", healthy),
    ("plans_are_numbered_once", numbered),
    ("a_plan_that_another_took_over_is_superseded", superseded),
    ("a_test_is_marked_until_it_is_kept_or_forgotten", tests),
    ("what_is_forgotten_is_gone_with_all_of_it", forgotten),
    ("bytes_and_texts_come_back_as_they_were", texts),
    ("what_happened_is_kept_in_its_order_and_survives", events),
    ("a_lease_and_what_it_takes_come_back_and_go_with_the_deployment", leases),
    ("of_two_that_ask_for_what_is_left_one_gets_it", quotas),
    ("many_that_open_at_once_make_the_tables_once", opened_at_once),
    ("of_two_that_record_one_generation_one_wins", raced),
];

#[test]
fn sqlite_keeps_the_contract() -> Result<()> {
    for (name, promise) in PROMISES {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("state.db");
        promise(&|| State::open(&path)).with_context(|| (*name).to_owned())?;
    }
    Ok(())
}

#[test]
fn postgres_keeps_the_contract() -> Result<()> {
    let server = Postgres::start()?;
    for (name, promise) in PROMISES {
        server.database(name)?;
        let address = server.address(name);
        promise(&|| connect(&address, &host("alpha"))).with_context(|| (*name).to_owned())?;
    }
    Ok(())
}

fn events(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let (shop, other): (DeploymentName, DeploymentName) = ("shop".parse()?, "other".parse()?);
    let event = |deployment: &DeploymentName, at_ms: u64, kind, text: &str| EventRecord {
        deployment: deployment.clone(),
        at_ms,
        kind,
        instance: (kind == EventKind::Repair).then(|| "web-1".parse().expect("a name")),
        generation: (kind == EventKind::PlanBegun).then_some(7),
        text: text.to_owned(),
        by: "alice".to_owned(),
    };
    state.ensure_deployment(&shop, &"shop".parse()?)?;
    let all = [
        event(&shop, 10, EventKind::PlanBegun, "up"),
        event(&other, 11, EventKind::Trouble, "no server"),
        event(&shop, 12, EventKind::Repair, "it had ended: `panic`"),
        event(&shop, 12, EventKind::Recovered, "ready"),
    ];
    all.iter().try_for_each(|event| state.add_event(event))?;
    state.forget_deployment(&shop)?;
    let state = open()?;
    let every = EventFilter { deployment: None, kind: None, since_ms: 0, until_ms: u64::MAX, limit: 100 };
    assert_eq!(state.events(&every)?, all);
    let of_shop = EventFilter { deployment: Some(&shop), ..every };
    assert_eq!(state.events(&of_shop)?.len(), 3);
    assert_eq!(state.events(&EventFilter { limit: 1, ..of_shop })?, all[3..], "the newest");
    let between = EventFilter { since_ms: 11, until_ms: 12, ..every };
    assert_eq!(state.events(&between)?, all[1..2]);
    assert_eq!(state.events(&EventFilter { kind: Some(EventKind::Repair), ..every })?, all[2..3]);

    // Many that write about one deployment at once lose nothing.
    let written: Result<Vec<()>> = std::thread::scope(|scope| {
        let one = |n: u64| {
            let event = event(&other, 100 + n, EventKind::Deviation, "at once");
            scope.spawn(move || anyhow::Ok(open()?.add_event(&event)?))
        };
        let all: Vec<_> = (0..4).map(one).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    written?;
    assert_eq!(state.events(&EventFilter { deployment: Some(&other), ..every })?.len(), 5);
    Ok(())
}

fn lease(owner: &str) -> Lease {
    Lease { keep_for_ms: Some(9), ..Lease::first(owner, Origin::Folder, 5) }
}

fn leases(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let (name, app) = names();
    state.ensure_deployment(&name, &app)?;
    ensure!(state.lease(&name)?.is_none() && state.clock_seen()?.is_none());
    let wanted = Usage { instances: 2, memory_mib: 256, disk_bytes: 1 << 30 };
    ensure!(state.reserve(&name, &lease("ann"), wanted)? == Reservation::Made);
    ensure!(state.lease(&name)? == Some(lease("ann")));
    ensure!(state.usage("ann")? == wanted && state.usage("bob")? == Usage::default());
    // What is stopped takes its volumes only.
    let stopped = Lease { stopped_ms: Some(7), noticed_ms: Some(8), run_for_ms: None, ..lease("ann") };
    state.set_lease(&name, &stopped)?;
    ensure!(state.lease(&name)? == Some(stopped));
    ensure!(state.usage("ann")? == Usage { disk_bytes: 1 << 30, ..Usage::default() });
    state.see_clock(3)?;
    state.see_clock(4)?;
    let mut state = open()?;
    ensure!(state.clock_seen()? == Some(4) && state.owners()? == ["ann"]);
    state.forget_deployment(&name)?;
    ensure!(state.lease(&name)?.is_none() && state.usage("ann")? == Usage::default());
    Ok(())
}

fn quotas(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let app: AppName = "shop".parse()?;
    let deployments: Vec<DeploymentName> = (0..4).filter_map(|n| format!("shop-{n}").parse().ok()).collect();
    for name in &deployments {
        state.ensure_deployment(name, &app)?;
    }
    let quota = Quota { instances: Some(5), ..Quota::default() };
    state.set_quota("ann", &quota)?;
    ensure!(state.quota("ann")? == quota && state.quota("bob")? == Quota::default());
    ensure!(state.quotas()? == [("ann".to_owned(), quota)]);
    let wanted = Usage { instances: 3, memory_mib: 1, disk_bytes: 0 };
    // Four at once want three of five each.
    let asked: Result<Vec<Reservation>> = std::thread::scope(|scope| {
        let ask = |name| scope.spawn(move || anyhow::Ok(open()?.reserve(name, &lease("ann"), wanted)?));
        let all: Vec<_> = deployments.iter().map(ask).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let asked = asked?;
    ensure!(asked.iter().filter(|one| **one == Reservation::Made).count() == 1, "{asked:?}");
    let refused = asked.iter().find(|one| **one != Reservation::Made);
    let excess = vec![Excess { what: Counted::Instances, limit: 5, would_be: 6 }];
    ensure!(refused == Some(&Reservation::Refused(excess)), "{refused:?}");
    ensure!(state.usage("ann")? == wanted);
    // The same again is not more, and somebody else has a quota of his own.
    let made = deployments.iter().zip(&asked).find(|(_, one)| **one == Reservation::Made).context("one")?.0;
    ensure!(state.reserve(made, &lease("ann"), wanted)? == Reservation::Made);
    // Who takes over what another has needs room for it; nothing was changed if there is none.
    state.set_quota("eve", &Quota { instances: Some(2), ..Quota::default() })?;
    let excess = vec![Excess { what: Counted::Instances, limit: 2, would_be: 3 }];
    ensure!(state.change_lease(made, &lease("eve"))? == Reservation::Refused(excess));
    ensure!(state.lease(made)? == Some(lease("ann")) && state.usage("ann")? == wanted);
    state.set_quota("eve", &Quota { instances: Some(3), ..Quota::default() })?;
    ensure!(state.change_lease(made, &lease("eve"))? == Reservation::Made);
    ensure!(state.usage("ann")? == Usage::default() && state.usage("eve")? == wanted);
    ensure!(
        state.reserve(&deployments[0], &lease("bob"), Usage { instances: 99, ..wanted })?
            == Reservation::Made
    );
    Ok(())
}

fn host(name: &str) -> Host {
    Host { id: format!("id-of-{name}"), name: name.to_owned() }
}

fn connect(address: &str, host: &Host) -> Result<State, StateError> {
    let address: PostgresAddress = address.parse().expect("an address");
    State::connect(&address, &Credentials::default(), host.clone(), Limits::default())
}

fn names() -> (DeploymentName, AppName) {
    ("shop-test".parse().expect("name"), "shop".parse().expect("name"))
}

fn plan(name: &DeploymentName, generation: u64, to: Option<u64>) -> Plan {
    let app: AppName = "shop".parse().expect("name");
    let to = to.map(|number| ReleaseName { app, number });
    Plan { generation, to, ..plan_down(name, &Observed::default(), &[], None) }
}

/// Which set serves and what is kept is written with what runs, and goes with it.
fn serves(state: &mut State, name: &DeploymentName) -> Result<()> {
    ensure!(state.serving(name)? == Serving::default());
    let one = Running { config: Some(1), ..Running::release(1) };
    let kept = OtherSet::Kept { release: 7, for_ms: 100 };
    state.set_running(name, Running { side: Side::Green, other: kept, ..one }, 1_000)?;
    let beside = Serving { side: Side::Green, kept: Some(Kept { release: 7, until_ms: 1_100 }) };
    ensure!(state.serving(name)? == beside);
    // A repair says what runs once more, and takes nothing away that is kept.
    let again = Running { side: Side::Green, other: OtherSet::Unchanged, ..one };
    state.set_running(name, again, 5_000)?;
    ensure!(state.serving(name)? == beside);
    state.set_down(name)?;
    ensure!(state.serving(name)? == Serving::default());
    state.set_running(name, Running { side: Side::Green, ..one }, 1_000)?;
    ensure!(state.serving(name)? == Serving { side: Side::Green, kept: None });
    state.set_running(name, one, 1_000)?;
    ensure!(state.serving(name)? == Serving::default());
    Ok(())
}

fn configured(open: Open<'_>) -> Result<()> {
    let (name, app) = names();
    let version = Digest::of(b"random");
    let configuration = |number, previous| Configuration {
        format: Configuration::FORMAT,
        deployment: name.clone(),
        app: app.clone(),
        number,
        previous,
        created_s: 7,
        author: "ann@host".to_owned(),
        values: [("workers".parse().expect("name"), Setting::Integer(4))].into(),
        secrets: [("password".parse().expect("name"), version)].into(),
    };
    let first = configuration(1, None);
    {
        let mut state = open()?;
        state.ensure_deployment(&name, &app)?;
        ensure!(state.configured(&name)? == Configured::default());
        state.add_configuration(&first, &[(version, b"sealed".to_vec())])?;
        ensure!(state.add_configuration(&first, &[]).is_err(), "a number is used once");
        state.set_running(&name, Running { config: Some(1), ..Running::release(1) }, 0)?;
    }
    let mut state = open()?;
    let second = configuration(2, Some(first.digest()));
    state.add_configuration(&second, &[])?;
    ensure!(state.configured(&name)? == Configured { wanted: Some(2), current: Some(1) });
    // A repair says what runs once more, and takes nothing away that was set.
    state.set_running(&name, Running { config: Some(1), ..Running::release(1) }, 0)?;
    ensure!(state.configured(&name)? == Configured { wanted: Some(2), current: Some(1) });
    state.set_running(&name, Running { config: Some(2), ..Running::release(2) }, 0)?;
    state.set_running(&name, Running { config: Some(1), ..Running::release(1) }, 0)?;
    ensure!(state.configured(&name)? == Configured { wanted: Some(1), current: Some(1) });
    serves(&mut state, &name)?;
    state.want_configuration(&name, None)?;
    ensure!(state.configured(&name)? == Configured { wanted: None, current: Some(1) });
    ensure!(state.configurations(&name)? == [first, second]);
    ensure!(state.configuration(&name, 3)?.is_none());
    ensure!(state.secret(&name, &version)?.as_deref() == Some(b"sealed".as_slice()));
    let bob = RecipientRecord { recipient: "age1bob".to_owned(), name: "bob".to_owned() };
    state.add_recipient(&bob)?;
    let again = SealedSecret { deployment: name.clone(), version, sealed: b"anew".to_vec() };
    state.reseal(std::slice::from_ref(&bob), std::slice::from_ref(&again))?;
    ensure!(state.all_secrets()? == [again] && state.recipients()? == [bob]);
    let mut plan = plan(&name, 1, Some(1));
    plan.config = Some(ConfigRef { number: 1, digest: version });
    state.add_plan(&plan, 1)?;
    state.end_plan(&plan, PlanStatus::Done, None, 2)?;
    let pairs = state.healthy_pairs(&name)?;
    ensure!(pairs.len() == 1 && pairs[0].1 == Some(1), "{pairs:?}");
    state.forget_deployment(&name)?;
    ensure!(state.configurations(&name)?.is_empty() && state.all_secrets()?.is_empty());
    Ok(())
}

fn reopening(open: Open<'_>) -> Result<()> {
    let (name, app) = names();
    let web: InstanceName = "web-1".parse()?;
    {
        let mut state = open()?;
        state.ensure_deployment(&name, &app)?;
        state.set_running(&name, Running::release(3), 0)?;
        state.add_addresses(&name, &[(web.clone(), [10, 77, 0, 10].into())].into())?;
        // Those that are known stay.
        state.add_addresses(&name, &[(web.clone(), [10, 77, 0, 11].into())].into())?;
    }
    let mut state = open()?;
    let record = state.deployment(&name)?.context("is there")?;
    ensure!(record.current.map(|release| release.to_string()).as_deref() == Some("shop@3"));
    ensure!(record.elsewhere.is_none(), "it is of this host");
    ensure!(state.addresses(&name)? == [(web, [10, 77, 0, 10].into())].into());
    ensure!(state.current_of(&app)? == [(name.clone(), 3)]);
    let other = "another".parse()?;
    let all = [&app, &other].into();
    ensure!(state.current_of_all(&all)? == [(app.clone(), name.clone(), 3)]);
    ensure!(state.current_of_all(&[&other].into())?.is_empty(), "of others");
    state.set_down(&name)?;
    ensure!(state.current_of(&app)?.is_empty(), "what is down runs nothing");
    ensure!(state.current_of_all(&all)?.is_empty(), "what is down runs nothing");
    ensure!(matches!(state.ensure_deployment(&name, &"other".parse()?), Err(StateError::OtherApp { .. })));
    ensure!(state.deployment(&"nobody".parse()?)?.is_none());
    Ok(())
}

fn order(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    // A language would put `a-c` after `ab`.
    let sorted = ["a-c", "a1", "ab", "b"];
    for name in ["b", "ab", "a-c", "a1"] {
        let name: DeploymentName = name.parse()?;
        let app: AppName = name.as_str().parse()?;
        state.ensure_deployment(&name, &app)?;
        state.set_running(&name, Running::release(1), 0)?;
    }
    let names: Vec<String> = state.deployments()?.iter().map(|record| record.name.to_string()).collect();
    ensure!(names == sorted, "{names:?}");
    let apps: Vec<AppName> = sorted.iter().filter_map(|name| name.parse().ok()).collect();
    let all = state.current_of_all(&apps.iter().collect())?;
    let names: Vec<String> = all.iter().map(|(app, ..)| app.to_string()).collect();
    ensure!(names == sorted, "{names:?}");
    Ok(())
}

fn healthy(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let (name, app) = names();
    state.ensure_deployment(&name, &app)?;
    for (generation, number, status) in
        [(1, 1, PlanStatus::Done), (2, 2, PlanStatus::Failed), (3, 1, PlanStatus::Done)]
    {
        let plan = plan(&name, generation, Some(number));
        state.add_plan(&plan, generation)?;
        state.end_plan(&plan, status, None, generation)?;
    }
    let names: Vec<String> = state.healthy_releases(&name)?.iter().map(ToString::to_string).collect();
    ensure!(names == ["shop@1", "shop@1"], "{names:?}");
    Ok(())
}

fn numbered(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let (name, app) = names();
    state.ensure_deployment(&name, &app)?;
    let plan = plan(&name, 1, Some(2));
    state.add_plan(&plan, 10)?;
    ensure!(state.add_plan(&plan, 10).is_err(), "a generation is used once");
    let last = state.last_plan(&name)?.context("is there")?;
    ensure!(last.status == PlanStatus::Running, "what was refused changed nothing: {last:?}");
    state.record_step(&plan, 0, StepStatus::Failed, 11)?;
    state.record_step(&plan, 0, StepStatus::Done, 11)?;
    state.end_plan(&plan, PlanStatus::Failed, Some("why"), 12)?;
    let last = state.last_plan(&name)?.context("is there")?;
    ensure!(last.plan == plan);
    ensure!((last.status, last.reason.as_deref(), last.steps_done) == (PlanStatus::Failed, Some("why"), 1));
    ensure!((last.started_ms, last.ended_ms) == (10, Some(12)));
    Ok(())
}

fn superseded(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let (name, app) = names();
    state.ensure_deployment(&name, &app)?;
    state.add_plan(&plan(&name, 1, Some(1)), 1)?;
    state.add_plan(&plan(&name, 2, Some(2)), 2)?;
    ensure!(state.healthy_releases(&name)?.is_empty(), "it never was done");
    let last = state.last_plan(&name)?.context("is there")?;
    ensure!((last.plan.generation, last.status) == (2, PlanStatus::Running));
    Ok(())
}

fn tests(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let app: AppName = "shop".parse()?;
    let names = ["shop", "shop-test-1", "shop-test-2"];
    let [own, one, two] = names.map(|name| name.parse::<DeploymentName>().expect("name"));
    state.ensure_deployment(&own, &app)?;
    ensure!(!state.add_test(&own, &app, 1)?, "a deployment does not become a test");
    ensure!(state.add_test(&one, &app, 1)?);
    ensure!(state.add_test(&two, &app, 2)?);
    ensure!(state.tests()? == [one.clone(), two.clone()]);
    state.forget_deployment(&one)?;
    state.keep_test(&two)?;
    ensure!(state.tests()?.is_empty());
    ensure!(state.deployment(&two)?.is_some());
    ensure!(state.deployment(&one)?.is_none());
    Ok(())
}

fn forgotten(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let (name, app) = names();
    state.ensure_deployment(&name, &app)?;
    let plan = plan(&name, 1, Some(1));
    state.add_plan(&plan, 1)?;
    state.record_step(&plan, 0, StepStatus::Done, 1)?;
    state.add_addresses(&name, &[("web-1".parse()?, [10, 77, 0, 10].into())].into())?;
    state.forget_deployment(&name)?;
    state.ensure_deployment(&name, &app)?;
    ensure!(state.last_plan(&name)?.is_none());
    ensure!(state.addresses(&name)?.is_empty());
    state.add_plan(&plan, 2)?;
    ensure!(state.last_plan(&name)?.context("is there")?.steps_done == 0);
    Ok(())
}

fn texts(open: Open<'_>) -> Result<()> {
    let mut state = open()?;
    let (name, app) = names();
    state.ensure_deployment(&name, &app)?;
    let plan = plan(&name, 1, None);
    state.add_plan(&plan, u64::MAX)?;
    let reason = "it's \"$1\"; ' -- ü \\ \n\u{1F980}";
    state.end_plan(&plan, PlanStatus::Failed, Some(reason), 0)?;
    let last = state.last_plan(&name)?.context("is there")?;
    ensure!(last.reason.as_deref() == Some(reason), "{last:?}");
    ensure!(last.started_ms == i64::MAX.unsigned_abs(), "stays at the end of what is counted");
    Ok(())
}

fn opened_at_once(open: Open<'_>) -> Result<()> {
    // The closure is not shared between threads; sessions are opened one inside the other instead.
    let (mut one, mut two) = (open()?, open()?);
    let (name, app) = names();
    one.ensure_deployment(&name, &app)?;
    two.ensure_deployment(&name, &app)?;
    ensure!(one.deployments()? == two.deployments()?);
    Ok(())
}

fn raced(open: Open<'_>) -> Result<()> {
    let (mut one, mut two) = (open()?, open()?);
    let (name, app) = names();
    one.ensure_deployment(&name, &app)?;
    let (first, second) = (plan(&name, 1, Some(1)), plan(&name, 1, Some(2)));
    one.add_plan(&first, 1)?;
    ensure!(two.add_plan(&second, 2).is_err(), "a stale generation is refused");
    let last = two.last_plan(&name)?.context("is there")?;
    ensure!((&last.plan, last.status) == (&first, PlanStatus::Running), "{last:?}");
    Ok(())
}

#[test]
fn many_processes_make_the_tables_of_a_new_state_once() -> Result<()> {
    let server = Postgres::start()?;
    server.database("many")?;
    let address = server.address("many");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    let open: [&(dyn Fn() -> Result<State, StateError> + Sync); 2] =
        [&|| State::open(&path), &|| connect(&address, &host("alpha"))];
    for open in open {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            all.into_iter().try_for_each(|one| {
                one.join().expect("no panic")?.deployments().map(|found| assert!(found.is_empty()))
            })
        })?;
    }
    Ok(())
}

fn claim(who: &str) -> Claim {
    Claim { who: who.to_owned(), pid: 7, what: "plumb up".to_owned(), since_ms: 5 }
}

#[test]
fn a_deployment_is_held_by_one_session_and_its_host_is_told() -> Result<()> {
    let server = Postgres::start()?;
    server.database("team")?;
    let address = server.address("team");
    let (name, app) = names();
    let mut ann = connect(&address, &host("alpha"))?;
    ann.hold(&name, &claim("ann@alpha"))?;
    ann.ensure_deployment(&name, &app)?;

    let mut again = connect(&address, &host("alpha"))?;
    let error = again.hold(&name, &claim("bob@alpha")).err().context("it is held")?;
    ensure!(
        error.to_string() == "deployment `shop-test` is in use by ann@alpha, process 7 (plumb up)",
        "{error}"
    );
    again.hold(&"other".parse()?, &claim("bob@alpha"))?;

    let mut beta = connect(&address, &host("beta"))?;
    let error = beta.hold(&name, &claim("bob@beta")).err().context("it is another host's")?;
    ensure!(error.to_string() == "deployment `shop-test` runs on host `alpha`, not on this one", "{error}");
    ensure!(matches!(beta.ensure_deployment(&name, &app), Err(StateError::OtherHost { .. })));
    ensure!(beta.deployments()?[0].elsewhere.as_deref() == Some("alpha"));
    ensure!(
        beta.add_test(&"shop-t".parse()?, &app, 1)? && again.tests()?.is_empty(),
        "each host has its own"
    );

    // The lock goes with the session, the name beside it does not count any more.
    drop(ann);
    ensure!(again.holder(&name)?.0.is_none());
    again.hold(&name, &claim("bob@alpha"))?;
    ensure!(again.holder(&name)?.0.context("named")?.who == "bob@alpha");
    Ok(())
}

#[test]
fn a_server_that_dies_between_two_steps_leaves_a_plan_that_the_next_command_takes_over() -> Result<()> {
    let mut server = Postgres::start()?;
    server.database("dies")?;
    let address = server.address("dies");
    let (name, app) = names();
    let mut state = connect(&address, &host("alpha"))?;
    state.hold(&name, &claim("ann@alpha"))?;
    state.ensure_deployment(&name, &app)?;
    let first = plan(&name, 1, Some(1));
    state.add_plan(&first, 1)?;
    state.record_step(&first, 0, StepStatus::Done, 2)?;
    server.kill()?;
    let error = state.record_step(&first, 1, StepStatus::Done, 3).err().context("nobody is there")?;
    ensure!(error.is_lost() && error.hint().is_some(), "{error:?}");
    let error = connect(&address, &host("alpha")).err().context("nobody is there")?;
    ensure!(matches!(error, StateError::Unreachable { .. }), "{error:?}");

    server.go()?;
    ensure!(state.record_step(&first, 1, StepStatus::Done, 3).is_err(), "its lock is gone, and so is it");
    let mut next = connect(&address, &host("alpha"))?;
    next.hold(&name, &claim("ann@alpha"))?;
    let last = next.last_plan(&name)?.context("is there")?;
    ensure!((last.status, last.steps_done) == (PlanStatus::Running, 1), "{last:?}");
    let second = plan(&name, 2, Some(1));
    next.add_plan(&second, 4)?;
    next.end_plan(&second, PlanStatus::Done, None, 5)?;
    ensure!(next.healthy_releases(&name)?.len() == 1);
    Ok(())
}

#[test]
fn no_wait_for_a_server_is_without_a_limit() -> Result<()> {
    let server = Postgres::start()?;
    server.database("slow")?;
    let address: PostgresAddress = server.address("slow").parse()?;
    let limits = Limits {
        wait: Duration::from_millis(200),
        statement: Duration::from_millis(2000),
        answer: Duration::from_millis(3000),
        connect: Duration::from_millis(3000),
        held: Duration::from_millis(100),
    };
    let open = || State::connect(&address, &Credentials::default(), host("alpha"), limits);
    let mut state = open()?;
    let (name, app) = names();
    state.ensure_deployment(&name, &app)?;

    // Another session holds the table for longer than is waited.
    let held = "BEGIN; LOCK TABLE deployment; SELECT pg_sleep(60)";
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| server.sql("slow", held));
        let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'deployment'::regclass AND mode = 'AccessExclusiveLock'";
        testkit::wait_until("the table is locked", Duration::from_secs(30), &mut || {
            server.sql("slow", locked).is_ok_and(|count| count.trim() == "1")
        })?;
        let error = state.set_running(&name, Running::release(1), 0).err().context("it is locked")?;
        let ended = server.sql(
            "slow",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'",
        );
        ended?;
        ensure!(
            matches!(&error, StateError::Database { source: DatabaseError::Postgres(_), .. }),
            "{error:?}"
        );
        Ok(())
    })?;
    state.set_running(&name, Running::release(1), 0)?;

    // Nothing of the server moves any more.
    server.freeze(testkit::Frozen::Yes)?;
    let error = state.set_running(&name, Running::release(2), 0).err().context("nobody answers")?;
    ensure!(error.is_lost(), "{error:?}");
    let error = open().err().context("nobody answers")?;
    ensure!(matches!(error, StateError::Unreachable { .. }), "{error:?}");
    server.freeze(testkit::Frozen::No)?;
    open()?.set_running(&name, Running::release(3), 0)?;
    Ok(())
}

#[test]
fn a_server_is_reached_by_password_and_tls_as_the_address_says() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Postgres::start()?;
    server.database("far")?;
    let folder = tempfile::tempdir()?;
    let passfile = folder.path().join("pgpass");
    std::fs::write(&passfile, "other:*:*:*:no\nlocalhost:*:far:plumb:a\\:b\\\\c d\n")?;
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600))?;
    let known = Credentials { password: None, passfile: Some(passfile.clone()) };
    let open = |query: &str, credentials: &Credentials| {
        let address: PostgresAddress = server.network_address("far", query).parse().expect("an address");
        State::connect(&address, credentials, host("alpha"), Limits::default())
    };
    let certificate = server.certificate_path();
    let verified = format!("sslmode=verify-full&sslrootcert={}", certificate.display());
    let count = || {
        server.sql("far", "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'plumb'")
    };
    for (query, is_tls) in
        [("sslmode=disable", "0"), ("", "1"), ("sslmode=require", "1"), (verified.as_str(), "1")]
    {
        let state = open(query, &known).with_context(|| query.to_owned())?;
        ensure!(count()?.trim() == is_tls, "{query}: {}", count()?);
        drop(state);
        testkit::wait_until("the session ends", Duration::from_secs(30), &mut || {
            count().is_ok_and(|count| count.trim() == "0")
        })?;
    }
    let by_name = format!("passfile={}", passfile.display());
    open(&by_name, &Credentials::default())?;
    let wrong =
        Credentials { password: Some(plumb_state::Password::new("hunter2".to_owned())), passfile: None };
    for (query, credentials) in [
        ("", &wrong),
        ("", &Credentials::default()),
        // The system's certificates know nothing of it.
        ("sslmode=verify-full", &known),
        ("sslmode=verify-full&sslrootcert=/none", &known),
    ] {
        let error = open(query, credentials).err().with_context(|| format!("`{query}` is refused"))?;
        let said =
            format!("{error} {:?} {:?}", error, std::error::Error::source(&error).map(ToString::to_string));
        ensure!(matches!(error, StateError::Unreachable { .. }) && !said.contains("hunter2"), "{said}");
    }
    // The certificate is of `localhost`, not of its address.
    let address = format!("postgresql://plumb@127.0.0.1:{}/far?{verified}", server.port);
    let other = Credentials {
        password: Some(plumb_state::Password::new(Postgres::PASSWORD.to_owned())),
        passfile: None,
    };
    let refused = State::connect(&address.parse()?, &other, host("alpha"), Limits::default());
    ensure!(refused.is_err(), "another name");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_used_is_told_by_what_is_wrong_with_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    let limits = Limits { wait: Duration::from_millis(50), ..Limits::default() };
    let (name, app) = names();
    let mut state = State::open_within(&path, limits)?;
    state.ensure_deployment(&name, &app)?;

    // Locked for longer than is waited.
    let other = rusqlite::Connection::open(&path)?;
    other.execute_batch("BEGIN IMMEDIATE")?;
    let error = source(state.set_running(&name, Running::release(1), 0))?;
    ensure!(matches!(error, DatabaseError::Locked { .. }), "{error:?}");
    ensure!(state.deployment(&name)?.is_some(), "who only reads does not wait");
    other.execute_batch("ROLLBACK")?;
    state.set_running(&name, Running::release(1), 0)?;

    // Gone while it was open: what is written would be lost without a word.
    drop(other);
    let aside = folder.path().join("aside.db");
    std::fs::rename(&path, &aside)?;
    let error = source(state.set_running(&name, Running::release(2), 0))?;
    ensure!(matches!(error, DatabaseError::Gone), "{error:?}");
    std::fs::rename(&aside, &path)?;
    state.set_running(&name, Running::release(2), 0)?;
    drop(state);

    // Damaged.
    let whole = std::fs::read(&path)?;
    for damaged in [
        &b"this is no database, but long enough to be looked at as if it were one"[..],
        &whole[..whole.len() / 2],
    ] {
        std::fs::write(&path, damaged)?;
        let found = State::open_within(&path, limits).and_then(|mut state| {
            state.add_addresses(&name, &[("web-1".parse().expect("a name"), [10, 0, 0, 1].into())].into())?;
            state.deployments().map(|_| ())
        });
        let error = source(found)?;
        ensure!(matches!(error, DatabaseError::Corrupt), "{error:?}");
    }
    std::fs::write(&path, &whole)?;
    ensure!(State::open(&path)?.deployment(&name)?.is_some());
    Ok(())
}

/// A file with three deployments, a test, and what is bound to none of them.
fn fill(path: &Path, prefix: &str) -> Result<State> {
    let mut state = State::open(path)?;
    let app: AppName = "shop".parse()?;
    for number in 0..3u8 {
        let name: DeploymentName = format!("{prefix}-{number}").parse()?;
        state.ensure_deployment(&name, &app)?;
        let other = OtherSet::Kept { release: 1, for_ms: 100 };
        state.set_running(&name, Running { side: Side::Green, other, ..Running::release(2) }, 0)?;
        state.add_addresses(&name, &[("web-1".parse()?, [10, 77, 0, number].into())].into())?;
        let plan = plan(&name, 1, Some(2));
        state.add_plan(&plan, 1)?;
        state.record_step(&plan, 0, StepStatus::Done, 2)?;
        state.end_plan(&plan, PlanStatus::Failed, Some("why"), 3)?;
    }
    state.add_test(&format!("{prefix}-test").parse()?, &app, 4)?;
    let quota = |instances| Quota { instances: Some(instances), ..Quota::default() };
    state.set_quota(prefix, &quota(7))?;
    state.set_quota("both", &quota(if prefix == "shop" { 1 } else { 2 }))?;
    let key = |name: &str| RecipientRecord { recipient: format!("age1{name}"), name: name.to_owned() };
    state.add_recipient(&key(prefix))?;
    state.see_clock(5)?;
    for (gone, at_ms) in [("gone", 7), ("gone", 9), (if prefix == "other" { "shop-1" } else { "lost" }, 8)] {
        state.add_event(&event(&gone.parse()?, at_ms, prefix))?;
    }
    state.add_event(&event(&"gone".parse()?, 8, "the same of both"))?;
    let name: DeploymentName = format!("{prefix}-0").parse()?;
    state.set_lease(&name, &lease("ann"))?;
    state.add_event(&event(&name, 6, "of ann"))?;
    Ok(state)
}

#[test]
fn a_state_is_copied_whole_and_only_to_where_nothing_of_it_is() -> Result<()> {
    let server = Postgres::start()?;
    server.database("copy")?;
    let address = server.address("copy");
    let folder = tempfile::tempdir()?;
    let own = fill(&folder.path().join("own.db"), "shop")?;
    let mut team = connect(&address, &host("alpha"))?;
    let copied = own.copy_to(&mut team)?;
    ensure!(copied == Copied { rows: 3 * 5 + 2 + 1 + 5 + 2 + 1, ..Copied::default() }, "{copied:?}");
    ensure!(team.deployments()? == own.deployments()?);
    let name: DeploymentName = "shop-0".parse()?;
    ensure!(team.serving(&name)? == own.serving(&name)? && team.serving(&name)?.kept.is_some());
    ensure!(team.tests()? == own.tests()?);
    for record in own.deployments()? {
        ensure!(team.last_plan(&record.name)? == own.last_plan(&record.name)?);
        ensure!(team.addresses(&record.name)? == own.addresses(&record.name)?);
        ensure!(team.lease(&record.name)? == own.lease(&record.name)?);
    }
    ensure!(matches!(own.copy_to(&mut team), Err(StateError::Taken { .. })), "twice");
    // Another host joins, but not with a name that is taken.
    let mut beta = connect(&address, &host("beta"))?;
    ensure!(matches!(own.copy_to(&mut beta), Err(StateError::Taken { .. })), "of another host");
    let copied = fill(&folder.path().join("beta.db"), "other")?.copy_to(&mut beta)?;
    // What is another host's, or the team's, stays as it is, and that is told.
    ensure!(copied.journals_left == ["shop-1"] && copied.quotas_left == ["both"], "{copied:?}");
    let quotas: Vec<(String, Option<u64>)> =
        beta.quotas()?.into_iter().map(|(owner, quota)| (owner, quota.instances)).collect();
    ensure!(
        quotas == [("both".to_owned(), Some(1)), ("other".to_owned(), Some(7)), ("shop".to_owned(), Some(7))]
    );
    ensure!(beta.recipients()?.iter().map(|one| one.name.as_str()).eq(["shop"]), "the team says who");
    ensure!(beta.clock_seen()? == Some(5));
    // Of what is gone on both, and of what stands in both.
    let told: Vec<(u64, String)> = happened(&beta, "gone")?;
    let both = "the same of both";
    let all = [(7, "shop"), (7, "other"), (8, both), (9, "shop"), (9, "other")];
    ensure!(told.iter().map(|(at, text)| (*at, text.as_str())).eq(all), "{told:?}");
    ensure!(happened(&beta, "lost")?.len() == 1 && happened(&beta, "shop-1")?.is_empty());
    beta.add_event(&event(&"gone".parse()?, 10, "after it"))?;
    ensure!(beta.deployments()?.iter().filter(|one| one.elsewhere.as_deref() == Some("alpha")).count() == 4);
    ensure!(team.deployments()?.iter().filter(|one| one.elsewhere.as_deref() == Some("beta")).count() == 4);
    // And back into a file.
    let mut back = State::open(&folder.path().join("back.db"))?;
    team.copy_to(&mut back)?;
    ensure!(back.deployments()? == own.deployments()?);
    ensure!(happened(&back, "gone")? == happened(&beta, "gone")? && back.quotas()? == beta.quotas()?);
    ensure!(
        back.recipients()? == own.recipients()? && happened(&back, "shop-0")? == happened(&own, "shop-0")?
    );
    Ok(())
}

fn event(deployment: &DeploymentName, at_ms: u64, text: &str) -> EventRecord {
    EventRecord {
        deployment: deployment.clone(),
        at_ms,
        kind: EventKind::LeaseChanged,
        instance: None,
        generation: None,
        text: text.to_owned(),
        by: "ann".to_owned(),
    }
}

/// What happened to a deployment, in order.
fn happened(state: &State, name: &str) -> Result<Vec<(u64, String)>> {
    let name = name.parse()?;
    let of = EventFilter { deployment: Some(&name), kind: None, since_ms: 0, until_ms: u64::MAX, limit: 100 };
    Ok(state.events(&of)?.into_iter().map(|event| (event.at_ms, event.text)).collect())
}

/// What the database said.
fn source<T>(result: Result<T, StateError>) -> Result<DatabaseError> {
    match result.err().context("an error")? {
        StateError::Database { source, .. } => Ok(source),
        other => Err(other.into()),
    }
}

/// A user id that nobody has.
const STRANGER: u32 = 54_321;

#[test]
fn a_state_that_may_only_be_read_says_so() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    let (name, app) = names();
    State::open(&path)?.ensure_deployment(&name, &app)?;
    let mode = |path: &Path, bits| std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits));
    mode(&path, 0o444)?;
    mode(folder.path(), 0o555)?;
    let error = std::thread::scope(|scope| {
        let written = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                // Of this thread only: root may write whatever the permissions are.
                let id = rustix::process::Uid::from_raw(STRANGER);
                rustix::thread::set_thread_res_uid(id, id, id).expect("root may");
            }
            State::open(&path).and_then(|mut state| state.set_running(&name, Running::release(1), 0))
        });
        written.join().expect("no panic")
    });
    mode(folder.path(), 0o755)?;
    let error = source(error)?;
    ensure!(matches!(error, DatabaseError::ReadOnly), "{error:?}");
    Ok(())
}
