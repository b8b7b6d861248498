//! The KV cache: keys and values of the slots computed so far, and the layout that says which slot is which token.
//!
//! Slots of a row are `[shared prefix][padding][its own tokens]`: rows are left-padded after a prefix that all share, so
//! the last slot is the last token of every row. Keys are stored after the rotary embedding.

use candle_core::{DType, Device, Result as CandleResult, Tensor};
use candlescope_ops::KeyLayout;

use super::ModelError;
use crate::config::ModelConfig;

/// Keys and values of every layer, `[batch, capacity, kv_head, d_head]`.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Option<(Tensor, Tensor)>>,
    batch: usize,
    capacity: usize,
    len: usize,
    layout: KeyLayout,
    edits_id: Option<u64>,
    prompt_end: Option<usize>,
}

impl KvCache {
    /// Empty, for `batch` rows and at least `capacity` slots (it grows when more are needed).
    pub fn new(config: &ModelConfig, batch: usize, capacity: usize) -> Self {
        let layout = KeyLayout {
            prefix: 0,
            pad: vec![0; batch],
        };
        Self {
            layers: vec![None; config.n_layers],
            batch,
            capacity,
            len: 0,
            layout,
            edits_id: None,
            prompt_end: None,
        }
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first pass.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Which slots hold tokens.
    pub fn layout(&self) -> &KeyLayout {
        &self.layout
    }

    /// Identity of the edits the slots were computed under.
    pub fn edits_id(&self) -> Option<u64> {
        self.edits_id
    }

    /// Says under which edits its slots are as they would be, by the word of the caller.
    pub(super) fn set_edits_id(&mut self, edits_id: Option<u64>) {
        self.edits_id = edits_id;
    }

    /// The slot where the prompts end, if somebody said so.
    pub fn prompt_end(&self) -> Option<usize> {
        self.prompt_end
    }

    /// Says where the prompts end, for edits that tell them from what is generated; without it each pass is all prompt.
    pub fn set_prompt_end(&mut self, slot: usize) {
        self.prompt_end = Some(slot);
    }

    /// Declares the padding of the next pass, once, before its tokens: after nothing or after a shared prefix.
    pub(super) fn set_padding(&mut self, pad: &[usize]) -> Result<(), ModelError> {
        if pad.len() != self.batch {
            let why = format!("it has {} rows, the batch {}", self.batch, pad.len());
            return Err(ModelError::Cache { why });
        }
        if pad.iter().all(|&p| p == 0) {
            return Ok(());
        }
        let fresh = self.layout.pad.iter().all(|&p| p == 0);
        if !fresh || (self.len > 0 && self.layout.prefix != self.len) {
            let why = "padding can only follow a shared prefix; later passes must give every row as many tokens";
            return Err(ModelError::Cache { why: why.into() });
        }
        self.layout.pad = pad.to_vec();
        Ok(())
    }

    /// Appends this pass's keys and values of a layer and returns views of all slots so far.
    pub(super) fn append(
        &mut self,
        layer: usize,
        k: &Tensor,
        v: &Tensor,
    ) -> CandleResult<(Tensor, Tensor)> {
        let new = k.dim(1)?;
        let needed = self.len + new;
        if needed > self.capacity {
            self.grow(needed)?;
        }
        if self.layers[layer].is_none() {
            let (_, _, heads, d_head) = k.dims4()?;
            let shape = (self.batch, self.capacity, heads, d_head);
            self.layers[layer] = Some((
                Tensor::zeros(shape, k.dtype(), &Device::Cpu)?,
                Tensor::zeros(shape, v.dtype(), &Device::Cpu)?,
            ));
        }
        let Some((keys, values)) = &self.layers[layer] else {
            candle_core::bail!("no cache for layer {layer}")
        };
        keys.slice_set(&k.contiguous()?, 1, self.len)?;
        values.slice_set(&v.contiguous()?, 1, self.len)?;
        Ok((keys.narrow(1, 0, needed)?, values.narrow(1, 0, needed)?))
    }

    /// Whether every layer below `layer` has slots, in use or not.
    pub(super) fn begun(&self, layer: usize) -> bool {
        self.layers.iter().take(layer).all(Option::is_some)
    }

    /// Counts a finished pass.
    pub(super) fn advance(&mut self, new: usize, edits_id: Option<u64>) {
        self.len += new;
        self.edits_id = edits_id;
    }

    /// Doubles the capacity until `needed` fits.
    fn grow(&mut self, needed: usize) -> CandleResult<()> {
        let capacity = needed.max(2 * self.capacity);
        for slot in self.layers.iter_mut().flatten() {
            *slot = (
                self::enlarged(&slot.0, capacity, self.len)?,
                self::enlarged(&slot.1, capacity, self.len)?,
            );
        }
        self.capacity = capacity;
        Ok(())
    }

    /// A cache of `batch` rows which all begin with this cache's only row. Exact: the values are copied, not recomputed.
    pub fn shared_by(&self, batch: usize, capacity: usize) -> Result<Self, ModelError> {
        if self.batch != 1 {
            return Err(ModelError::Cache {
                why: format!("a shared prefix has one row, this cache {}", self.batch),
            });
        }
        let capacity = capacity.max(self.len + 1);
        let copy = |t: &Tensor| -> CandleResult<Tensor> {
            let (_, _, heads, d_head) = t.dims4()?;
            let out = Tensor::zeros((batch, capacity, heads, d_head), t.dtype(), &Device::Cpu)?;
            if self.len > 0 {
                let prefix = t
                    .narrow(1, 0, self.len)?
                    .broadcast_as((batch, self.len, heads, d_head))?;
                out.slice_set(&prefix.contiguous()?, 1, 0)?;
            }
            Ok(out)
        };
        let layers = self.each(copy)?;
        let layout = KeyLayout {
            prefix: self.len,
            pad: vec![0; batch],
        };
        Ok(Self {
            layers,
            batch,
            capacity,
            len: self.len,
            layout,
            edits_id: self.edits_id,
            prompt_end: None,
        })
    }

    /// What `change` makes of the keys and values of each layer.
    fn each(
        &self,
        change: impl Fn(&Tensor) -> CandleResult<Tensor>,
    ) -> CandleResult<Vec<Option<(Tensor, Tensor)>>> {
        let pair = |(k, v): &(Tensor, Tensor)| Ok((change(k)?, change(v)?));
        let layers = self.layers.iter();
        layers
            .map(|layer| layer.as_ref().map(pair).transpose())
            .collect()
    }

    /// An independent copy, to branch from.
    pub fn fork(&self) -> Result<Self, ModelError> {
        let layers = self.each(Tensor::force_contiguous)?;
        Ok(Self {
            layers,
            batch: self.batch,
            capacity: self.capacity,
            len: self.len,
            layout: self.layout.clone(),
            edits_id: self.edits_id,
            prompt_end: self.prompt_end,
        })
    }

    /// Forgets all slots from `len` on (rewind).
    pub fn truncate(&mut self, len: usize) -> Result<(), ModelError> {
        let padded = self.layout.prefix + self.layout.pad.iter().copied().max().unwrap_or(0);
        if len > self.len || (len < padded && len != 0) {
            return Err(ModelError::Cache {
                why: format!("it has {} slots and cannot be cut to {len}", self.len),
            });
        }
        self.len = len;
        if len == 0 {
            self.layout = KeyLayout {
                prefix: 0,
                pad: vec![0; self.batch],
            };
        }
        Ok(())
    }

    /// Keeps these rows, in this order (finished rows leave a batch).
    pub fn keep_rows(&mut self, rows: &[u32]) -> Result<(), ModelError> {
        let index = Tensor::new(rows, &Device::Cpu)?;
        for slot in self.layers.iter_mut().flatten() {
            *slot = (
                slot.0.index_select(&index, 0)?,
                slot.1.index_select(&index, 0)?,
            );
        }
        self.layout.pad = rows.iter().map(|&r| self.layout.pad[r as usize]).collect();
        self.batch = rows.len();
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let size = |t: &Tensor| t.elem_count() * DType::size_in_bytes(&t.dtype());
        self.layers
            .iter()
            .flatten()
            .map(|(k, v)| size(k) + size(v))
            .sum()
    }
}

fn enlarged(old: &Tensor, capacity: usize, len: usize) -> CandleResult<Tensor> {
    let (batch, _, heads, d_head) = old.dims4()?;
    let new = Tensor::zeros((batch, capacity, heads, d_head), old.dtype(), &Device::Cpu)?;
    if len > 0 {
        new.slice_set(&old.narrow(1, 0, len)?.contiguous()?, 1, 0)?;
    }
    Ok(new)
}
