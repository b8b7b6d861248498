//! What is refused, and that the message says what and why.

use std::path::Path;

use candlescope_sae::format::{Format, read, read_as};
use serde_json::Value;

use super::{copy, fixture};

/// Reads a copy of a fixture whose configuration was changed.
fn changed(name: &str, file: &str, change: impl Fn(&mut Value)) -> Result<String, String> {
    let temporary = tempfile::tempdir().unwrap();
    let to = temporary.path().join("copy");
    copy(&fixture("foreign").join(name), &to);
    let text = std::fs::read_to_string(to.join(file)).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    change(&mut config);
    std::fs::write(to.join(file), config.to_string()).unwrap();
    match read(&to) {
        Ok((_, found)) => Ok(found.notes.join("; ")),
        Err(error) => Err(error.to_string()),
    }
}

fn refused(name: &str, file: &str, key: &str, value: Value, words: &[&str]) {
    let error = changed(name, file, |config| config[key] = value.clone()).unwrap_err();
    for word in words {
        assert!(error.contains(word), "{name} with {key}: {error}");
    }
}

#[test]
fn saelens_options_that_cannot_be_served() {
    let refuse = |key, value: Value, words: &[&str]| {
        refused("saelens/standard", "cfg.json", key, value, words);
    };
    refuse("architecture", "abstopk".into(), &["abstopk", "negative"]);
    refuse(
        "architecture",
        "temporal".into(),
        &["temporal", "positions"],
    );
    refuse("architecture", "cubist".into(), &["cubist"]);
    refuse(
        "normalize_activations",
        "constant_norm_rescale".into(),
        &["constant_norm_rescale", "own norm"],
    );
    refuse(
        "normalize_activations",
        "expected_average_only_in".into(),
        &["norm_scaling_factor", "fold_activation_norm_scaling_factor"],
    );
    refuse(
        "normalize_activations",
        "covariance_whitening".into(),
        &["covariance_whitening", "inference"],
    );
    refuse("d_sae", 31.into(), &["d_sae", "31", "32"]);
    refuse("d_in", 9.into(), &["d_in", "9", "8"]);
    refuse("d_in", "wide".into(), &["d_in", "whole number", "wide"]);
    refuse("architecture", "jumprelu".into(), &["threshold"]);
    refused(
        "saelens/jumprelu",
        "cfg.json",
        "architecture",
        "standard".into(),
        &["threshold", "no place"],
    );
    refused(
        "saelens/transcoder",
        "cfg.json",
        "normalize_activations",
        "layer_norm".into(),
        &["layer_norm", "transcoder"],
    );
    refused(
        "saelens/topk",
        "cfg.json",
        "k",
        33.into(),
        &["k", "33", "32"],
    );
    refused(
        "saelens-old/standard",
        "cfg.json",
        "activation_fn_str",
        "tanh-relu".into(),
        &["tanh-relu"],
    );
    refused(
        "saelens-old/finetuned",
        "cfg.json",
        "finetuning_scaling_factor",
        false.into(),
        &["scaling_factor"],
    );
}

#[test]
fn old_booleans_mean_the_scaling_that_is_folded_or_refused() {
    refused(
        "saelens-old/standard",
        "cfg.json",
        "normalize_activations",
        true.into(),
        &["expected_average_only_in"],
    );
    let folded = changed("saelens-old/standard", "cfg.json", |config| {
        config["normalize_activations"] = true.into();
        config["norm_scaling_factor"] = 0.5.into();
    });
    assert!(folded.unwrap().contains("activation scale 0.5"));
}

#[test]
fn the_other_formats_name_what_they_lack() {
    refused(
        "dictionary-learning/BatchTopKSAE",
        "config.json",
        "trainer",
        serde_json::json!({"dict_class": "CrossCoder"}),
        &["CrossCoder", "BatchTopKSAE"],
    );
    refused(
        "dictionary-learning/AutoEncoder",
        "config.json",
        "trainer",
        serde_json::json!({"dict_class": "AutoEncoder", "dict_size": 64}),
        &["dict_size", "64", "32"],
    );
    refused(
        "dictionary-learning/AutoEncoderTopK",
        "config.json",
        "trainer",
        serde_json::json!({"dict_class": "AutoEncoderTopK", "k": 6}),
        &["`k`", "5", "6"],
    );
    refused(
        "sparsify/sae/layers.5",
        "cfg.json",
        "activation",
        "groupmax".into(),
        &["groupmax"],
    );
    refused(
        "sparsify/sae/layers.5",
        "cfg.json",
        "signed",
        true.into(),
        &["signed", "negative"],
    );
    refused(
        "sparsify/sae/layers.5",
        "cfg.json",
        "num_latents",
        64.into(),
        &["num_latents", "64", "32"],
    );
    refused(
        "gemma-scope-2/transcoder/layer_9_affine",
        "config.json",
        "architecture",
        "topk".into(),
        &["topk"],
    );
}

#[test]
fn two_classes_with_the_same_tensors_are_not_guessed() {
    let temporary = tempfile::tempdir().unwrap();
    for class in ["AutoEncoderTopK", "AutoEncoder"] {
        let to = temporary.path().join(class);
        copy(&fixture("foreign/dictionary-learning").join(class), &to);
        std::fs::remove_file(to.join("config.json")).unwrap();
    }
    let error = read(&temporary.path().join("AutoEncoderTopK"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("config.json") && error.contains("BatchTopKSAE"),
        "{error}"
    );
    let (_, found) = read(&temporary.path().join("AutoEncoder")).unwrap();
    assert!(found.dialect == "AutoEncoder" && found.notes[0].contains("no config.json"));
}

#[test]
fn folders_that_are_no_dictionary() {
    let error = |path: &Path| read(path).unwrap_err().to_string();
    let temporary = tempfile::tempdir().unwrap();
    let at = temporary.path();
    assert!(error(at).contains("found nothing"));
    assert!(error(&at.join("absent")).contains("absent"));
    std::fs::write(at.join("W_enc_0.safetensors"), b"").unwrap();
    assert!(error(at).contains("cross-layer"));
    std::fs::write(at.join("mystery.bin"), b"").unwrap();
    assert!(error(&at.join("mystery.bin")).contains("circuit-tracer"));
    let several = at.join("several");
    std::fs::create_dir(&several).unwrap();
    for layer in 0..3 {
        std::fs::write(several.join(format!("layer_{layer}.safetensors")), b"").unwrap();
    }
    assert!(error(&several).contains("layer_0.safetensors"));
    let lonely = at.join("qwen");
    copy(
        &fixture("foreign/qwen-scope/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5"),
        &lonely,
    );
    assert!(error(&lonely).contains("-L0_K"));
}

#[test]
fn a_format_is_named_as_it_is_written() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>().unwrap(), format);
    }
    assert!(
        "onnx"
            .parse::<Format>()
            .unwrap_err()
            .to_string()
            .contains("gemma-scope-2")
    );
}

/// A cross-layer transcoder of Gemma Scope 2: `w_dec` `[d_sae, layers, d]`.
#[test]
fn decoders_for_several_layers_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let zeros = [0u8; 4 * 4 * 3 * 2];
    let view = |shape: Vec<usize>| {
        let bytes = 4 * shape.iter().product::<usize>();
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &zeros[..bytes])
            .unwrap()
    };
    let tensors = [
        ("w_enc", view(vec![3, 4])),
        ("w_dec", view(vec![4, 2, 3])),
        ("b_enc", view(vec![4])),
        ("b_dec", view(vec![3])),
        ("threshold", view(vec![4])),
    ];
    let file = temporary.path().join("params.safetensors");
    safetensors::serialize_to_file(tensors, None, &file).unwrap();
    let error = read(temporary.path()).unwrap_err().to_string();
    assert!(
        error.contains("cross-layer") && error.contains("later layer"),
        "{error}"
    );
}

/// Weights with a NaN are refused, with the file's name.
#[test]
fn values_that_are_not_finite() {
    let temporary = tempfile::tempdir().unwrap();
    copy(&fixture("foreign/saelens/standard"), temporary.path());
    let file = temporary.path().join("sae_weights.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let error = read_as(Format::SaeLens, temporary.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not finite") && error.contains("sae_weights"),
        "{error}"
    );
}
