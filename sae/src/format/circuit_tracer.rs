//! circuit-tracer's per-layer transcoders: `layer_N.safetensors`, with a `config.yaml` for the whole set.
//!
//! `W_enc` and `W_dec` are both `[d_sae, d]`, `W_skip` `[d, d]`. ReLU, unless there is a threshold (JumpReLU) or a `k`.

use std::path::Path;

use ndarray::Array1;

use super::config::{read_text, yaml_words};
use super::found::folder;
use super::names::{from_transformer_lens, number_after};
use super::tensors::Tensors;
use super::{Format, Found, assemble, found, refusal, safetensors, unsupported};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

const THRESHOLD: &str = "activation_function.threshold";

pub(super) fn read(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    let weights = if path.is_dir() {
        found::only(path, "layer_", ".safetensors")?
    } else {
        path.to_owned()
    };
    let mut tensors = safetensors::open(&weights)?;
    let mut found = Found::new(Format::CircuitTracer, "", &[&weights]);
    let mut words = std::collections::BTreeMap::new();
    let beside = folder(path).join("config.yaml");
    if beside.exists() {
        words = yaml_words(&read_text(&beside)?);
        found.files.push(beside);
    }
    let encoder = tensors.matrix("W_enc")?;
    let told = words.get("activation").map(String::as_str);
    let activation = activation(&mut tensors, encoder.nrows(), told, words.get("k"))?;
    let name = weights.file_name().unwrap_or_default().to_string_lossy();
    let layer = number_after(&name, "layer_");
    let mut parts = Parts {
        encoder,
        decoder: tensors.matrix("W_dec")?,
        encoder_bias: tensors.vector("b_enc")?,
        decoder_bias: tensors.vector("b_dec")?,
        centred: false,
        activation,
        skip: if tensors.has("W_skip") {
            Some(tensors.matrix("W_skip")?)
        } else {
            None
        },
        scaling: Scaling::None,
        about: About::default(),
    };
    tensors.finish()?;
    let about = &mut parts.about;
    let mut point = |key: &str| -> Vec<String> {
        let hook = words.remove(key);
        let hook = hook
            .zip(layer)
            .map(|(h, l)| from_transformer_lens(&format!("blocks.{l}.{h}")));
        hook.into_iter().collect()
    };
    about.reads = point("feature_input_hook");
    about.writes = point("feature_output_hook");
    if about.reads.is_empty() {
        found
            .note("no config.yaml names the hooks: which points are read and written is left open");
    }
    about.model = words.remove("model_name").or_else(|| words.remove("model"));
    about.other = words.into_iter().map(|(k, v)| (k, v.into())).collect();
    if matches!(parts.activation, Activation::TopK { .. }) {
        found.note("circuit-tracer's top-k lets negative codes through where fewer than k are above 0; here they are 0");
    }
    found.dialect = format!("per-layer transcoder, {}", parts.activation.name());
    Ok((assemble(&weights, parts, &mut found)?, found))
}

fn activation(
    tensors: &mut Tensors,
    latents: usize,
    told: Option<&str>,
    k: Option<&String>,
) -> Result<Activation, SaeError> {
    if told == Some("topk") || tensors.has("k") {
        let stored = if tensors.has("k") {
            Some(tensors.scalar("k")? as usize)
        } else {
            None
        };
        let k = stored.or_else(|| k?.parse().ok());
        let missing = || {
            let why = "config.yaml says topk and no k; add a line `k: …` to it";
            unsupported(tensors.file(), "a topk transcoder without k", why)
        };
        return Ok(Activation::TopK {
            k: k.ok_or_else(missing)?,
        });
    }
    if !tensors.has(THRESHOLD) {
        return Ok(Activation::Relu);
    }
    let threshold = if tensors.shape(THRESHOLD).is_some_and(|s| s == [latents]) {
        tensors.vector(THRESHOLD)?
    } else {
        Array1::from_elem(latents, tensors.scalar(THRESHOLD)? as f32)
    };
    if threshold.iter().any(|t| *t < 0.0) {
        // Here nothing takes relu(z): a negative θ lets negative codes through, in the source as in a dictionary.
        let message =
            "a threshold below 0, which lets negative codes through; no such dictionary is read";
        return Err(refusal(tensors.file(), message.into()));
    }
    Ok(Activation::JumpRelu { threshold })
}
