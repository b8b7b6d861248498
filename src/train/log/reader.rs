//! Reads a log that may still grow, or that somebody else has written.
//!
//! Always: memory is bounded by [`POLL_BYTES`] and [`LINE_BYTES`], whatever the file holds; a line that is no row is
//! counted and skipped; what stands after the last line feed is not read until its line is whole.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Row;
use crate::train::TrainError;

/// Most bytes read by one [`Follower::poll`].
pub const POLL_BYTES: usize = 4 << 20;
/// A longer line is foreign.
pub const LINE_BYTES: usize = 1 << 20;

/// Reads rows as they come.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// Bytes read so far.
    offset: u64,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// Inside a line that is too long; up to its end everything is skipped.
    skipping: bool,
    foreign: usize,
    restarts: usize,
}

impl Follower {
    /// From the beginning. The file need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            offset: 0,
            begun: Vec::new(),
            skipping: false,
            foreign: 0,
            restarts: 0,
        }
    }

    /// Lines so far that are no rows.
    pub fn foreign(&self) -> usize {
        self.foreign
    }

    /// How often the file was replaced by a shorter one; its rows were then given from its beginning again.
    pub fn restarts(&self) -> usize {
        self.restarts
    }

    /// True while a line stands at the end that is not whole: it is being written, or a kill tore it.
    pub fn torn(&self) -> bool {
        self.skipping || !self.begun.is_empty()
    }

    /// Rows that have come since the last call, from at most [`POLL_BYTES`] of the file. None does not mean the end of the
    /// file where a call read foreign lines alone; see [`Self::behind`].
    ///
    /// # Errors
    /// The system refuses to read a file that is there.
    pub fn poll(&mut self) -> Result<Vec<Row>, TrainError> {
        let io = |action| TrainError::io(&self.path, action);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("open")(error)),
        };
        let length = file.metadata().map_err(io("read"))?.len();
        if length < self.offset {
            self.step_back(length);
        }
        let io = |action| TrainError::io(&self.path, action);
        file.seek(SeekFrom::Start(self.offset))
            .map_err(io("read"))?;
        let mut fresh = Vec::new();
        file.take(POLL_BYTES as u64)
            .read_to_end(&mut fresh)
            .map_err(io("read"))?;
        self.offset += fresh.len() as u64;
        Ok(self.rows(&fresh))
    }

    /// Whether the file holds more than has been read.
    pub fn behind(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|m| m.len() > self.offset)
    }

    /// The file has become shorter: a resumed run cut the torn line, or there is another file.
    fn step_back(&mut self, length: u64) {
        self.offset -= self.begun.len() as u64;
        self.begun.clear();
        if length < self.offset || self.skipping {
            self.offset = 0;
            self.skipping = false;
            self.restarts += 1;
        }
    }

    fn rows(&mut self, fresh: &[u8]) -> Vec<Row> {
        let mut rows = Vec::new();
        for piece in fresh.split_inclusive(|&byte| byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if !self.skipping {
                self.begun.extend_from_slice(piece);
            }
            if self.begun.len() > LINE_BYTES {
                self.begun.clear();
                self.skipping = true;
                self.foreign += 1;
            }
            if !ends {
                continue;
            }
            if !std::mem::take(&mut self.skipping) {
                let line = std::mem::take(&mut self.begun);
                self.take_line(&line, &mut rows);
            }
        }
        rows
    }

    fn take_line(&mut self, line: &[u8], rows: &mut Vec<Row>) {
        let text = str::from_utf8(line).map(str::trim);
        match text.map(|text| (text.is_empty(), Row::parse(text))) {
            Ok((_, Some(row))) => rows.push(row),
            Ok((true, None)) => {}
            Ok((false, None)) | Err(_) => self.foreign += 1,
        }
    }
}

/// A log as it lies.
#[derive(Debug, Default)]
pub struct Log {
    /// Its rows.
    pub rows: Vec<Row>,
    /// Lines that are no rows.
    pub foreign: usize,
    /// Whether its last line is not whole.
    pub torn: bool,
}

/// Reads the whole of a log; an absent one is empty.
///
/// # Errors
/// The system refuses to read it.
pub fn read(path: &Path) -> Result<Log, TrainError> {
    let mut follower = Follower::new(path);
    let mut rows = Vec::new();
    loop {
        rows.extend(follower.poll()?);
        if !follower.behind() {
            return Ok(Log {
                rows,
                foreign: follower.foreign(),
                torn: follower.torn(),
            });
        }
    }
}
