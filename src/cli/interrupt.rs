//! Ctrl-C: the first asks running work to stop at its next safe place, the second ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// The exit code after Ctrl-C.
pub const EXIT_CODE: u8 = 130;

static CANCELLED: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicBool = AtomicBool::new(false);

/// Work stopped because the user asked for it.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Catches Ctrl-C from now on.
pub fn install() -> anyhow::Result<()> {
    let caught = || {
        if CANCELLED.swap(true, Ordering::SeqCst) || WAITING.load(Ordering::SeqCst) {
            // The first request has not been heard, or nothing runs that could hear it.
            #[allow(clippy::exit)]
            std::process::exit(i32::from(EXIT_CODE));
        }
    };
    ctrlc::set_handler(caught).context("cannot catch Ctrl-C")
}

/// Runs something that waits for the user and cannot be asked to stop: here the first Ctrl-C ends the process.
pub fn while_waiting<T>(wait: impl FnOnce() -> T) -> T {
    WAITING.store(true, Ordering::SeqCst);
    let waited = wait();
    WAITING.store(false, Ordering::SeqCst);
    waited
}

/// The flag itself, for library calls that take one.
pub fn flag() -> &'static AtomicBool {
    &CANCELLED
}

/// Has Ctrl-C been pressed?
pub fn requested() -> bool {
    CANCELLED.load(Ordering::SeqCst)
}

/// An error if Ctrl-C has been pressed, to be called between steps.
pub fn check() -> anyhow::Result<()> {
    if requested() {
        Err(Interrupted.into())
    } else {
        Ok(())
    }
}
