//! Gemma Scope 1 (`layer_L/width_W/average_l0_X/params.npz`) and 2 (`params.safetensors`, `config.json`): JumpReLU
//! autoencoders and transcoders that take nothing off what they read.
//!
//! `W_enc` is `[d_in, d_sae]`, `W_dec` `[d_sae, d_out]`; `affine_skip_connection` `[d_in, d_out]` is the transpose of what
//! others call `W_skip`. Cross-layer ones, with a decoder for each later layer, are refused.

use std::path::Path;

use super::config::Config;
use super::found::{CLT, file, folder};
use super::names::{from_module, number_after};
use super::tensors::{Tensors, short};
use super::{Format, Found, assemble, npz, safetensors, unsupported};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

/// Names differ in case only.
fn parts(tensors: &mut Tensors) -> Result<Parts, SaeError> {
    for (theirs, ours) in [("w_enc", "W_enc"), ("w_dec", "W_dec")] {
        tensors.rename(theirs, ours);
    }
    if tensors.shape("W_dec").is_some_and(|s| s.len() == 3) {
        return Err(unsupported(tensors.file(), "a cross-layer transcoder", CLT));
    }
    let skip = if tensors.has("affine_skip_connection") {
        Some(tensors.matrix("affine_skip_connection")?.reversed_axes())
    } else {
        None
    };
    let parts = Parts {
        encoder: tensors.matrix("W_enc")?.reversed_axes(),
        decoder: tensors.matrix("W_dec")?,
        encoder_bias: tensors.vector("b_enc")?,
        decoder_bias: tensors.vector("b_dec")?,
        centred: false,
        activation: Activation::JumpRelu {
            threshold: tensors.vector("threshold")?,
        },
        skip,
        scaling: Scaling::None,
        about: About::default(),
    };
    tensors.finish()?;
    Ok(parts)
}

/// What the folders above the file say: layer, width, sparsity.
fn path_facts(path: &Path, about: &mut About) {
    let path = path.to_string_lossy();
    for (word, key) in [("layer_", "layer"), ("average_l0_", "average_l0")] {
        if let Some(n) = number_after(&path, word) {
            about.other.insert(key.into(), n.into());
        }
    }
}

/// Gemma Scope 1.
pub(super) fn read_npz(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    let weights = file(path, "params.npz");
    let mut tensors = npz::open(&weights)?;
    let mut found = Found::new(Format::GemmaScope, "1, jumprelu", &[&weights]);
    let mut parts = parts(&mut tensors)?;
    path_facts(&weights, &mut parts.about);
    let embedding = weights.components().any(|c| c.as_os_str() == "embedding");
    if embedding {
        // Trained on rows of the table; what enters the stream is sqrt(d) times as large. b_dec is part of what is written.
        let scale = (parts.encoder.ncols() as f64).sqrt();
        super::fold::scales(&mut parts, 1.0 / scale, 1.0 / scale);
        parts.about.reads = vec!["embed".into()];
        found.note("an embedding dictionary: Gemma's factor sqrt(d) is folded into encoder, decoder and b_dec (SAELens leaves b_dec as it is)");
    } else {
        found
            .note("the file does not say which point is read: it is in the name of its repository");
    }
    Ok((assemble(&weights, parts, &mut found)?, found))
}

/// Gemma Scope 2.
pub(super) fn read_safetensors(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    let weights = file(path, "params.safetensors");
    let mut tensors = safetensors::open(&weights)?;
    let mut found = Found::new(Format::GemmaScope2, "2, jumprelu", &[&weights]);
    let beside = folder(path).join("config.json");
    let mut config = None;
    if beside.exists() {
        config = Some(Config::read(&beside)?);
        found.files.push(beside);
    }
    if let Some(config) = &mut config {
        let architecture = config.text("architecture")?.unwrap_or("jump_relu".into());
        if architecture != "jump_relu" {
            let what = format!("architecture `{}`", short(&architecture));
            return Err(unsupported(
                config.file(),
                &what,
                "Gemma Scope 2 has jump_relu only",
            ));
        }
    }
    let mut parts = parts(&mut tensors)?;
    path_facts(&weights, &mut parts.about);
    match config {
        None => found.note("no config.json: which point is read is left open"),
        Some(mut config) => {
            let about = &mut parts.about;
            about.model = config.text("model_name")?;
            let mut points = |key: &str| -> Result<Vec<String>, SaeError> {
                let module = config.clone().text(key)?;
                let known = module.as_deref().and_then(from_module);
                if known.is_some() {
                    config.drop(&[key]);
                }
                Ok(known.into_iter().collect())
            };
            about.reads = points("hf_hook_point_in")?;
            about.writes = points("hf_hook_point_out")?;
            if about.writes == about.reads {
                about.writes.clear();
            }
            about.other.extend(config.rest());
        }
    }
    Ok((assemble(&weights, parts, &mut found)?, found))
}
