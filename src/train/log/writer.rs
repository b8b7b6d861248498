//! Appends rows to the log: one write for each, so that a reader sees a row whole or not yet.
//!
//! Always: the file ends with a whole line, but for a kill in the middle of a write; [`Writer::resume`] cuts what such a
//! kill left. A write that the disk refuses is taken back as far as the system lets it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Row;
use crate::train::TrainError;

/// Reads this much at a time while it looks for the last line's end.
const STRIDE: u64 = 1 << 16;

/// The end of a log.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// A new log.
    ///
    /// # Errors
    /// There is one already, or the disk refuses.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(TrainError::io(path, "create"))?;
        Ok(Self::of(path, file))
    }

    /// On a file that is open for appending; `path` is for messages.
    pub(super) fn of(path: &Path, file: File) -> Self {
        let path = path.to_path_buf();
        Self { path, file }
    }

    /// The log of a run that goes on. A torn last line is cut; gives the bytes that were.
    ///
    /// # Errors
    /// There is no log, or the disk refuses.
    pub fn resume(path: &Path) -> Result<(Self, u64), TrainError> {
        let io = |action| TrainError::io(path, action);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(path)
            .map_err(io("open"))?;
        let length = file.metadata().map_err(io("read"))?.len();
        let whole = end_of_last_line(&mut file, length).map_err(io("read"))?;
        if whole < length {
            file.set_len(whole).map_err(io("cut the torn end of"))?;
        }
        Ok((Self::of(path, file), length - whole))
    }

    /// Appends one row.
    ///
    /// # Errors
    /// The disk refuses; the log is then as it was, where the system lets it be cut.
    pub fn append(&mut self, row: &Row) -> Result<(), TrainError> {
        let before = self.file.metadata().map(|m| m.len());
        let line = row.line() + "\n";
        self.file.write_all(line.as_bytes()).map_err(|error| {
            if let Ok(before) = before {
                // The refusal is the news; what remains of the line is cut on resume.
                let _ = self.file.set_len(before);
            }
            TrainError::io(&self.path, "append to")(error)
        })
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<(), TrainError> {
        self.file
            .sync_data()
            .map_err(TrainError::io(&self.path, "sync"))
    }
}

/// Bytes up to and with the last line feed.
fn end_of_last_line(file: &mut File, length: u64) -> std::io::Result<u64> {
    let mut end = length;
    let mut buffer = Vec::with_capacity(STRIDE as usize);
    while end > 0 {
        let start = end.saturating_sub(STRIDE);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut buffer)?;
        if let Some(at) = buffer.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
