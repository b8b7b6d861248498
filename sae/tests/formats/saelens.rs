//! SAELens: the codes of one batch for each of its architectures, and there and back again.

use std::collections::BTreeMap;
use std::path::Path;

use candlescope_sae::format::{read, write_saelens};
use candlescope_sae::{About, Activation, Dictionary, Parts, SaeError, Scaling};
use ndarray::{Array1, Array2};
use serde_json::{Value, json};

use super::{assert_same, fixture, matrices};

/// Writes the tensors that an architecture has, and its configuration.
fn folder(at: &Path, config: &Value, extra: &[(&str, f64)]) {
    let bytes = std::fs::read(fixture("saelens-6.54-weights.safetensors")).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names: &[&str] = match config["architecture"].as_str().unwrap() {
        "gated" => &["W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"],
        "jumprelu" => &["W_enc", "W_dec", "b_dec", "b_enc", "threshold"],
        _ => &["W_enc", "W_dec", "b_dec", "b_enc"],
    };
    let scalars: Vec<(&str, [u8; 8])> = extra.iter().map(|(n, x)| (*n, x.to_le_bytes())).collect();
    let mut tensors: BTreeMap<&str, _> =
        names.iter().map(|n| (*n, all.tensor(n).unwrap())).collect();
    for (name, bytes) in &scalars {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F64, vec![], bytes);
        tensors.insert(name, view.unwrap());
    }
    safetensors::serialize_to_file(tensors, None, &at.join("sae_weights.safetensors")).unwrap();
    std::fs::write(at.join("cfg.json"), config.to_string()).unwrap();
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

/// sae-lens 6.54.12's own forward, every architecture and option, fixed weights (`tests/fixtures/saelens-6.54.json`): codes
/// to six decimals. BatchTopK's choice over a batch is a threshold just below its smallest code.
#[test]
fn one_batch_through_every_architecture() {
    let text = std::fs::read_to_string(fixture("saelens-6.54.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let rows = matrices(&fixture("saelens-6.54-weights.safetensors"))["x"].clone();
    let cases = golden["arch"].as_object().unwrap();
    assert_eq!(cases.len(), 20);
    for (name, case) in cases {
        let mut config = case["config"].clone();
        let architecture = ["batchtopk", "topk", "gated", "jumprelu", "standard"];
        let architecture = architecture
            .into_iter()
            .find(|a| name.starts_with(a))
            .unwrap();
        config["architecture"] = architecture.into();
        config["metadata"] = json!({"sae_lens_version": "6.54.12"});
        let values = case["active_val"].as_array().unwrap();
        let smallest = values.iter().flat_map(numbers).fold(f64::MAX, f64::min);
        let threshold = [("topk_threshold", smallest - 2e-6)];
        let temporary = tempfile::tempdir().unwrap();
        let batch = architecture == "batchtopk";
        folder(
            temporary.path(),
            &config,
            if batch { &threshold } else { &[] },
        );
        let dictionary = read(temporary.path()).unwrap().0;
        let codes = dictionary.encode(rows.view()).unwrap();
        for row in 0..rows.nrows() {
            let (latents, found) = codes.row(row);
            let latents: Vec<f64> = latents.iter().map(|&l| f64::from(l)).collect();
            assert_eq!(
                latents,
                numbers(&case["active_idx"][row]),
                "{name}, row {row}"
            );
            for (found, expected) in found.iter().zip(numbers(&values[row])) {
                let apart = (f64::from(*found) - expected).abs();
                assert!(
                    apart < 1e-5 * expected.max(0.1) + 1e-6,
                    "{name}: {found} against {expected}"
                );
            }
        }
        let out = dictionary.reconstruct(rows.view()).unwrap();
        for (found, expected) in out.row(0).iter().zip(numbers(&case["sae_out_row0"])) {
            assert!(
                (f64::from(*found) - expected).abs() < 2e-5,
                "{name}: {found} against {expected}"
            );
        }
    }
}

/// What is read from every source that SAELens has an architecture for is written, and read again as the same dictionary:
/// the same bits, and the same words.
#[test]
fn written_and_read_again() {
    let mut written = 0;
    let sources = [
        "saelens",
        "saelens-old",
        "dictionary-learning",
        "circuit-tracer",
    ];
    for source in sources {
        for entry in fixture("foreign")
            .join(source)
            .read_dir()
            .unwrap()
            .map(Result::unwrap)
        {
            let (dictionary, _) = read(&entry.path()).unwrap();
            let temporary = tempfile::tempdir().unwrap();
            let to = temporary.path().join("new");
            let sparsity: Vec<f32> = (0..32).map(|i| i as f32 / -7.0).collect();
            write_saelens(&dictionary, &to, Some(&sparsity)).unwrap();
            let (again, found) = read(&to).unwrap();
            assert_same(&again, &entry.path());
            assert_eq!(found.sparsity, Some(sparsity));
            let (mut a, mut b) = (dictionary.into_parts(), again.into_parts());
            for about in [&mut a.about, &mut b.about] {
                about.other.remove("sae_lens_version");
                if about.other.get("reshape_activations") == Some(&"none".into()) {
                    about.other.remove("reshape_activations");
                }
            }
            assert_eq!(a, b, "{}", entry.path().display());
            written += 1;
        }
    }
    assert_eq!(written, 16 + 4 + 7 + 3);
}

fn parts(d_in: usize, d_out: usize, activation: Activation) -> Parts {
    let wave = |n: usize, m: usize, f: f32| {
        Array2::from_shape_fn((n, m), |(i, j)| ((i * m + j) as f32 * f).sin())
    };
    Parts {
        encoder: wave(12, d_in, 0.7),
        decoder: wave(12, d_out, 1.3),
        encoder_bias: Array1::linspace(-0.3, 0.3, 12),
        decoder_bias: Array1::linspace(0.1, -0.1, d_out),
        centred: d_in == d_out,
        activation,
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    }
}

#[test]
fn about_survives_the_journey() {
    let about = About {
        model: Some("a/b".into()),
        reads: vec!["resid_post.3".into(), "resid_post.4".into()],
        writes: vec!["mlp_contrib.3".into()],
        context: Some(77),
        prepend_bos: Some(true),
        dataset: Some("text".into()),
        fingerprint: Some(json!({"dtype": "f32", "layers": [1, 2]})),
        other: BTreeMap::from([
            ("reshape_activations".into(), "hook_z".into()),
            ("sae_lens_version".into(), "6.0.0".into()),
            ("tokens".into(), 12.into()),
        ]),
    };
    let dictionary = Dictionary::new(Parts {
        about: about.clone(),
        ..parts(5, 3, Activation::Relu)
    })
    .unwrap();
    let temporary = tempfile::tempdir().unwrap();
    write_saelens(&dictionary, temporary.path(), None).unwrap();
    assert_eq!(read(temporary.path()).unwrap().0.about(), &about);
    let config = std::fs::read_to_string(temporary.path().join("cfg.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["architecture"], "transcoder");
    assert_eq!(config["metadata"]["hook_name_out"], "blocks.3.hook_mlp_out");
    assert_eq!(config["reshape_activations"], "hook_z");
}

/// A transcoder of equal widths that takes its bias off what it reads: SAELens's never do, so the bias is folded.
#[test]
fn a_centred_transcoder_is_written_with_its_centring_folded() {
    let mut parts = parts(
        5,
        5,
        Activation::JumpRelu {
            threshold: Array1::from_elem(12, 0.2),
        },
    );
    parts.skip = Some(Array2::from_shape_fn((5, 5), |(i, j)| {
        (i as f32 - j as f32) / 9.0
    }));
    let dictionary = Dictionary::new(parts).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    write_saelens(&dictionary, temporary.path(), None).unwrap();
    let again = read(temporary.path()).unwrap().0;
    assert!(!again.parts().centred);
    let rows = Array2::from_shape_fn((6, 5), |(i, j)| ((i * 5 + j) as f32 * 0.9).cos());
    let (a, b) = (
        dictionary.reconstruct(rows.view()).unwrap(),
        again.reconstruct(rows.view()).unwrap(),
    );
    assert!(super::difference(&a, &b) < 1e-6);
    assert_ne!(dictionary.parts().encoder_bias, again.parts().encoder_bias);
}

#[test]
fn what_saelens_cannot_hold_is_refused_and_nothing_is_written() {
    let refused = |parts: Parts| {
        let temporary = tempfile::tempdir().unwrap();
        let to = temporary.path().join("new");
        let error = write_saelens(&Dictionary::new(parts).unwrap(), &to, None).unwrap_err();
        assert!(matches!(error, SaeError::Unsupported { .. }));
        assert!(!to.exists());
        error.to_string()
    };
    assert!(refused(parts(5, 3, Activation::TopK { k: 2 })).contains("a transcoder with topk"));
    let gated = Activation::Gated {
        log_scale: Array1::zeros(12),
        magnitude_bias: Array1::zeros(12),
    };
    assert!(refused(parts(5, 3, gated)).contains("gated transcoder"));
    let below = Activation::JumpRelu {
        threshold: Array1::from_elem(12, -0.1),
    };
    assert!(refused(parts(5, 5, below)).contains("threshold below 0"));
    let scaled = Parts {
        scaling: Scaling::LayerNorm,
        ..parts(5, 3, Activation::Relu)
    };
    assert!(refused(scaled).contains("scales rows"));
}

#[test]
fn one_dictionary_replaces_another_and_leaves_nothing_of_it() {
    let temporary = tempfile::tempdir().unwrap();
    let jump = Activation::JumpRelu {
        threshold: Array1::from_elem(12, 0.2),
    };
    let first = Dictionary::new(parts(5, 5, jump)).unwrap();
    write_saelens(&first, temporary.path(), Some(&[0.0; 12])).unwrap();
    let second = Dictionary::new(parts(5, 5, Activation::TopK { k: 3 })).unwrap();
    let files = write_saelens(&second, temporary.path(), None).unwrap();
    let mut there: Vec<_> = temporary
        .path()
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    there.sort();
    let mut files = files.clone();
    files.sort();
    assert_eq!(there, files);
    assert_eq!(
        read(temporary.path()).unwrap().0.parts().activation,
        Activation::TopK { k: 3 }
    );
    let short = write_saelens(&second, temporary.path(), Some(&[0.0; 3])).unwrap_err();
    assert!(short.to_string().contains("sparsity"));
    assert_eq!(
        read(temporary.path()).unwrap().0.parts().activation,
        Activation::TopK { k: 3 }
    );
}
