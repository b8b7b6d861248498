//! Lines of a text file, streamed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// Lines that are not blank, each with `file:line`, without their line ends.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: usize,
    failed: bool,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|source| StoreError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            reader: BufReader::new(file),
            line: 0,
            failed: false,
        })
    }

    fn read(&mut self) -> Result<Option<(String, String)>, StoreError> {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            self.line += 1;
            let at = format!("{}:{}", self.path.display(), self.line);
            let row = |what: String| StoreError::Row {
                origin: at.clone(),
                what,
            };
            let read = (&mut self.reader)
                .take(MAX_LINE + 1)
                .read_until(b'\n', &mut buffer)
                .map_err(|source| StoreError::Io {
                    path: self.path.clone(),
                    source,
                })?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 > MAX_LINE {
                return Err(row(format!("the line is longer than {MAX_LINE} bytes")));
            }
            let text = std::str::from_utf8(&buffer).map_err(|e| row(format!("not UTF-8: {e}")))?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            let text = if self.line == 1 {
                text.trim_start_matches('\u{feff}')
            } else {
                text
            };
            if !text.trim().is_empty() {
                return Ok(Some((at, text.to_string())));
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<(String, String), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
