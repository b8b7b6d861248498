//! A checkpoint held against itself: are its numbers sound, do its parts fit, does the forward pass keep its identities?
//! Against another implementation: `check.rs`.

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::{Batch, Checkpoint, KvCache, LogitsAt, ModelError};
use crate::files::scan_non_finite;
use crate::hooks::{Captured, HookPoint, Hooks, Point};

/// How one check came out.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was checked.
    pub name: &'static str,
    /// Whether it held.
    pub ok: bool,
    /// What was found, in words.
    pub found: String,
}

/// The largest relative error that passes by default.
pub const TOLERANCE: f64 = 2e-5;

/// Text for the checks: letters, digits, signs, line breaks and characters beyond ASCII.
const SAMPLE: &str =
    "The quick brown fox jumps over 13 lazy dogs.\n\tÜber naïve façades: 東京 – ok?";

/// Only the first tensors with NaN are named.
const NAMED: usize = 8;

/// All checks, in order of cost. That a checkpoint opens at all means that every tensor was found, none was left over
/// and the tokenizer has no id beyond the vocabulary.
///
/// # Errors
/// A pass that cannot run at all.
pub fn all(checkpoint: &Checkpoint, tolerance: f64) -> Result<Vec<Finding>, ModelError> {
    let names = checkpoint.opened().source().names().len();
    let mut findings = vec![Finding {
        name: "tensors",
        ok: true,
        found: format!("{names}, each of the shape the config implies, none left over"),
    }];
    findings.push(finite(checkpoint)?);
    findings.push(tokenizer(checkpoint));
    findings.push(template(checkpoint));
    let ids = sample_ids(checkpoint)?;
    findings.push(cached_equals_uncached(checkpoint, &ids, tolerance)?);
    findings.extend(identities(checkpoint, &ids, tolerance)?);
    Ok(findings)
}

fn finite(checkpoint: &Checkpoint) -> Result<Finding, ModelError> {
    let bad = scan_non_finite(checkpoint.opened().source())?;
    let named = bad
        .iter()
        .take(NAMED)
        .map(|(name, n)| format!("{name}: {n}"));
    let more = match bad.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more tensors"),
    };
    Ok(Finding {
        name: "finite",
        ok: bad.is_empty(),
        found: if bad.is_empty() {
            "no NaN, no infinity".to_owned()
        } else {
            format!(
                "NaN or infinite numbers in {}{more}",
                named.collect::<Vec<_>>().join(", ")
            )
        },
    })
}

fn tokenizer(checkpoint: &Checkpoint) -> Finding {
    let words = &checkpoint.tokenizer;
    let rows = checkpoint.config().vocab_size;
    let text = words
        .encode(SAMPLE, false)
        .and_then(|ids| Ok((ids.len(), words.decode(&ids, false)?)));
    let (ok, found) = match text {
        Err(error) => (false, error.to_string()),
        Ok((0, _)) => (false, "a sample text has no tokens".to_owned()),
        Ok((n, text)) => {
            let back = if text == SAMPLE {
                "and comes back the same"
            } else {
                "and comes back changed, as some tokenizers do"
            };
            let size = words.vocab_size();
            (
                true,
                format!("{size} tokens for {rows} rows; a sample text has {n} tokens {back}"),
            )
        }
    };
    Finding {
        name: "tokenizer",
        ok,
        found,
    }
}

fn template(checkpoint: &Checkpoint) -> Finding {
    let (ok, found) = if checkpoint.template.is_none() {
        (true, "none; prompts are bare text".to_owned())
    } else {
        match checkpoint.encode_prompt("Hello", None) {
            Ok(chat) => (
                true,
                format!("a one-word prompt has {} tokens", chat.ids.len()),
            ),
            Err(error) => (false, error.to_string()),
        }
    };
    Finding {
        name: "template",
        ok,
        found,
    }
}

/// A few tokens of the sample text; any tokens where the tokenizer has none.
fn sample_ids(checkpoint: &Checkpoint) -> Result<Vec<u32>, ModelError> {
    let mut ids = checkpoint
        .tokenizer
        .encode(SAMPLE, true)
        .unwrap_or_default();
    if ids.len() < 2 {
        ids = vec![0, 1, 0];
    }
    ids.truncate(24.min(checkpoint.config().max_positions()));
    match ids.len() {
        0 => Err(ModelError::Empty {
            what: "the model's context",
        }),
        _ => Ok(ids),
    }
}

fn cached_equals_uncached(
    checkpoint: &Checkpoint,
    ids: &[u32],
    tolerance: f64,
) -> Result<Finding, ModelError> {
    let model = &checkpoint.decoder;
    let whole = model
        .forward(&Batch::single(ids)?, &Hooks::new(), LogitsAt::Last)?
        .logits()?;
    let mut cache = KvCache::new(model.config(), 1, ids.len());
    let mut last = None;
    for id in ids {
        let batch = Batch::single(std::slice::from_ref(id))?;
        let output = model.forward_cached(&batch, &mut cache, &Hooks::new(), LogitsAt::Last)?;
        last = Some(output.logits()?);
    }
    let error = relative(&last.unwrap_or_else(|| whole.clone()), &whole)?;
    Ok(bounded(
        "cache",
        "one token at a time differs by",
        error,
        tolerance,
    ))
}

/// `resid_pre + attn_contrib + mlp_contrib = resid_post`, and rows of each pattern sum to 1: what must hold whatever
/// the weights.
fn identities(
    checkpoint: &Checkpoint,
    ids: &[u32],
    tolerance: f64,
) -> Result<Vec<Finding>, ModelError> {
    let points = [
        Point::ResidPre,
        Point::AttnContrib,
        Point::MlpContrib,
        Point::ResidPost,
        Point::Pattern,
    ];
    let n_layers = checkpoint.config().n_layers;
    let mut hooks = Hooks::new();
    for layer in 0..n_layers {
        hooks = points.iter().fold(hooks, |hooks, &point| {
            hooks.capture(HookPoint::new(point, layer))
        });
    }
    let output = checkpoint
        .decoder
        .forward(&Batch::single(ids)?, &hooks, LogitsAt::None)?;
    let at = |point, layer| found(&output.captured, HookPoint::new(point, layer));
    let (mut stream, mut rows) = (0.0f64, 0.0f64);
    for layer in 0..n_layers {
        let parts = (at(Point::ResidPre, layer)? + at(Point::AttnContrib, layer)?)?;
        let sum = (parts + at(Point::MlpContrib, layer)?)?;
        stream = worse(stream, relative(&sum, at(Point::ResidPost, layer)?)?);
        let totals = at(Point::Pattern, layer)?.sum(candle_core::D::Minus1)?;
        rows = worse(rows, relative(&totals, &totals.ones_like()?)?);
    }
    Ok(vec![
        bounded(
            "stream",
            "resid_pre + attn_contrib + mlp_contrib differs from resid_post by",
            stream,
            tolerance,
        ),
        bounded(
            "patterns",
            "rows of attention patterns differ from 1 by",
            rows,
            tolerance,
        ),
    ])
}

fn found(captured: &Captured, at: HookPoint) -> Result<&Tensor, ModelError> {
    captured.get(&at).ok_or(ModelError::Empty {
        what: "a captured point",
    })
}

fn bounded(name: &'static str, what: &str, error: f64, tolerance: f64) -> Finding {
    Finding {
        name,
        // An error that is NaN is above any tolerance.
        ok: error <= tolerance,
        found: format!("{what} {error:.1e} (largest, relative)"),
    }
}

/// The larger; NaN if either is.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// Largest difference over the largest value of `b`; NaN where either holds one.
fn relative(a: &Tensor, b: &Tensor) -> Result<f64, ModelError> {
    let flat = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (a, b) = (flat(a)?, flat(b)?);
    let largest = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, worse);
    let scale = b.iter().map(|b| b.abs()).fold(0.0, worse);
    Ok(if largest == 0.0 { 0.0 } else { largest / scale })
}
