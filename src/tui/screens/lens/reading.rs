//! What the worker reads for the lens screen, and what the screen keeps of it: columns of cells by position.
//!
//! Always: a column says under which wish it was computed, so that old values are known as old; a column of another text
//! before its position is never kept; the model runs here and nowhere else in this folder.

use std::collections::BTreeMap;
use std::ops::Range;

use super::along::Along;
use crate::hooks::{Edit, EditOp, Point, Vector};
use crate::lens::{Cell, LensOptions, LensRow, LogitLens, StreamOptions, logit_lens, stream_lens};
use crate::model::Checkpoint;
use crate::tui::shared::{Intervention, Shared, Token};
use crate::tui::work::Ticket;

/// How many of the likeliest tokens a cell keeps.
pub const TOP: usize = 20;
/// Positions that are computed around the cursor.
pub const WINDOW: usize = 64;
/// Positions of the first answers; what is left comes in one.
const FIRST: [usize; 2] = [8, 24];

/// Everything that a column's numbers depend on, positions apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// [`Shared::version`]: model, prompt, interventions.
    pub version: u64,
    /// The token that is followed.
    pub target: Option<u32>,
    /// What the stream is projected on, by its number in [`super::along`].
    pub along: Option<u64>,
    /// Whether the unedited model is read too.
    pub compare: bool,
}

impl Wish {
    /// Whether what was computed for this wish is what the other one asks for.
    pub fn serves(&self, other: &Self) -> bool {
        self.version == other.version
            && self.target == other.target
            && self.compare == other.compare
            && (other.along.is_none() || self.along == other.along)
    }
}

/// One layer at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The lens.
    pub cell: Cell,
    /// The stream's part along the direction, or a probe's score, if asked for.
    pub along: Option<f64>,
}

/// All layers at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// What it was computed for.
    pub wish: Wish,
    /// The token that is followed here.
    pub target: u32,
    /// By row of the lens, the embedding first.
    pub places: Vec<Place>,
    /// The unedited model's, if asked for.
    pub base: Option<Vec<Place>>,
}

impl Column {
    /// The row from which on the target is the likeliest token; none if it is not at the end.
    pub fn settles(&self) -> Option<usize> {
        let top = |place: &&Place| place.cell.target_rank == 1;
        let on_top = self.places.iter().rev().take_while(top).count();
        (on_top > 0).then(|| self.places.len() - on_top)
    }

    /// The first of the rows at which the target's rank is best, and that rank.
    pub fn nearest(&self) -> (usize, usize) {
        let ranks = self.places.iter().map(|place| place.cell.target_rank);
        let best = ranks.enumerate().min_by_key(|(_, rank)| *rank);
        best.unwrap_or((0, 0))
    }
}

/// Part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which model was asked, as [`Ask::model`].
    pub model: usize,
    /// The text that was read.
    pub tokens: Vec<Token>,
    /// By position.
    pub columns: BTreeMap<usize, Column>,
    /// The text of every token named in the columns.
    pub words: BTreeMap<u32, String>,
}

/// What is kept of the answers so far.
#[derive(Debug, Default)]
pub struct Held {
    /// The text that the columns are of.
    pub tokens: Vec<Token>,
    /// By position.
    pub columns: BTreeMap<usize, Column>,
    /// Texts of tokens.
    pub words: BTreeMap<u32, String>,
}

impl Held {
    /// Takes an answer in; columns that another text stands before are dropped.
    pub fn take(&mut self, reading: Reading) {
        if self.tokens != reading.tokens {
            let pairs = self.tokens.iter().zip(&reading.tokens);
            let same = pairs.take_while(|(a, b)| a == b).count();
            self.columns.retain(|position, _| *position < same);
            self.tokens = reading.tokens;
        }
        self.columns.extend(reading.columns);
        self.words.extend(reading.words);
    }

    /// Positions of the window that are not there under this wish, those nearest to the cursor first.
    pub fn missing(&self, wish: &Wish, window: Range<usize>, cursor: usize) -> Vec<usize> {
        let there = |at: &usize| {
            self.columns
                .get(at)
                .is_some_and(|column| column.wish.serves(wish))
        };
        let mut missing: Vec<usize> = window.filter(|at| !there(at)).collect();
        missing.sort_by_key(|at| at.abs_diff(cursor));
        missing
    }

    /// Rows of the columns, embedding included.
    pub fn rows(&self) -> usize {
        let first = self.columns.values().next();
        first.map_or(0, |column| column.places.len())
    }

    /// A place, if it was computed.
    pub fn place(&self, row: usize, position: usize) -> Option<&Place> {
        self.columns.get(&position)?.places.get(row)
    }

    /// The same in the unedited model.
    pub fn base(&self, row: usize, position: usize) -> Option<&Place> {
        self.columns.get(&position)?.base.as_ref()?.get(row)
    }

    /// Text of a token.
    pub fn word(&self, id: u32) -> &str {
        self.words.get(&id).map_or("", String::as_str)
    }

    /// The columns of a wish as the lens gives them, for files.
    pub fn lens(&self, wish: &Wish) -> Option<LogitLens> {
        let n = self.tokens.len();
        let fresh = self
            .columns
            .iter()
            .filter(|(at, column)| column.wish.serves(wish) && **at < n);
        let fresh: Vec<_> = fresh.collect();
        let rows = fresh.first()?.1.places.len();
        let cells = |row: usize| {
            fresh
                .iter()
                .map(|(_, c)| c.places[row].cell.clone())
                .collect()
        };
        Some(LogitLens {
            rows: LensRow::all(rows.saturating_sub(1)),
            positions: fresh.iter().map(|(at, _)| **at).collect(),
            tokens: fresh.iter().map(|(at, _)| self.tokens[**at].id).collect(),
            targets: fresh.iter().map(|(_, column)| column.target).collect(),
            cells: (0..rows).map(cells).collect(),
        })
    }
}

/// The positions that are computed, of a text of `len` tokens.
pub fn window(len: usize, cursor: usize) -> Range<usize> {
    if len <= WINDOW {
        return 0..len;
    }
    let from = cursor.saturating_sub(WINDOW / 2).min(len - WINDOW);
    from..from + WINDOW
}

/// The direction that an intervention adds or removes: the first, with what its chip says.
pub fn direction(shared: &Shared) -> Option<(&str, Vector)> {
    directed(shared).map(|(chip, vector)| (chip.label.as_str(), vector))
}

/// The first intervention with a direction.
pub fn directed(shared: &Shared) -> Option<(&Intervention, Vector)> {
    let in_stream = |edit: &&Edit| {
        matches!(
            edit.at.point,
            Point::ResidPre
                | Point::ResidMid
                | Point::ResidPost
                | Point::AttnContrib
                | Point::MlpContrib
        )
    };
    let of = |edit: &Edit| match &edit.op {
        EditOp::Add { vector, .. } => Some(vector.clone()),
        EditOp::Ablate { directions, .. } => directions.first().cloned(),
        EditOp::Clamp { direction, .. } => direction.clone(),
        _ => None,
    };
    shared.interventions.iter().find_map(|chip| {
        let found = chip.edits.iter().filter(in_stream).find_map(of)?;
        Some((chip, found))
    })
}

/// What the worker is given.
pub struct Ask {
    /// Tells one open model from another; nothing else is done with it.
    pub model: usize,
    /// What for.
    pub wish: Wish,
    /// The text.
    pub tokens: Vec<Token>,
    /// Which positions, the most wanted first.
    pub positions: Vec<usize>,
    /// The interventions.
    pub edits: Vec<Edit>,
    /// To project on, if wished.
    pub along: Option<Along>,
}

/// Reads the positions in a few passes, so that those around the cursor are seen first.
pub fn read(checkpoint: &Checkpoint, ticket: &Ticket, ask: &Ask) -> Result<Reading, String> {
    if let Some(along) = &ask.along {
        along.fits(checkpoint)?;
    }
    let mut rest = ask.positions.as_slice();
    for size in FIRST {
        if rest.len() <= size {
            break;
        }
        let (now, later) = rest.split_at(size);
        ticket.part(some(checkpoint, ask, now)?);
        rest = later;
    }
    some(checkpoint, ask, rest)
}

/// One pass, or two where the unedited model is read too.
fn some(checkpoint: &Checkpoint, ask: &Ask, positions: &[usize]) -> Result<Reading, String> {
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    let edited = places(checkpoint, ask, &sorted, &ask.edits)?;
    let base = if ask.wish.compare {
        Some(places(checkpoint, ask, &sorted, &[])?)
    } else {
        None
    };
    let mut words = BTreeMap::new();
    let mut name = |id: u32| {
        words
            .entry(id)
            .or_insert_with(|| checkpoint.tokenizer.token(id));
    };
    let columns = edited.iter().chain(base.iter().flatten());
    for (target, places) in columns {
        name(*target);
        let tops = places.iter().flat_map(|place| &place.cell.top);
        tops.for_each(|top| name(top.id));
    }
    let mut base = base.map(Vec::into_iter);
    let columns = sorted
        .into_iter()
        .zip(edited)
        .map(|(at, (target, places))| {
            let base = base.as_mut().and_then(Iterator::next);
            let column = Column {
                wish: ask.wish.clone(),
                target,
                places,
                base: base.map(|(_, places)| places),
            };
            (at, column)
        });
    Ok(Reading {
        model: ask.model,
        columns: columns.collect(),
        tokens: ask.tokens.clone(),
        words,
    })
}

/// For each position the target and all rows.
fn places(
    checkpoint: &Checkpoint,
    ask: &Ask,
    positions: &[usize],
    edits: &[Edit],
) -> Result<Vec<(u32, Vec<Place>)>, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let ids: Vec<u32> = ask.tokens.iter().map(|token| token.id).collect();
    let list: Vec<String> = positions.iter().map(ToString::to_string).collect();
    let at: crate::lens::Positions = list.join(",").parse().map_err(|e| words(&e))?;
    let options = LensOptions {
        top_k: TOP.min(checkpoint.config().vocab_size),
        positions: at.clone(),
        rows: Vec::new(),
        target: ask.wish.target,
    };
    let lens = logit_lens(&checkpoint.decoder, &ids, &options, edits).map_err(|e| words(&e))?;
    let products = match &ask.along {
        None => None,
        Some(along) => {
            let options = StreamOptions {
                positions: at,
                rows: Vec::new(),
                direction: Some(along.vector.to_vec()),
            };
            let stream = stream_lens(&checkpoint.decoder, &ids, &options, edits);
            let found = stream.map_err(|e| words(&e))?.projections;
            found.map(|found| (along, found.dots))
        }
    };
    let mut out: Vec<(u32, Vec<Place>)> = lens.targets.iter().map(|id| (*id, Vec::new())).collect();
    for (row, cells) in lens.cells.into_iter().enumerate() {
        for (i, cell) in cells.into_iter().enumerate() {
            let products = products.as_ref();
            let along = products.map(|(along, dots)| along.times * dots[row][i] + along.plus);
            out[i].1.push(Place { cell, along });
        }
    }
    Ok(out)
}
