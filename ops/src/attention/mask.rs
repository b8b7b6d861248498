//! What a query sees. Keys lie in slots; a slot may be padding, so slot and logical position differ, and the window is
//! measured in positions while causality is measured in slots. All other files ask here.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

/// Which key slots hold tokens: an optional prefix shared by all rows, then `pad[row]` empty slots, then the row's
/// tokens. Left padding is a prefix of 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyLayout {
    /// Slots `0..prefix` hold tokens in every row.
    pub prefix: usize,
    /// Empty slots after the prefix, for each batch row; an empty vector means none anywhere.
    pub pad: Vec<usize>,
}

impl KeyLayout {
    /// Empty slots of one row.
    pub fn pad(&self, row: usize) -> usize {
        self.pad.get(row).copied().unwrap_or(0)
    }

    /// Whether slot `slot` of batch row `row` holds a token.
    pub fn holds_token(&self, row: usize, slot: usize) -> bool {
        slot < self.prefix || slot >= self.prefix + self.pad(row)
    }

    /// Logical position of a slot that holds a token.
    pub fn position(&self, row: usize, slot: usize) -> usize {
        if slot < self.prefix {
            slot
        } else {
            slot.saturating_sub(self.pad(row))
        }
    }

    /// Consecutive logical positions of a row in two pieces, those in the prefix and those after the padding, each with
    /// the slot of its first; 0 for an empty piece.
    pub(super) fn pieces(&self, row: usize, all: &Range<usize>) -> [(Range<usize>, usize); 2] {
        let cut = self.prefix.clamp(all.start, all.end);
        [all.start..cut, cut..all.end].map(|positions| {
            let slot = if positions.is_empty() {
                0
            } else if positions.start < self.prefix {
                positions.start
            } else {
                positions.start + self.pad(row)
            };
            (positions, slot)
        })
    }
}

/// How attention is computed, beside the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Factor of the dot products, mostly `1 / √d`.
    pub scale: f64,
    /// `c · tanh(s / c)` on the scaled scores (Gemma 2).
    pub softcap: Option<f64>,
    /// A query sees only keys fewer than this many positions back, itself included; 0 is refused.
    pub window: Option<usize>,
    /// Which key slots hold tokens.
    pub layout: KeyLayout,
    /// Query `i` sits in slot `q_offset + i`.
    pub q_offset: usize,
}

impl AttentionSpec {
    /// Whether query `query` of batch row `row` sees key slot `slot`: not later, a token, and inside the window.
    pub fn sees(&self, row: usize, query: usize, slot: usize) -> bool {
        let own = self.q_offset + query;
        slot <= own && self.layout.holds_token(row, slot) && self.in_window(row, own, slot)
    }

    fn in_window(&self, row: usize, own: usize, slot: usize) -> bool {
        self.window.is_none_or(|window| {
            let query_position = self.layout.position(row, own);
            query_position.saturating_sub(self.layout.position(row, slot)) < window
        })
    }

    /// The slots that [`AttentionSpec::sees`] allows a query: the part inside the prefix, and the part after the padding.
    /// Each may be empty.
    pub(super) fn ranges(&self, row: usize, query: usize) -> [Range<usize>; 2] {
        let own = self.q_offset + query;
        let pad = self.layout.pad(row);
        let prefix = self.layout.prefix;
        let first_position = match self.window {
            Some(window) => (self.layout.position(row, own) + 1).saturating_sub(window),
            None => 0,
        };
        let shared = first_position..prefix.min(own + 1);
        let body = (prefix + pad).max(first_position + pad)..own + 1;
        [shared, body].map(|range| if range.is_empty() { 0..0 } else { range })
    }

    /// The logical positions of the keys that a query sees; they are consecutive. Empty if it sees none.
    pub(super) fn visible(&self, row: usize, query: usize) -> Range<usize> {
        let pad = self.layout.pad(row);
        let [shared, body] = self.ranges(row, query);
        match (shared.is_empty(), body.is_empty()) {
            (true, true) => 0..0,
            (false, true) => shared,
            (true, false) => body.start - pad..body.end - pad,
            (false, false) => shared.start..body.end - pad,
        }
    }

    /// Refuses a layout made for another batch.
    pub(super) fn check(&self, op: &str, q: &Tensor, k: &Tensor) -> Result<()> {
        let batch = q.dim(0)?;
        if !self.layout.pad.is_empty() && self.layout.pad.len() != batch {
            bail!(
                "{op}: the key layout has padding for {} rows, the batch has {batch}",
                self.layout.pad.len()
            );
        }
        if self.softcap.is_some_and(|cap| cap <= 0.0 || cap.is_nan()) {
            bail!(
                "{op}: softcap is {:?}, expected a positive number",
                self.softcap
            );
        }
        if self.window == Some(0) {
            bail!("{op}: window is 0, so that no query would see any key; use None for no window");
        }
        let last = self.q_offset + q.dim(1)?;
        let keys = k.dim(1)?;
        if last > keys {
            bail!("{op}: queries sit in slots up to {last}, there are {keys} key slots");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_the_slots_a_query_sees() {
        for prefix in 0..4 {
            for pad in 0..4 {
                for window in [None, Some(1), Some(3), Some(100)] {
                    for q_offset in 0..9 {
                        let layout = KeyLayout {
                            prefix,
                            pad: vec![pad],
                        };
                        let spec = AttentionSpec {
                            scale: 1.0,
                            softcap: None,
                            window,
                            layout,
                            q_offset,
                        };
                        let [a, b] = spec.ranges(0, 1);
                        let seen: Vec<usize> =
                            (0..20).filter(|&slot| spec.sees(0, 1, slot)).collect();
                        let positions: Vec<usize> = (0..20)
                            .filter(|&slot| spec.sees(0, 1, slot))
                            .map(|slot| spec.layout.position(0, slot))
                            .collect();
                        assert_eq!(spec.visible(0, 1).collect::<Vec<_>>(), positions);
                        assert_eq!(a.chain(b).collect::<Vec<_>>(), seen, "{spec:?}");
                    }
                }
            }
        }
    }
}
