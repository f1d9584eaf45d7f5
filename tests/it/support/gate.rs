//! What lets a [`Proxy`](super::Proxy) stand still after so many bytes.

use std::sync::{Condvar, Mutex};

use super::Request;

#[derive(Default)]
struct State {
    /// Which requests may move how many bytes more; without it all may go on.
    closing: Option<(String, u64)>,
    waiting: usize,
}

#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

impl Gate {
    pub(super) fn close_after(&self, pattern: &str, bytes: u64) {
        self.state.lock().unwrap().closing = Some((pattern.to_owned(), bytes));
        self.opened.notify_all();
    }

    pub(super) fn open(&self) {
        self.state.lock().unwrap().closing = None;
        self.opened.notify_all();
    }

    pub(super) fn is_holding(&self) -> bool {
        self.state.lock().unwrap().waiting > 0
    }

    /// Waits until `request` may move so many bytes.
    pub(super) fn pass(&self, request: &Request, bytes: usize) {
        let mut state = self.state.lock().unwrap();
        let is_closed =
            |state: &State| state.closing.as_ref().is_some_and(|(pattern, left)| *left == 0 && request.is(pattern));
        while is_closed(&state) {
            state.waiting += 1;
            state = self.opened.wait(state).unwrap();
            state.waiting -= 1;
        }
        if let Some((_, left)) = state.closing.as_mut().filter(|(pattern, _)| request.is(pattern)) {
            *left = left.saturating_sub(bytes as u64);
        }
    }
}
