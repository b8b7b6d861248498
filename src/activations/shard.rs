//! One shard in the making: encoded bytes of each tensor, then a safetensors file.
//!
//! Integers come first, so that every tensor begins at a multiple of its element size.

use std::path::Path;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use serde_json::{Map, json};

use super::{
    CaptureSpec, StoreDtype, StoreError,
    manifest::ShardInfo,
    plan::{ShardPlan, by_row, inner_dims},
};
use crate::config::ModelConfig;
use crate::files::{
    hash::sha256_file,
    write::{header_bytes, write_atomic_parts},
};
use crate::hooks::{Captured, HookPoint};

/// A tensor of the file to be.
struct Column {
    name: String,
    tag: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A shard that grows row by row.
pub(super) struct Shard<'a> {
    spec: &'a CaptureSpec,
    plan: &'a ShardPlan,
    /// `token_ids`, `row`, `position`.
    index: [Column; 3],
    /// Points that are stored by token, in the order of the spec.
    by_token: Vec<(HookPoint, Column)>,
    /// Attention points, a tensor for each row.
    by_row: Vec<Column>,
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
    pub(super) fn new(spec: &'a CaptureSpec, config: &ModelConfig, plan: &'a ShardPlan) -> Self {
        let tokens = plan.tokens as usize;
        let ints = |name: &str| Column {
            name: name.into(),
            tag: "I64",
            shape: vec![tokens],
            bytes: Vec::with_capacity(tokens * 8),
        };
        let points = spec.points.iter().filter(|at| !by_row(**at));
        let column = |at: &HookPoint| {
            let mut shape = vec![tokens];
            shape.extend(inner_dims(*at, config));
            let size = shape.iter().product::<usize>() * spec.dtype.size() as usize;
            let column = Column {
                name: at.to_string(),
                tag: spec.dtype.tag(),
                shape,
                bytes: Vec::with_capacity(size),
            };
            (*at, column)
        };
        Self {
            index: ["token_ids", "row", "position"].map(ints),
            by_token: points.map(column).collect(),
            by_row: Vec::new(),
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
            for (column, value) in self.index.iter_mut().zip(values) {
                column.bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        let start = place.pad + kept.start - place.dropped;
        let tensor = |at: &HookPoint| {
            captured.get(at).ok_or(crate::model::ModelError::Empty {
                what: "the pass captured nothing at a point",
            })
        };
        for (at, column) in &mut self.by_token {
            let values = tensor(at)?.get(place.slot)?.narrow(0, start, kept.len())?;
            append(&mut column.bytes, &values, self.spec.dtype, *at, row)?;
        }
        for at in self.spec.points.iter().filter(|at| by_row(**at)) {
            let values = tensor(at)?
                .get(place.slot)?
                .narrow(1, start, kept.len())?
                .narrow(2, place.pad, ids.len())?;
            let mut column = Column {
                name: row_tensor(*at, row),
                tag: self.spec.dtype.tag(),
                shape: values.dims().to_vec(),
                bytes: Vec::with_capacity(values.elem_count() * self.spec.dtype.size() as usize),
            };
            append(&mut column.bytes, &values, self.spec.dtype, *at, row)?;
            self.by_row.push(column);
        }
        self.rows += 1;
        Ok(())
    }

    /// Writes the shard atomically and hashes what is on the disk.
    pub(super) fn write(self, folder: &Path, name: String) -> Result<ShardInfo, StoreError> {
        let path = folder.join(&name);
        let columns: Vec<&Column> = self
            .index
            .iter()
            .chain(self.by_token.iter().map(|(_, column)| column))
            .chain(&self.by_row)
            .collect();
        let header = header(&columns);
        let parts = std::iter::once(header.as_slice())
            .chain(columns.iter().map(|column| column.bytes.as_slice()));
        write_atomic_parts(&path, parts)?;
        Ok(ShardInfo {
            sha256: sha256_file(&path)?,
            bytes: (header.len() + columns.iter().map(|c| c.bytes.len()).sum::<usize>()) as u64,
            file: name,
            first_row: self.plan.rows.start,
            rows: self.rows,
            tokens: self.plan.tokens,
        })
    }
}

/// `pattern.3/row-12`
pub(super) fn row_tensor(at: HookPoint, row: usize) -> String {
    format!("{at}/row-{row}")
}

fn header(columns: &[&Column]) -> Vec<u8> {
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

fn append(
    out: &mut Vec<u8>,
    values: &Tensor,
    dtype: StoreDtype,
    at: HookPoint,
    row: usize,
) -> Result<(), StoreError> {
    let values = values
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    match dtype {
        StoreDtype::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        StoreDtype::BF16 => {
            out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
        }
        StoreDtype::F16 => {
            let lost = |v: &&f32| v.is_finite() && f16::from_f32(**v).is_infinite();
            if let Some(&value) = values.iter().find(lost) {
                return Err(StoreError::Overflow {
                    point: at.to_string(),
                    row,
                    value,
                });
            }
            out.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
        }
    }
    Ok(())
}
