//! Stopping passes from outside: a flag that every pass on a thread looks at before each block.
//!
//! Held by the thread, not handed through every function that may run a pass, so that whatever is asked of a model can be
//! stopped. The workbench uses it to drop what the user no longer waits for.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not requested.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// The flag itself, for work that takes one.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Runs `work`; passes that it starts on this thread end with [`super::ModelError::Cancelled`] once a stop is asked for.
    pub fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Cancel>);
        impl Drop for Restore {
            fn drop(&mut self) {
                let before = self.0.take();
                CURRENT.with(|current| *current.borrow_mut() = before);
            }
        }
        let before = CURRENT.with(|current| current.borrow_mut().replace(self.clone()));
        // Also when the work panics: the thread may go on with other work.
        let _restore = Restore(before);
        work()
    }

    /// For work between passes: an error once a stop was asked for on this thread.
    ///
    /// # Errors
    /// [`super::ModelError::Cancelled`].
    pub fn check() -> Result<(), super::ModelError> {
        if Self::current().requested() {
            return Err(super::ModelError::Cancelled);
        }
        Ok(())
    }

    /// What passes on this thread look at.
    pub(super) fn current() -> Self {
        CURRENT
            .with(|current| current.borrow().clone())
            .unwrap_or_default()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}
