//! Training rows straight from the model: harvested while training goes on, through a buffer that mixes contexts.
//!
//! The buffer is filled, permuted, and served until a share of it is left (a half by default, as SAELens has it); then it is
//! filled up and permuted again. How well that mixes is [`super::training::mixed`].
//!
//! Always: memory is the buffer and one pass; what the policy leaves out is counted; a saved place holds the rows that wait
//! and the cursor behind the last context read, so that going on needs no row twice.

use std::path::Path;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::{
    Contexts, Cursor, Facts, Harvest, Reason, StoreError, Tally,
    contexts::ContextIter,
    harvest::Tokens,
    training::{SCHEMA, TokenAt, TrainingRows, read_state, same, write_state},
};
use crate::files::{
    hash::sha256_file,
    safetensors::SafetensorsFile,
    write::{header_bytes, write_atomic_parts},
};
use crate::text::dataset::sampler::shuffled;

/// The file of the rows that wait.
const WAITING: &str = "training-rows.safetensors";

/// How rows are mixed. With the default buffer, contexts of 128 tokens and batches of 4,096 nine rows in ten meet another of
/// their context ([`super::training::mixed`]: 0.91; where two million rows are shuffled as a whole 0.23): a store mixes better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixing {
    /// Rows of the buffer.
    pub rows: usize,
    /// Share of it that stays at each refill, from 0 to below 1.
    pub keep: f64,
    /// Contexts of one pass.
    pub batch: usize,
    /// Decides every order.
    pub seed: u64,
}

impl Default for Mixing {
    fn default() -> Self {
        Self {
            rows: 1 << 16,
            keep: 0.5,
            batch: 8,
            seed: 0,
        }
    }
}

/// Rows that are harvested while training goes on.
pub struct StreamRows<'a> {
    harvest: Harvest<'a>,
    source: &'a dyn Contexts,
    facts: Facts,
    medians: Vec<f64>,
    mixing: Mixing,
    total: Option<u64>,
    contexts: ContextIter<'a>,
    cursor: Cursor,
    ended: bool,
    /// Values of each point, slot by slot.
    values: Vec<Vec<f32>>,
    /// The token of each slot.
    tokens: Vec<TokenAt>,
    free: Vec<usize>,
    /// Slots of the rows of this filling in their order; the first `next` are served.
    order: Vec<usize>,
    next: usize,
    /// Rows to serve before the next refill.
    budget: usize,
    refills: u64,
    tally: Tally,
    places: Vec<TokenAt>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: String,
    kind: String,
    facts: Facts,
    mixing: Mixing,
    cursor: Cursor,
    ended: bool,
    budget: usize,
    refills: u64,
    tally: Tally,
    /// Context and position of each row that waits.
    waiting: Vec<(u64, u32)>,
    waiting_sha256: String,
}

impl<'a> StreamRows<'a> {
    /// From the first context; nothing is harvested yet. `facts` are those of [`Facts::measure`] on the same harvest and
    /// source; `total` is what an epoch has, if the caller knows.
    ///
    /// # Errors
    /// Settings that make no sense, facts about other points, a source that cannot be opened.
    pub fn new(
        harvest: Harvest<'a>,
        source: &'a dyn Contexts,
        facts: Facts,
        mixing: Mixing,
        total: Option<u64>,
    ) -> Result<Self, StoreError> {
        let refuse = |option, expected, found: String| StoreError::Setting {
            option,
            expected,
            found,
        };
        if mixing.rows == 0 || mixing.batch == 0 {
            let found = format!("{} rows, {} contexts", mixing.rows, mixing.batch);
            return Err(refuse(
                "mixing",
                "at least one row and one context a pass",
                found,
            ));
        }
        if !(0.0..1.0).contains(&mixing.keep) {
            let expected = "a share from 0 to below 1";
            return Err(refuse("keep", expected, mixing.keep.to_string()));
        }
        let medians = facts.medians(harvest.points()).ok_or_else(|| {
            let found = facts.points.iter().map(|p| p.point.to_string());
            let found: Vec<String> = found.collect();
            refuse("facts", "those of the points harvested", found.join(","))
        })?;
        Ok(Self {
            contexts: source.contexts(Cursor::default())?,
            values: vec![Vec::new(); harvest.points().len()],
            harvest,
            source,
            facts,
            medians,
            mixing,
            total,
            cursor: Cursor::default(),
            ended: false,
            tokens: Vec::new(),
            free: Vec::new(),
            order: Vec::new(),
            next: 0,
            budget: 0,
            refills: 0,
            tally: Tally::default(),
            places: Vec::new(),
        })
    }

    /// What the first contexts say.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How many tokens were harvested so far, by what became of them.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Behind the last context that was harvested.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Which tokens the rows of the last batch are of.
    pub fn places(&self) -> &[TokenAt] {
        &self.places
    }

    /// Bytes of the buffer, full, with rows of one pass over contexts of `length` tokens.
    pub fn memory(&self, length: usize) -> u64 {
        let values: usize = self.harvest.widths().iter().sum();
        let rows = self.mixing.rows + 2 * self.mixing.batch * length;
        (rows * (values * 4 + 24)) as u64
    }

    /// Fills the buffer up and permutes it.
    fn refill(&mut self) -> Result<(), StoreError> {
        self.free.extend(self.order.drain(..self.next));
        self.next = 0;
        while self.order.len() < self.mixing.rows && !self.ended {
            self.pass()?;
        }
        let waiting = self.order.len();
        let order = shuffled(self.mixing.seed, self.refills, waiting);
        self.order = order.into_iter().map(|i| self.order[i]).collect();
        self.refills += 1;
        let stay = (waiting as f64 * self.mixing.keep) as usize;
        self.budget = if self.ended { waiting } else { waiting - stay };
        if self.ended && self.tally.kept == 0 {
            return Err(StoreError::NothingKept {
                what: "the source".into(),
                tokens: self.tally.left_out(),
                left_out: self.tally.left_out(),
            });
        }
        Ok(())
    }

    /// Harvests the next contexts into free slots.
    fn pass(&mut self) -> Result<(), StoreError> {
        let mut ids = Vec::with_capacity(self.mixing.batch);
        let first = self.cursor.context;
        for placed in self.contexts.by_ref().take(self.mixing.batch) {
            let (context, behind) = placed?;
            ids.push(context);
            self.cursor = behind;
        }
        self.ended = ids.len() < self.mixing.batch;
        if ids.is_empty() {
            return Ok(());
        }
        for (context, tokens) in (first..).zip(self.harvest.pass(&ids, first)?) {
            self.take(context, &tokens);
        }
        Ok(())
    }

    fn take(&mut self, context: u64, tokens: &Tokens) {
        let reasons = self
            .facts
            .policy
            .judge(&tokens.ids, &tokens.norms(), &self.medians);
        self.tally.count(&reasons);
        for (at, _) in reasons
            .iter()
            .enumerate()
            .filter(|(_, r)| **r == Reason::Kept)
        {
            let place = TokenAt {
                context,
                position: at as u32,
            };
            let slot = self.free.pop().unwrap_or(self.tokens.len());
            let points = self.values.iter_mut().zip(&tokens.values);
            for ((all, values), width) in points.zip(self.harvest.widths()) {
                let row = &values[at * width..][..*width];
                match all.get_mut(slot * width..(slot + 1) * width) {
                    Some(place) => place.copy_from_slice(row),
                    None => all.extend_from_slice(row),
                }
            }
            match self.tokens.get_mut(slot) {
                Some(token) => *token = place,
                None => self.tokens.push(place),
            }
            self.order.push(slot);
        }
    }

    /// The rows that wait, as bytes of each point.
    fn waiting(&self) -> Vec<Vec<u8>> {
        let rows = &self.order[self.next..];
        let points = self.values.iter().zip(self.harvest.widths());
        let bytes = points.map(|(all, width)| {
            let rows = rows.iter().flat_map(|slot| &all[slot * width..][..*width]);
            rows.flat_map(|v| v.to_le_bytes()).collect()
        });
        bytes.collect()
    }

    fn load(&mut self, folder: &Path, state: &State) -> Result<(), StoreError> {
        let path = folder.join(WAITING);
        let found = sha256_file(&path)?;
        if found != state.waiting_sha256 {
            return Err(StoreError::Damaged {
                file: path,
                expected: state.waiting_sha256.clone(),
                found,
            });
        }
        let file = SafetensorsFile::open(&path)?;
        let mut values = Vec::new();
        for (at, width) in self.harvest.points().iter().zip(self.harvest.widths()) {
            let rows = file.raw(&at.to_string())?.as_chunks().0;
            if rows.len() != state.waiting.len() * width {
                let found = format!("{} values of {at}", rows.len());
                let why = format!(
                    "expected {} rows of {width}, found {found}",
                    state.waiting.len()
                );
                return Err(StoreError::NotAStore { path, why });
            }
            values.push(rows.iter().map(|v| f32::from_le_bytes(*v)).collect());
        }
        self.values = values;
        Ok(())
    }
}

impl TrainingRows for StreamRows<'_> {
    fn widths(&self) -> Vec<usize> {
        self.harvest.widths().to_vec()
    }

    fn total(&self) -> Option<u64> {
        self.total
    }

    fn batch(&mut self, rows: usize) -> Result<Option<Vec<Array2<f32>>>, StoreError> {
        let mut out: Vec<Vec<f32>> = vec![Vec::new(); self.values.len()];
        self.places.clear();
        while self.places.len() < rows {
            if self.budget == 0 {
                if self.ended {
                    break;
                }
                self.refill()?;
                continue;
            }
            let taken = self.budget.min(rows - self.places.len());
            let slots = &self.order[self.next..self.next + taken];
            for ((out, all), width) in out.iter_mut().zip(&self.values).zip(self.harvest.widths()) {
                for slot in slots {
                    out.extend_from_slice(&all[slot * width..][..*width]);
                }
            }
            self.places
                .extend(slots.iter().map(|slot| self.tokens[*slot]));
            self.next += taken;
            self.budget -= taken;
        }
        if self.places.is_empty() {
            return Ok(None);
        }
        let rows = self.places.len();
        let points = out.into_iter().zip(self.harvest.widths());
        let matrix = |(values, width): (Vec<f32>, &usize)| {
            Array2::from_shape_vec((rows, *width), values).map_err(|e| StoreError::Setting {
                option: "batch",
                expected: "rows of the points' widths",
                found: e.to_string(),
            })
        };
        points.map(matrix).collect::<Result<_, _>>().map(Some)
    }

    fn save(&self, folder: &Path) -> Result<(), StoreError> {
        let (path, bytes) = (folder.join(WAITING), self.waiting());
        let waiting = &self.order[self.next..];
        let (mut header, mut at) = (Map::new(), 0);
        let points = self.harvest.points().iter().zip(self.harvest.widths());
        for ((point, width), bytes) in points.zip(&bytes) {
            let (shape, end) = ([waiting.len(), *width], at + bytes.len());
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
            header.insert(point.to_string(), entry);
            at = end;
        }
        let header = header_bytes(header);
        let parts = std::iter::once(header.as_slice()).chain(bytes.iter().map(Vec::as_slice));
        write_atomic_parts(&path, parts)?;
        let token = |slot: &usize| (self.tokens[*slot].context, self.tokens[*slot].position);
        let state = State {
            schema: SCHEMA.into(),
            kind: "stream".into(),
            facts: self.facts.clone(),
            mixing: self.mixing,
            cursor: self.cursor,
            ended: self.ended,
            budget: self.budget,
            refills: self.refills,
            tally: self.tally,
            waiting: waiting.iter().map(token).collect(),
            waiting_sha256: sha256_file(&path)?,
        };
        write_state(folder, &state)
    }

    fn restore(&mut self, folder: &Path) -> Result<(), StoreError> {
        let state: State = read_state(folder)?;
        let text = |value: &Facts| serde_json::to_string(value).unwrap_or_default();
        let mixing = |m: &Mixing| serde_json::to_string(m).unwrap_or_default();
        let (saved, waiting) = (state.budget, state.waiting.len());
        same(
            folder,
            &[
                ("kind", state.kind.clone(), "stream".into()),
                ("mixing", mixing(&state.mixing), mixing(&self.mixing)),
                // They are measured on the model and the source, so they differ where either does.
                (
                    "set of measured facts",
                    text(&state.facts),
                    text(&self.facts),
                ),
                ("budget", saved.to_string(), saved.min(waiting).to_string()),
            ],
        )?;
        self.load(folder, &state)?;
        self.contexts = self.source.contexts(state.cursor)?;
        let token = |&(context, position): &(u64, u32)| TokenAt { context, position };
        self.tokens = state.waiting.iter().map(token).collect();
        self.order = (0..waiting).collect();
        (self.next, self.free) = (0, Vec::new());
        (self.cursor, self.ended) = (state.cursor, state.ended);
        (self.budget, self.refills, self.tally) = (saved, state.refills, state.tally);
        self.places.clear();
        Ok(())
    }
}
