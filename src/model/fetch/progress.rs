//! How a fetch tells what it is doing. The library prints nothing; the command line draws bars from these calls.

/// Receives the course of a transfer. Calls come from one thread.
pub trait Progress: Sync {
    /// A step begins, of `total` bytes where that is known. A second call without `done` means the step starts over.
    fn start(&self, what: &str, total: Option<u64>);
    /// So many more bytes are there (also those already on disk when a transfer goes on).
    fn advance(&self, bytes: u64);
    /// Something a person should know, such as a change of source.
    fn note(&self, line: &str);
    /// The step is over, well or not.
    fn done(&self);
    /// Asked between pieces of a transfer: whether to end it, with [`super::FetchError::Stopped`].
    fn stopped(&self) -> bool {
        false
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn note(&self, _line: &str) {}
    fn done(&self) {}
}
