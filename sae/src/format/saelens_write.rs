//! Writing what SAELens 6 loads: `cfg.json`, `sae_weights.safetensors` and, where it is given, `sparsity.safetensors`.

use std::path::{Path, PathBuf};

use ndarray::ArrayView1;
use serde_json::{Map, Value, json};

use super::saelens::{CONFIG, OURS, SPARSITY, WEIGHTS};
use super::save::{self, Draft, Values};
use super::{fold, names, saelens_old};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

/// Writes a dictionary as SAELens 6 reads it, in f32, replacing the one in the folder if there is one. Each file appears
/// whole, and `cfg.json` last: until then the folder holds no dictionary. Returns the files.
///
/// `sparsity` is log10 of how often each latent fires `[d_sae]`.
///
/// # Errors
/// What SAELens has no architecture for (a transcoder with TopK or gates, a scaled transcoder, a threshold below 0), a
/// sparsity of another width, and what the disk refuses.
pub fn write_saelens(
    dictionary: &Dictionary,
    folder: &Path,
    sparsity: Option<&[f32]>,
) -> Result<Vec<PathBuf>, SaeError> {
    let latents = dictionary.d_sae();
    if let Some(values) = sparsity {
        crate::dictionary::shape("sparsity", &[latents], &[values.len()])?;
        crate::dictionary::finite(
            "sparsity",
            ArrayView1::from(values).insert_axis(ndarray::Axis(0)),
        )?;
    }
    let folded = served(dictionary)?;
    let parts = folded.as_ref().unwrap_or(dictionary.parts());
    let config = format!("{:#}\n", config(parts));
    std::fs::create_dir_all(folder).map_err(|source| SaeError::Io {
        file: folder.to_owned(),
        source,
    })?;

    let mut drafts = vec![save::safetensors(&folder.join(WEIGHTS), &tensors(parts))?];
    if let Some(values) = sparsity {
        let one = [("sparsity", Values::Vector(ArrayView1::from(values)))];
        drafts.push(save::safetensors(&folder.join(SPARSITY), &one)?);
    }
    let mut last = Draft::new(&folder.join(CONFIG))?;
    last.write(config.as_bytes())?;
    drafts.push(last);
    // Everything is on the disk under other names. What an earlier dictionary left would describe other latents.
    save::remove(&folder.join(CONFIG))?;
    save::remove(&folder.join(SPARSITY))?;
    drafts.into_iter().map(Draft::commit).collect()
}

fn is_transcoder(parts: &Parts) -> bool {
    let about = &parts.about;
    let named = !about.writes.is_empty() && about.writes != about.reads;
    let plain = matches!(
        parts.activation,
        Activation::Relu | Activation::JumpRelu { .. }
    );
    let same = parts.encoder.ncols() == parts.decoder.ncols();
    parts.skip.is_some() || !same || (named && plain && parts.scaling == Scaling::None)
}

fn architecture(parts: &Parts) -> &'static str {
    match (
        &parts.activation,
        is_transcoder(parts),
        parts.skip.is_some(),
    ) {
        (Activation::JumpRelu { .. }, true, true) => "jumprelu_skip_transcoder",
        (Activation::JumpRelu { .. }, true, false) => "jumprelu_transcoder",
        (_, true, true) => "skip_transcoder",
        (_, true, false) => "transcoder",
        (Activation::Relu, ..) => "standard",
        (Activation::TopK { .. }, ..) => "topk",
        (Activation::JumpRelu { .. }, ..) => "jumprelu",
        (Activation::Gated { .. }, ..) => "gated",
    }
}

/// Refuses what SAELens has no architecture for, and folds what it would refuse: the parts to write where they differ.
fn served(dictionary: &Dictionary) -> Result<Option<Parts>, SaeError> {
    let parts = dictionary.parts();
    let refuse = |what: &str, why: &str| {
        Err(SaeError::Unsupported {
            what: format!("{what} in SAELens's format"),
            why: why.to_owned(),
        })
    };
    if let Activation::JumpRelu { threshold } = &parts.activation
        && threshold.iter().any(|t| *t < 0.0)
    {
        return refuse(
            "a threshold below 0",
            "SAELens lets no negative code through, so codes would differ",
        );
    }
    if !is_transcoder(parts) {
        return Ok(None);
    }
    match parts.activation {
        Activation::TopK { .. } => {
            return refuse(
                "a transcoder with topk",
                "SAELens has none; a batchtopk transcoder, which ends as jumprelu, can be written",
            );
        }
        Activation::Gated { .. } => {
            return refuse(
                "a gated transcoder",
                "SAELens has none; relu and jumprelu transcoders can be written",
            );
        }
        _ => {}
    }
    if parts.scaling != Scaling::None {
        return refuse(
            "a transcoder that scales rows",
            "SAELens would not scale what it writes",
        );
    }
    Ok(parts.centred.then(|| {
        let mut parts = parts.clone();
        fold::centring(&mut parts);
        parts
    }))
}

fn tensors(parts: &Parts) -> Vec<(&'static str, Values<'_>)> {
    let mut all = vec![
        ("W_dec", Values::Matrix(parts.decoder.view())),
        ("W_enc", Values::Matrix(parts.encoder.t())),
        ("b_dec", Values::Vector(parts.decoder_bias.view())),
    ];
    let bias = Values::Vector(parts.encoder_bias.view());
    match &parts.activation {
        Activation::Gated {
            log_scale,
            magnitude_bias,
        } => all.extend([
            ("b_gate", bias),
            ("b_mag", Values::Vector(magnitude_bias.view())),
            ("r_mag", Values::Vector(log_scale.view())),
        ]),
        Activation::JumpRelu { threshold } => {
            all.extend([
                ("b_enc", bias),
                ("threshold", Values::Vector(threshold.view())),
            ]);
        }
        Activation::Relu | Activation::TopK { .. } => all.push(("b_enc", bias)),
    }
    if let Some(skip) = &parts.skip {
        all.push(("W_skip", Values::Matrix(skip.view())));
    }
    all
}

fn config(parts: &Parts) -> Value {
    let architecture = architecture(parts);
    let mut other = parts.about.other.clone();
    let reshape = other.remove("reshape_activations").unwrap_or("none".into());
    let mut config = json!({
        "architecture": architecture,
        "d_in": parts.encoder.ncols(),
        "d_sae": parts.encoder.nrows(),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": parts.centred,
        "normalize_activations": match parts.scaling {
            Scaling::None => "none",
            Scaling::LayerNorm => "layer_norm",
        },
        "reshape_activations": reshape,
        "metadata": metadata(&parts.about, other),
    });
    if is_transcoder(parts) {
        config["d_out"] = json!(parts.decoder.ncols());
    }
    if let Activation::TopK { k } = parts.activation {
        config["k"] = json!(k);
        config["rescale_acts_by_decoder_norm"] = json!(false);
    }
    config
}

fn metadata(about: &About, other: std::collections::BTreeMap<String, Value>) -> Map<String, Value> {
    let mut keys: Map<String, Value> = other.into_iter().collect();
    let written = keys.get("sae_lens_version").and_then(Value::as_str);
    if written.is_none_or(saelens_old::is_old) {
        // SAELens reads a file without it as one of before version 6.
        keys.insert("sae_lens_version".into(), "6.0.0".into());
    }
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            keys.insert(key.into(), value);
        }
    };
    set("model_name", about.model.clone().map(Value::from));
    set("context_size", about.context.map(Value::from));
    set("prepend_bos", about.prepend_bos.map(Value::from));
    set("dataset_path", about.dataset.clone().map(Value::from));
    for (key, points) in [
        ("hook_name", &about.reads),
        ("hook_name_out", &about.writes),
    ] {
        if let [point] = &points[..] {
            set(key, Some(names::to_transformer_lens(point).into()));
        }
    }
    let ours = About {
        reads: about.reads.clone(),
        writes: about.writes.clone(),
        fingerprint: about.fingerprint.clone(),
        ..About::default()
    };
    if ours != About::default() {
        set(OURS, serde_json::to_value(ours).ok());
    }
    keys
}
