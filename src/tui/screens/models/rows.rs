//! The rows of the models screen: named, cached and local models in one list, each once.

use crate::model::listing::{self, Listing, Local};
use crate::tui::shared::{ModelState, Shared};

/// Where a model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the one that is open.
    Open,
    /// It is being opened.
    Opening,
    /// It could not be opened.
    Failed,
    /// Here, to be opened at once.
    Here,
    /// Made in memory.
    Made,
    /// To be fetched first.
    Away,
    /// Not looked at yet.
    Unknown,
}

impl Standing {
    /// In words.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Opening => "opening",
            Self::Failed => "failed",
            Self::Here => "here",
            Self::Made => "made in memory",
            Self::Away => "to be fetched",
            Self::Unknown => "looking",
        }
    }
}

/// A model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Its name for people.
    pub name: String,
    /// What opens it.
    pub spec: String,
    /// Bytes of its files, or of what would be fetched.
    pub bytes: Option<u64>,
    /// Licence of the weights where it is known.
    pub licence: String,
    /// Where it stands.
    pub standing: Standing,
    /// What it is or where it came from.
    pub about: String,
}

impl Row {
    /// What `/` searches.
    pub(super) fn text(&self) -> String {
        let standing = self.standing.word();
        format!("{standing} {} {} {}", self.name, self.licence, self.about)
    }
}

/// All rows: named models, then further ones of the cache, then those of the folder, then the open one if it is none of
/// these.
pub(super) fn rows(listed: Option<&Listing>, local: &[Local], shared: &Shared) -> Vec<Row> {
    let names = listed.map_or_else(listing::named, |listed| listed.known.clone());
    let cached = listed.map_or(&[][..], |listed| &listed.cached);
    let mut rows: Vec<Row> = Vec::new();
    for model in names {
        let copy = cached
            .iter()
            .find(|c| c.name == model.name || Some(&c.name) == model.hub.as_ref());
        rows.push(Row {
            standing: match (listed, model.cached) {
                _ if model.hub.is_none() && model.bytes.is_none() => Standing::Made,
                // In this binary.
                _ if model.hub.is_none() => Standing::Here,
                (None, _) => Standing::Unknown,
                (Some(_), true) => Standing::Here,
                (Some(_), false) => Standing::Away,
            },
            bytes: copy.map(|c| c.bytes).or(model.bytes),
            spec: model.name.clone(),
            name: model.name,
            licence: model.licence,
            about: model.about,
        });
    }
    let named = rows.len();
    for model in cached {
        if rows[..named].iter().any(|row| row.name == model.name) {
            continue;
        }
        rows.push(Row {
            name: model.name.clone(),
            spec: model.name.clone(),
            bytes: Some(model.bytes),
            licence: model
                .licence
                .clone()
                .unwrap_or_else(|| "unknown".to_owned()),
            standing: Standing::Here,
            about: model.source.clone(),
        });
    }
    for model in local {
        rows.push(Row {
            name: model.name.clone(),
            spec: model.path.display().to_string(),
            bytes: Some(model.bytes),
            licence: "unknown".to_owned(),
            standing: Standing::Here,
            about: format!("{} in {}", model.format, model.path.display()),
        });
    }
    stand(&mut rows, shared);
    rows
}

/// Marks the model that is open, being opened or failed; adds it if it is not among the rows.
fn stand(rows: &mut Vec<Row>, shared: &Shared) {
    let standing = match &shared.model {
        ModelState::None => return,
        ModelState::Loading { .. } => Standing::Opening,
        ModelState::Ready(_) => Standing::Open,
        ModelState::Failed { .. } => Standing::Failed,
    };
    let name = shared.model.name();
    match rows.iter_mut().find(|row| row.spec == name) {
        Some(row) => row.standing = standing,
        None => rows.push(Row {
            name: name.to_owned(),
            spec: name.to_owned(),
            bytes: None,
            licence: "unknown".to_owned(),
            standing,
            about: "given by name".to_owned(),
        }),
    }
}
