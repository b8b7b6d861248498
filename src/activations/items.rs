//! Texts before they are encoded, and how a row of a file becomes one.

use std::path::Path;

use serde_json::Value;

use super::{Column, StoreError};
use crate::text::{
    Message,
    dataset::{Body, Columns, Kind, Words, columns, rows::Turn, table},
};

/// A text before it is encoded.
pub(super) enum Item {
    /// As it is.
    Text(String),
    /// As it is, and the next one goes on with it.
    Part(String),
    /// A user's turn.
    Prompt {
        prompt: String,
        system: Option<String>,
    },
    /// A conversation.
    Messages(Vec<Message>),
}

/// The rows of a Parquet file or a JSON array, which is read whole.
pub(super) fn table_items(
    path: &Path,
    column: Column,
) -> Result<impl Iterator<Item = Result<(String, Item), StoreError>> + Send + use<>, StoreError> {
    let kind = match column {
        Column::Text => Kind::Text,
        Column::Prompt => Kind::Prompt,
        Column::Messages => Kind::Messages,
    };
    let data = columns::rows(&table::read(path)?, &Columns::default(), Some(kind))?;
    if column == Column::Prompt && data.unread.iter().any(|c| c == "system") {
        return Err(StoreError::Row {
            origin: path.display().to_string(),
            what: "`system` is read beside `prompt` in JSON lines alone; write the rows as such, or as `messages`".into(),
        });
    }
    Ok(data.rows.into_iter().map(move |row| {
        let place = row.place.to_string();
        let item = match row.body {
            Body::Text(text) => Item::Text(text),
            Body::Prompt(Words::Plain(prompt)) => Item::Prompt {
                prompt,
                system: None,
            },
            Body::Prompt(Words::Chat(turns)) | Body::Messages(turns) => {
                Item::Messages(messages(&turns).ok_or_else(|| StoreError::Row {
                    origin: place.clone(),
                    what: "a message whose content is no string".into(),
                })?)
            }
            _ => {
                return Err(StoreError::Row {
                    origin: place,
                    what: format!("no `{}`", column.name()),
                });
            }
        };
        Ok((place, item))
    }))
}

fn messages(turns: &[Turn]) -> Option<Vec<Message>> {
    let message = |turn: &Turn| Some(Message::new(turn.role.clone(), turn.content()?));
    turns.iter().map(message).collect()
}

/// One line of JSON as an item; the error says what is wrong with it.
pub(super) fn json_item(line: &str, column: Column) -> Result<Item, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
    let Value::Object(object) = value else {
        return Err("expected a JSON object".into());
    };
    let name = column.name();
    let Some(value) = object.get(name) else {
        let there: Vec<_> = object.keys().map(String::as_str).take(8).collect();
        return Err(format!(
            "no column `{name}`; there are: {}",
            there.join(", ")
        ));
    };
    let string = |name: &str, value: &Value| {
        let text = value.as_str().map(str::to_string);
        text.ok_or_else(|| format!("`{name}`: expected a string, found {}", kind(value)))
    };
    match column {
        Column::Text => Ok(Item::Text(string(name, value)?)),
        Column::Prompt => {
            let system = object.get("system").filter(|v| !v.is_null());
            Ok(Item::Prompt {
                prompt: string(name, value)?,
                system: system.map(|v| string("system", v)).transpose()?,
            })
        }
        Column::Messages => {
            let messages: Vec<Message> = serde_json::from_value(value.clone())
                .map_err(|e| format!("`messages`: expected objects with role and content: {e}"))?;
            if messages.is_empty() {
                return Err("`messages` is empty".into());
            }
            Ok(Item::Messages(messages))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
