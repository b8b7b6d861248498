//! A dictionary written in SAELens's format, read back and compared: what `sae import` and `sae export` have in common.
//!
//! Always: nothing half-written; what is there already is never touched. The two dictionaries are run on the same made-up
//! rows, and a difference beyond rounding is an error.

use std::path::{Path, PathBuf};

use anyhow::Context;
use candlescope_sae::{Dictionary, dense, format};
use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::cli::output::{Out, Table};
use crate::features::Opened;
use crate::model::convert::in_new_folder;

/// Rows that both are run on.
const ROWS: usize = 64;
/// Latents whose encoder rows make up a row, so that something fires.
const MIXED: usize = 8;
/// Relative to the largest, what the two may differ by.
const TOLERANCE: f64 = 1e-5;

/// What was written, and how it compares.
#[derive(Debug, Serialize)]
pub struct Rewritten {
    from: String,
    format: &'static str,
    dialect: String,
    folder: PathBuf,
    files: Vec<String>,
    /// As SAELens names it.
    architecture: String,
    d_in: usize,
    d_out: usize,
    d_sae: usize,
    /// What reading found.
    notes: Vec<String>,
    /// What writing changed.
    folded: Vec<String>,
    /// Whether every number is what was read.
    identical: bool,
    compared: Compared,
}

/// How two dictionaries differ on the same rows.
#[derive(Debug, Serialize)]
struct Compared {
    rows: usize,
    /// Codes that are not 0.
    fired: usize,
    /// Largest difference of a code, relative to the largest code.
    codes: f64,
    /// Largest difference of an output, relative to the largest output.
    outputs: f64,
}

/// Writes a dictionary into a new folder.
pub fn rewrite(opened: &Opened, folder: &Path) -> anyhow::Result<Rewritten> {
    let source = &opened.dictionary;
    let mut compared = None;
    let files = in_new_folder(folder, |hidden| -> anyhow::Result<()> {
        format::write_saelens(source, hidden, opened.found.sparsity.as_deref())?;
        let (back, found) = format::read(hidden)?;
        let differences = compare(source, &back)?;
        anyhow::ensure!(
            differences.codes <= TOLERANCE && differences.outputs <= TOLERANCE,
            "{}: in SAELens's format its codes would differ by {:.1e} and its outputs by {:.1e}",
            opened.name,
            differences.codes,
            differences.outputs
        );
        compared = Some((differences, back, found));
        Ok(())
    })?;
    let (compared, back, found) = compared.context("nothing was written")?;
    Ok(Rewritten {
        from: opened.name.clone(),
        format: opened.found.format.name(),
        dialect: opened.found.dialect.clone(),
        folder: folder.to_owned(),
        files,
        architecture: found.dialect,
        d_in: source.d_in(),
        d_out: source.d_out(),
        d_sae: source.d_sae(),
        notes: opened.found.notes.clone(),
        folded: folded(source, &back),
        identical: same_numbers(source, &back),
        compared,
    })
}

fn folded(source: &Dictionary, back: &Dictionary) -> Vec<String> {
    let (before, after) = (source.parts(), back.parts());
    let mut folded = Vec::new();
    if before.centred && !after.centred {
        folded.push(
            "b_dec is no longer taken off what is read: it was folded into b_enc, as SAELens's transcoders have it".into(),
        );
    } else if before.encoder_bias != after.encoder_bias {
        folded.push("b_enc holds other numbers, with the same effect".into());
    }
    if before.encoder != after.encoder {
        folded.push("W_enc holds other numbers, with the same effect".into());
    }
    if before.decoder != after.decoder {
        folded.push("W_dec holds other numbers, with the same effect".into());
    }
    if before.activation.name() != after.activation.name() {
        folded.push(format!(
            "{} was written as {}",
            before.activation.name(),
            after.activation.name()
        ));
    }
    let (before, after) = (&before.about, &after.about);
    for (what, before, after) in [
        ("reads", &before.reads, &after.reads),
        ("writes", &before.writes, &after.writes),
    ] {
        if before != after {
            folded.push(format!(
                "it {what} {}, and SAELens's words for that are read back as {}",
                listed(before),
                listed(after)
            ));
        }
    }
    folded
}

fn listed(points: &[String]) -> String {
    if points.is_empty() {
        return "nothing that is named".into();
    }
    points.join(", ")
}

fn same_numbers(source: &Dictionary, back: &Dictionary) -> bool {
    let plain = |dictionary: &Dictionary| {
        let mut parts = dictionary.parts().clone();
        parts.about = candlescope_sae::About::default();
        parts
    };
    plain(source) == plain(back)
}

fn compare(source: &Dictionary, back: &Dictionary) -> anyhow::Result<Compared> {
    let rows = rows(source);
    let [one, other] = [source, back].map(|d| d.encode(rows.view()));
    let (one, other) = (one?, other?);
    let fired = one.values.iter().filter(|v| **v != 0.0).count();
    let [before, after] = [&one, &other].map(|codes| dense(codes, source.d_sae()));
    let outputs = [source, back].map(|d| d.reconstruct(rows.view()));
    let [one, other] = outputs;
    Ok(Compared {
        rows: ROWS,
        fired,
        codes: difference(&before, &after),
        outputs: difference(&one?, &other?),
    })
}

/// Rows on which some latents fire: encoder rows of drawn latents, and noise.
fn rows(dictionary: &Dictionary) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let parts = dictionary.parts();
    let mut rows = Array2::zeros((ROWS, dictionary.d_in()));
    for mut row in rows.axis_iter_mut(Axis(0)) {
        if parts.centred {
            row += &parts.decoder_bias;
        }
        for _ in 0..MIXED {
            let encoder = parts.encoder.row(rng.random_range(0..dictionary.d_sae()));
            let norm = encoder.dot(&encoder).sqrt().max(f32::MIN_POSITIVE);
            row.scaled_add(rng.random_range(0.0..20.0) / norm, &encoder);
        }
        row.mapv_inplace(|x: f32| x + rng.random_range(-0.1..0.1));
    }
    rows
}

fn difference(one: &Array2<f32>, other: &Array2<f32>) -> f64 {
    let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0_f32, |m, v| m.max(v.abs()));
    let scale = most(&mut one.iter().copied());
    let apart = most(&mut one.iter().zip(other).map(|(a, b)| a - b));
    if apart == 0.0 {
        return 0.0;
    }
    f64::from(apart) / f64::from(scale.max(f32::MIN_POSITIVE))
}

/// Prints what was done.
pub fn show(done: &Rewritten, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new(["what", "value"]);
    let mut row = |what: &str, value: String| table.row([what.into(), value]);
    row("from", done.from.clone());
    row("format", format!("{} ({})", done.format, done.dialect));
    row("written", done.folder.display().to_string());
    row("as", format!("saelens ({})", done.architecture));
    row("latents", done.d_sae.to_string());
    let widths = if done.d_in == done.d_out {
        done.d_in.to_string()
    } else {
        format!("{} to {}", done.d_in, done.d_out)
    };
    row("width", widths);
    for file in &done.files {
        row("file", file.clone());
    }
    for note in &done.notes {
        row("note", note.clone());
    }
    for folded in &done.folded {
        row("folded", folded.clone());
    }
    let compared = &done.compared;
    row(
        "read back",
        if done.identical {
            "the same numbers".into()
        } else {
            format!(
                "on {} made-up rows, {} codes: codes differ by {:.1e}, outputs by {:.1e} of the largest",
                compared.rows, compared.fired, compared.codes, compared.outputs
            )
        },
    );
    table.print(out)
}
