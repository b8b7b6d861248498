//! What the columns of a row mean: TRL's names, several kinds of rows, strings or lists of messages.
//!
//! | kind | columns |
//! |---|---|
//! | text | `text` |
//! | messages | `messages` |
//! | prompt | `prompt` |
//! | prompt-completion | `prompt`, `completion` |
//! | preference | `chosen`, `rejected`, and `prompt` (else it is what both begin with) |
//! | unpaired | `prompt`, `completion`, `label` (a bool) |
//!
//! Beside them `margin` (preference), `tools` and `chat_template_kwargs`. A file has one kind, that of its first row; other
//! columns are left unread and named in [`Dataset::unread`]. The types are in [`super::rows`], what the rows become in
//! [`super::encode`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::error::DataError;
use super::rows::{Body, Dataset, Kind, Row, Turn, Words};
use super::table::{Record, Table};
use super::value::shown;

/// All names a column can have here.
const NAMES: [&str; 10] = [
    "text",
    "messages",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "label",
    "margin",
    "tools",
    "chat_template_kwargs",
];

/// Which of the file's columns stand for ours, where the names differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(BTreeMap<&'static str, String>);

impl Columns {
    /// Pairs of our name and theirs.
    ///
    /// # Errors
    /// [`DataError::Columns`] for a name that is none of ours, is given twice, or has nothing for it.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, DataError> {
        let mut map = BTreeMap::new();
        for (ours, theirs) in pairs {
            let Some(name) = NAMES.iter().find(|name| **name == ours) else {
                return Err(unmeant(format!("`{ours}` is no column of training data")));
            };
            if theirs.is_empty() || map.insert(*name, theirs).is_some() {
                return Err(unmeant(format!("`{ours}` is given twice, or as nothing")));
            }
        }
        Ok(Self(map))
    }

    fn theirs<'a>(&'a self, ours: &'a str) -> &'a str {
        self.0.get(ours).map_or(ours, String::as_str)
    }
}

impl std::str::FromStr for Columns {
    type Err = DataError;

    /// `prompt=question,completion=answer`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let pair = |part: &str| {
            let (ours, theirs) = part
                .split_once('=')
                .ok_or_else(|| unmeant(format!("`{part}` has no `=`")))?;
            Ok((ours.trim().to_owned(), theirs.trim().to_owned()))
        };
        Self::new(parts.map(pair).collect::<Result<Vec<_>, DataError>>()?)
    }
}

fn unmeant(found: String) -> DataError {
    DataError::Columns {
        found,
        expected: NAMES.join(", "),
    }
}

/// The rows of a table; `kind` if it is not to be seen from the first row's columns.
///
/// # Errors
/// [`DataError::UnknownColumns`], [`DataError::MissingColumn`], [`DataError::Field`].
pub fn rows(table: &Table, columns: &Columns, kind: Option<Kind>) -> Result<Dataset, DataError> {
    let Some(first) = table.rows.first() else {
        return Err(DataError::Empty {
            file: table.file.to_string(),
        });
    };
    let has = |kind: &Kind| {
        kind.needs()
            .iter()
            .all(|c| first.get(columns.theirs(c)).is_some())
    };
    let found = kind.or_else(|| Kind::ALL.into_iter().find(has));
    let kind = found.ok_or_else(|| DataError::UnknownColumns {
        place: first.place.clone(),
        expected: Kind::ALL.map(|kind| kind.needs().join("+")).join(", or "),
        found: names(first),
    })?;
    let ours = || kind.needs().iter().chain(kind.may_have());
    if let Some(unread) = columns.0.keys().find(|c| !ours().any(|o| o == *c)) {
        return Err(unmeant(format!("{} rows have no `{unread}`", kind.name())));
    }
    let read: BTreeSet<&str> = ours().map(|c| columns.theirs(c)).collect();
    let all: BTreeSet<&str> = table.rows.iter().flat_map(Record::columns).collect();
    let reader = Reader { columns, kind };
    let rows: Result<Vec<Row>, DataError> = table.rows.iter().map(|r| reader.row(r)).collect();
    Ok(Dataset {
        file: Arc::clone(&table.file),
        sha256: table.sha256.clone(),
        kind,
        rows: rows?,
        unread: all.difference(&read).map(|&c| c.to_owned()).collect(),
    })
}

fn names(record: &Record) -> String {
    let names: Vec<&str> = record.columns().collect();
    if names.is_empty() {
        "no columns".into()
    } else {
        names.join(", ")
    }
}

struct Reader<'a> {
    columns: &'a Columns,
    kind: Kind,
}

impl Reader<'_> {
    fn row(&self, record: &Record) -> Result<Row, DataError> {
        let body = match self.kind {
            Kind::Text => Body::Text(self.string(record, "text")?),
            Kind::Messages => {
                let value = self.need(record, "messages")?;
                let wanted = "a list of messages, each with a role and a content";
                let turns =
                    turns(value).ok_or_else(|| self.field(record, "messages", wanted, value))?;
                Body::Messages(turns)
            }
            Kind::Prompt => Body::Prompt(self.prompt(record)?),
            Kind::PromptCompletion => {
                let (prompt, completion) =
                    (self.prompt(record)?, self.answer(record, "completion")?);
                self.alike(record, "completion", &prompt, &completion)?;
                Body::PromptCompletion(prompt, completion)
            }
            Kind::Preference => self.preference(record)?,
            Kind::Unpaired => {
                let (prompt, completion) =
                    (self.prompt(record)?, self.answer(record, "completion")?);
                self.alike(record, "completion", &prompt, &completion)?;
                let label = self.need(record, "label")?;
                if label.kind() != ValueKind::Bool {
                    let wanted = "true or false (desirable or not; a file with 0 and 1 has to be rewritten, so that no score is taken for a label)";
                    return Err(self.field(record, "label", wanted, label));
                }
                Body::Unpaired(prompt, completion, label.is_true())
            }
        };
        Ok(Row {
            place: record.place.clone(),
            body,
            tools: self.tools(record)?,
            kwargs: self.kwargs(record)?,
        })
    }

    fn preference(&self, record: &Record) -> Result<Body, DataError> {
        let (chosen, rejected) = (
            self.words(record, "chosen")?,
            self.words(record, "rejected")?,
        );
        self.alike(record, "rejected", &chosen, &rejected)?;
        let margin = self.margin(record)?;
        if record.get(self.columns.theirs("prompt")).is_some() {
            let prompt = self.prompt(record)?;
            match (&prompt, &chosen) {
                (Words::Chat(before), Words::Chat(_)) => {
                    let chosen = self.after(record, "chosen", before, chosen)?;
                    let rejected = self.after(record, "rejected", before, rejected)?;
                    return Ok(Body::Preference(prompt, chosen, rejected, margin));
                }
                // A plain prompt beside whole conversations repeats their first turn: they say the prompt better.
                (Words::Plain(_), Words::Chat(_)) => {}
                _ => {
                    self.alike(record, "chosen", &prompt, &chosen)?;
                    return Ok(Body::Preference(prompt, chosen, rejected, margin));
                }
            }
        }
        let (prompt, chosen, rejected) = implied(chosen, rejected);
        Ok(Body::Preference(prompt, chosen, rejected, margin))
    }

    /// An answer to a conversation, which may repeat it.
    fn after(
        &self,
        record: &Record,
        column: &str,
        prompt: &[Turn],
        words: Words,
    ) -> Result<Words, DataError> {
        let Words::Chat(mut turns) = words else {
            return Ok(words);
        };
        if turns.len() > prompt.len() && turns.starts_with(prompt) {
            turns.drain(..prompt.len());
        }
        if turns[0].role == "assistant" {
            return Ok(Words::Chat(turns));
        }
        let wanted = "messages that begin with the assistant's, or with those of the prompt";
        Err(self.field(record, column, wanted, self.need(record, column)?))
    }

    fn need<'r>(&self, record: &'r Record, column: &str) -> Result<&'r Value, DataError> {
        record
            .get(self.columns.theirs(column))
            .ok_or_else(|| DataError::MissingColumn {
                place: record.place.clone(),
                column: self.columns.theirs(column).to_owned(),
                expected: self
                    .kind
                    .needs()
                    .iter()
                    .map(|c| self.columns.theirs(c))
                    .collect::<Vec<_>>()
                    .join(", "),
                kind: self.kind.name(),
                found: names(record),
            })
    }

    fn field(
        &self,
        record: &Record,
        column: &str,
        expected: &'static str,
        found: &Value,
    ) -> DataError {
        DataError::Field {
            place: record.place.clone(),
            column: self.columns.theirs(column).to_owned(),
            expected,
            found: shown(found),
        }
    }

    fn string(&self, record: &Record, column: &str) -> Result<String, DataError> {
        let value = self.need(record, column)?;
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| self.field(record, column, "a string", value))
    }

    fn words(&self, record: &Record, column: &str) -> Result<Words, DataError> {
        let value = self.need(record, column)?;
        if let Some(text) = value.as_str() {
            return Ok(Words::Plain(text.to_owned()));
        }
        let wanted = "a string, or a list of messages, each with a role and a content";
        let turns = turns(value).ok_or_else(|| self.field(record, column, wanted, value))?;
        Ok(Words::Chat(turns))
    }

    /// A prompt: a conversation must wait for the assistant.
    fn prompt(&self, record: &Record) -> Result<Words, DataError> {
        let words = self.words(record, "prompt")?;
        match &words {
            Words::Chat(turns) if turns.last().is_some_and(|turn| turn.role == "assistant") => {
                let wanted = "messages that do not end with the assistant's (answers that are begun in the prompt are not read)";
                Err(self.field(record, "prompt", wanted, self.need(record, "prompt")?))
            }
            _ => Ok(words),
        }
    }

    /// An answer: a conversation must go on with the assistant's turn.
    fn answer(&self, record: &Record, column: &str) -> Result<Words, DataError> {
        let words = self.words(record, column)?;
        match &words {
            Words::Chat(turns) if turns[0].role != "assistant" => {
                let found = self.need(record, column)?;
                Err(self.field(
                    record,
                    column,
                    "messages that begin with the assistant's",
                    found,
                ))
            }
            _ => Ok(words),
        }
    }

    /// Both strings, or both conversations.
    fn alike(
        &self,
        record: &Record,
        column: &str,
        one: &Words,
        other: &Words,
    ) -> Result<(), DataError> {
        let wanted = match (one, other) {
            (Words::Plain(_), Words::Chat(_)) => "a string, like the column before it",
            (Words::Chat(_), Words::Plain(_)) => "a list of messages, like the column before it",
            _ => return Ok(()),
        };
        let found = self.need(record, column)?;
        Err(self.field(record, column, wanted, found))
    }

    fn margin(&self, record: &Record) -> Result<Option<f32>, DataError> {
        let Some(value) = record.get(self.columns.theirs("margin")) else {
            return Ok(None);
        };
        let number = f64::try_from(value.clone()).ok();
        let finite = number.filter(|n| n.is_finite() && value.kind() == ValueKind::Number);
        let margin =
            finite.ok_or_else(|| self.field(record, "margin", "a finite number", value))?;
        Ok(Some(margin as f32))
    }

    /// A list of tools, or the same as JSON in a string, since Parquet cannot hold lists of unlike structures.
    fn tools(&self, record: &Record) -> Result<Option<Value>, DataError> {
        let Some(value) = record.get(self.columns.theirs("tools")) else {
            return Ok(None);
        };
        let parsed = match value.as_str() {
            Some(text) => serde_json::from_str(text).unwrap_or(Value::UNDEFINED),
            None => value.clone(),
        };
        if parsed.kind() == ValueKind::Seq {
            return Ok(Some(parsed));
        }
        Err(self.field(
            record,
            "tools",
            "a list of tools, or one as JSON in a string",
            value,
        ))
    }

    fn kwargs(&self, record: &Record) -> Result<Vec<(String, Value)>, DataError> {
        let Some(value) = record.get(self.columns.theirs("chat_template_kwargs")) else {
            return Ok(Vec::new());
        };
        if value.kind() != ValueKind::Map {
            let wanted = "an object of variables for the template";
            return Err(self.field(record, "chat_template_kwargs", wanted, value));
        }
        let keys = value.try_iter().into_iter().flatten();
        let pair = |key: Value| Some((key.as_str()?.to_owned(), value.get_item(&key).ok()?));
        Ok(keys.filter_map(pair).collect())
    }
}

/// The turns of a conversation: at least one, each an object with a role; a content that is no text must be a list of
/// parts, or absent beside tool calls.
fn turns(value: &Value) -> Option<Vec<Turn>> {
    if value.kind() != ValueKind::Seq {
        return None;
    }
    let turn = |value: Value| {
        if value.kind() != ValueKind::Map {
            return None;
        }
        let role = value.get_attr("role").ok()?.as_str()?.to_owned();
        let content = value.get_attr("content").ok()?;
        let calls = value
            .get_attr("tool_calls")
            .is_ok_and(|calls| !calls.is_undefined());
        let spoken = match content.kind() {
            ValueKind::String | ValueKind::Seq => true,
            ValueKind::Undefined => calls,
            _ => false,
        };
        spoken.then_some(Turn { role, value })
    };
    let turns: Vec<Turn> = value.try_iter().ok()?.map(turn).collect::<Option<_>>()?;
    (!turns.is_empty()).then_some(turns)
}

/// The prompt that two answers begin with, and what is left of them: their longest common prefix. Of strings a space before
/// the difference belongs to the answers, as TRL has it, since tokens begin with their space.
fn implied(chosen: Words, rejected: Words) -> (Words, Words, Words) {
    match (chosen, rejected) {
        (Words::Plain(chosen), Words::Plain(rejected)) => {
            let same = chosen.char_indices().zip(rejected.chars());
            let same = same.take_while(|((_, a), b)| a == b).last();
            let mut end = same.map_or(0, |((at, c), _)| at + c.len_utf8());
            if chosen[..end].ends_with(' ') {
                end -= 1;
            }
            (
                Words::Plain(chosen[..end].into()),
                Words::Plain(chosen[end..].into()),
                Words::Plain(rejected[end..].into()),
            )
        }
        (Words::Chat(mut chosen), Words::Chat(mut rejected)) => {
            let same = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b);
            let end = same.count();
            rejected.drain(..end);
            let answer = chosen.split_off(end);
            (
                Words::Chat(chosen),
                Words::Chat(answer),
                Words::Chat(rejected),
            )
        }
        (chosen, rejected) => (Words::Plain(String::new()), chosen, rejected),
    }
}
