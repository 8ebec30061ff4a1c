//! Where commands read from and write to: redirections, and `exec > FILE`.

use super::expand::UNKNOWN_ID;
use super::script::{Flow, Machine};
use super::secret::{self, SECRET};
use super::shell::{Redirect, Simple};
use super::world::World;
use super::{command, ignore};

impl Machine<'_, '_, '_> {
    /// Writes to standard output; `None` if what is written is not known.
    pub(super) fn print(&mut self, text: Option<&str>) {
        let Some(output) = self.outputs.last_mut() else { return };
        match text {
            Some(text) => {
                if let Some(output) = output {
                    output.push_str(text);
                }
            }
            None => *output = None,
        }
    }

    /// Runs `action` with its redirections. `text` is what a report says.
    pub(super) fn redirected(
        &mut self,
        redirects: &[Redirect],
        text: &str,
        action: impl FnOnce(&mut Self) -> Flow,
    ) -> Flow {
        let outer = self.input.clone();
        let mut output = None;
        let mut random = false;
        for redirect in redirects {
            match (redirect.operator.as_str(), redirect.descriptor) {
                ("<<", _) => self.input = self.value(&redirect.word),
                ("<", None | Some(0)) => {
                    let path = self.value(&redirect.word);
                    random = path.as_deref().is_some_and(ignore::is_random);
                    self.input = match path {
                        Some(_) if random => Some(SECRET.to_string()),
                        path => path.and_then(|path| self.read(&path)),
                    };
                }
                (">" | ">>", None | Some(1)) => {
                    output = Some((self.value(&redirect.word), redirect.operator == ">>"));
                }
                // `>&2`: what people read.
                (">&", None | Some(1)) => output = Some((Some("/dev/stderr".to_owned()), true)),
                _ => {}
            }
        }
        let Some((path, append)) = output else {
            if random {
                self.random("/dev/urandom");
            }
            let flow = action(self);
            if !redirects.is_empty() {
                self.input = outer;
            }
            return flow;
        };
        self.outputs.push(Some(String::new()));
        if random {
            self.random("/dev/urandom");
        }
        let flow = action(self);
        self.input = outer;
        let written = self.outputs.pop().flatten();
        // Of an instance, and told: a key that goes into a file.
        if std::mem::take(&mut self.left_to_instance) && written.is_none() {
            return flow;
        }
        self.save(path.as_deref(), written.as_deref(), append, text).unwrap_or(flow)
    }

    /// `exec > FILE`: all that the script writes from here on. `false` for any other form.
    pub(super) fn begin_standing(&mut self, simple: &Simple) -> bool {
        let [redirect] = simple.redirects.as_slice() else { return false };
        let is_output = redirect.operator == ">" && matches!(redirect.descriptor, None | Some(1));
        if !is_output || self.uncertain > 0 || self.pipes > 0 || self.calls > 0 {
            return false;
        }
        self.end_standing();
        let Some(path) = self.value(&redirect.word).filter(|_| self.outputs.is_empty()) else { return false };
        self.standing = Some((path, simple.text.clone()));
        self.outputs.push(Some(String::new()));
        true
    }

    /// Saves what was written since [`Machine::begin_standing`].
    pub(super) fn end_standing(&mut self) {
        let Some((path, text)) = self.standing.take() else { return };
        let written = self.outputs.pop().flatten();
        self.save(Some(&path), written.as_deref(), false, &text);
    }

    /// Writes what was caught to a file; `None` if all is well.
    fn save(&mut self, path: Option<&str>, written: Option<&str>, append: bool, text: &str) -> Option<Flow> {
        if path.is_some_and(|path| path.starts_with("/dev/") || path.starts_with("/proc/")) {
            return None;
        }
        let place = path.filter(|path| !secret::is_in(path)).and_then(|path| self.world.target(path));
        if place.as_deref().is_some_and(ignore::leftover) {
            return None;
        }
        let is_volatile = place.as_deref().is_some_and(World::is_volatile);
        let written = written.filter(|written| !written.contains(UNKNOWN_ID));
        let (Some(place), Some(written), true) = (place, written, self.uncertain == 0 || is_volatile) else {
            // A file below /run or /tmp is not there at boot whatever is in it.
            if !path.is_some_and(World::is_volatile) {
                self.report(text);
            }
            return Some(Flow::Next(None));
        };
        if is_volatile && self.world.is_of_boot(path.unwrap_or_default()) {
            return None; // PID 1 writes that file at every boot
        }
        match command::write(self.world, self.script.package, &place, written, append) {
            Ok(()) => None,
            Err(error) => {
                self.world.failure.get_or_insert(error);
                Some(Flow::Exit(None))
            }
        }
    }
}
