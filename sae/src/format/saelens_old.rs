//! SAELens before version 6: one flat object of keys, some of them renamed since. They become version 6 here, with the
//! defaults that SAELens itself gives them.

use ndarray::Array1;
use serde_json::Value;

use super::config::Config;
use super::tensors::short;
use super::{Found, fold, refusal, unsupported};
use crate::{Parts, SaeError};

/// The version that wrote a configuration, at its top or in its metadata.
pub(super) fn version(config: &Config) -> Option<String> {
    let mut config = config.clone();
    let top = config.value("sae_lens_version");
    let nested = || config.object("metadata").ok()??.value("sae_lens_version");
    top.or_else(nested)?.as_str().map(short)
}

/// Whether a version comes before 6.
pub(super) fn is_old(version: &str) -> bool {
    let major = version
        .split('.')
        .next()
        .and_then(|m| m.parse::<u32>().ok());
    major.is_none_or(|m| m < 6)
}

/// Gives keys their names of version 6.
pub(super) fn modernise(config: &mut Config) -> Result<(), SaeError> {
    config.rename("hook_point", "hook_name");
    config.rename("hook_point_head_index", "hook_head_index");
    config.rename("activation_fn_str", "activation_fn");
    let kwargs = config.object("activation_fn_kwargs")?;
    let activation = config.text("activation_fn")?.unwrap_or("relu".into());
    match activation.as_str() {
        "relu" => {}
        "topk" => {
            let k = kwargs
                .map(|mut kwargs| kwargs.count("k"))
                .transpose()?
                .flatten();
            let k = config.need("activation_fn_kwargs.k", k)?;
            config.set("architecture", "topk");
            config.set("k", k);
        }
        other => {
            let what = format!("activation_fn `{}`", short(other));
            let why = "only relu and topk are; SAELens 6 does not read it either";
            return Err(unsupported(config.file(), &what, why));
        }
    }
    if !config.has("architecture") {
        config.set("architecture", "standard");
    }
    // Absent meant true, for as long as the key did not exist; transcoders never took it.
    if !config.has("apply_b_dec_to_input") {
        config.set("apply_b_dec_to_input", true);
    }
    if !config.has("prepend_bos") {
        config.set("prepend_bos", true);
    }
    match config.value("normalize_activations") {
        Some(Value::Bool(true)) => config.set("normalize_activations", "expected_average_only_in"),
        Some(Value::Bool(false)) | None => {}
        Some(other) => config.set("normalize_activations", other),
    }
    let hook = config.clone().text("hook_name")?.unwrap_or_default();
    if !config.has("reshape_activations") && hook.contains("hook_z") {
        config.set("reshape_activations", "hook_z");
    }
    Ok(())
}

/// `scaling_factor` `[d_sae]`: ones for a time in every file, else what each latent's contribution is multiplied by.
pub(super) fn scaling_factor(
    config: &mut Config,
    factors: &Array1<f32>,
    parts: &mut Parts,
    found: &mut Found,
) -> Result<(), SaeError> {
    let used = config.flag("finetuning_scaling_factor")?.unwrap_or(false);
    if factors.iter().all(|f| (f - 1.0).abs() <= 1e-5) {
        return Ok(());
    }
    if !used {
        return Err(refusal(
            config.file(),
            "the weights have a `scaling_factor` that is not 1, but `finetuning_scaling_factor` is false".into(),
        ));
    }
    if factors.len() != parts.decoder.nrows() {
        let message = format!(
            "`scaling_factor` has {} latents, W_dec {}",
            factors.len(),
            parts.decoder.nrows()
        );
        return Err(refusal(config.file(), message));
    }
    fold::decoder_factors(parts, factors);
    found.note("fine-tuned scaling_factor folded into the decoder");
    Ok(())
}
