//! The bound of a queue of raw pictures: a count that the filling thread waits on, and that teardown can open for good.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    inside: usize,
    closed: bool,
}

/// At most `room` are inside.
#[derive(Debug)]
pub(super) struct Gate {
    room: usize,
    state: Mutex<State>,
    left: Condvar,
}

impl Gate {
    /// With room for this many.
    pub(super) fn new(room: usize) -> Self {
        Self { room, state: Mutex::default(), left: Condvar::new() }
    }

    /// Waits for room and takes it. False where the gate is closed.
    pub(super) fn enter(&self) -> bool {
        let mut state = self.lock();
        while state.inside >= self.room && !state.closed {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.inside = state.inside.saturating_add(1);
        !state.closed
    }

    /// One is out.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.inside = state.inside.saturating_sub(1);
        drop(state);
        self.left.notify_one();
    }

    /// Nobody waits any more, now or later.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.left.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_full_gate_waits_until_one_leaves_and_a_closed_one_never() {
        let gate = Arc::new(Gate::new(1));
        assert!(gate.enter());
        let waiting = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.enter()
        });
        gate.leave();
        assert!(waiting.join().unwrap());
        gate.close();
        assert!(!gate.enter());
    }
}
