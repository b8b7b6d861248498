//! Rotary embeddings out of a Hugging Face config: `rope_theta` with `rope_scaling`, or `rope_parameters`.

use serde_json::{Map, Value};

use super::ConfigError;
use super::hf::windows;
use super::keys::Keys;
use super::rope::{longrope_magnitude, yarn_mscale};
use super::{Family, Positions, Rope, RopeScaling};

/// What a family uses where the config says nothing.
pub(super) struct RotaryDefaults {
    pub(super) theta: f64,
    pub(super) fraction: f64,
    pub(super) d_head: usize,
    pub(super) n_ctx: usize,
}

/// Rotary embeddings, and which one each layer uses.
pub(super) fn positions(
    keys: &Keys,
    family: Family,
    d_head: usize,
    n_ctx: usize,
    n_layers: usize,
) -> Result<(Positions, Vec<usize>), ConfigError> {
    let theta = match family {
        Family::Gemma3 => 1_000_000.0,
        _ => 10_000.0,
    };
    let fraction = keys.positive("partial_rotary_factor")?.unwrap_or(1.0);
    let defaults = RotaryDefaults {
        theta,
        fraction,
        d_head,
        n_ctx,
    };
    if family != Family::Gemma3 {
        return Ok((
            Positions::Rotary(vec![rope(keys, &defaults)?]),
            vec![0; n_layers],
        ));
    }
    let local_theta = keys.positive("rope_local_base_freq")?.unwrap_or(10_000.0);
    let (global, local) = match keys.object("rope_parameters")? {
        Some(map)
            if map.contains_key("full_attention") || map.contains_key("sliding_attention") =>
        {
            let part = |kind: &str, theta: f64| -> Result<Rope, ConfigError> {
                let inner = map.get(kind).and_then(Value::as_object);
                let inner = inner.ok_or_else(|| keys.refuse("rope_parameters", kind, "nothing"))?;
                scaled_rope(keys, Some(inner), &RotaryDefaults { theta, ..defaults })
            };
            (
                part("full_attention", theta)?,
                part("sliding_attention", local_theta)?,
            )
        }
        _ => (
            rope(keys, &defaults)?,
            Rope::plain(rotary_dim(keys, d_head, fraction)?, local_theta),
        ),
    };
    let windows = windows(keys, family, n_layers)?;
    let choice = windows.iter().map(|w| usize::from(w.is_some())).collect();
    Ok((Positions::Rotary(vec![global, local]), choice))
}

fn rotary_dim(keys: &Keys, d_head: usize, fraction: f64) -> Result<usize, ConfigError> {
    let dim = (d_head as f64 * fraction) as usize;
    if dim == 0 || dim.next_multiple_of(2) > d_head {
        let found = format!("{fraction} of {d_head} channels");
        return Err(keys.refuse(
            "partial_rotary_factor",
            "a share of the head's channels",
            found,
        ));
    }
    Ok(dim)
}

/// A rotary embedding from either config generation.
pub(super) fn rope(keys: &Keys, defaults: &RotaryDefaults) -> Result<Rope, ConfigError> {
    let theta = keys.positive("rope_theta")?.unwrap_or(defaults.theta);
    let defaults = RotaryDefaults { theta, ..*defaults };
    let old = keys.object("rope_scaling")?;
    let new = keys.object("rope_parameters")?;
    scaled_rope(keys, new.or(old), &defaults)
}

/// Reads `rope_parameters` or `rope_scaling`; a key inside that the type does not use is refused.
fn scaled_rope(
    keys: &Keys,
    map: Option<&Map<String, Value>>,
    defaults: &RotaryDefaults,
) -> Result<Rope, ConfigError> {
    let empty = Map::new();
    let file = format!("{}: rope_parameters", keys.file);
    let inner = Keys::new(&file, map.unwrap_or(&empty));
    let theta = inner.positive("rope_theta")?.unwrap_or(defaults.theta);
    let fraction = inner
        .positive("partial_rotary_factor")?
        .unwrap_or(defaults.fraction);
    let dim = rotary_dim(keys, defaults.d_head, fraction)?;
    let kind = match (inner.text("rope_type")?, inner.text("type")?) {
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => "default",
    };
    let original_key = "original_max_position_embeddings";
    let outer_original = keys.size(original_key)?;
    let need_factor = || -> Result<f64, ConfigError> {
        inner
            .positive("factor")?
            .ok_or_else(|| inner.refuse("factor", "a number", "nothing"))
    };
    let original = inner
        .size(original_key)?
        .or(outer_original)
        .unwrap_or(defaults.n_ctx);
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: need_factor()?,
        },
        // transformers ignores `original_max_position_embeddings` here and stretches from the context length.
        "dynamic" => RopeScaling::Dynamic {
            factor: need_factor()?,
            original: defaults.n_ctx,
        },
        "yarn" => yarn(&inner, original, defaults.n_ctx)?,
        "llama3" => RopeScaling::Llama3 {
            factor: need_factor()?,
            original,
            low_freq_factor: inner.positive("low_freq_factor")?.unwrap_or(1.0),
            high_freq_factor: inner.positive("high_freq_factor")?.unwrap_or(4.0),
        },
        "longrope" | "su" => longrope(&inner, dim, original, defaults.n_ctx)?,
        other => {
            return Err(inner.refuse(
                "rope_type",
                "default, linear, dynamic, yarn, llama3 or longrope",
                other,
            ));
        }
    };
    inner.finish(&[])?;
    Ok(Rope {
        dim,
        theta,
        scaling,
    })
}

fn yarn(inner: &Keys, original: usize, n_ctx: usize) -> Result<RopeScaling, ConfigError> {
    let factor = inner
        .positive("factor")?
        .unwrap_or(n_ctx as f64 / original as f64);
    let attention_factor = match (
        inner.positive("attention_factor")?,
        inner.float("mscale")?,
        inner.float("mscale_all_dim")?,
    ) {
        (Some(given), _, _) => given,
        (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => {
            yarn_mscale(factor, one) / yarn_mscale(factor, all)
        }
        _ => yarn_mscale(factor, 1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        original,
        beta_fast: inner.positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: inner.positive("beta_slow")?.unwrap_or(1.0),
        attention_factor,
        truncate: inner.flag("truncate")?.unwrap_or(true),
    })
}

fn longrope(
    inner: &Keys,
    dim: usize,
    original: usize,
    n_ctx: usize,
) -> Result<RopeScaling, ConfigError> {
    let list = |key: &str| -> Result<Vec<f64>, ConfigError> {
        let list = inner.floats(key)?.unwrap_or_default();
        if list.len() != dim / 2 {
            return Err(inner.refuse(key, &format!("{} numbers", dim / 2), list.len()));
        }
        Ok(list)
    };
    let factor = inner
        .positive("factor")?
        .unwrap_or(n_ctx as f64 / original as f64);
    let default = longrope_magnitude(factor, original);
    Ok(RopeScaling::LongRope {
        short: list("short_factor")?,
        long: list("long_factor")?,
        original,
        attention_factor: inner.positive("attention_factor")?.unwrap_or(default),
    })
}
