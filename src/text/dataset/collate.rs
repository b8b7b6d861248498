//! Rows of unlike length side by side, padded on one side.
//!
//! Always: what is padding is said by [`Padded::real`], never by the padding's id, which may be a token that means something.

use super::Example;

/// Where padding goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the row: all rows end in the last slot.
    Left,
    /// After the row: all rows begin in the first slot.
    Right,
}

/// Rows of one length, each field `[rows, len]` row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Padded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Targets of the loss.
    pub supervised: Vec<bool>,
    /// A token of the row, not padding.
    pub real: Vec<bool>,
    /// Tokens of each row.
    pub lengths: Vec<usize>,
    /// Slots of a row.
    pub len: usize,
}

/// Pads examples with `pad` to the longest of them.
pub fn collate(examples: &[&Example], pad: u32, side: Side) -> Padded {
    let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
    let len = lengths.iter().copied().max().unwrap_or(0);
    let slots = len * examples.len();
    let mut out = Padded {
        ids: vec![pad; slots],
        supervised: vec![false; slots],
        real: vec![false; slots],
        lengths,
        len,
    };
    for (row, example) in examples.iter().enumerate() {
        let start = row * len
            + match side {
                Side::Left => len - example.ids.len(),
                Side::Right => 0,
            };
        let slots = start..start + example.ids.len();
        out.ids[slots.clone()].copy_from_slice(&example.ids);
        out.supervised[slots.clone()].copy_from_slice(&example.supervised);
        out.real[slots].fill(true);
    }
    out
}
