//! The lens as JSON, schema `candlescope.lens/1`: axes first, then one object for each row and position.

use serde_json::{Value, json};

use super::{Cell, LogitLens, Ranked};

/// Name of the format.
pub const SCHEMA: &str = "candlescope.lens/1";

/// The whole lens; `token` gives the text of an id.
pub fn json(lens: &LogitLens, token: impl Fn(u32) -> String) -> Value {
    let tokens = |ids: &[u32]| -> Vec<Value> {
        ids.iter()
            .map(|&id| json!({"id": id, "text": token(id)}))
            .collect()
    };
    let ranked =
        |r: &Ranked| json!({"id": r.id, "text": token(r.id), "probability": r.probability});
    let cell = |cell: &Cell| {
        json!({
            "top": cell.top.iter().map(ranked).collect::<Vec<_>>(),
            "entropy": cell.entropy,
            "kl": cell.kl,
            "target_rank": cell.target_rank,
            "target_log_prob": cell.target_log_prob,
            "norm": cell.norm,
        })
    };
    let row = |cells: &Vec<Cell>| Value::from(cells.iter().map(cell).collect::<Vec<_>>());
    let points: Vec<_> = lens.rows.iter().map(|r| r.point().to_string()).collect();
    json!({
        "schema": SCHEMA,
        "units": {
            "entropy": "nats", "kl": "KL(final || layer), nats", "target_log_prob": "nats",
            "target_rank": "1 = likeliest", "norm": "Euclidean norm of the residual stream",
        },
        "axes": ["row", "position"],
        "rows": lens.rows,
        "points": points,
        "positions": lens.positions,
        "tokens": tokens(&lens.tokens),
        "targets": tokens(&lens.targets),
        "cells": lens.cells.iter().map(row).collect::<Vec<_>>(),
    })
}
