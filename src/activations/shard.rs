//! One shard in the making: encoded bytes of each tensor, then a safetensors file.
//!
//! Always: tensors come in the order of their element size, so that each begins at a multiple of it: numbers of rows, scales of
//! int8, values, marks. Values are encoded in `codec.rs`.

use std::path::Path;

use candle_core::DType;
use serde_json::{Map, json};

use super::{
    CaptureSpec, Facts, StoreDtype, StoreError, Tally,
    codec::Codec,
    harvest::{norms, taken},
    manifest::ShardInfo,
    plan::{ShardPlan, by_row, inner_dims},
    policy::Reason,
};
use crate::config::ModelConfig;
use crate::files::{
    hash::sha256_file,
    write::{header_bytes, write_atomic_parts},
};
use crate::hooks::{Captured, HookPoint};

/// Marks of the tokens that training does not see: a [`Reason`] each.
pub(super) const LEFT_OUT: &str = "left_out";

/// A tensor of the file to be.
struct Column<'a> {
    name: String,
    tag: &'static str,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

/// A tensor of values that grows.
struct Growing {
    at: HookPoint,
    name: String,
    shape: Vec<usize>,
    codec: Codec,
}

/// A shard that grows row by row.
pub(super) struct Shard<'a> {
    spec: &'a CaptureSpec,
    plan: &'a ShardPlan,
    /// What training leaves out, and the medians of the points that are stored by token.
    facts: Option<(&'a Facts, Vec<f64>)>,
    /// `token_ids`, `row`, `position`.
    index: [(&'static str, Vec<u8>); 3],
    /// Points that are stored by token, in the order of the spec.
    by_token: Vec<Growing>,
    /// Attention points, a tensor for each row.
    by_row: Vec<Growing>,
    marks: Vec<u8>,
    tally: Tally,
    rows: usize,
}

/// Where a row lies in the tensors of its batch.
pub(super) struct Place {
    /// Index in the batch.
    pub(super) slot: usize,
    /// Padding in front of it.
    pub(super) pad: usize,
    /// Positions of the captured tensors that were dropped in front (a capture of the last ones only).
    pub(super) dropped: usize,
}

impl<'a> Shard<'a> {
    pub(super) fn new(
        spec: &'a CaptureSpec,
        config: &ModelConfig,
        plan: &'a ShardPlan,
        facts: Option<&'a Facts>,
    ) -> Self {
        let tokens = plan.tokens as usize;
        let points = spec.points.iter().filter(|at| !by_row(**at));
        let growing = |at: &HookPoint| {
            let mut shape = vec![tokens];
            shape.extend(inner_dims(*at, config));
            Growing {
                at: *at,
                name: at.to_string(),
                codec: Codec::new(spec.dtype, *at, shape.iter().product(), tokens),
                shape,
            }
        };
        let by_token: Vec<Growing> = points.map(growing).collect();
        let points: Vec<HookPoint> = by_token.iter().map(|g| g.at).collect();
        Self {
            facts: facts.map(|f| (f, f.medians(&points).unwrap_or_default())),
            index: ["token_ids", "row", "position"]
                .map(|name| (name, Vec::with_capacity(tokens * 8))),
            by_token,
            by_row: Vec::new(),
            marks: Vec::new(),
            tally: Tally::default(),
            rows: 0,
            spec,
            plan,
        }
    }

    /// Adds the next row: its real tokens only.
    pub(super) fn push(
        &mut self,
        ids: &[u32],
        captured: &Captured,
        place: &Place,
    ) -> Result<(), StoreError> {
        let row = self.plan.rows.start + self.rows;
        let kept = self.spec.kept.of(ids.len());
        for position in kept.clone() {
            let values = [i64::from(ids[position]), row as i64, position as i64];
            for ((_, bytes), value) in self.index.iter_mut().zip(values) {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        let start = place.pad + kept.start - place.dropped;
        let take = |growing: &Growing| taken(captured, growing.at, place.slot, start, kept.len());
        let values: Vec<Vec<f32>> = self.by_token.iter().map(take).collect::<Result<_, _>>()?;
        let reasons = self.judge(ids, &values, row)?;
        for (growing, values) in self.by_token.iter_mut().zip(&values) {
            let width = (values.len() / kept.len().max(1)).max(1);
            for (values, reason) in values.chunks(width).zip(&reasons) {
                growing.codec.push(values, *reason == Reason::Kept, row)?;
            }
        }
        self.push_attention(ids, captured, place, row)?;
        self.rows += 1;
        Ok(())
    }

    /// Why training leaves out each stored token of a row; nothing is left out without a policy.
    fn judge(
        &mut self,
        ids: &[u32],
        values: &[Vec<f32>],
        row: usize,
    ) -> Result<Vec<Reason>, StoreError> {
        let Some((facts, medians)) = &self.facts else {
            return Ok(vec![Reason::Kept; self.spec.kept.of(ids.len()).len()]);
        };
        let norms: Vec<Vec<f64>> = values.iter().map(|v| norms(v, ids.len())).collect();
        for (growing, norms) in self.by_token.iter().zip(&norms) {
            if let Some(position) = norms.iter().position(|n| !n.is_finite()) {
                return Err(StoreError::NotFinite {
                    point: growing.name.clone(),
                    row: format!("{row}, position {position}"),
                    value: norms[position] as f32,
                });
            }
        }
        let reasons = facts.policy.judge(ids, &norms, medians);
        self.tally.count(&reasons);
        self.marks.extend(reasons.iter().map(|r| *r as u8));
        Ok(reasons)
    }

    fn push_attention(
        &mut self,
        ids: &[u32],
        captured: &Captured,
        place: &Place,
        row: usize,
    ) -> Result<(), StoreError> {
        let kept = self.spec.kept.of(ids.len());
        let start = place.pad + kept.start - place.dropped;
        for at in self.spec.points.iter().filter(|at| by_row(**at)) {
            let tensor = captured.get(at).ok_or(crate::model::ModelError::Empty {
                what: "the pass captured nothing at a point",
            })?;
            let values = tensor
                .get(place.slot)?
                .narrow(1, start, kept.len())?
                .narrow(2, place.pad, ids.len())?
                .to_dtype(DType::F32)?;
            let shape = values.dims().to_vec();
            let values = values.flatten_all()?.to_vec1::<f32>()?;
            let mut codec = Codec::new(self.spec.dtype, *at, values.len(), 0);
            codec.push(&values, false, row)?;
            self.by_row.push(Growing {
                at: *at,
                name: row_tensor(*at, row),
                shape,
                codec,
            });
        }
        Ok(())
    }

    /// Writes the shard atomically and hashes what is on the disk.
    pub(super) fn write(self, folder: &Path, name: String) -> Result<ShardInfo, StoreError> {
        let path = folder.join(&name);
        let columns = self.columns();
        let header = header(&columns);
        let bytes = header.len() + columns.iter().map(|c| c.bytes.len()).sum::<usize>();
        let parts = std::iter::once(header.as_slice()).chain(columns.iter().map(|c| c.bytes));
        write_atomic_parts(&path, parts)?;
        let lossy = self.spec.dtype != StoreDtype::F32;
        let lost = self.by_token.iter().filter(|_| lossy);
        Ok(ShardInfo {
            sha256: sha256_file(&path)?,
            bytes: bytes as u64,
            file: name,
            first_row: self.plan.rows.start,
            rows: self.rows,
            tokens: self.plan.tokens,
            tally: self.facts.as_ref().map(|_| self.tally),
            lost: lost.map(|growing| growing.codec.lost.clone()).collect(),
        })
    }

    fn columns(&self) -> Vec<Column<'_>> {
        let tokens = vec![self.plan.tokens as usize];
        let column = |name: String, tag, shape: Vec<usize>, bytes| Column {
            name,
            tag,
            shape,
            bytes,
        };
        let index = self.index.iter();
        let index = index.map(|(name, bytes)| column((*name).into(), "I64", tokens.clone(), bytes));
        let int8 = self.spec.dtype == StoreDtype::Int8;
        let scales = self.by_token.iter().filter(|_| int8);
        let scales = scales.map(|g| {
            let name = scale_tensor(g.at);
            column(name, "F32", tokens.clone(), &g.codec.scales)
        });
        let values = self.by_token.iter().chain(&self.by_row);
        let values = values.map(|g| {
            let tag = g.codec.dtype.tag();
            column(g.name.clone(), tag, g.shape.clone(), &g.codec.bytes)
        });
        let marks = self.facts.iter();
        let marks = marks.map(|_| column(LEFT_OUT.into(), "U8", tokens.clone(), &self.marks));
        index.chain(scales).chain(values).chain(marks).collect()
    }
}

/// `resid_post.3/scale`
pub(super) fn scale_tensor(at: HookPoint) -> String {
    format!("{at}/scale")
}

/// `pattern.3/row-12`
pub(super) fn row_tensor(at: HookPoint, row: usize) -> String {
    format!("{at}/row-{row}")
}

fn header(columns: &[Column]) -> Vec<u8> {
    let mut object = Map::new();
    object.insert(
        "__metadata__".into(),
        json!({"format": "pt", "schema": super::manifest::SCHEMA}),
    );
    let mut at = 0;
    for column in columns {
        let end = at + column.bytes.len();
        let entry = json!({"dtype": column.tag, "shape": column.shape, "data_offsets": [at, end]});
        object.insert(column.name.clone(), entry);
        at = end;
    }
    header_bytes(object)
}
