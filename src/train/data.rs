//! Files of data, read and encoded for a method, with the place of every row.
//!
//! Always: what was left out or cut is counted; an encoded row can be traced to its line.

use std::path::PathBuf;

use jiff::civil::Date;

use super::{Config, TrainError, method::Facts};
use crate::text::dataset::{
    Columns, DataError, Dataset, EncodeOptions, Encoded, Encoder, columns, table,
};
use crate::text::{ChatTemplate, Tokenizer};

/// Items of all files of one role.
pub struct Loaded<T> {
    /// In the order of the files.
    pub items: Vec<T>,
    /// `file:line` of each.
    places: Vec<String>,
    stop: Vec<u32>,
    cut: usize,
    dropped: Vec<(String, usize)>,
}

impl<T> Loaded<T> {
    /// Items with their places that were made elsewhere; `dropped` counts what was left out by reason.
    pub fn of(
        (items, places): (Vec<T>, Vec<String>),
        stop: Vec<u32>,
        dropped: Vec<(String, usize)>,
    ) -> Self {
        Self {
            items,
            places,
            stop,
            cut: 0,
            dropped,
        }
    }

    /// What is known without looking into the items.
    pub fn facts(&self) -> Facts {
        Facts {
            rows: self.items.len(),
            examples: self.items.len(),
            dropped: self.dropped.clone(),
            truncated: self.cut,
            ..Facts::default()
        }
    }

    /// Share of the items of which `holds` does, given the tokens that end an answer.
    pub fn share(&self, holds: impl Fn(&T, &[u32]) -> bool) -> f64 {
        let there = self.items.iter().filter(|item| holds(item, &self.stop));
        there.count() as f64 / self.items.len().max(1) as f64
    }

    /// Where an item stands.
    pub fn name(&self, item: usize) -> String {
        let place = self.places.get(item);
        place.map_or_else(|| "an unknown row".to_owned(), Clone::clone)
    }

    /// Where the first item stands of which `is` holds.
    pub fn place(&self, is: impl Fn(&T) -> bool) -> String {
        let at = self.items.iter().position(is);
        self.name(at.unwrap_or(usize::MAX))
    }
}

/// Reads files and encodes their rows with `encode`.
///
/// # Errors
/// A file that cannot be read, a row that cannot be used, nothing left.
pub fn load<T>(
    files: &[PathBuf],
    config: &Config,
    (tokenizer, template): (&Tokenizer, Option<&ChatTemplate>),
    encode: impl Fn(&Encoder<'_>, &Dataset) -> Result<Encoded<T>, DataError>,
) -> Result<Loaded<T>, TrainError> {
    let date = config.data.date.as_deref();
    let date: Option<Date> = date.and_then(|date| date.parse().ok());
    let options = EncodeOptions {
        now: date.map(|date| date.at(12, 0, 0, 0)),
        truncation: config.data.truncation.unwrap_or_default(),
        supervise: config.data.supervise.unwrap_or_default(),
        chat: config.data.chat,
        unusable: config.data.unusable,
        ..EncodeOptions::up_to(config.data.max_length)
    };
    let encoder = Encoder::new(tokenizer, template, options)?;
    let mut all = Loaded {
        items: Vec::new(),
        places: Vec::new(),
        stop: tokenizer.stop_ids().to_vec(),
        cut: 0,
        dropped: Vec::new(),
    };
    let names: Columns = config.data.columns.parse()?;
    for file in files {
        let table = table::read(file)?;
        let data = columns::rows(&table, &names, None)?;
        let encoded = encode(&encoder, &data)?;
        let place = |&row: &usize| data.rows[row].place.to_string();
        all.places.extend(encoded.rows.iter().map(place));
        all.items.extend(encoded.items);
        all.cut += encoded.cut;
        for (reason, rows) in encoded.dropped.iter() {
            let words = reason.words().to_owned();
            match all.dropped.iter_mut().find(|(known, _)| *known == words) {
                Some((_, count)) => *count += rows.rows,
                None => all.dropped.push((words, rows.rows)),
            }
        }
    }
    Ok(all)
}
