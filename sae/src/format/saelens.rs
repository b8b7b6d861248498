//! SAELens: `cfg.json` and `sae_weights.safetensors`, with `sparsity.safetensors` where there is one. Files of before version
//! 6 become version 6 in `saelens_old.rs` first; `saelens_write.rs` is the way back.
//!
//! `W_enc` is `[d_in, d_sae]`, `W_dec` `[d_sae, d_out]`, `W_skip` `[d_out, d_in]`.

use std::path::Path;

use super::config::Config;
use super::found::folder;
use super::tensors::Tensors;
use super::{Format, Found, assemble, fold, names, refusal, saelens_old, safetensors, unsupported};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

pub(super) const CONFIG: &str = "cfg.json";
pub(super) const WEIGHTS: &str = "sae_weights.safetensors";
pub(super) const SPARSITY: &str = "sparsity.safetensors";
/// The key under which we keep what SAELens has no word for.
pub(super) const OURS: &str = "candlescope";

pub(super) fn read(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    let folder = folder(path);
    let mut config = Config::read(&folder.join(CONFIG))?;
    let weights = folder.join(WEIGHTS);
    let mut tensors = safetensors::open(&weights)?;
    let mut found = Found::new(Format::SaeLens, "", &[config.file(), &weights]);
    let version = saelens_old::version(&config);
    let old = version.as_deref().is_none_or(saelens_old::is_old);
    if old {
        saelens_old::modernise(&mut config)?;
    }
    let architecture = config.text("architecture")?;
    let architecture = config.need("architecture", architecture)?;
    found.dialect = format!(
        "{}, {architecture}",
        version.as_deref().unwrap_or("before 6")
    );

    let mut parts = parts(&architecture, &mut config, &mut tensors, &mut found)?;
    widths(&mut config, &parts)?;
    let rescaled = config.flag("rescale_acts_by_decoder_norm")?;
    let scale = normalisation(&architecture, folder, &mut config, &mut parts, &mut found)?;
    if rescaled.unwrap_or(false) {
        rescale(scale, &config, &mut parts)?;
        found.note("decoder norms folded into the encoder (rescale_acts_by_decoder_norm)");
    }
    tensors.finish()?;
    config.drop(&["dtype", "device", "topk_threshold_lr"]);
    found.sparsity = sparsity(folder, parts.encoder.nrows(), &mut found)?;
    parts.about = about(config)?;
    Ok((assemble(&weights, parts, &mut found)?, found))
}

/// Whether an architecture writes another tensor than it reads.
fn is_transcoder(architecture: &str) -> bool {
    architecture.ends_with("transcoder")
}

fn parts(
    architecture: &str,
    config: &mut Config,
    tensors: &mut Tensors,
    found: &mut Found,
) -> Result<Parts, SaeError> {
    let file = config.file().to_owned();
    let (bias, activation) = match architecture {
        "standard" | "transcoder" | "skip_transcoder" => ("b_enc", Activation::Relu),
        "topk" => {
            let k = config.count("k")?;
            (
                "b_enc",
                Activation::TopK {
                    k: config.need("k", k)?,
                },
            )
        }
        "jumprelu" | "jumprelu_transcoder" | "jumprelu_skip_transcoder" => {
            let threshold = if tensors.has("log_threshold") {
                tensors.vector("log_threshold")?.mapv_into(f32::exp)
            } else {
                tensors.vector("threshold")?
            };
            ("b_enc", Activation::JumpRelu { threshold })
        }
        "batchtopk" | "matryoshka_batchtopk" => {
            found.note("weights of a training run: its running threshold is read as JumpReLU's");
            let threshold = tensors.scalar("topk_threshold")? as f32;
            let latents = tensors.shape("b_enc").and_then(|s| s.first()).copied();
            let threshold = ndarray::Array1::from_elem(latents.unwrap_or(0), threshold);
            ("b_enc", Activation::JumpRelu { threshold })
        }
        "gated" => {
            let log_scale = tensors.vector("r_mag")?;
            let magnitude_bias = tensors.vector("b_mag")?;
            (
                "b_gate",
                Activation::Gated {
                    log_scale,
                    magnitude_bias,
                },
            )
        }
        other => return Err(refuse_architecture(&file, other)),
    };
    let transcoder = is_transcoder(architecture);
    let centred = config.flag("apply_b_dec_to_input")?.unwrap_or(!transcoder);
    let skip = architecture.ends_with("skip_transcoder");
    let mut parts = Parts {
        encoder: tensors.matrix("W_enc")?.reversed_axes(),
        decoder: tensors.matrix("W_dec")?,
        encoder_bias: tensors.vector(bias)?,
        decoder_bias: tensors.vector("b_dec")?,
        centred: centred && !transcoder,
        activation,
        skip: if skip {
            Some(tensors.matrix("W_skip")?)
        } else {
            None
        },
        scaling: Scaling::None,
        about: About::default(),
    };
    if tensors.has("scaling_factor") {
        let factors = tensors.vector("scaling_factor")?;
        saelens_old::scaling_factor(config, &factors, &mut parts, found)?;
    }
    config.drop(&["finetuning_scaling_factor"]);
    Ok(parts)
}

fn refuse_architecture(file: &Path, name: &str) -> SaeError {
    let why = match name {
        "abstopk" => "its codes may be negative, and codes here are not; train a topk instead",
        "temporal" => {
            "it looks at earlier positions, and a dictionary here reads one row at a time"
        }
        "matching_pursuit" => {
            "it encodes in steps, each on what the last left over; no rule here does that"
        }
        _ => {
            "this program does not know it; write it as standard, topk, jumprelu, gated or a transcoder"
        }
    };
    unsupported(
        file,
        &format!("architecture `{}`", super::tensors::short(name)),
        why,
    )
}

/// Folds decoder norms, after the constant scale: a threshold was found in units of the norms before it.
fn rescale(scale: f64, config: &Config, parts: &mut Parts) -> Result<(), SaeError> {
    checked(parts, config)?;
    if let Activation::JumpRelu { threshold } = &mut parts.activation {
        threshold.mapv_inplace(|t| (f64::from(t) / scale) as f32);
    }
    fold::decoder_norms(parts);
    Ok(())
}

/// Shapes that the folds rely on; the rest is checked when the dictionary is made.
fn checked(parts: &Parts, config: &Config) -> Result<(), SaeError> {
    let latents = parts.encoder.nrows();
    if parts.decoder.nrows() == latents && parts.encoder_bias.len() == latents {
        return Ok(());
    }
    Err(refusal(
        config.file(),
        format!(
            "W_enc has {latents} latents, W_dec {}, b_enc {}",
            parts.decoder.nrows(),
            parts.encoder_bias.len()
        ),
    ))
}

fn widths(config: &mut Config, parts: &Parts) -> Result<(), SaeError> {
    let (d_sae, d_in) = parts.encoder.dim();
    let d_out = parts.decoder.ncols();
    for (key, found) in [("d_in", d_in), ("d_sae", d_sae), ("d_out", d_out)] {
        let expected = config.count(key)?;
        config.agree(key, expected, found)?;
    }
    Ok(())
}

/// Folds what is constant, names what is not. Returns the constant, 1 where there is none.
fn normalisation(
    architecture: &str,
    folder: &Path,
    config: &mut Config,
    parts: &mut Parts,
    found: &mut Found,
) -> Result<f64, SaeError> {
    let how = config
        .text("normalize_activations")?
        .unwrap_or("none".into());
    let file = config.file().to_owned();
    let what = format!("normalize_activations `{}`", super::tensors::short(&how));
    match how.as_str() {
        "none" => {}
        "layer_norm" if is_transcoder(architecture) => {
            let why = "SAELens scales what a transcoder reads and not what it writes, which is no scaling of rows";
            return Err(unsupported(&file, &what, why));
        }
        "layer_norm" => parts.scaling = Scaling::LayerNorm,
        "expected_average_only_in" => {
            let scaler = folder.join("activation_scaler.json");
            let mut scale = config.number("norm_scaling_factor")?;
            if scale.is_none() && scaler.exists() {
                scale = Config::read(&scaler)?.number("scaling_factor")?;
                found.files.push(scaler);
            }
            let Some(scale) = scale.filter(|s| s.is_finite() && *s > 0.0) else {
                let why = "the constant sqrt(d)/mean|x| is not in the folder; put it into cfg.json as `norm_scaling_factor` \
                           (SAELens lists it in pretrained_saes.yaml), or fold it with fold_activation_norm_scaling_factor and save again";
                return Err(unsupported(&file, &what, why));
            };
            fold::scales(parts, scale, scale);
            found.note(format!("activation scale {scale} folded into the weights"));
            return Ok(scale);
        }
        "constant_norm_rescale" => {
            let why = "it scales each row by its own norm, which no dictionary here does; there is no constant to fold";
            return Err(unsupported(&file, &what, why));
        }
        _ => {
            let why = "save the inference model with SAELens, which folds it into the weights";
            return Err(unsupported(&file, &what, why));
        }
    }
    Ok(1.0)
}

fn sparsity(
    folder: &Path,
    latents: usize,
    found: &mut Found,
) -> Result<Option<Vec<f32>>, SaeError> {
    let path = folder.join(SPARSITY);
    if !path.exists() {
        return Ok(None);
    }
    let values = safetensors::open(&path)?.vector("sparsity")?;
    if values.len() != latents {
        let message = format!(
            "`sparsity` has {} latents, the weights {latents}",
            values.len()
        );
        return Err(refusal(&path, message));
    }
    found.files.push(path);
    Ok(Some(values.to_vec()))
}

fn about(mut config: Config) -> Result<About, SaeError> {
    if let Some(metadata) = config.object("metadata")? {
        config.join(metadata);
    }
    let ours = config.value(OURS).map(serde_json::from_value::<About>);
    let ours = ours
        .transpose()
        .map_err(|e| refusal(config.file(), format!("`{OURS}`: {e}")))?;
    let ours = ours.unwrap_or_default();
    let mut points = |key| -> Result<Vec<String>, SaeError> {
        let name = config.text(key)?;
        Ok(name
            .iter()
            .map(|n| names::from_transformer_lens(n))
            .collect())
    };
    let (reads, writes) = (points("hook_name")?, points("hook_name_out")?);
    if config.has("reshape_activations") {
        // `none` is what everyone means by leaving it out.
        match config.text("reshape_activations")? {
            Some(how) if how != "none" => config.set("reshape_activations", how),
            _ => {}
        }
    }
    Ok(About {
        model: config.text("model_name")?,
        reads: if ours.reads.is_empty() {
            reads
        } else {
            ours.reads
        },
        writes: if ours.writes.is_empty() {
            writes
        } else {
            ours.writes
        },
        context: config.count("context_size")?,
        prepend_bos: config.flag("prepend_bos")?,
        dataset: config.text("dataset_path")?,
        fingerprint: ours.fingerprint,
        other: config.rest(),
    })
}
