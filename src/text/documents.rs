//! Documents of plain text files, one after the other, without holding a file in memory.
//!
//! Always: a file is one document, unless lines of `<|endoftext|>` divide it, as published corpora have them; a document
//! without words is none. A document longer than the bound that the reader was given comes in parts that end with a line,
//! each but the last marked as going on. Rows of JSON lines and Parquet are in [`super::dataset`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::dataset::DataError;

/// What divides documents on a line of its own.
const DIVIDER: &str = "<|endoftext|>";
/// The largest document that is read whole, in bytes.
pub const WHOLE: usize = 2 << 30;

/// A text with the place it stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// `file:line`, or the file with the number of the document.
    pub place: String,
    /// Its words.
    pub text: String,
    /// The next text is of the same document.
    pub goes_on: bool,
}

/// True for files of plain text by their ending: `.txt` and `.md`.
pub fn is_plain(path: &Path) -> bool {
    let ending = path.extension().map(OsStr::to_ascii_lowercase);
    ending.is_some_and(|e| e == "txt" || e == "md")
}

/// The files that a path stands for: itself, or all plain texts below a folder in the order of their paths.
///
/// # Errors
/// A folder that cannot be read, or without a plain text.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![path.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            // A link is not followed: it may lead back.
            let kind = entry.file_type().map_err(failed(&entry.path()))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && is_plain(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(DataError::NoText {
            file: path.display().to_string(),
        });
    }
    Ok(found)
}

/// The documents of one file.
pub struct Documents {
    path: PathBuf,
    reader: BufReader<File>,
    longest: usize,
    /// Bytes read, for messages.
    at: u64,
    number: usize,
    /// The document so far; its first part has not been given yet if `fresh`.
    text: String,
    fresh: bool,
    ended: bool,
}

impl Documents {
    /// Those of `path`, in parts of about `longest` bytes at most ([`WHOLE`]: never in parts).
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, longest: usize) -> Result<Self, DataError> {
        let file = File::open(path).map_err(failed(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            reader: BufReader::with_capacity(1 << 16, file),
            longest,
            at: 0,
            number: 1,
            text: String::new(),
            fresh: true,
            ended: false,
        })
    }

    fn line(&mut self) -> Result<Option<String>, DataError> {
        // In parts no line may be endless either; a whole document may be one line.
        let most = self.longest.saturating_mul(16).min(WHOLE) as u64;
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(most + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(failed(&self.path))?;
        if read as u64 > most {
            return Err(DataError::TooLarge {
                file: self.path.display().to_string(),
                what: "bytes of a line",
                limit: most,
                found: read as u64,
            });
        }
        let start = self.at;
        self.at += read as u64;
        let text = String::from_utf8(bytes).map_err(|e| DataError::NotText {
            file: self.path.display().to_string(),
            byte: start + e.utf8_error().valid_up_to() as u64,
        })?;
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) if start == 0 => rest.to_owned(),
            _ => text,
        };
        Ok((read > 0).then_some(text))
    }

    /// What has been gathered, as a document or its last part; none without words.
    fn finish(&mut self) -> Option<Document> {
        let text = std::mem::take(&mut self.text);
        let first = std::mem::replace(&mut self.fresh, true);
        let place = self.place();
        self.number += 1;
        let text = text.trim_end_matches(['\n', '\r']);
        let text = if first {
            text.trim_start_matches(['\n', '\r'])
        } else {
            text
        };
        // The end of a document in parts must come, even if nothing but line ends is left of it.
        (!first || !text.trim().is_empty()).then(|| Document {
            place,
            text: text.to_owned(),
            goes_on: false,
        })
    }

    fn place(&self) -> String {
        format!("{} document {}", self.path.display(), self.number)
    }

    fn part(&mut self) -> Document {
        let mut text = std::mem::take(&mut self.text);
        if std::mem::replace(&mut self.fresh, false) {
            text = text.trim_start_matches(['\n', '\r']).to_owned();
        }
        Document {
            place: self.place(),
            text,
            goes_on: true,
        }
    }

    fn read(&mut self) -> Result<Option<Document>, DataError> {
        while !self.ended {
            let Some(line) = self.line()? else {
                self.ended = true;
                return Ok(self.finish());
            };
            if line.trim() == DIVIDER {
                if let Some(document) = self.finish() {
                    return Ok(Some(document));
                }
                continue;
            }
            if self.text.len().saturating_add(line.len()) > WHOLE {
                return Err(DataError::TooLarge {
                    file: self.path.display().to_string(),
                    what: "bytes of a document",
                    limit: WHOLE as u64,
                    found: (self.text.len() + line.len()) as u64,
                });
            }
            self.text.push_str(&line);
            let worded = || !self.text.trim().is_empty();
            if self.longest < WHOLE && self.text.len() >= self.longest && worded() {
                return Ok(Some(self.part()));
            }
        }
        Ok(None)
    }
}

impl Iterator for Documents {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        self.ended |= matches!(next, Some(Err(_)));
        next
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> DataError {
    let file = path.display().to_string();
    move |source| DataError::Read {
        file: file.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(bytes: &[u8], longest: usize) -> Result<Vec<Document>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, bytes).unwrap();
        Documents::open(&path, longest)?.collect()
    }

    #[test]
    fn parts_joined_are_the_document_that_is_read_whole() {
        let text =
            "\nfirst line\n\nsecond line\nthird\n\n<|endoftext|>\n \n<|endoftext|>\nlast\r\n";
        let whole = of(text.as_bytes(), WHOLE).unwrap();
        let texts: Vec<_> = whole.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts, ["first line\n\nsecond line\nthird", "last"]);
        for longest in 1..40 {
            let mut joined = vec![String::new()];
            for part in of(text.as_bytes(), longest).unwrap() {
                joined.last_mut().unwrap().push_str(&part.text);
                if !part.goes_on {
                    joined.push(String::new());
                }
            }
            joined.pop();
            let joined: Vec<_> = joined.iter().map(|t| t.trim_end()).collect();
            assert_eq!(joined, texts, "{longest}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_and_folders_are_read_in_order() {
        let error = of(b"ab\ncd\xff", WHOLE).unwrap_err().to_string();
        assert!(error.contains("byte 5"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        assert!(files(dir.path()).unwrap_err().to_string().contains(".txt"));
        std::fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["c.md", "b/z.txt", "a.TXT", "d.json"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let names: Vec<_> = files(dir.path()).unwrap();
        let expected = ["a.TXT", "b/z.txt", "c.md"].map(|n| dir.path().join(n));
        assert_eq!(names, expected);
    }
}
