//! What only two models side by side tell: divergence token by token, and weights matrix by matrix.
//!
//! Always: both read the very same tokens, and matrices are compared by role and layer, so a GGUF and a safetensors folder
//! can be compared too. Writers are looked at on the side that writes to the residual stream: rows of `o` and `down`,
//! columns of the embedding; under a post-norm through its gain.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{MatrixChange, Part, TextKl, WeightChanges, WriterChange};
use crate::audit::work::Work;
use crate::hooks::{Hooks, Vector};
use crate::model::weights::Weights;
use crate::model::{Batch, Checkpoint, Decoder, LogitsAt, ModelError};
use crate::steer;
use crate::text::suites::PromptRow;

/// KL(baseline ‖ subject) at each token of each text.
pub fn texts(
    subject: &Checkpoint,
    baseline: &Checkpoint,
    rows: &[PromptRow],
    work: &Work,
) -> Part<Vec<TextKl>> {
    work.stage("neutral texts", rows.len(), |_| {
        rows.iter()
            .map(|row| {
                if work.cancelled() {
                    return Err("interrupted".to_owned());
                }
                text(subject, baseline, row).map_err(|error| error.to_string())
            })
            .collect()
    })
}

fn text(
    subject: &Checkpoint,
    baseline: &Checkpoint,
    row: &PromptRow,
) -> Result<TextKl, ModelError> {
    let ids = subject.tokenizer.encode(&row.prompt, true)?;
    let logits = |model: &Decoder| -> Result<Vec<Vec<f32>>, ModelError> {
        let out = model.forward(&Batch::single(&ids)?, &Hooks::new(), LogitsAt::All)?;
        Ok(out.logits()?.squeeze(0)?.to_dtype(DType::F32)?.to_vec2()?)
    };
    let (now, before) = (logits(&subject.decoder)?, logits(&baseline.decoder)?);
    Ok(TextKl {
        id: row.id.clone(),
        kl: before
            .par_iter()
            .zip(&now)
            .map(|(p, q)| if p == q { 0.0 } else { steer::kl(p, q) })
            .collect(),
    })
}

/// Random directions that a writer's output is compared along.
const RANDOM: usize = 16;

/// Compares all weights; `direction` is the baseline's refusal direction, of unit length.
pub fn weights(
    subject: &Decoder,
    baseline: &Decoder,
    direction: Option<&[f32]>,
    seed: u64,
    work: &Work,
) -> Part<WeightChanges> {
    work.stage("weights", 0, |_| {
        if subject.config().n_layers != baseline.config().n_layers
            || subject.config().d_model != baseline.config().d_model
        {
            return Err("the architectures differ, so matrices cannot be paired".to_owned());
        }
        compare(subject, baseline, direction, seed).map_err(|error| error.to_string())
    })
}

fn compare(
    subject: &Decoder,
    baseline: &Decoder,
    direction: Option<&[f32]>,
    seed: u64,
) -> Result<WeightChanges, steer::SteerError> {
    let (subject, baseline) = (&subject.merged()?, &baseline.merged()?);
    let d_model = baseline.config().d_model;
    let probes = match direction {
        Some(direction) => Some(Probes::new(direction, d_model, seed)?),
        None => None,
    };
    let (new, old) = (matrices(subject.weights()), matrices(baseline.weights()));
    let compared = new
        .par_iter()
        .zip(&old)
        .map(|(new, old)| matrix(new, old, probes.as_ref(), seed))
        .collect::<Result<Vec<_>, ModelError>>()?;
    let (new_vectors, old_vectors) = (vectors(subject.weights()), vectors(baseline.weights()));
    let mut out = WeightChanges {
        matrices: compared,
        random: if probes.is_some() { RANDOM } else { 0 },
        ..WeightChanges::default()
    };
    for (new, old) in new_vectors.into_iter().zip(old_vectors) {
        match (new.1, old.1) {
            (Some(_), None) => out.new_biases.push(new.0),
            (Some(now), Some(before)) if !same(now, before)? => out.changed_vectors.push(new.0),
            _ => {}
        }
    }
    Ok(out)
}

/// A matrix by its role.
struct Matrix<'a> {
    name: String,
    weight: &'a Tensor,
    writes: Writes<'a>,
}

/// On which side a matrix writes to the residual stream.
enum Writes<'a> {
    /// It does not.
    No,
    /// Rows: `[d_model, in]`, through the gain of a post-norm if there is one.
    Rows(Option<&'a Tensor>),
    /// Columns: `[vocab, d_model]`.
    Columns,
}

fn matrices(weights: &Weights) -> Vec<Matrix<'_>> {
    let mut all = vec![Matrix {
        name: "embed".to_owned(),
        weight: &weights.embed,
        writes: Writes::Columns,
    }];
    all.extend(weights.pos_embed.as_ref().map(|weight| Matrix {
        name: "pos_embed".to_owned(),
        weight,
        writes: Writes::Columns,
    }));
    for (i, layer) in weights.layers.iter().enumerate() {
        let named = |role: &str| format!("layers.{i}.{role}");
        for (role, linear) in [
            ("q", &layer.q),
            ("k", &layer.k),
            ("v", &layer.v),
            ("up", &layer.up),
        ] {
            all.push(Matrix {
                name: named(role),
                weight: &linear.weight,
                writes: Writes::No,
            });
        }
        all.extend(layer.gate.as_ref().map(|gate| Matrix {
            name: named("gate"),
            weight: &gate.weight,
            writes: Writes::No,
        }));
        for (role, linear, norm) in [
            ("o", &layer.o, &layer.attn_post_norm),
            ("down", &layer.down, &layer.mlp_post_norm),
        ] {
            all.push(Matrix {
                name: named(role),
                weight: &linear.weight,
                writes: Writes::Rows(norm.as_ref().map(|norm| &norm.gain)),
            });
        }
    }
    if weights.head.id() != weights.embed.id() {
        all.push(Matrix {
            name: "head".to_owned(),
            weight: &weights.head,
            writes: Writes::No,
        });
    }
    all
}

/// Gains and biases by name; those that are not there too, so that the lists of two models pair up.
fn vectors(weights: &Weights) -> Vec<(String, Option<&Tensor>)> {
    let mut all = Vec::new();
    for (i, layer) in weights.layers.iter().enumerate() {
        for (role, linear) in [
            ("q", Some(&layer.q)),
            ("k", Some(&layer.k)),
            ("v", Some(&layer.v)),
            ("o", Some(&layer.o)),
            ("gate", layer.gate.as_ref()),
            ("up", Some(&layer.up)),
            ("down", Some(&layer.down)),
        ] {
            let bias = linear.and_then(|linear| linear.bias.as_ref());
            all.push((format!("layers.{i}.{role}.bias"), bias));
        }
        for (role, norm) in [
            ("attn_norm", &layer.attn_norm),
            ("attn_post_norm", &layer.attn_post_norm),
            ("mlp_norm", &layer.mlp_norm),
            ("mlp_post_norm", &layer.mlp_post_norm),
        ] {
            let norm = norm.as_ref();
            all.push((
                format!("layers.{i}.{role}.gain"),
                norm.map(|norm| &norm.gain),
            ));
            let bias = norm.and_then(|norm| norm.bias.as_ref());
            all.push((format!("layers.{i}.{role}.bias"), bias));
        }
        all.push((format!("layers.{i}.q_norm"), layer.q_norm.as_ref()));
        all.push((format!("layers.{i}.k_norm"), layer.k_norm.as_ref()));
    }
    all.push(("final_norm.gain".to_owned(), Some(&weights.final_norm.gain)));
    all.push((
        "final_norm.bias".to_owned(),
        weights.final_norm.bias.as_ref(),
    ));
    all
}

fn same(a: &Tensor, b: &Tensor) -> Result<bool, ModelError> {
    Ok(a.dims() == b.dims() && sum_of_squares(&(wide(a)? - wide(b)?)?)? == 0.0)
}

fn wide(t: &Tensor) -> Result<Tensor, ModelError> {
    Ok(t.to_dtype(DType::F32)?)
}

fn sum_of_squares(t: &Tensor) -> Result<f64, ModelError> {
    let values = t.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().map(|&x| f64::from(x).powi(2)).sum())
}

/// The direction in the first row, random ones below, `[1 + RANDOM, d_model]`.
struct Probes(Tensor);

impl Probes {
    fn new(direction: &[f32], d_model: usize, seed: u64) -> Result<Self, steer::SteerError> {
        let own: Vector = std::sync::Arc::new(direction.to_vec());
        let mut rows = vec![own];
        rows.extend(steer::random_directions(RANDOM, d_model, seed)?);
        let flat: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
        Ok(Self(Tensor::from_vec(
            flat,
            (1 + RANDOM, d_model),
            &Device::Cpu,
        )?))
    }

    /// Norms of a writer's output along each direction; `None` for a matrix that is not a writer.
    fn outputs(&self, matrix: &Matrix) -> Result<Option<Vec<f64>>, ModelError> {
        let weight = wide(matrix.weight)?;
        let product = match matrix.writes {
            Writes::No => return Ok(None),
            Writes::Rows(None) => self.0.matmul(&weight)?,
            Writes::Rows(Some(gain)) => self.0.broadcast_mul(&wide(gain)?)?.matmul(&weight)?,
            Writes::Columns => self.0.matmul(&weight.t()?)?,
        };
        let rows: Vec<Vec<f32>> = product.to_vec2()?;
        let norm = |row: &Vec<f32>| {
            row.iter()
                .map(|&x| f64::from(x).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        Ok(Some(rows.iter().map(norm).collect()))
    }
}

fn matrix(
    new: &Matrix,
    old: &Matrix,
    probes: Option<&Probes>,
    seed: u64,
) -> Result<MatrixChange, ModelError> {
    if new.weight.dims() != old.weight.dims() || new.name != old.name {
        return Err(ModelError::Shape {
            file: "the subject beside its baseline".to_owned(),
            tensor: new.name.clone(),
            expected: old.weight.dims().to_vec(),
            found: new.weight.dims().to_vec(),
        });
    }
    let change = (wide(new.weight)? - wide(old.weight)?)?;
    let energy = sum_of_squares(&change)?;
    let writer = match probes {
        Some(probes) if energy > 0.0 => writer(probes, new, old)?,
        Some(_) if !matches!(old.writes, Writes::No) => Some(WriterChange {
            ratio: 1.0,
            least_random: 1.0,
        }),
        _ => None,
    };
    let before = sum_of_squares(&wide(old.weight)?)?;
    Ok(MatrixChange {
        name: new.name.clone(),
        relative: if energy > 0.0 {
            (energy / before.max(f64::MIN_POSITIVE)).sqrt()
        } else {
            0.0
        },
        rank1: if energy > 0.0 {
            Some(first_share(&change, energy, seed)?)
        } else {
            None
        },
        writer,
    })
}

fn writer(probes: &Probes, new: &Matrix, old: &Matrix) -> Result<Option<WriterChange>, ModelError> {
    let (Some(now), Some(before)) = (probes.outputs(new)?, probes.outputs(old)?) else {
        return Ok(None);
    };
    let ratios: Vec<f64> = now
        .iter()
        .zip(&before)
        .map(|(n, b)| n / b.max(f64::MIN_POSITIVE))
        .collect();
    Ok(ratios.split_first().map(|(own, random)| WriterChange {
        ratio: *own,
        least_random: random.iter().copied().fold(f64::INFINITY, f64::min),
    }))
}

/// Share of a matrix's energy in its first singular value, by power iteration from a seeded start.
fn first_share(change: &Tensor, energy: f64, seed: u64) -> Result<f64, ModelError> {
    let width = change.dim(1)?;
    let start = steer::random_directions(1, width, seed).map_err(|error| ModelError::Cache {
        why: error.to_string(),
    })?;
    let first = start.first().map(|v| v.to_vec()).unwrap_or_default();
    let mut v = Tensor::from_vec(first, (width, 1), &Device::Cpu)?;
    let transposed = change.t()?;
    let mut share = 0.0;
    for _ in 0..ITERATIONS {
        let u = change.matmul(&v)?;
        share = sum_of_squares(&u)? / energy;
        let next = transposed.matmul(&u)?;
        let length = sum_of_squares(&next)?.sqrt();
        if length == 0.0 || !length.is_finite() {
            break;
        }
        v = (next / length)?;
    }
    Ok(share.min(1.0))
}

/// Enough for the share to be right to a few per cent where the first two singular values are apart.
const ITERATIONS: usize = 12;
