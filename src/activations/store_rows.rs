//! Training rows out of a finished store: all of them in a random order, epoch after epoch, without holding them in memory.
//!
//! Always: shards are memory-mapped and their hashes checked once; the order is a [`Permutation`] of all stored tokens, in
//! which those that the policy leaves out are passed over. A batch is gathered in parallel into places that are known before.

use std::path::Path;

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreDtype, StoreError,
    codec::decode,
    permutation::Permutation,
    shard::{LEFT_OUT, scale_tensor},
    training::{SCHEMA, TokenAt, TrainingRows, read_state, same, write_state},
};
use crate::files::{hash::sha256, safetensors::SafetensorsFile};
use crate::hooks::HookPoint;
use crate::model::Fingerprint;

/// Rows of a store in a random order.
pub struct StoreRows {
    store: Store,
    points: Vec<HookPoint>,
    widths: Vec<usize>,
    shards: Vec<Mapped>,
    /// Tokens of all shards, and those of them that training sees.
    tokens: u64,
    kept: u64,
    /// What binds a saved place to this store.
    id: String,
    seed: u64,
    epochs: u64,
    epoch: u64,
    at: u64,
    order: Permutation,
    places: Vec<TokenAt>,
}

/// A shard with the number of its first token.
struct Mapped {
    first: u64,
    file: SafetensorsFile,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: String,
    kind: String,
    store: String,
    points: Vec<HookPoint>,
    seed: u64,
    epochs: u64,
    epoch: u64,
    at: u64,
}

impl StoreRows {
    /// Opens a store for training on some of its points (none: all), `epochs` times through. With a fingerprint, a store that
    /// another model made is refused.
    ///
    /// # Errors
    /// A store that ends early, is damaged or was made by another model; a point that it lacks or that is no vector of a
    /// token; no row that the policy keeps; no epoch.
    pub fn open(
        store: Store,
        points: &[HookPoint],
        made_on: Option<&Fingerprint>,
        seed: u64,
        epochs: u64,
    ) -> Result<Self, StoreError> {
        store.require_complete()?;
        if let Some(fingerprint) = made_on {
            store.expect(fingerprint)?;
        }
        if epochs == 0 {
            return Err(StoreError::Setting {
                option: "epochs",
                expected: "at least 1",
                found: "0".into(),
            });
        }
        let all = store.manifest().points.iter().filter(|p| !p.by_row);
        let all: Vec<HookPoint> = all.map(|p| p.point).collect();
        let points = if points.is_empty() {
            all
        } else {
            points.to_vec()
        };
        let (mut widths, mut shards, mut first) = (Vec::new(), Vec::new(), 0);
        for at in &points {
            let point = store.point(*at)?;
            if point.by_row {
                return Err(StoreError::Setting {
                    option: "--points",
                    expected: "points with values of each token",
                    found: at.to_string(),
                });
            }
            widths.push(point.dims.iter().product());
        }
        for shard in store.shards() {
            let shard = shard?;
            shard.check(&points)?;
            let tokens = shard.info().tokens;
            let file = shard.into_file();
            shards.push(Mapped { first, file });
            first += tokens;
        }
        let tally = store.manifest().tally();
        if tally.kept == 0 || points.is_empty() {
            return Err(StoreError::NothingKept {
                what: store.folder().display().to_string(),
                tokens: first,
                left_out: tally.left_out(),
            });
        }
        let manifest = serde_json::to_string(store.manifest()).unwrap_or_default();
        Ok(Self {
            id: sha256(manifest.as_bytes()),
            order: Permutation::new(first, seed, 0),
            tokens: first,
            kept: tally.kept,
            points,
            widths,
            shards,
            store,
            seed,
            epochs,
            epoch: 0,
            at: 0,
            places: Vec::new(),
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which tokens the rows of the last batch are of.
    pub fn places(&self) -> &[TokenAt] {
        &self.places
    }

    /// Tokens of the store, whether training sees them or not.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The next tokens that training sees, here and in `others` of the same tokens.
    pub(super) fn draw(&mut self, rows: usize, others: &[Self]) -> Result<Vec<u64>, StoreError> {
        let mut drawn = Vec::with_capacity(rows.min(self.kept as usize));
        while drawn.len() < rows && self.epoch < self.epochs {
            if self.at == self.tokens {
                self.epoch += 1;
                self.at = 0;
                self.order = Permutation::new(self.tokens, self.seed, self.epoch);
                continue;
            }
            let token = self.order.at(self.at);
            self.at += 1;
            let mut seen = self.seen(token)?;
            for other in others {
                seen = seen && other.seen(token)?;
            }
            if seen {
                drawn.push(token);
            }
        }
        let place = |token: &u64| self.place(self.locate(*token));
        self.places = drawn.iter().map(place).collect::<Result<_, _>>()?;
        Ok(drawn)
    }

    /// The shard of a token, and its place there.
    fn locate(&self, token: u64) -> (usize, usize) {
        let shard = self.shards.partition_point(|s| s.first <= token) - 1;
        (shard, (token - self.shards[shard].first) as usize)
    }

    /// Whether training sees a token.
    pub(super) fn seen(&self, token: u64) -> Result<bool, StoreError> {
        if self.store.manifest().facts.is_none() {
            return Ok(true);
        }
        let (shard, within) = self.locate(token);
        Ok(self.shards[shard].file.raw(LEFT_OUT)?[within] == 0)
    }

    fn place(&self, (shard, within): (usize, usize)) -> Result<TokenAt, StoreError> {
        let number = |name| -> Result<i64, StoreError> {
            let all = self.shards[shard].file.raw(name)?.as_chunks().0;
            Ok(i64::from_le_bytes(all[within]))
        };
        Ok(TokenAt {
            context: number("row")? as u64,
            position: number("position")? as u32,
        })
    }

    /// The values of these tokens at each point.
    pub(super) fn values(&self, drawn: &[u64]) -> Result<Vec<Array2<f32>>, StoreError> {
        let drawn: Vec<(usize, usize)> = drawn.iter().map(|t| self.locate(*t)).collect();
        let points = 0..self.points.len();
        points.map(|point| self.gather(point, &drawn)).collect()
    }

    /// The values of these tokens at one point.
    fn gather(&self, point: usize, drawn: &[(usize, usize)]) -> Result<Array2<f32>, StoreError> {
        let (at, width) = (self.points[point], self.widths[point]);
        let (name, dtype) = (at.to_string(), self.store.manifest().dtype);
        let bytes = width * dtype.size() as usize;
        let mut open: Vec<(&[u8], &[u8])> = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let scales = match dtype {
                StoreDtype::Int8 => shard.file.raw(&scale_tensor(at))?,
                _ => &[],
            };
            open.push((shard.file.raw(&name)?, scales));
        }
        let mut values = vec![0.0; drawn.len() * width];
        let wrong = values
            .par_chunks_mut(width)
            .zip(drawn)
            .enumerate()
            .find_map_first(|(i, (out, (shard, within)))| {
                let (all, scales) = open[*shard];
                let scale = scales.as_chunks().0.get(*within);
                let scale = scale.map_or(1.0, |raw| f32::from_le_bytes(*raw));
                decode(dtype, &all[within * bytes..][..bytes], scale, out);
                let wrong = out.iter().find(|v| !v.is_finite());
                wrong.map(|v| (i, *v))
            });
        if let Some((i, value)) = wrong {
            let place = self.place(drawn[i])?;
            return Err(StoreError::NotFinite {
                point: name,
                row: format!("{}, position {}", place.context, place.position),
                value,
            });
        }
        let shape = (drawn.len(), width);
        Array2::from_shape_vec(shape, values).map_err(|e| StoreError::NotAStore {
            path: self.store.folder().to_path_buf(),
            why: e.to_string(),
        })
    }
}

impl TrainingRows for StoreRows {
    fn widths(&self) -> Vec<usize> {
        self.widths.clone()
    }

    fn total(&self) -> Option<u64> {
        Some(self.kept)
    }

    fn batch(&mut self, rows: usize) -> Result<Option<Vec<Array2<f32>>>, StoreError> {
        let drawn = self.draw(rows, &[])?;
        if drawn.is_empty() {
            return Ok(None);
        }
        self.values(&drawn).map(Some)
    }

    fn save(&self, folder: &Path) -> Result<(), StoreError> {
        let state = State {
            schema: SCHEMA.into(),
            kind: "store".into(),
            store: self.id.clone(),
            points: self.points.clone(),
            seed: self.seed,
            epochs: self.epochs,
            epoch: self.epoch,
            at: self.at,
        };
        write_state(folder, &state)
    }

    fn restore(&mut self, folder: &Path) -> Result<(), StoreError> {
        let state: State = read_state(folder)?;
        let names = |points: &[HookPoint]| {
            let names: Vec<String> = points.iter().map(ToString::to_string).collect();
            names.join(",")
        };
        same(
            folder,
            &[
                ("kind", state.kind, "store".into()),
                ("store", state.store, self.id.clone()),
                ("list of points", names(&state.points), names(&self.points)),
                ("seed", state.seed.to_string(), self.seed.to_string()),
                (
                    "place",
                    state.at.to_string(),
                    state.at.min(self.tokens).to_string(),
                ),
            ],
        )?;
        self.epoch = state.epoch;
        self.at = state.at;
        self.order = Permutation::new(self.tokens, self.seed, self.epoch);
        Ok(())
    }
}
