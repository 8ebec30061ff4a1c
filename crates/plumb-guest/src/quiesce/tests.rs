use std::fs::File;
use std::sync::Mutex;

use plumb_guest_proto::{Init, VolumeMount, Writable};

use super::*;
use crate::clock::wait_for;
use crate::service::test_spec;

/// How many file systems are frozen now; the second freeze fails if `breaks`.
#[derive(Debug, Clone, Copy)]
struct Counted {
    frozen: &'static Mutex<i64>,
    breaks: bool,
}

impl Gate for Counted {
    fn write_out(&self, _: &File) -> std::io::Result<()> {
        Ok(())
    }

    fn freeze(&self, _: &File) -> std::io::Result<()> {
        let mut frozen = self.frozen.lock().expect("no panic");
        if self.breaks && *frozen == 1 {
            return Err(std::io::Error::other("broken"));
        }
        *frozen += 1;
        Ok(())
    }

    fn thaw(&self, _: &File) -> std::io::Result<()> {
        *self.frozen.lock().expect("no panic") -= 1;
        Ok(())
    }
}

fn counted(breaks: bool) -> Counted {
    Counted { frozen: Box::leak(Box::new(Mutex::new(0))), breaks }
}

fn hook(name: &str) -> Option<Box<ServiceSpec>> {
    Some(Box::new(ServiceSpec { name: name.to_owned(), ..test_spec() }))
}

fn machine(folder: &Path, with_hooks: &str) -> MachineSpec {
    let volume = |name: &str| VolumeMount {
        name: name.to_owned(),
        mount: folder.join(name).display().to_string(),
        uid: 0,
        gid: 0,
        mode: 0o755,
        before: if with_hooks == name { hook("before") } else { None },
        after: if with_hooks == name { hook("after") } else { None },
    };
    MachineSpec {
        format: 1,
        app: "shop".into(),
        machine: "db".into(),
        directories: vec![],
        volumes: vec![volume("data"), volume("log")],
        services: vec![],
        writable: Writable::Places,
        init: Init::Plumb,
        checks: vec![],
        config: vec![],
        settings: Default::default(),
    }
}

fn folder() -> std::path::PathBuf {
    static COUNT: Mutex<u32> = Mutex::new(0);
    let mut count = COUNT.lock().expect("no panic");
    *count += 1;
    let folder = std::env::temp_dir().join(format!("plumb-quiesce-{}-{count}", std::process::id()));
    for name in ["data", "log"] {
        std::fs::create_dir_all(folder.join(name)).expect("made");
    }
    folder
}

fn both() -> Vec<String> {
    vec!["data".to_owned(), "log".to_owned()]
}

/// What the thread makes it wish for next.
fn next(quiesce: &mut Quiesce<Counted>) -> Vec<Wish> {
    wait_for(20_000, 2, || {
        let wishes = quiesce.advance();
        (!wishes.is_empty()).then_some(wishes)
    })
    .expect("news")
}

fn ended(name: &str, failure: Option<&str>) -> CheckAnswer {
    CheckAnswer {
        run: HOOK_RUN,
        name: name.into(),
        failure: failure.map(Into::into),
        duration_ms: 1,
        output: String::new(),
        left_out_bytes: 0,
    }
}

fn only(wishes: Vec<Wish>) -> QuiesceAnswer {
    match &wishes[..] {
        [Wish::Answer(answer)] => answer.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn held_until_told_to_go_on() {
    let gate = counted(false);
    let mut quiesce = Quiesce::new(&machine(&folder(), ""), gate);
    assert_eq!(quiesce.freeze(7, &both(), 60_000), []);
    let frozen = only(next(&mut quiesce));
    assert_eq!((frozen.run, frozen.phase, frozen.failure), (7, QuiescePhase::Frozen, None));
    assert_eq!(*gate.frozen.lock().expect("no panic"), 2);
    let second = only(quiesce.freeze(8, &both(), 60_000)).failure.expect("refused");
    assert!(second.contains("another snapshot"), "{second}");
    assert!(only(quiesce.thaw(8)).failure.is_some(), "not the number of this freeze");
    assert_eq!(quiesce.thaw(7), []);
    let thawed = only(next(&mut quiesce));
    assert_eq!((thawed.phase, thawed.failure), (QuiescePhase::Thawed, None));
    assert_eq!(*gate.frozen.lock().expect("no panic"), 0);
    assert!(only(quiesce.thaw(7)).failure.is_some(), "twice is once too often");
}

#[test]
fn a_host_that_died_leaves_nothing_frozen() {
    let gate = counted(false);
    let mut quiesce = Quiesce::new(&machine(&folder(), "data"), gate);
    assert_eq!(quiesce.freeze(7, &both(), 50), [Wish::Run("before".into())]);
    assert_eq!(quiesce.ran(&ended("before", None)), []);
    let mut wishes = next(&mut quiesce);
    while !wishes.contains(&Wish::Run("after".into())) {
        wishes.extend(next(&mut quiesce));
    }
    assert_eq!(*gate.frozen.lock().expect("no panic"), 0);
    let last = only(quiesce.ran(&ended("after", Some("exited with status 1"))));
    assert_eq!(last.failure.as_deref(), Some("it went on by itself after 50 ms"));
    assert!(last.after.expect("told").contains("`after` exited with status 1"));
    assert!(only(quiesce.thaw(7)).failure.expect("told").contains("went on by themselves"));
}

#[test]
fn what_cannot_be_frozen_leaves_the_rest_going() {
    let gate = counted(true);
    let mut quiesce = Quiesce::new(&machine(&folder(), "log"), gate);
    assert_eq!(quiesce.freeze(7, &both(), 60_000), [Wish::Run("before".into())]);
    assert_eq!(quiesce.ran(&ended("before", None)), []);
    let wishes = next(&mut quiesce);
    let [Wish::Answer(refused), Wish::Run(after)] = &wishes[..] else { panic!("{wishes:?}") };
    assert!(refused.failure.as_ref().expect("told").contains("broken"));
    assert_eq!(after, "after");
    assert_eq!(*gate.frozen.lock().expect("no panic"), 0);
}

#[test]
fn a_command_that_fails_holds_nothing() {
    let gate = counted(false);
    let mut quiesce = Quiesce::new(&machine(&folder(), "data"), gate);
    assert_eq!(quiesce.freeze(7, &["data".to_owned()], 60_000), [Wish::Run("before".into())]);
    let wishes = quiesce.ran(&ended("before", Some("exited with status 3")));
    let [Wish::Answer(refused), Wish::Run(_)] = &wishes[..] else { panic!("{wishes:?}") };
    assert_eq!(refused.phase, QuiescePhase::Frozen);
    assert!(refused.failure.as_ref().expect("told").contains("exited with status 3"));
    assert_eq!(*gate.frozen.lock().expect("no panic"), 0);
    let unknown = only(Quiesce::new(&machine(&folder(), ""), gate).freeze(1, &["x".into()], 1));
    assert!(unknown.failure.expect("refused").contains("no volume `x`"));
}

#[test]
fn a_machine_that_stops_lets_go() {
    let gate = counted(false);
    let mut quiesce = Quiesce::new(&machine(&folder(), ""), gate);
    quiesce.freeze(7, &both(), 60_000);
    next(&mut quiesce);
    quiesce.let_go();
    wait_for(20_000, 2, || (*gate.frozen.lock().expect("no panic") == 0).then_some(())).expect("thawed");
}
