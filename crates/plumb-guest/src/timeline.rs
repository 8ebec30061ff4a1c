//! When each part of the boot ended.

use plumb_guest_proto::{BootPhase, Event, PhaseEnd};

use crate::clock::uptime_us;

/// The parts of this boot so far.
#[derive(Debug)]
pub struct Timeline {
    phases: Vec<PhaseEnd>,
}

impl Timeline {
    /// Made by PID 1 first of all: the kernel's part has just ended.
    pub fn begin() -> Timeline {
        let mut timeline = Timeline { phases: Vec::new() };
        timeline.end(BootPhase::Kernel);
        timeline
    }

    /// This part has ended now.
    pub fn end(&mut self, phase: BootPhase) {
        self.phases.push(PhaseEnd { phase, end_us: uptime_us() });
    }

    /// What the host is told.
    pub fn event(self) -> Event {
        Event::Booted { phases: self.phases }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_in_their_order() {
        let mut timeline = Timeline::begin();
        timeline.end(BootPhase::Setup);
        timeline.end(BootPhase::Modules);
        let Event::Booted { phases } = timeline.event() else { panic!("another event") };
        let names: Vec<_> = phases.iter().map(|end| end.phase).collect();
        assert_eq!(names, [BootPhase::Kernel, BootPhase::Setup, BootPhase::Modules]);
        assert!(phases.is_sorted_by_key(|end| end.end_us));
    }
}
