//! A folder that one process works in at a time: a file in it that is held locked.
//!
//! Always: the lock is the system's, so it ends with the process, however that ends; what is left of the file means nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How often and how long a lock is waited for; commands that only look hold it for an instant.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Locks the file at `path`, which is made where it is not there. The lock is held as long as the file is; `None` where
/// another process holds it.
///
/// # Errors
/// The system's.
pub fn hold(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}
