//! Documents from files: the `text` column of rows, or plain text.
//!
//! Always: a document without words is none. How a plain file is divided is in [`crate::text::documents`].

use std::path::PathBuf;

use crate::text::dataset::{Body, Columns, Kind, columns, table};
pub use crate::text::documents::Document;
use crate::text::documents::{Documents, WHOLE, is_plain};
use crate::train::TrainError;

/// All documents of some files, in their order.
///
/// # Errors
/// A file that cannot be read, is no text, or has rows of another kind; no document at all.
pub fn read(files: &[PathBuf], names: &str) -> Result<Vec<Document>, TrainError> {
    let names: Columns = names.parse()?;
    let mut all = Vec::new();
    for file in files {
        if is_plain(file) {
            for document in Documents::open(file, WHOLE)? {
                all.push(document?);
            }
            continue;
        }
        let table = table::read(file)?;
        for row in columns::rows(&table, &names, Some(Kind::Text))?.rows {
            if let Body::Text(text) = row.body {
                let place = row.place.to_string();
                all.push(Document {
                    place,
                    text,
                    goes_on: false,
                });
            }
        }
    }
    all.retain(|document| !document.text.trim().is_empty());
    if all.is_empty() {
        let listed: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        return Err(TrainError::Empty {
            what: listed.join(", "),
            found: "no text".to_owned(),
            hint: "files need a `text` column, or words if they end in .txt or .md".to_owned(),
        });
    }
    Ok(all)
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
