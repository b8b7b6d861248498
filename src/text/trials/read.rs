//! What a row of trials holds, read by [`crate::text::json_rows`], and what a group of rows must have.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::Value;

use super::check::{Check, words};
use super::{Ask, Condition, Protocol, Trial};
use crate::text::Message;
use crate::text::json_rows::{self, Fields, Format, Place, RowError, shown};

const FORMAT: Format = Format {
    what: "set of trials",
    expected: "`id`, `protocol`, `group`, `condition` and `messages`",
    fields: &[
        "id",
        "protocol",
        "group",
        "condition",
        "messages",
        "options",
        "right",
        "pushed",
        "unsure",
        "check",
        "mentions",
        "topic",
        "ask",
        "source",
        "licence",
    ],
};

/// The fewest and most options of a trial.
const OPTIONS: std::ops::RangeInclusive<usize> = 2..=16;

/// The most turns of a conversation, and the most words that show a mention.
const MOST: usize = 64;

/// Reads every row and checks every group.
pub(super) fn rows(file: &str, reader: impl BufRead) -> Result<Vec<Trial>, RowError> {
    let rows = json_rows::read(&FORMAT, file, reader, |row: &Trial| &row.id, row)?;
    groups(file, &rows)?;
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn row(place: &Place, fields: &mut Fields) -> Result<Trial, RowError> {
    let protocols = Protocol::ALL.map(Protocol::name);
    let protocol = fields
        .word::<Protocol>(place, "protocol", &protocols)?
        .ok_or_else(|| {
            missing(
                place,
                "protocol",
                &format!("one of {}", protocols.join(", ")),
            )
        })?;
    let conditions: Vec<&str> = protocol.conditions().iter().map(|c| c.name()).collect();
    let expected = format!("one of {} for {}", conditions.join(", "), protocol.name());
    let condition = fields
        .text(place, "condition")?
        .ok_or_else(|| missing(place, "condition", &expected))?;
    let condition = *(protocol.conditions().iter())
        .find(|known| known.name() == condition)
        .ok_or_else(|| place.field_error("condition", expected, format!("\"{condition}\"")))?;
    let options = strings(place, fields, "options")?;
    if !options.is_empty() && !OPTIONS.contains(&options.len()) {
        let found = format!("{}", options.len());
        return Err(place.field_error("options", "2 to 16 answers", found));
    }
    if let Some(twice) = (1..options.len()).find(|&i| options[..i].contains(&options[i])) {
        let found = format!("\"{}\" twice", options[twice]);
        return Err(place.field_error("options", "answers that differ", found));
    }
    let check = check(place, fields)?;
    let ask = fields
        .word(place, "ask", &Ask::ALL.map(Ask::name))?
        .unwrap_or(match (options.is_empty(), &check) {
            (false, None) => Ask::Choice,
            (false, Some(_)) => Ask::Both,
            (true, _) => Ask::Reply,
        });
    let trial = Trial {
        id: needed(place, fields, "id")?,
        protocol,
        group: needed(place, fields, "group")?,
        condition,
        messages: messages(place, fields)?,
        right: index(place, fields, "right", options.len())?,
        pushed: index(place, fields, "pushed", options.len())?,
        unsure: index(place, fields, "unsure", options.len())?,
        options,
        check,
        mentions: strings(place, fields, "mentions")?,
        topic: fields.text(place, "topic")?,
        ask,
        source: fields
            .text(place, "source")?
            .unwrap_or_else(|| place.file.to_string()),
        licence: fields
            .text(place, "licence")?
            .unwrap_or_else(|| "unspecified".to_string()),
    };
    sound(place, &trial)?;
    Ok(trial)
}

/// What the protocol needs beside a question.
fn sound(place: &Place, trial: &Trial) -> Result<(), RowError> {
    let name = trial.protocol.name();
    if trial.ask.choice() && trial.options.is_empty() {
        return Err(missing(place, "options", "2 to 16 answers to choose from"));
    }
    if trial.protocol.has_right() && (!trial.ask.choice() || trial.right.is_none()) {
        let field = if trial.right.is_none() {
            "right"
        } else {
            "ask"
        };
        let expected = format!("options to choose from, one of them right, for {name}");
        return Err(missing(place, field, &expected));
    }
    if trial.protocol.has_pushed() && (trial.pushed.is_none() || trial.pushed == trial.right) {
        let expected = format!("the index of a wrong option for {name}");
        let found = trial
            .pushed
            .map_or("nothing".to_owned(), |i| format!("{i}, which is right"));
        return Err(place.field_error("pushed", expected, found));
    }
    if trial.condition == Condition::Unknown && trial.unsure != trial.right {
        return Err(missing(
            place,
            "unsure",
            "the index of the option that says it does not know, which is right here",
        ));
    }
    if trial.condition == Condition::Hint && trial.mentions.is_empty() {
        return Err(missing(
            place,
            "mentions",
            "the words that show that the hint was used",
        ));
    }
    if trial.condition == Condition::Plain && trial.right.is_some() && trial.unsure == trial.right {
        return Err(place.field_error("unsure", "another option than the right one", "the same"));
    }
    if trial.protocol.is_scored_by_itself() && trial.options.is_empty() && trial.check.is_none() {
        return Err(missing(
            place,
            "check",
            "options or a check, or nothing can be scored",
        ));
    }
    Ok(())
}

/// Every group has its reference, no condition twice, and where answers are compared the same options throughout.
fn groups(file: &str, rows: &[(usize, Trial)]) -> Result<(), RowError> {
    let mut groups: BTreeMap<(Protocol, &str), Vec<&(usize, Trial)>> = BTreeMap::new();
    for row in rows {
        let key = (row.1.protocol, row.1.group.as_str());
        groups.entry(key).or_default().push(row);
    }
    for ((protocol, group), members) in groups {
        let (line, first) = members[0];
        for (i, (line, trial)) in members.iter().enumerate() {
            let place = Place { file, line: *line };
            let same = |other: &&&(usize, Trial)| other.1.condition == trial.condition;
            if let Some((other, _)) = members[..i].iter().find(same) {
                let expected =
                    format!("a condition once in group `{group}` (line {other} has it too)");
                return Err(place.field_error("condition", expected, trial.condition.name()));
            }
            let alike = (&trial.options, trial.right, trial.pushed)
                == (&first.options, first.right, first.pushed);
            if protocol.has_pushed() && !alike {
                let expected = format!("the options, right and pushed of all of group `{group}`");
                return Err(place.field_error("options", expected, "others"));
            }
        }
        let references = protocol.references();
        if !references.is_empty() && !members.iter().any(|m| references.contains(&m.1.condition)) {
            let place = Place { file, line: *line };
            let names: Vec<&str> = references.iter().map(|c| c.name()).collect();
            let expected = format!("group `{group}` with its condition {}", names.join(" or "));
            return Err(place.field_error("condition", expected, "only others"));
        }
    }
    Ok(())
}

fn missing(place: &Place, field: &str, expected: &str) -> RowError {
    place.field_error(field, expected, "nothing")
}

fn needed(place: &Place, fields: &mut Fields, name: &str) -> Result<String, RowError> {
    fields
        .text(place, name)?
        .ok_or_else(|| missing(place, name, "a string that is not blank"))
}

/// A list of strings that are not blank; nothing is an empty list.
fn strings(place: &Place, fields: &mut Fields, name: &str) -> Result<Vec<String>, RowError> {
    let Some(value) = fields.value(name) else {
        return Ok(Vec::new());
    };
    let found = shown(&value);
    let read = serde_json::from_value::<Vec<String>>(value).ok();
    read.filter(|all| all.len() <= MOST && all.iter().all(|text| !text.trim().is_empty()))
        .ok_or_else(|| {
            let expected = format!("a list of at most {MOST} strings that are not blank");
            place.field_error(name, expected, found)
        })
}

fn index(
    place: &Place,
    fields: &mut Fields,
    name: &str,
    options: usize,
) -> Result<Option<usize>, RowError> {
    let Some(value) = fields.value(name) else {
        return Ok(None);
    };
    let at = value.as_u64().and_then(|at| usize::try_from(at).ok());
    at.filter(|at| *at < options).map(Some).ok_or_else(|| {
        let expected = format!("the index, from 0, of one of the {options} options");
        place.field_error(name, expected, shown(&value))
    })
}

fn check(place: &Place, fields: &mut Fields) -> Result<Option<Check>, RowError> {
    let Some(value) = fields.value("check") else {
        return Ok(None);
    };
    let found = shown(&value);
    let expected = format!("an object with one of {}", Check::NAMES.join(", "));
    let check = serde_json::from_value::<Check>(value)
        .map_err(|_| place.field_error("check", expected, found.as_str()))?;
    match check.fault() {
        Some(expected) => Err(place.field_error("check", expected, found)),
        None => Ok(Some(check)),
    }
}

/// A conversation that waits for the assistant.
fn messages(place: &Place, fields: &mut Fields) -> Result<Vec<Message>, RowError> {
    let expected = "a list of {\"role\", \"content\"}: a system turn or none, then user and assistant in turn, the user last";
    let Some(value) = fields.value("messages") else {
        return Err(missing(place, "messages", expected));
    };
    let found = shown(&value);
    let wrong = || place.field_error("messages", expected, found.as_str());
    let list = match value {
        Value::Array(list) if (1..=MOST).contains(&list.len()) => list,
        _ => return Err(wrong()),
    };
    let messages: Vec<Message> = list
        .into_iter()
        .map(|turn| match turn {
            Value::Object(turn) if turn.len() == 2 => {
                serde_json::from_value(Value::Object(turn)).ok()
            }
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let opened = usize::from(messages[0].role == "system");
    let turns = &messages[opened..];
    let alternate = turns
        .iter()
        .enumerate()
        .all(|(i, turn)| turn.role == if i % 2 == 0 { "user" } else { "assistant" });
    let spoken = messages.iter().all(|turn| !words(&turn.content).is_empty());
    if alternate && spoken && turns.len() % 2 == 1 {
        Ok(messages)
    } else {
        Err(wrong())
    }
}
