//! Labelled text: JSON lines with a text, a prompt or messages, and a label; or built-in suites against each other.
//!
//! Always: every row has an id of its own, a label of the one kind (truth values, numbers or words) that its file uses, and
//! something to read; an unknown field is refused, so that a misspelt `splt` cannot put test rows into training.
//! Next: [`super::split`] for who trains and who tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::ProbingError;
use crate::files::hash::sha256;
use crate::text::Message;
use crate::text::suites::{Split, Suite};

/// The longest line read, in bytes, and the most rows.
const MAX_LINE: u64 = 1 << 20;
const MAX_ROWS: usize = 200_000;
/// The most classes, and the most letters of a label.
const MAX_CLASSES: usize = 64;
const MAX_LABEL: usize = 100;

/// What a model reads of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// As it is.
    Text(String),
    /// A user's turn, under a system turn if there is one.
    Prompt(String, Option<String>),
    /// A conversation; ends where the answer begins, or after the last answer.
    Messages(Vec<Message>),
}

impl Content {
    /// Its words, for baselines and for finding repeats.
    pub fn words(&self) -> String {
        match self {
            Self::Text(text) | Self::Prompt(text, None) => text.clone(),
            Self::Prompt(text, Some(system)) => format!("{system}\n{text}"),
            Self::Messages(messages) => {
                let contents: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
                contents.join("\n")
            }
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Unique within its data: the file's, or `line N`.
    pub id: String,
    /// What the model reads.
    pub content: Content,
    /// Its class, as an index into [`Labelled::classes`]; `None` in data that is only scored.
    pub label: Option<usize>,
    /// Rows of one group never straddle splits or folds.
    pub group: Option<String>,
    /// Subject: the types of the control task.
    pub topic: Option<String>,
    /// Where the file puts it.
    pub split: Option<Split>,
}

/// Rows with labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The file, or the suites.
    pub name: String,
    /// The rows, in order.
    pub rows: Vec<Example>,
    /// The classes by name, sorted.
    pub classes: Vec<String>,
    /// SHA-256 of content, labels and splits.
    pub hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<Value>,
    text: Option<String>,
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<Message>>,
    label: Option<Value>,
    group: Option<Value>,
    topic: Option<String>,
    split: Option<Split>,
    /// Provenance that suites carry; read and not used.
    #[serde(rename = "source")]
    _source: Option<String>,
    #[serde(rename = "licence")]
    _licence: Option<String>,
}

impl Labelled {
    /// A file of JSON lines in which every row has a label.
    ///
    /// # Errors
    /// File and line of the first thing that is wrong; fewer than two classes.
    pub fn from_jsonl(path: &Path) -> Result<Self, ProbingError> {
        let data = Self::rows_of(path, true)?;
        data.at_least_two()?;
        Ok(data)
    }

    /// A file of JSON lines that is only scored: labels may be there or not.
    ///
    /// # Errors
    /// File and line of the first thing that is wrong.
    pub fn unlabelled(path: &Path) -> Result<Self, ProbingError> {
        Self::rows_of(path, false)
    }

    /// Built-in suites as classes, each row with the split and topic that the suite gives it.
    ///
    /// # Errors
    /// An unknown suite, fewer than two of them.
    pub fn suites(names: &[&str]) -> Result<Self, ProbingError> {
        let mut rows = Vec::new();
        for name in names {
            let suite = Suite::builtin(name).map_err(|e| ProbingError::Classes {
                data: names.join(","),
                what: e.to_string(),
                classes: Suite::names().join(", "),
            })?;
            rows.extend(suite.rows.into_iter().map(|row| {
                let example = Example {
                    id: row.id,
                    content: Content::Prompt(row.prompt, row.system),
                    label: None,
                    group: None,
                    topic: row.topic,
                    split: Some(row.split),
                };
                (example, Some((*name).to_owned()))
            }));
        }
        let data = Self::of(&names.join(","), rows);
        data.at_least_two()?;
        Ok(data)
    }

    fn of(name: &str, rows: Vec<(Example, Option<String>)>) -> Self {
        let classes: BTreeSet<&String> = rows.iter().filter_map(|(_, l)| l.as_ref()).collect();
        let classes: Vec<String> = classes.into_iter().cloned().collect();
        let class = |label: &Option<String>| {
            let label = label.as_ref()?;
            classes.iter().position(|c| c == label)
        };
        let lines: Vec<String> = rows
            .iter()
            .map(|(row, label)| {
                let split = row.split.map(Split::name);
                let fields = serde_json::json!([row.content.words(), label, row.group, split]);
                fields.to_string()
            })
            .collect();
        let rows = rows
            .iter()
            .map(|(row, label)| Example {
                label: class(label),
                ..row.clone()
            })
            .collect();
        Self {
            name: name.to_owned(),
            rows,
            classes,
            hash: sha256(lines.join("\n").as_bytes()),
        }
    }

    fn rows_of(path: &Path, labelled: bool) -> Result<Self, ProbingError> {
        let file = path.display().to_string();
        let io = |source| ProbingError::Io {
            file: file.clone(),
            source,
        };
        let open = std::fs::File::open(path).map_err(io)?;
        let mut reader = std::io::BufReader::new(open);
        let mut rows: Vec<(Example, Option<String>)> = Vec::new();
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        let mut kinds: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut classes: BTreeSet<String> = BTreeSet::new();
        let mut buffer = Vec::new();
        for line in 1.. {
            let wrong = |reason: String| ProbingError::Line {
                file: file.clone(),
                line,
                reason,
            };
            buffer.clear();
            let mut limited = reader.by_ref().take(MAX_LINE + 1);
            if limited.read_until(b'\n', &mut buffer).map_err(io)? == 0 {
                break;
            }
            if buffer.len() as u64 > MAX_LINE {
                return Err(wrong(format!("longer than {MAX_LINE} bytes")));
            }
            let text =
                std::str::from_utf8(&buffer).map_err(|e| wrong(format!("not UTF-8: {e}")))?;
            let text = text.trim_start_matches('\u{feff}').trim();
            if text.is_empty() {
                continue;
            }
            let parsed: Line = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
            let label = match parsed
                .label
                .as_ref()
                .map(label)
                .transpose()
                .map_err(wrong)?
            {
                None if labelled => {
                    return Err(wrong(
                        "no `label`; expected true or false, a number or a word".into(),
                    ));
                }
                None => None,
                Some((kind, label)) => {
                    kinds.entry(kind).or_insert(line);
                    if let [(a, _), (b, _)] = kinds.iter().collect::<Vec<_>>().as_slice() {
                        return Err(wrong(format!("labels of two kinds, {a} and {b}; use one")));
                    }
                    classes.insert(label.clone());
                    Some(label)
                }
            };
            if classes.len() > MAX_CLASSES {
                return Err(wrong(format!("more than {MAX_CLASSES} different labels")));
            }
            let example = parsed.example(line).map_err(wrong)?;
            if let Some(first) = ids.insert(example.id.clone(), line) {
                return Err(wrong(format!(
                    "id `{}` was given on line {first}",
                    example.id
                )));
            }
            rows.push((example, label));
            if rows.len() > MAX_ROWS {
                return Err(ProbingError::TooLarge {
                    file,
                    limit: MAX_ROWS,
                    what: "rows",
                });
            }
        }
        if rows.is_empty() {
            return Err(ProbingError::Line {
                file,
                line: 1,
                reason: "no rows; expected one JSON object a line, such as {\"text\": \"…\", \"label\": true}".into(),
            });
        }
        Ok(Self::of(&file, rows))
    }

    fn at_least_two(&self) -> Result<(), ProbingError> {
        if self.classes.len() >= 2 {
            return Ok(());
        }
        Err(ProbingError::Classes {
            data: self.name.clone(),
            what: "one class only, two are needed".into(),
            classes: self.counts(),
        })
    }

    /// The classes with their numbers of rows, in words.
    pub fn counts(&self) -> String {
        let count = |class: usize| self.rows.iter().filter(|r| r.label == Some(class)).count();
        let said: Vec<String> = (0..self.classes.len())
            .map(|class| format!("{} ({})", self.classes[class], count(class)))
            .collect();
        said.join(", ")
    }

    /// The positive class: the one that is named, else `true`, `1` or `harmful`, else of two the last by name. More than
    /// two classes need a name; the named one then stands against the rest.
    ///
    /// # Errors
    /// A name that no row has, no name where one is needed.
    pub fn positive(&self, named: Option<&str>) -> Result<usize, ProbingError> {
        let find = |name: &str| self.classes.iter().position(|c| c == name);
        let wrong = |what: String| ProbingError::Classes {
            data: self.name.clone(),
            what,
            classes: self.counts(),
        };
        if let Some(name) = named {
            return find(name).ok_or_else(|| wrong(format!("no row has the label `{name}`")));
        }
        let usual = ["true", "1", "harmful"].into_iter().find_map(find);
        match (usual, self.classes.len()) {
            (Some(class), 2) => Ok(class),
            (None, 2) => Ok(1),
            (_, n) => Err(wrong(format!(
                "{n} classes; name the one that stands against the rest with --positive, or tell all apart: `probe fit --kind softmax`"
            ))),
        }
    }

    /// Whether each row is of this class.
    pub fn labels(&self, positive: usize) -> Vec<bool> {
        self.rows
            .iter()
            .map(|r| r.label == Some(positive))
            .collect()
    }
}

/// A label's kind and its name.
fn label(value: &Value) -> Result<(&'static str, String), String> {
    let (kind, name) = match value {
        Value::Bool(b) => ("truth values", b.to_string()),
        Value::Number(n) => ("numbers", n.to_string()),
        Value::String(s) if !s.trim().is_empty() => ("words", s.clone()),
        other => {
            return Err(format!(
                "`label`: expected true or false, a number or a word, found {other}"
            ));
        }
    };
    if name.chars().count() > MAX_LABEL {
        return Err(format!("`label`: longer than {MAX_LABEL} letters"));
    }
    Ok((kind, name))
}

impl Line {
    fn example(self, line: usize) -> Result<Example, String> {
        let content = match (self.text, self.prompt, self.messages) {
            (Some(text), None, None) if self.system.is_none() => Content::Text(text),
            (None, Some(prompt), None) => Content::Prompt(prompt, self.system),
            (None, None, Some(messages)) if self.system.is_none() => Content::Messages(messages),
            _ => {
                return Err(
                    "expected exactly one of `text`, `prompt` (with `system` if you like) and `messages`".into(),
                );
            }
        };
        if content.words().trim().is_empty() {
            return Err("nothing to read: the text is blank".into());
        }
        let word = |value: Value| match value {
            Value::String(s) => s,
            other => other.to_string(),
        };
        Ok(Example {
            id: self.id.map_or_else(|| format!("line {line}"), word),
            content,
            label: None,
            group: self.group.map(word),
            topic: self.topic,
            split: self.split,
        })
    }
}
