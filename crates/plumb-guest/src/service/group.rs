//! All services of a machine: who may start, who has to stop first, and whether the machine is ready. Pure.

use std::collections::BTreeMap;

use plumb_guest_proto::{ServiceSpec, ServiceState};

use super::event::{Action, Input};
use super::lifecycle::Lifecycle;

/// The services of a machine in its own order.
#[derive(Debug)]
pub struct Group {
    services: Vec<Lifecycle>,
    /// For each service the indices of those it waits for.
    after: Vec<Vec<usize>>,
    shown: Vec<ServiceState>,
    stopping: bool,
}

impl Group {
    /// Services that all wait.
    pub fn new(specs: &[ServiceSpec]) -> Self {
        let index: BTreeMap<&str, usize> =
            specs.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let after =
            specs.iter().map(|s| s.after.iter().filter_map(|n| index.get(n.as_str()).copied()).collect());
        Group {
            after: after.collect(),
            services: specs.iter().cloned().map(Lifecycle::new).collect(),
            shown: vec![ServiceState::Waiting; specs.len()],
            stopping: false,
        }
    }

    /// The services.
    pub fn services(&self) -> &[Lifecycle] {
        &self.services
    }

    /// One event of one service.
    pub fn step(&mut self, now: u64, index: usize, input: Input) -> Vec<(usize, Action)> {
        let Some(service) = self.services.get_mut(index) else { return Vec::new() };
        service.step(now, input).into_iter().map(|action| (index, action)).collect()
    }

    /// Lets time pass, starts what may start now and stops what may stop now.
    pub fn advance(&mut self, now: u64) -> Vec<(usize, Action)> {
        let mut actions = Vec::new();
        for index in 0..self.services.len() {
            if self.services[index].next_tick().is_some_and(|at| at <= now) {
                actions.extend(self.step(now, index, Input::Tick));
            }
        }
        for index in 0..self.services.len() {
            if self.stopping && !self.services[index].is_stopping() && self.dependents_ended(index) {
                actions.extend(self.step(now, index, Input::Stop));
            } else if !self.stopping && self.services[index].is_waiting() && self.may_start(index) {
                actions.extend(self.step(now, index, Input::Proceed));
            }
        }
        actions
    }

    /// From now on everything stops, in reverse order.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// When [`Group::advance`] is wanted at the latest.
    pub fn next_tick(&self) -> Option<u64> {
        self.services.iter().filter_map(Lifecycle::next_tick).min()
    }

    /// Whether all services are ready now.
    pub fn is_ready(&self) -> bool {
        !self.stopping && self.services.iter().all(|service| service.state().is_ready())
    }

    /// Whether all services have ended after [`Group::stop`].
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.services.iter().all(|service| service.is_stopping() && service.is_ended())
    }

    /// The services whose state changed since the last call.
    pub fn changes(&mut self) -> Vec<(usize, ServiceState)> {
        let mut changes = Vec::new();
        for (index, service) in self.services.iter().enumerate() {
            let state = service.state();
            if self.shown[index] != state {
                self.shown[index] = state.clone();
                changes.push((index, state));
            }
        }
        changes
    }

    fn may_start(&self, index: usize) -> bool {
        self.after[index].iter().all(|other| self.services[*other].state().is_ready())
    }

    fn dependents_ended(&self, index: usize) -> bool {
        let depends = |other: &usize| self.after[*other].contains(&index);
        (0..self.services.len()).filter(depends).all(|other| {
            let service = &self.services[other];
            service.is_stopping() && service.is_ended()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Role, Stage};
    use super::super::lifecycle::tests::spec;
    use super::super::restart::Exit;
    use super::*;

    fn group() -> Group {
        let named = |name: &str, after: &[&str]| ServiceSpec {
            name: name.into(),
            after: after.iter().map(|s| (*s).to_owned()).collect(),
            ..spec()
        };
        Group::new(&[named("db", &[]), named("api", &["db"]), named("web", &["api", "db"])])
    }

    fn started(actions: &[(usize, Action)]) -> Vec<usize> {
        let is_start = |a: &&(usize, Action)| a.1 == Action::Run(Stage::Start, 0, Role::Main);
        actions.iter().filter(is_start).map(|a| a.0).collect()
    }

    #[test]
    fn start_follows_readiness() {
        let mut group = group();
        assert_eq!(started(&group.advance(0)), [0]);
        assert!(started(&group.advance(1)).is_empty());
        group.step(2, 0, Input::Executed);
        assert_eq!(started(&group.advance(2)), [1]);
        group.step(3, 1, Input::Executed);
        assert_eq!(started(&group.advance(3)), [2]);
        assert!(!group.is_ready());
        group.step(4, 2, Input::Executed);
        assert!(group.is_ready());
        let states: Vec<_> = group.changes().into_iter().map(|c| c.1).collect();
        assert_eq!(states, [ServiceState::Ready, ServiceState::Ready, ServiceState::Ready]);
        assert!(group.changes().is_empty());
    }

    #[test]
    fn a_failed_dependency_keeps_the_rest_waiting() {
        let mut group = group();
        group.advance(0);
        group.step(1, 0, Input::Exited(Role::Main, Exit::Code(1)));
        group.step(1, 0, Input::GroupEmpty);
        assert!(started(&group.advance(2)).is_empty());
        assert!(matches!(group.services()[0].state(), ServiceState::Failed { .. }));
        assert_eq!(group.services()[1].state(), ServiceState::Waiting);
    }

    #[test]
    fn stop_is_in_reverse() {
        let mut group = group();
        for index in 0..3 {
            group.advance(0);
            group.step(0, index, Input::Executed);
        }
        group.stop();
        for index in [2, 1, 0] {
            let told: Vec<usize> = group.advance(5).into_iter().map(|a| a.0).collect();
            assert!(!told.is_empty() && told.iter().all(|i| *i == index), "{told:?}");
            assert!(!group.is_stopped());
            group.step(6, index, Input::Exited(Role::Main, Exit::Signal(15)));
            group.step(6, index, Input::GroupEmpty);
        }
        assert!(group.is_stopped());
    }
}
