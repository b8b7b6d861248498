//! dictionary_learning (`saprmarks/dictionary_learning`): `ae.pt`, a state_dict, with `config.json` beside it.
//!
//! The classes name their tensors in two ways: `encoder.weight` `[d_sae, d]` and `decoder.weight` `[d, d_sae]`, or `W_enc`
//! `[d, d_sae]` and `W_dec` `[d_sae, d]`. Codes are those of `encode` on the weights as they are in the file.

use std::path::Path;

use ndarray::{Array1, Axis};

use super::config::Config;
use super::found::{file, folder};
use super::tensors::{Tensors, short};
use super::{Format, Found, assemble, refusal, torch, unsupported};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

pub(super) fn read(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    let weights = file(path, "ae.pt");
    let mut tensors = torch::open(&weights)?;
    let beside = folder(path).join("config.json");
    let mut found = Found::new(Format::DictionaryLearning, "", &[&weights]);
    let mut config = None;
    if beside.exists() {
        config = Some(Config::read(&beside)?);
        found.files.push(beside);
    }
    let mut trainer = config
        .as_mut()
        .map(|c| c.object("trainer"))
        .transpose()?
        .flatten();
    let class = trainer
        .as_mut()
        .map(|t| t.text("dict_class"))
        .transpose()?
        .flatten();
    let class = class.map_or_else(|| guess(&tensors, &mut found), Ok)?;
    let mut parts = parts(&class, trainer.as_mut(), &mut tensors)?;
    tensors.finish()?;
    if let Some(trainer) = &mut trainer {
        let (latents, d_in) = parts.encoder.dim();
        let width = trainer.count("activation_dim")?;
        trainer.agree("activation_dim", width, d_in)?;
        let width = trainer.count("dict_size")?;
        trainer.agree("dict_size", width, latents)?;
    }
    parts.about = about(config, trainer, &mut found)?;
    let norms = parts.decoder.map_axis(Axis(1), |row| row.dot(&row).sqrt());
    if class == "AutoEncoder" && norms.iter().any(|n| (n - 1.0).abs() > 1e-4) {
        found.note("decoder rows are not of norm 1; codes are those of the file, where from_pretrained would multiply them by the norms");
    }
    found.dialect = class;
    Ok((assemble(&weights, parts, &mut found)?, found))
}

/// The class by its tensors, where nothing names it.
fn guess(tensors: &Tensors, found: &mut Found) -> Result<String, SaeError> {
    let has = |name: &str| tensors.has(name);
    let class = if has("gate_bias") {
        "GatedAutoEncoder"
    } else if has("group_sizes") {
        "MatryoshkaBatchTopKSAE"
    } else if has("W_enc") {
        "JumpReluAutoEncoder"
    } else if has("b_dec") {
        let why = "AutoEncoderTopK and BatchTopKSAE have the same tensors and other codes; put the config.json of the run beside ae.pt";
        return Err(unsupported(
            tensors.file(),
            "ae.pt without its config.json",
            why,
        ));
    } else if has("bias") {
        "AutoEncoder"
    } else {
        "AutoEncoderNew"
    };
    found.note(format!(
        "no config.json names the class; its tensors are {class}'s"
    ));
    Ok(class.to_owned())
}

fn parts(
    class: &str,
    trainer: Option<&mut Config>,
    tensors: &mut Tensors,
) -> Result<Parts, SaeError> {
    let linear = match class {
        "AutoEncoder" | "AutoEncoderNew" | "GatedAutoEncoder" | "AutoEncoderTopK"
        | "BatchTopKSAE" => true,
        "JumpReluAutoEncoder" | "MatryoshkaBatchTopKSAE" => false,
        other => {
            let why = "of dictionary_learning's classes AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder, \
                       AutoEncoderTopK, BatchTopKSAE and MatryoshkaBatchTopKSAE are read";
            return Err(unsupported(
                tensors.file(),
                &format!("class `{}`", short(other)),
                why,
            ));
        }
    };
    let (encoder, decoder) = if linear {
        let decoder = tensors.matrix("decoder.weight")?.reversed_axes();
        (tensors.matrix("encoder.weight")?, decoder)
    } else {
        (
            tensors.matrix("W_enc")?.reversed_axes(),
            tensors.matrix("W_dec")?,
        )
    };
    let latents = encoder.nrows();
    let (encoder_bias, decoder_bias) = match class {
        "AutoEncoder" => ("encoder.bias", "bias"),
        "AutoEncoderNew" => ("encoder.bias", "decoder.bias"),
        "GatedAutoEncoder" => ("gate_bias", "decoder_bias"),
        "AutoEncoderTopK" | "BatchTopKSAE" => ("encoder.bias", "b_dec"),
        _ => ("b_enc", "b_dec"),
    };
    Ok(Parts {
        encoder,
        decoder,
        encoder_bias: tensors.vector(encoder_bias)?,
        decoder_bias: tensors.vector(decoder_bias)?,
        centred: !matches!(class, "AutoEncoderNew" | "JumpReluAutoEncoder"),
        activation: activation(class, latents, trainer, tensors)?,
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    })
}

fn activation(
    class: &str,
    latents: usize,
    trainer: Option<&mut Config>,
    tensors: &mut Tensors,
) -> Result<Activation, SaeError> {
    Ok(match class {
        "AutoEncoder" | "AutoEncoderNew" => Activation::Relu,
        "GatedAutoEncoder" => Activation::Gated {
            log_scale: tensors.vector("r_mag")?,
            magnitude_bias: tensors.vector("mag_bias")?,
        },
        "JumpReluAutoEncoder" => Activation::JumpRelu {
            threshold: tensors.vector("threshold")?,
        },
        "AutoEncoderTopK" => {
            // Its threshold is for another way to encode, which is not the default.
            tensors.skip("threshold");
            Activation::TopK {
                k: k(trainer, tensors)?,
            }
        }
        _ => {
            tensors.skip("k");
            tensors.skip("group_sizes");
            let threshold = tensors.scalar("threshold")?;
            if threshold < 0.0 {
                let why = "its threshold is still -1, as training stopped before threshold_start_step, and without one codes \
                           depend on the batch; train on, or read it as AutoEncoderTopK by changing dict_class";
                return Err(unsupported(tensors.file(), class, why));
            }
            Activation::JumpRelu {
                threshold: Array1::from_elem(latents, threshold as f32),
            }
        }
    })
}

fn k(trainer: Option<&mut Config>, tensors: &mut Tensors) -> Result<usize, SaeError> {
    let told = trainer.map(|t| t.count("k")).transpose()?.flatten();
    if !tensors.has("k") {
        let missing = || {
            refusal(
                tensors.file(),
                "neither ae.pt nor config.json has `k`".into(),
            )
        };
        return told.ok_or_else(missing);
    }
    let stored = tensors.scalar("k")?;
    match told {
        Some(k) if k as f64 != stored => Err(refusal(
            tensors.file(),
            format!("`k` is {stored} here and {k} in config.json"),
        )),
        _ if stored >= 1.0 && stored.fract() == 0.0 => Ok(stored as usize),
        _ => Err(refusal(tensors.file(), format!("`k` is {stored}"))),
    }
}

fn about(
    config: Option<Config>,
    trainer: Option<Config>,
    found: &mut Found,
) -> Result<About, SaeError> {
    let mut about = About::default();
    let Some(mut trainer) = trainer else {
        return Ok(about);
    };
    about.model = trainer.text("lm_name")?;
    let point = trainer.clone().text("submodule_name")?;
    match point.as_deref().and_then(submodule) {
        Some(point) => about.reads = vec![point],
        None => found.note("the configuration does not say which point is read; dictionary_learning's scripts mean resid_post of `layer`"),
    }
    let buffer = config.map(|mut c| c.object("buffer")).transpose()?;
    if let Some(mut buffer) = buffer.flatten() {
        about.context = buffer.count("ctx_len")?;
    }
    about.other = trainer.rest();
    Ok(about)
}

/// `resid_post_layer_8`, as the library's training script names submodules.
fn submodule(name: &str) -> Option<String> {
    let (what, layer) = name.rsplit_once("_layer_")?;
    let layer: usize = layer.parse().ok()?;
    let point = match what {
        "resid_post" => "resid_post",
        "mlp" | "mlp_out" => "mlp_out",
        "attn" | "attn_out" | "attention" => "attn_out",
        _ => return None,
    };
    Some(format!("{point}.{layer}"))
}
