//! What a check did: the scripts it ran, the commands it gave, and what it was told.
//!
//! A check that never wrote the name of its entry anywhere has not used the entry. The harness
//! keeps what goes through it; a check that works without the harness says what it used with
//! [`note`].

use std::cell::RefCell;

thread_local! {
    /// A test runs on one thread. It is the test's own state, and no node's.
    static SEEN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What one check may leave behind; the rest is forgotten.
const BYTES_MAX: usize = 1 << 20;

/// Notes a script, a command or an answer.
pub fn note(text: &str) {
    SEEN.with_borrow_mut(|seen| {
        if seen.len() + text.len() <= BYTES_MAX {
            seen.push_str(text);
            seen.push('\n');
        }
    });
}

/// Takes what has been noted.
pub(super) fn take() -> String {
    SEEN.take()
}
