//! Panics: where one is caught, what is kept of it, and what one that nobody catches does to the terminal.
//!
//! Always: whatever runs under [`caught`] costs its caller one answer, never the workbench; every panic is in the log with
//! its place and its way there; a panic that is not caught gives the terminal back before a word of it is printed.
//! What a caught one in a screen leads to is in `broken.rs`.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use super::{log, runtime};
use crate::text::visible::visible;

/// A panic that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// What it says.
    pub words: String,
    /// File, line and column, where [`watch`] looks; a panic that came from a pool of threads has none.
    pub place: Option<String>,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{} (at {place})", self.words),
            None => write!(f, "{}", self.words),
        }
    }
}

thread_local! {
    /// How many [`caught`] are around what this thread runs.
    static CATCHERS: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs something that may panic.
///
/// What it may leave half changed is its caller's to throw away or to make anew: that is the reason why nothing has to be
/// unwind safe here.
///
/// # Errors
/// It panicked.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    CATCHERS.set(CATCHERS.get() + 1);
    PLACE.set(None);
    let ran = catch_unwind(AssertUnwindSafe(run));
    CATCHERS.set(CATCHERS.get() - 1);
    ran.map_err(|payload| Panic {
        words: words(payload.as_ref()),
        place: PLACE.take(),
    })
}

fn words(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".into())
}

/// From now on every panic is logged, and one that nobody catches gives the terminal back before it is printed.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            log(info);
            if CATCHERS.get() > 0 {
                PLACE.set(info.location().map(ToString::to_string));
            } else if runtime::given_back() {
                before(info);
            }
        }));
    });
}

fn log(info: &PanicHookInfo) {
    let thread = std::thread::current();
    let place = info
        .location()
        .map_or_else(String::new, |place| format!(" at {place}"));
    log::line(&format!(
        "panic on thread {}{place}: {}\n{}",
        thread.name().unwrap_or("without a name"),
        // It may quote a token.
        visible(&words(info.payload())),
        Backtrace::force_capture()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_value_with_its_words() {
        assert_eq!(caught(|| 7), Ok(7));
        let said = caught(|| -> u8 { panic!("number {}", 3) });
        assert_eq!(said.map_err(|panic| panic.words), Err("number 3".into()));
        let wordless = caught(|| -> u8 { std::panic::panic_any(1_u64) });
        assert_eq!(
            wordless.map_err(|panic| panic.words),
            Err("a panic without words".into())
        );
    }

    #[test]
    fn the_inner_of_two_catches_it_and_the_outer_goes_on() {
        let outer = caught(|| caught(|| -> u8 { panic!("inner") }).is_err());
        assert_eq!(outer, Ok(true));
        assert_eq!(CATCHERS.get(), 0);
    }
}
