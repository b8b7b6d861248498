//! Preference pairs that an audit is given: prompts with a better and a worse answer, in the format of training data.
//!
//! Always: which pairs are asked depends on the file, the size and the seed alone; a pair carries no text of its answers into
//! a report, and only the beginning of its prompt. How probable answers are: [`super::evidence::preferences`].

use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::result::harmful_excerpt;
use crate::model::Checkpoint;
use crate::text::dataset::table::At;
use crate::text::dataset::{
    Body, Columns, DataError, EncodeOptions, Encoder, Kind, Pair, Row, Turn, Unusable, Words,
    columns, table,
};

/// Files of preferences, read.
#[derive(Clone, Debug, Default)]
pub struct Preferences {
    /// Names of the files without their folders.
    pub name: String,
    /// SHA-256 over those of the files, in hex.
    pub hash: String,
    /// Each with the file it is from, counted from 1.
    rows: Vec<(usize, Row)>,
    files: usize,
    chat: bool,
}

/// A pair as a checkpoint reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// Its line, and of several files which: names of files are left out, since they are others elsewhere.
    pub id: String,
    /// The beginning of the prompt.
    pub excerpt: String,
    /// Prompt and answers as tokens; none of them is empty.
    pub pair: Pair,
}

impl Preferences {
    /// Reads files of preferences. With `chat`, plain strings become a user's and an assistant's turn, as in training.
    ///
    /// # Errors
    /// A file that cannot be read, or whose rows are no preferences, by its name.
    pub fn read<P: AsRef<Path>>(
        files: &[P],
        names: &Columns,
        chat: bool,
    ) -> Result<Self, DataError> {
        let mut all = Self {
            chat,
            ..Self::default()
        };
        let (mut called, mut hashes) = (Vec::new(), Vec::new());
        for file in files {
            let data = columns::rows(&table::read(file.as_ref())?, names, Some(Kind::Preference))?;
            called.push(base(&data.file).to_owned());
            hashes.push(data.sha256);
            all.files += 1;
            let file = all.files;
            all.rows
                .extend(data.rows.into_iter().map(|row| (file, row)));
        }
        all.name = called.join(", ");
        all.hash = match &hashes[..] {
            [one] => one.clone(),
            several => crate::files::hash::sha256(several.join("\n").as_bytes()),
        };
        Ok(all)
    }

    /// Preferences that are no file: prompt, preferred answer and other answer of each.
    ///
    /// # Errors
    /// No rows.
    pub fn of(name: &str, rows: &[[String; 3]], chat: bool) -> Result<Self, DataError> {
        let line = |[prompt, chosen, rejected]: &[String; 3]| {
            json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string()
        };
        let text: Vec<String> = rows.iter().map(line).collect();
        let table = table::from_bytes(name, text.join("\n").into_bytes())?;
        let data = columns::rows(&table, &Columns::default(), Some(Kind::Preference))?;
        Ok(Self {
            name: name.to_owned(),
            hash: data.sha256,
            rows: data.rows.into_iter().map(|row| (1, row)).collect(),
            files: 1,
            chat,
        })
    }

    /// At most `n` pairs, drawn by the seed, in the order of the files; and how many of those drawn could not be used.
    ///
    /// # Errors
    /// A row that the checkpoint's words cannot write; nothing left.
    pub fn encode(
        &self,
        cp: &Checkpoint,
        n: usize,
        seed: u64,
    ) -> Result<(Vec<Preference>, usize), DataError> {
        let options = EncodeOptions {
            chat: self.chat,
            unusable: Unusable::Drop,
            ..EncodeOptions::up_to(cp.config().max_positions())
        };
        let Some((_, first)) = self.rows.first() else {
            return Err(DataError::Empty {
                file: self.name.clone(),
            });
        };
        let text = |source| DataError::Text {
            place: first.place.clone(),
            source,
        };
        let encoder = Encoder::new(&cp.tokenizer, cp.template.as_ref(), options).map_err(text)?;
        let mut drawn: Vec<usize> = (0..self.rows.len()).collect();
        drawn.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        drawn.truncate(n);
        drawn.sort_unstable();
        let (mut pairs, mut left_out) = (Vec::new(), 0);
        for &at in &drawn {
            let (file, row) = &self.rows[at];
            match encoder.pair(row) {
                Ok(pair) if whole(&pair) => pairs.push(Preference {
                    id: id(row, (self.files > 1).then_some(*file)),
                    excerpt: excerpt(row),
                    pair,
                }),
                Ok(_) => left_out += 1,
                Err(error) if error.reason().is_some() => left_out += 1,
                Err(error) => return Err(error),
            }
        }
        if pairs.is_empty() {
            return Err(DataError::NothingLeft {
                file: self.name.clone(),
                rows: drawn.len(),
                dropped: "too long for the context, or the same answer twice".to_owned(),
            });
        }
        Ok((pairs, left_out))
    }
}

fn whole(pair: &Pair) -> bool {
    !(pair.prompt.is_empty() || pair.chosen.is_empty() || pair.rejected.is_empty())
}

/// A path's last part.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn id(row: &Row, file: Option<usize>) -> String {
    let place = match row.place.at {
        At::Line(line) => format!("line {line}"),
        At::Row(row) => format!("row {row}"),
    };
    file.map_or_else(|| place.clone(), |file| format!("file {file}, {place}"))
}

/// The beginning of what is asked last.
fn excerpt(row: &Row) -> String {
    let Body::Preference(prompt, ..) = &row.body else {
        return String::new();
    };
    match prompt {
        Words::Plain(text) => harmful_excerpt(text),
        Words::Chat(turns) => {
            let said = turns.iter().rev().find_map(Turn::content);
            harmful_excerpt(&said.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(rows: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        std::fs::write(&path, rows).unwrap();
        (folder, path)
    }

    fn rows(n: usize) -> String {
        let row = |i: usize| {
            let [prompt, chosen] = [format!("Q{i}? "), format!("yes {i}")];
            json!({"prompt": prompt, "chosen": chosen, "rejected": "no"}).to_string() + "\n"
        };
        (0..n).map(row).collect()
    }

    #[test]
    fn the_seed_draws_and_the_order_stays() {
        let (_folder, path) = file(&rows(40));
        let read = Preferences::read(&[&path], &Columns::default(), false).unwrap();
        assert_eq!(read.name, "pairs.jsonl");
        let cp = Checkpoint::toy(1).unwrap();
        let ids = |seed: u64| -> Vec<String> {
            let (pairs, left_out) = read.encode(&cp, 10, seed).unwrap();
            assert_eq!(left_out, 0);
            pairs.into_iter().map(|pair| pair.id).collect()
        };
        let some = ids(3);
        assert_eq!(some.len(), 10);
        assert_eq!(some, ids(3));
        assert_ne!(some, ids(4));
        let line = |id: &String| -> usize { id.rsplit(' ').next().unwrap().parse().unwrap() };
        assert!(some.windows(2).all(|two| line(&two[0]) < line(&two[1])));
        assert!(some[0].starts_with("line "));
        let twice = Preferences::read(&[&path, &path], &Columns::default(), false).unwrap();
        let all = twice.encode(&cp, 1000, 0).unwrap().0;
        assert_eq!((all.len(), all[79].id.as_str()), (80, "file 2, line 40"));
        assert_eq!(read.encode(&cp, 1000, 0).unwrap().0.len(), 40);
    }

    #[test]
    fn what_cannot_be_used_is_counted_or_refused_by_name() {
        let mut text = rows(3);
        text += "{\"prompt\": \"Q? \", \"chosen\": \"same\", \"rejected\": \"same\"}\n";
        let (_folder, path) = file(&text);
        let cp = Checkpoint::toy(1).unwrap();
        let read = Preferences::read(&[&path], &Columns::default(), false).unwrap();
        let (pairs, left_out) = read.encode(&cp, 100, 0).unwrap();
        assert_eq!((pairs.len(), left_out), (3, 1));
        let gone = Path::new("no/such/pairs.jsonl");
        let error = Preferences::read(&[gone], &Columns::default(), false).unwrap_err();
        assert!(error.to_string().contains("no/such/pairs.jsonl"), "{error}");
        let (_folder, path) = file("{\"text\": \"a text\"}\n");
        let error = Preferences::read(&[&path], &Columns::default(), false).unwrap_err();
        assert!(error.to_string().contains("chosen"), "{error}");
    }
}
