//! Llama Scope (`OpenMOSS`, lm-saes): `hyperparams.json` and `checkpoints/final.safetensors`.
//!
//! `encoder.weight` is `[d_sae, d]`, `decoder.weight` `[d, d_sae]`. It was trained on `x · sqrt(d) / mean|x|`, a constant
//! that is in the file and is folded; its one threshold is in units of `x` itself, so it takes the same factor. Codes are
//! in the units of training, as SAELens reads them.

use std::path::Path;

use ndarray::Array1;

use super::config::Config;
use super::found::folder;
use super::names::from_transformer_lens;
use super::tensors::{Tensors, short};
use super::{Format, Found, assemble, fold, safetensors, unsupported};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

pub(super) fn read(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    // The weights lie one folder below.
    let mut home = folder(path);
    if home.ends_with("checkpoints") {
        home = home.parent().unwrap_or(home);
    }
    let mut config = Config::read(&home.join("hyperparams.json"))?;
    let weights = home.join("checkpoints").join("final.safetensors");
    let mut tensors = safetensors::open(&weights)?;
    let kind = config.text("act_fn")?.unwrap_or("jumprelu".into());
    let mut found = Found::new(Format::LlamaScope, kind.clone(), &[config.file(), &weights]);
    if config.flag("use_glu_encoder")?.unwrap_or(false) {
        let why = "a second encoder multiplies the first, and no rule here does that";
        return Err(unsupported(config.file(), "use_glu_encoder", why));
    }
    let (input, output) = norms(&mut config, &mut found)?;
    let mut parts = parts(&kind, input, &mut config, &mut tensors)?;
    tensors.finish()?;
    let d_model = config.count("d_model")?;
    config.agree("d_model", d_model, parts.encoder.ncols())?;
    let d_sae = config.count("d_sae")?;
    config.agree("d_sae", d_sae, parts.encoder.nrows())?;
    fold::scales(&mut parts, input, output);

    let about = &mut parts.about;
    about.model = config.text("model")?;
    about.reads = config
        .text("hook_point_in")?
        .iter()
        .map(|n| from_transformer_lens(n))
        .collect();
    about.writes = config
        .text("hook_point_out")?
        .iter()
        .map(|n| from_transformer_lens(n))
        .collect();
    if about.writes == about.reads {
        about.writes.clear();
    }
    config.drop(&["dtype", "device"]);
    about.other = config.rest();
    Ok((assemble(&weights, parts, &mut found)?, found))
}

/// Factors of what is read and of what is written.
fn norms(config: &mut Config, found: &mut Found) -> Result<(f64, f64), SaeError> {
    let how = config
        .text("norm_activation")?
        .unwrap_or("dataset-wise".into());
    let mut norm = config.object("dataset_average_activation_norm")?;
    match how.as_str() {
        "inference" => Ok((1.0, 1.0)),
        "dataset-wise" => {
            let d = config.clone().count("d_model")?;
            let d = (config.need("d_model", d)? as f64).sqrt();
            let mut factor = |key: &str| -> Result<Option<f64>, SaeError> {
                let norm = norm.as_mut().map(|n| n.number(key)).transpose()?.flatten();
                Ok(norm.map(|n| d / n).filter(|f| f.is_finite() && *f > 0.0))
            };
            let input = factor("in")?;
            let input = config.need("dataset_average_activation_norm.in", input)?;
            let output = factor("out")?.unwrap_or(input);
            found.note(format!(
                "activation scale {input} folded into the weights, and the threshold with it"
            ));
            Ok((input, output))
        }
        other => {
            let what = format!("norm_activation `{}`", short(other));
            let why = "it scales by the rows at hand, and there is no constant to fold";
            Err(unsupported(config.file(), &what, why))
        }
    }
}

fn parts(
    kind: &str,
    input: f64,
    config: &mut Config,
    tensors: &mut Tensors,
) -> Result<Parts, SaeError> {
    let encoder = tensors.matrix("encoder.weight")?;
    let activation = match kind {
        "relu" => Activation::Relu,
        "jumprelu" => {
            let threshold = config.number("jump_relu_threshold")?;
            let threshold = config.need("jump_relu_threshold", threshold)? * input;
            Activation::JumpRelu {
                threshold: Array1::from_elem(encoder.nrows(), threshold as f32),
            }
        }
        other => {
            let what = format!("act_fn `{}`", short(other));
            return Err(unsupported(
                config.file(),
                &what,
                "jumprelu and relu are read",
            ));
        }
    };
    let decoder = tensors.matrix("decoder.weight")?.reversed_axes();
    let decoder_bias = if config.flag("use_decoder_bias")?.unwrap_or(true) {
        tensors.vector("decoder.bias")?
    } else {
        Array1::zeros(decoder.ncols())
    };
    Ok(Parts {
        encoder,
        decoder,
        encoder_bias: tensors.vector("encoder.bias")?,
        decoder_bias,
        centred: config
            .flag("apply_decoder_bias_to_pre_encoder")?
            .unwrap_or(false),
        activation,
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    })
}
