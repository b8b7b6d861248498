//! Documents from files: the `text` column of rows, or plain text.
//!
//! Always: a plain file is one document, unless lines of `<|endoftext|>` divide it, as published corpora have them; a document
//! without words is none.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::text::dataset::{Body, Columns, DataError, Kind, columns, table};
use crate::train::TrainError;

/// The largest plain file that is read, in bytes.
const MAX_FILE: u64 = 2 << 30;
/// What divides documents on a line of its own.
const DIVIDER: &str = "<|endoftext|>";

/// A text with the place it stands at.
pub struct Document {
    /// `file:line`, or the file with the number of the document.
    pub place: String,
    /// Its words.
    pub text: String,
}

/// All documents of some files, in their order.
///
/// # Errors
/// A file that cannot be read, is no text, or has rows of another kind; no document at all.
pub fn read(files: &[PathBuf], names: &str) -> Result<Vec<Document>, TrainError> {
    let names: Columns = names.parse()?;
    let mut all = Vec::new();
    for file in files {
        let plain = file
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("txt"));
        if plain {
            plain_text(file, &mut all)?;
            continue;
        }
        let table = table::read(file)?;
        for row in columns::rows(&table, &names, Some(Kind::Text))?.rows {
            if let Body::Text(text) = row.body {
                let place = row.place.to_string();
                all.push(Document { place, text });
            }
        }
    }
    all.retain(|document| !document.text.trim().is_empty());
    if all.is_empty() {
        let listed: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        return Err(TrainError::Empty {
            what: listed.join(", "),
            found: "no text".to_owned(),
            hint: "files need a `text` column, or words if they end in .txt".to_owned(),
        });
    }
    Ok(all)
}

fn plain_text(path: &Path, all: &mut Vec<Document>) -> Result<(), TrainError> {
    let file = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(TrainError::io(path, "read"))?;
    if bytes.len() as u64 > MAX_FILE {
        let found = bytes.len() as u64;
        return Err(DataError::TooLarge {
            file,
            what: "bytes",
            limit: MAX_FILE,
            found,
        }
        .into());
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let found = format!("byte {} that is none", e.utf8_error().valid_up_to());
        TrainError::mismatch(path, "text", "UTF-8", found)
    })?;
    all.extend(divided(&text).enumerate().map(|(n, text)| Document {
        place: format!("{file} document {}", n + 1),
        text: text.to_owned(),
    }));
    Ok(())
}

/// The parts between dividing lines, without the line breaks beside them.
fn divided(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut cuts = Vec::new();
    let (mut at, mut start) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim() == DIVIDER {
            cuts.push(start..at);
            start = at + line.len();
        }
        at += line.len();
    }
    cuts.push(start..text.len());
    cuts.into_iter()
        .map(move |cut| text[cut].trim_matches(['\n', '\r']))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_files_are_divided_and_rows_have_texts() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, rows) = (dir.path().join("a.TXT"), dir.path().join("b.jsonl"));
        std::fs::write(
            &plain,
            "\u{feff}one\n two <|endoftext|> in a line\n<|endoftext|>\r\n\n<|endoftext|>\nthree\n",
        )
        .unwrap();
        std::fs::write(&rows, "{\"body\": \"four\"}\n{\"body\": \" \"}\n").unwrap();
        let found = read(&[plain.clone(), rows], "text=body").unwrap();
        let texts: Vec<&str> = found.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(
            texts,
            ["one\n two <|endoftext|> in a line", "three", "four"]
        );
        assert!(found[1].place.ends_with("document 3"));
        assert!(found[2].place.ends_with("b.jsonl:1"));
        std::fs::write(&plain, " \n").unwrap();
        let error = read(std::slice::from_ref(&plain), "").err().unwrap();
        assert!(error.to_string().contains("`text` column"), "{error}");
        std::fs::write(&plain, b"ab\xff").unwrap();
        let error = read(&[plain], "").err().unwrap().to_string();
        assert!(error.contains("byte 2"), "{error}");
    }
}
