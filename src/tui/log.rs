//! The log: what happened behind the screens, in a file in the cache folder, since the terminal belongs to the frames.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Where lines go from now on.
pub fn to(file: PathBuf) {
    // The first one stays; there is one workbench in a process.
    let _ = FILE.set(file);
}

/// Where lines go, once that is known.
pub fn file() -> Option<&'static Path> {
    FILE.get().map(PathBuf::as_path)
}

/// Appends a line. A log that cannot be written is silent: there is nowhere to complain.
pub fn line(text: &str) {
    let Some(file) = FILE.get() else {
        return;
    };
    if let Some(folder) = file.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) {
        let _ = writeln!(file, "{} {text}", jiff::Timestamp::now());
    }
}
