//! Reading TOML by hand, so that every error names the file, the whole key and the nearest key that exists.
//!
//! Always: nothing is skipped; whoever reads a table first says which keys it may have ([`Keys::only`]).

use toml::{Table, Value};

use super::PolicyError;

/// One table of the file and the path to it.
pub struct Keys<'a> {
    file: &'a str,
    path: String,
    table: Option<&'a Table>,
}

impl<'a> Keys<'a> {
    /// The whole file.
    pub fn new(file: &'a str, table: &'a Table) -> Self {
        Self {
            file,
            path: String::new(),
            table: Some(table),
        }
    }

    /// The full path of `key`, quoted where TOML would ask for it.
    pub fn path(&self, key: &str) -> String {
        let bare = !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if bare {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The keys there are.
    pub fn names(&self) -> Vec<String> {
        self.table
            .map(|table| table.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Refuses keys that are not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), PolicyError> {
        match self
            .names()
            .into_iter()
            .find(|name| !known.contains(&name.as_str()))
        {
            Some(name) => Err(self.unknown("key", &self.path(&name), &name, known)),
            None => Ok(()),
        }
    }

    /// The table under `key`; an empty one when there is none.
    pub fn table(&self, key: &str) -> Result<Keys<'a>, PolicyError> {
        match self.get(key) {
            None => Ok(Keys {
                file: self.file,
                path: self.path(key),
                table: None,
            }),
            Some(value) => self.inside(self.path(key), value),
        }
    }

    /// Every entry, each of which must be a table.
    pub fn tables(&self) -> Result<Vec<(String, Keys<'a>)>, PolicyError> {
        self.names()
            .into_iter()
            .map(|name| self.table(&name).map(|table| (name, table)))
            .collect()
    }

    /// The table under `key`, or the tables of the array there.
    pub fn one_or_many(&self, key: &str) -> Result<Vec<Keys<'a>>, PolicyError> {
        match self.get(key) {
            Some(Value::Array(rows)) => rows
                .iter()
                .enumerate()
                .map(|(i, row)| self.inside(format!("{}[{i}]", self.path(key)), row))
                .collect(),
            _ => Ok(vec![self.table(key)?]),
        }
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, PolicyError> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Float(float)) => *float,
            Some(Value::Integer(integer)) => *integer as f64,
            Some(other) => return Err(self.wrong(key, "a number", other.type_str())),
        };
        if number.is_finite() {
            Ok(Some(number))
        } else {
            Err(self.wrong(key, "a finite number", &number.to_string()))
        }
    }

    /// A number strictly between 0 and 1.
    pub fn share(&self, key: &str) -> Result<Option<f64>, PolicyError> {
        match self.number(key)? {
            Some(share) if share <= 0.0 || share >= 1.0 => {
                Err(self.wrong(key, "between 0 and 1", &share.to_string()))
            }
            other => Ok(other),
        }
    }

    /// A whole number from 0 up.
    pub fn count(&self, key: &str) -> Result<Option<u64>, PolicyError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integer(count)) if *count >= 0 => Ok(Some(*count as u64)),
            Some(other) => Err(self.wrong(key, "a whole number from 0 up", &other.to_string())),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, PolicyError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, "true or false", &other.to_string())),
        }
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<String>, PolicyError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(key, "a string", &other.to_string())),
        }
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, PolicyError> {
        let rows = self.get(key).and_then(Value::as_array);
        rows.and_then(|rows| {
            rows.iter()
                .map(|row| row.as_str().map(str::to_owned))
                .collect()
        })
        .ok_or_else(|| self.wrong(key, "a list of strings", "something else"))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, PolicyError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if let Some((_, choice)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*choice));
        }
        let words: Vec<_> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        Err(self.wrong(
            key,
            &format!("one of {}", words.join(", ")),
            &format!("\"{text}\""),
        ))
    }

    /// The error for a value of the wrong kind.
    pub fn wrong(&self, key: &str, expected: &str, found: &str) -> PolicyError {
        PolicyError::Wrong {
            file: self.file.to_owned(),
            key: self.path(key),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    /// The error for a name that does not exist.
    pub fn unknown(
        &self,
        what: &'static str,
        path: &str,
        name: &str,
        known: &[&str],
    ) -> PolicyError {
        PolicyError::Unknown {
            file: self.file.to_owned(),
            what,
            key: path.to_owned(),
            nearest: nearest(name, known).map(str::to_owned),
        }
    }

    /// What stands under `key`.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.table.and_then(|table| table.get(key))
    }

    fn inside(&self, path: String, value: &'a Value) -> Result<Keys<'a>, PolicyError> {
        match value {
            Value::Table(table) => Ok(Keys {
                file: self.file,
                path,
                table: Some(table),
            }),
            other => Err(PolicyError::Wrong {
                file: self.file.to_owned(),
                key: path,
                expected: "a table".to_owned(),
                found: other.type_str().to_owned(),
            }),
        }
    }
}

/// Parses `text`.
pub fn toml(text: &str, file: &str) -> Result<Table, PolicyError> {
    text.parse::<Table>().map_err(|error| PolicyError::Syntax {
        file: file.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// `over` laid on `base`: tables are merged, everything else is replaced.
pub fn merge(mut base: Table, over: Table) -> Table {
    for (key, new) in over {
        let merged = match (base.remove(&key), new) {
            (Some(Value::Table(old)), Value::Table(new)) => Value::Table(merge(old, new)),
            (_, new) => new,
        };
        base.insert(key, merged);
    }
    base
}

/// The end of a message that names the nearest known name.
pub fn hint(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

/// The name in `known` that `name` begins, else that with the fewest edits from it, unless it is mostly different.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let score = |candidate: &&'k str| (!candidate.starts_with(name), edits(name, candidate));
    let best = known.iter().min_by_key(|candidate| score(candidate))?;
    let longest = best.chars().count().max(name.chars().count());
    (best.starts_with(name) || edits(name, best) * 2 <= longest).then_some(*best)
}

/// Levenshtein distance, one row at a time.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_counts_insertions_deletions_and_replacements() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(
            nearest("refusal_rat", &["refusal_rate", "coherence"]),
            Some("refusal_rate")
        );
        assert_eq!(nearest("zzzzzzzz", &["refusal_rate", "coherence"]), None);
    }
}
