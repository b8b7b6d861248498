//! sparsify (`EleutherAI/sparsify`): a folder named after a module, with `cfg.json` and `sae.safetensors`.
//!
//! `encoder.weight` and `W_dec` are both `[d_sae, d]`. An autoencoder takes `b_dec` off what it reads, a transcoder does not;
//! `normalize_decoder` says how it was trained and changes nothing here.

use std::path::Path;

use super::config::Config;
use super::found::folder;
use super::names::number_after;
use super::tensors::short;
use super::{Format, Found, assemble, safetensors, unsupported};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

pub(super) fn read(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    let folder = folder(path);
    let mut config = Config::read(&folder.join("cfg.json"))?;
    let weights = folder.join("sae.safetensors");
    let mut tensors = safetensors::open(&weights)?;
    let transcode = config.flag("transcode")?.unwrap_or(false);
    let skip = config.flag("skip_connection")?.unwrap_or(false);
    let activation = config.text("activation")?.unwrap_or("topk".into());
    if activation != "topk" {
        let what = format!("activation `{}`", short(&activation));
        let why = "it keeps the largest latent of each group, and no rule here does; topk is read";
        return Err(unsupported(config.file(), &what, why));
    }
    if config.flag("signed")?.unwrap_or(false) {
        let why = "its codes may be negative, and codes here are not";
        return Err(unsupported(config.file(), "a signed top-k", why));
    }
    let mut found = Found::new(
        Format::Sparsify,
        if transcode {
            "transcoder, topk"
        } else {
            "topk"
        },
        &[config.file(), &weights],
    );
    let k = config.count("k")?;
    let encoder = tensors.matrix("encoder.weight")?;
    let (latents, d_in) = encoder.dim();
    let expected = config.count("d_in")?;
    config.agree("d_in", expected, d_in)?;
    let factor = config.count("expansion_factor")?;
    let expected = config.count("num_latents")?.filter(|n| *n > 0);
    let by_factor = factor.and_then(|f| f.checked_mul(d_in));
    config.agree("num_latents", expected.or(by_factor), latents)?;
    let mut parts = Parts {
        encoder,
        decoder: tensors.matrix("W_dec")?,
        encoder_bias: tensors.vector("encoder.bias")?,
        decoder_bias: tensors.vector("b_dec")?,
        centred: !transcode,
        activation: Activation::TopK {
            k: config.need("k", k)?,
        },
        skip: if skip {
            Some(tensors.matrix("W_skip")?)
        } else {
            None
        },
        scaling: Scaling::None,
        about: About::default(),
    };
    tensors.finish()?;
    parts.about = about(folder, transcode, config, &mut found)?;
    Ok((assemble(&weights, parts, &mut found)?, found))
}

/// What the folder's name and the run's `config.json` above it say.
fn about(
    folder: &Path,
    transcode: bool,
    config: Config,
    found: &mut Found,
) -> Result<About, SaeError> {
    let mut about = About::default();
    let module = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    match points(&module, transcode) {
        Some((reads, writes)) => (about.reads, about.writes) = (reads, writes),
        None => found.note(format!(
            "`{}` is no module that is known: which point is read is left open",
            short(&module)
        )),
    }
    about.other = config.rest();
    about.other.insert("hookpoint".into(), module.into());
    let run = folder.parent().map(|p| p.join("config.json"));
    if let Some(run) = run.filter(|p| p.is_file()) {
        let mut run = Config::read(&run)?;
        about.model = run.text("model")?;
        about.dataset = run.text("dataset")?;
        about.context = run.count("ctx_len")?;
        found.files.push(run.file().to_owned());
    }
    Ok(about)
}

/// The points of `layers.5`, `layers.5.mlp`, `h.5.mlp`, `embed_tokens`: a module stands for its output, and for its input too
/// where it is transcoded.
fn points(module: &str, transcode: bool) -> Option<(Vec<String>, Vec<String>)> {
    if module == "embed_tokens" {
        return (!transcode).then(|| (vec!["embed".into()], Vec::new()));
    }
    let stem = module
        .trim_start_matches("model.")
        .trim_start_matches("transformer.");
    let word = ["layers.", "h."]
        .into_iter()
        .find(|w| stem.starts_with(w))?;
    let layer = number_after(stem, word)?;
    let rest = &stem[word.len() + layer.to_string().len()..];
    let (reads, writes) = match rest {
        "" => ("resid_pre", "resid_post"),
        ".mlp" => ("mlp_in", "mlp_out"),
        ".self_attn" | ".attn" | ".attention" => ("attn_in", "attn_out"),
        _ => return None,
    };
    let point = |name: &str| vec![format!("{name}.{layer}")];
    Some(if transcode {
        (point(reads), point(writes))
    } else {
        (point(writes), Vec::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_points() {
        let one = |m: &str| points(m, false).map(|(reads, _)| reads.concat());
        assert_eq!(one("layers.12").as_deref(), Some("resid_post.12"));
        assert_eq!(one("h.3.mlp").as_deref(), Some("mlp_out.3"));
        assert_eq!(
            one("model.layers.0.self_attn").as_deref(),
            Some("attn_out.0")
        );
        assert_eq!(one("layers.4.mlp.up_proj"), None);
        let (reads, writes) = points("layers.7.mlp", true).unwrap_or_default();
        assert_eq!(
            (reads.concat(), writes.concat()),
            ("mlp_in.7".into(), "mlp_out.7".into())
        );
    }
}
