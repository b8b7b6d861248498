//! The list of latents: which ones, in which order, and what `/` finds them by.
//!
//! Always: of latents that are equally strong the lower number comes first; what is not known comes last.

use super::FeaturesScreen;
use super::work::Total;
use crate::features::{Labels, dashboard::Label};
use crate::tui::filter::Filter;
use crate::tui::shared::Shared;

/// Which latents are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Scope {
    /// Those that fire on the token under the cursor.
    #[default]
    Token,
    /// Those that fire on any token of the prompt that counts, or are turned.
    Prompt,
    /// Those of which a record or a label tells, that fire on the prompt or are turned.
    Known,
}

impl Scope {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Token => Self::Prompt,
            Self::Prompt => Self::Known,
            Self::Known => Self::Token,
        }
    }
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// The value on the token under the cursor, falling.
    #[default]
    Here,
    /// The sum over the prompt, falling.
    Sum,
    /// The share of tokens on which it fires by its record, falling.
    Density,
    /// The number.
    Number,
}

impl Sort {
    pub(super) const ALL: [Self; 4] = [Self::Here, Self::Sum, Self::Density, Self::Number];

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// As it is typed and read.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Here => "strength",
            Self::Sum => "sum",
            Self::Density => "density",
            Self::Number => "number",
        }
    }
}

/// The order of each scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sorts(pub [Sort; 3]);

impl Default for Sorts {
    fn default() -> Self {
        Self([Sort::Here, Sort::Sum, Sort::Density])
    }
}

/// A latent of the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub latent: usize,
    /// Its value on the token under the cursor.
    pub here: f32,
    /// Over the tokens of the prompt that count.
    pub sum: f64,
    /// By its record; NaN without one.
    pub density: f64,
}

/// What a list was made of.
#[derive(Debug, PartialEq)]
struct Key {
    position: usize,
    scope: Scope,
    sort: Sort,
    filter: Filter,
    changes: u64,
}

/// The list as it is shown: making it takes a while where there are records of thousands of latents, and every key asks
/// for it.
#[derive(Debug, Default)]
pub(super) struct List {
    rows: Vec<Row>,
    /// Before the filter.
    pub of: usize,
    key: Option<Key>,
}

impl FeaturesScreen {
    pub(super) fn sort(&self) -> Sort {
        self.sorts.0[self.scope as usize]
    }

    /// The latents of the scope, in order.
    pub(super) fn all(&self, shared: &Shared) -> Vec<Row> {
        let at = self.position(shared);
        let piece = self.reading.as_ref().and_then(|r| r.pieces.get(at));
        let codes = piece.map_or(&[][..], |piece| &piece.codes);
        let turned = self.turned.iter().map(|edit| edit.latent);
        let mut latents: Vec<usize> = match self.scope {
            Scope::Token => codes.iter().map(|(latent, _)| *latent).collect(),
            Scope::Prompt => self.firing().chain(turned).collect(),
            Scope::Known => {
                let labels = self.labels.iter().flat_map(Labels::iter);
                let known = self
                    .records
                    .latents()
                    .chain(labels.map(|(latent, _)| latent));
                known.chain(turned).chain(self.firing()).collect()
            }
        };
        latents.sort_unstable();
        latents.dedup();
        let here: std::collections::BTreeMap<usize, f32> = codes.iter().copied().collect();
        let row = |latent: usize| Row {
            latent,
            here: here.get(&latent).copied().unwrap_or(0.0),
            sum: self.total(latent).map_or(0.0, |total| total.sum),
            density: (self.records.of(latent)).map_or(f64::NAN, |known| known.latent.density),
        };
        let mut rows: Vec<Row> = latents.into_iter().map(row).collect();
        let key = |row: &Row| match self.sort() {
            Sort::Here => f64::from(row.here),
            Sort::Sum => row.sum,
            Sort::Density if row.density.is_nan() => f64::NEG_INFINITY,
            Sort::Density => row.density,
            Sort::Number => 0.0,
        };
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.latent.cmp(&b.latent)));
        rows
    }

    /// Lists the latents anew where something about the list has changed.
    pub(super) fn relist(&mut self, shared: &Shared) {
        let key = Key {
            position: self.position(shared),
            scope: self.scope,
            sort: self.sort(),
            filter: self.filter.clone(),
            changes: self.changes,
        };
        if self.listed.key.as_ref() == Some(&key) {
            return;
        }
        let mut rows = self.all(shared);
        let of = rows.len();
        if !self.filter.is_empty() {
            rows.retain(|row| self.filter.matches(&self.text(row.latent)));
        }
        let key = Some(key);
        self.listed = List { rows, of, key };
    }

    /// The latents of the list that the filter leaves.
    pub(super) fn rows(&self) -> &[Row] {
        &self.listed.rows
    }

    /// The row under the cursor: that of the chosen latent, else the first.
    pub(super) fn row(&self) -> Option<usize> {
        let rows = self.rows();
        let at = rows.iter().position(|row| Some(row.latent) == self.latent);
        at.or((!rows.is_empty()).then_some(0))
    }

    /// What a latent does on the prompt.
    pub(super) fn total(&self, latent: usize) -> Option<&Total> {
        self.reading.as_ref()?.totals.get(&latent)
    }

    fn firing(&self) -> impl Iterator<Item = usize> {
        let totals = self
            .reading
            .iter()
            .flat_map(|reading| reading.totals.keys());
        totals.copied()
    }

    /// What `/` searches of a latent: its number, labels, the tokens that it fires on and those that it raises.
    pub(super) fn text(&self, latent: usize) -> String {
        let mut words = vec![latent.to_string()];
        words.extend(self.label(latent).map(|(label, _)| label));
        if let Some(known) = self.records.of(latent) {
            let known = &known.latent;
            words.extend(known.label.as_ref().map(Label::words));
            let tokens = known.top.iter().filter_map(|one| one.tokens.get(one.at));
            words.extend(tokens.cloned());
            let raised = known.logits.iter().flat_map(|logits| &logits.positive);
            words.extend(raised.map(|token| token.token.clone()));
        }
        if let (Some(total), Some(reading)) = (self.total(latent), &self.reading) {
            let pieces = total.places.iter().filter_map(|at| reading.pieces.get(*at));
            words.extend(pieces.map(|piece| piece.text.clone()));
        }
        words.join(" ")
    }
}
