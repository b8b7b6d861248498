//! The same tokens as several models see them, for a dictionary over all of them at once: a crosscoder.
//!
//! Always: row for row the stores hold the same tokens, which their manifests prove (hash of all token ids, lengths of the
//! contexts, positions that are stored); shards and number formats may differ. A token that one store leaves out is left out
//! of all, and the order is that of the first store. Where another one differs it is refused by name.

use std::fs;
use std::path::Path;

use ndarray::Array2;

use super::{
    StoreError, StoreRows,
    training::{TokenAt, TrainingRows},
};

/// Rows of several stores, in one random order.
pub struct PairedRows {
    first: StoreRows,
    others: Vec<StoreRows>,
    kept: u64,
}

impl PairedRows {
    /// Stores of the same tokens, opened with one seed and one number of epochs.
    ///
    /// # Errors
    /// No store; one of other tokens, of other contexts or with other positions; no token that all of them keep.
    pub fn new(stores: Vec<StoreRows>) -> Result<Self, StoreError> {
        let mut stores = stores.into_iter();
        let Some(first) = stores.next() else {
            return Err(StoreError::Setting {
                option: "stores",
                expected: "one store of each model",
                found: "none".into(),
            });
        };
        let others: Vec<StoreRows> = stores.collect();
        for other in &others {
            same_tokens(&first, other)?;
        }
        let (mut kept, tokens) = (0, first.tokens());
        for token in 0..tokens {
            let mut seen = first.seen(token)?;
            for other in &others {
                seen = seen && other.seen(token)?;
            }
            kept += u64::from(seen);
        }
        if kept == 0 {
            let folders = std::iter::once(&first).chain(&others);
            let names = folders.map(|rows| rows.store().folder().display().to_string());
            return Err(StoreError::NothingKept {
                what: names.collect::<Vec<_>>().join(" and "),
                tokens,
                left_out: tokens,
            });
        }
        Ok(Self {
            first,
            others,
            kept,
        })
    }

    /// The stores, in their order.
    pub fn stores(&self) -> impl Iterator<Item = &StoreRows> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Which tokens the rows of the last batch are of.
    pub fn places(&self) -> &[TokenAt] {
        self.first.places()
    }
}

/// Refuses a store of other tokens, and says in what it differs.
fn same_tokens(first: &StoreRows, other: &StoreRows) -> Result<(), StoreError> {
    let [a, b] = [first, other].map(|rows| rows.store().manifest());
    let lengths = |of: &[u32]| {
        let tokens: u64 = of.iter().map(|n| u64::from(*n)).sum();
        format!("{} contexts of {tokens} tokens", of.len())
    };
    let longest = |of: &[u32]| format!("{:?} and so on", &of[..of.len().min(4)]);
    let [rows, here] = [&a.tokens_per_row, &b.tokens_per_row];
    let field = if a.fingerprint.tokenizer != b.fingerprint.tokenizer {
        let hash = |m: &super::Manifest| m.fingerprint.tokenizer.clone();
        Some(("tokenizers", hash(a), hash(b)))
    } else if rows != here {
        let told = lengths(rows) != lengths(here);
        let show = if told { lengths } else { longest };
        Some(("contexts", show(rows), show(here)))
    } else if a.ids_sha256 != b.ids_sha256 {
        Some(("token ids", a.ids_sha256.clone(), b.ids_sha256.clone()))
    } else if a.positions != b.positions || first.tokens() != other.tokens() {
        let show = |m: &super::Manifest, n: u64| format!("{:?}, {n} tokens", m.positions);
        let both = (show(a, first.tokens()), show(b, other.tokens()));
        Some(("stored positions", both.0, both.1))
    } else {
        None
    };
    let Some((field, expected, found)) = field else {
        return Ok(());
    };
    Err(StoreError::OtherTokens {
        folder: other.store().folder().to_path_buf(),
        first: first.store().folder().to_path_buf(),
        field,
        expected,
        found,
    })
}

impl TrainingRows for PairedRows {
    /// Of all points of the first store, then of all of the second, and so on.
    fn widths(&self) -> Vec<usize> {
        self.stores().flat_map(StoreRows::widths).collect()
    }

    fn total(&self) -> Option<u64> {
        Some(self.kept)
    }

    fn batch(&mut self, rows: usize) -> Result<Option<Vec<Array2<f32>>>, StoreError> {
        let drawn = self.first.draw(rows, &self.others)?;
        if drawn.is_empty() {
            return Ok(None);
        }
        let mut all = Vec::new();
        for store in self.stores() {
            all.extend(store.values(&drawn)?);
        }
        Ok(Some(all))
    }

    /// A folder for each store; the place is in the first, the others say that they are the same ones.
    fn save(&self, folder: &Path) -> Result<(), StoreError> {
        for (i, store) in self.stores().enumerate() {
            let path = folder.join(i.to_string());
            fs::create_dir_all(&path).map_err(|source| StoreError::Io {
                path: path.clone(),
                source,
            })?;
            store.save(&path)?;
        }
        Ok(())
    }

    fn restore(&mut self, folder: &Path) -> Result<(), StoreError> {
        for (i, store) in self.others.iter_mut().enumerate() {
            store.restore(&folder.join((i + 1).to_string()))?;
        }
        self.first.restore(&folder.join("0"))
    }
}
