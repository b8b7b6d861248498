//! What a trainer of dictionaries sees: batches of rows in training order, one matrix for each point.
//!
//! Rows of one context are alike, so a batch with several of them says less than its size. How well a source mixes is one
//! number: the share of a batch whose context occurs in it again ([`shared`] measures it; [`perfectly`] is what a shuffle
//! of everything would have, [`mixed`] what a mixing buffer has).
//!
//! Always: the batches are the same bits whatever the number of threads, and a saved source goes on with the same bits.
//! `stream_rows.rs` harvests while it trains, `store_rows.rs` reads a store.

use std::path::Path;

use ndarray::Array2;
use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;
use crate::files::write::write_atomic;

/// The file of a saved place.
pub(super) const STATE: &str = "training-rows.json";
/// The name of its format.
pub(super) const SCHEMA: &str = "candlescope.training-rows/1";
/// No such file is larger: it holds numbers, not rows.
const MAX_STATE: u64 = 64 << 20;

/// Rows of activations in the order in which a dictionary is trained on them.
pub trait TrainingRows: Send {
    /// Values of a row at each point.
    fn widths(&self) -> Vec<usize>;

    /// Rows of one epoch, if known.
    fn total(&self) -> Option<u64>;

    /// The next rows, `[rows, width]` for each point: fewer than asked for at the end, then `None`. A row of one matrix is the
    /// same token as that row of the others.
    ///
    /// # Errors
    /// The model, the source or the store; a value that is not finite.
    fn batch(&mut self, rows: usize) -> Result<Option<Vec<Array2<f32>>>, StoreError>;

    /// Writes what a checkpoint needs into a folder that exists.
    ///
    /// # Errors
    /// The disk.
    fn save(&self, folder: &Path) -> Result<(), StoreError>;

    /// Goes on where [`Self::save`] was called, with the same bits.
    ///
    /// # Errors
    /// Nothing was saved there, or by a source of other rows or settings.
    fn restore(&mut self, folder: &Path) -> Result<(), StoreError>;
}

/// Which token a row is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TokenAt {
    /// Its context.
    pub context: u64,
    /// Where in it.
    pub position: u32,
}

/// The share of these rows whose context occurs among them again.
pub fn shared(places: &[TokenAt]) -> f64 {
    let mut contexts: Vec<u64> = places.iter().map(|p| p.context).collect();
    contexts.sort_unstable();
    let groups = contexts.chunk_by(|a, b| a == b);
    let again: usize = groups.map(<[u64]>::len).filter(|n| *n > 1).sum();
    again as f64 / places.len().max(1) as f64
}

/// What [`shared`] is on average where `total` rows, `each` of every context, are shuffled as a whole.
pub fn perfectly(total: u64, each: u64, batch: usize) -> f64 {
    // A row is alone if all others of the batch are drawn from the other contexts, without putting back.
    let others = (total.saturating_sub(each)) as f64;
    let rest = total.saturating_sub(1) as f64;
    let alone = (0..batch.saturating_sub(1)).map(|i| {
        let i = i as f64;
        ((others - i).max(0.0) / (rest - i).max(1.0)).min(1.0)
    });
    1.0 - alone.product::<f64>()
}

/// What [`shared`] is on average behind a buffer of `buffer` rows of which the share `keep` stays at each refill. A row that
/// has stayed `k` times has on average `keep^k` of its context beside it.
pub fn mixed(buffer: usize, keep: f64, each: u64, batch: usize) -> f64 {
    let beside = (batch.saturating_sub(1)) as f64 / (buffer.saturating_sub(1)).max(1) as f64;
    let others = each.saturating_sub(1) as f64;
    let (mut alone, mut stayed) = (0.0, 1.0);
    while stayed > 1e-9 {
        alone += (1.0 - keep) * stayed * (1.0 - stayed * beside.min(1.0)).powf(others);
        stayed *= keep;
    }
    1.0 - alone
}

pub(super) fn write_state(folder: &Path, state: &impl Serialize) -> Result<(), StoreError> {
    let path = folder.join(STATE);
    let text = serde_json::to_string_pretty(state).map_err(|e| StoreError::NotAStore {
        path: path.clone(),
        why: e.to_string(),
    })?;
    Ok(write_atomic(&path, (text + "\n").as_bytes())?)
}

pub(super) fn read_state<T: DeserializeOwned>(folder: &Path) -> Result<T, StoreError> {
    let path = folder.join(STATE);
    let io = |source| StoreError::Io {
        path: path.clone(),
        source,
    };
    let refuse = |why: String| StoreError::NotAStore {
        path: path.clone(),
        why,
    };
    let size = std::fs::metadata(&path).map_err(io)?.len();
    if size > MAX_STATE {
        return Err(refuse(format!(
            "{size} bytes; at most {MAX_STATE} are read"
        )));
    }
    let text = std::fs::read_to_string(&path).map_err(io)?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))?;
    if value["schema"] != SCHEMA {
        let found = &value["schema"];
        return Err(refuse(format!("schema: expected {SCHEMA}, found {found}")));
    }
    serde_json::from_value(value).map_err(|e| refuse(e.to_string()))
}

/// Refuses a saved place that belongs to something else.
pub(super) fn same(
    folder: &Path,
    fields: &[(&'static str, String, String)],
) -> Result<(), StoreError> {
    match fields.iter().find(|(_, saved, here)| saved != here) {
        None => Ok(()),
        Some((field, saved, here)) => Err(StoreError::OtherRows {
            path: folder.join(STATE),
            field,
            saved: saved.clone(),
            here: here.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(contexts: &[u64]) -> Vec<TokenAt> {
        let place = |context: &u64| TokenAt {
            context: *context,
            position: 0,
        };
        contexts.iter().map(place).collect()
    }

    #[test]
    fn shares_by_hand() {
        assert_eq!(shared(&places(&[3, 1, 3, 2, 3])), 0.6);
        assert_eq!(shared(&places(&[1, 2])), 0.0);
        // Two of four rows, two contexts of two: the second is of the same context with probability 1/3.
        assert!((perfectly(4, 2, 2) - 1.0 / 3.0).abs() < 1e-12);
        // Three of six, contexts of two: alone with probability 4/5 * 3/4.
        assert!((perfectly(6, 2, 3) - 0.4).abs() < 1e-12);
        assert_eq!(perfectly(100, 1, 50), 0.0);
        // A buffer that keeps nothing is a shuffle of each filling, nearly so with rows drawn independently.
        assert!((mixed(6000, 0.0, 2, 3) - perfectly(6000, 2, 3)).abs() < 1e-6);
        assert!(mixed(4096, 0.5, 128, 256) < mixed(4096, 0.0, 128, 256));
    }
}
