//! Hook points in the words of other programs, and in ours. Names that are not in the tables stay as they are: nothing is
//! ever mapped to a near neighbour.

/// Our name, and TransformerLens's for the same tensor. `mlp_in` is `mlp.hook_in`; its `hook_mlp_in` is a tensor before the
/// norm and is not here.
const TRANSFORMER_LENS: [(&str, &str); 21] = [
    ("resid_pre", "blocks.{L}.hook_resid_pre"),
    ("attn_in", "blocks.{L}.attn.hook_in"),
    ("q", "blocks.{L}.attn.hook_q"),
    ("k", "blocks.{L}.attn.hook_k"),
    ("v", "blocks.{L}.attn.hook_v"),
    ("rot_q", "blocks.{L}.attn.hook_rot_q"),
    ("rot_k", "blocks.{L}.attn.hook_rot_k"),
    ("attn_scores", "blocks.{L}.attn.hook_attn_scores"),
    ("pattern", "blocks.{L}.attn.hook_pattern"),
    ("z", "blocks.{L}.attn.hook_z"),
    ("head_result", "blocks.{L}.attn.hook_result"),
    ("attn_out", "blocks.{L}.attn.hook_out"),
    ("attn_contrib", "blocks.{L}.hook_attn_out"),
    ("resid_mid", "blocks.{L}.hook_resid_mid"),
    ("mlp_in", "blocks.{L}.mlp.hook_in"),
    ("mlp_pre", "blocks.{L}.mlp.hook_pre"),
    ("mlp_pre_linear", "blocks.{L}.mlp.hook_pre_linear"),
    ("mlp_act", "blocks.{L}.mlp.hook_post"),
    ("mlp_out", "blocks.{L}.mlp.hook_out"),
    ("mlp_contrib", "blocks.{L}.hook_mlp_out"),
    ("resid_post", "blocks.{L}.hook_resid_post"),
];

/// Those without a layer.
const LAYERLESS: [(&str, &str); 3] = [
    ("embed", "hook_embed"),
    ("pos_embed", "hook_pos_embed"),
    ("final_norm", "ln_final.hook_out"),
];

/// Our name, and the module of a Hugging Face model with whether its input or its output is meant, as Gemma Scope 2 writes it.
const MODULES: [(&str, &str); 4] = [
    ("resid_post", "model.layers.{L}.output"),
    ("z", "model.layers.{L}.self_attn.o_proj.input"),
    (
        "mlp_in",
        "model.layers.{L}.pre_feedforward_layernorm.output",
    ),
    (
        "mlp_contrib",
        "model.layers.{L}.post_feedforward_layernorm.output",
    ),
];

fn layer<'a>(pattern: &str, name: &'a str) -> Option<&'a str> {
    let (before, after) = pattern.split_once("{L}")?;
    let layer = name.strip_prefix(before)?.strip_suffix(after)?;
    (!layer.is_empty() && layer.bytes().all(|b| b.is_ascii_digit())).then_some(layer)
}

fn ours(table: &[(&str, &str)], name: &str) -> Option<String> {
    let found =
        |(point, pattern): &(&str, &str)| Some(format!("{point}.{}", layer(pattern, name)?));
    table.iter().find_map(found)
}

/// Our name for a TransformerLens hook.
pub(super) fn from_transformer_lens(hook: &str) -> String {
    let layerless = LAYERLESS.iter().find(|(_, theirs)| *theirs == hook);
    match layerless {
        Some((point, _)) => (*point).to_owned(),
        None => ours(&TRANSFORMER_LENS, hook).unwrap_or_else(|| hook.to_owned()),
    }
}

/// TransformerLens's name for one of our points.
pub(super) fn to_transformer_lens(name: &str) -> String {
    let (point, layer) = name.split_once('.').unwrap_or((name, ""));
    let same = |(ours, _): &&(&str, &str)| *ours == point;
    if layer.is_empty() {
        let theirs = LAYERLESS.iter().find(same);
        return theirs.map_or(name, |(_, theirs)| theirs).to_owned();
    }
    let theirs = TRANSFORMER_LENS.iter().find(same);
    theirs.map_or_else(|| name.to_owned(), |(_, p)| p.replace("{L}", layer))
}

/// Our name for a module's input or output.
pub(super) fn from_module(name: &str) -> Option<String> {
    ours(&MODULES, name)
}

/// The number after a word in a path: 12 for `layer_` in `layer_12/width_16k`.
pub(super) fn number_after(path: &str, word: &str) -> Option<usize> {
    path.match_indices(word).find_map(|(at, _)| {
        let digits = path[at + word.len()..]
            .bytes()
            .take_while(u8::is_ascii_digit);
        let end = at + word.len() + digits.count();
        path[at + word.len()..end].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (point, _) in TRANSFORMER_LENS {
            let name = format!("{point}.17");
            assert_eq!(from_transformer_lens(&to_transformer_lens(&name)), name);
        }
        for (point, _) in LAYERLESS {
            assert_eq!(from_transformer_lens(&to_transformer_lens(point)), point);
        }
    }

    #[test]
    fn a_neighbour_is_never_taken_for_the_tensor() {
        let kept = [
            "blocks.3.hook_mlp_in",
            "blocks.x.hook_resid_post",
            "blocks.3.ln2.hook_normalized",
            "custom",
        ];
        for hook in kept {
            assert_eq!(from_transformer_lens(hook), hook);
        }
        assert_eq!(
            from_transformer_lens("blocks.3.hook_mlp_out"),
            "mlp_contrib.3"
        );
        assert_eq!(from_transformer_lens("blocks.3.mlp.hook_out"), "mlp_out.3");
        assert_eq!(
            from_module("model.layers.9.output").as_deref(),
            Some("resid_post.9")
        );
        assert_eq!(from_module("model.layers.9.mlp.output"), None);
    }

    #[test]
    fn numbers_in_paths() {
        assert_eq!(
            number_after("layer_20/width_16k/average_l0_71", "average_l0_"),
            Some(71)
        );
        assert_eq!(number_after("no_layer_here/layer_7", "layer_"), Some(7));
        assert_eq!(number_after("embedding", "layer_"), None);
    }
}
