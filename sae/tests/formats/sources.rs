//! Each source's own codes and reconstructions, and what is told about where a dictionary belongs.

use candlescope_sae::format::{Format, read, read_as};
use candlescope_sae::{Activation, Scaling};

use super::{assert_same, fixture};

/// Folders, the format that must be recognised, and the dialect that must be told.
const FOLDERS: [(&str, Format, &str); 37] = [
    ("saelens/standard", Format::SaeLens, "6.54.12, standard"),
    (
        "saelens/standard-uncentred-bf16",
        Format::SaeLens,
        "6.54.12, standard",
    ),
    (
        "saelens/standard-layer-norm",
        Format::SaeLens,
        "6.54.12, standard",
    ),
    ("saelens/topk", Format::SaeLens, "6.54.12, topk"),
    ("saelens/topk-rescaled", Format::SaeLens, "6.54.12, topk"),
    ("saelens/jumprelu", Format::SaeLens, "6.54.12, jumprelu"),
    ("saelens/gated", Format::SaeLens, "6.54.12, gated"),
    ("saelens/transcoder", Format::SaeLens, "6.54.12, transcoder"),
    (
        "saelens/skip-transcoder",
        Format::SaeLens,
        "6.54.12, skip_transcoder",
    ),
    (
        "saelens/jumprelu-transcoder",
        Format::SaeLens,
        "6.54.12, jumprelu_transcoder",
    ),
    (
        "saelens/jumprelu-skip-transcoder",
        Format::SaeLens,
        "6.54.12, jumprelu_skip_transcoder",
    ),
    (
        "saelens/batchtopk-exported",
        Format::SaeLens,
        "6.54.12, jumprelu",
    ),
    (
        "saelens/batchtopk-checkpoint",
        Format::SaeLens,
        "6.54.12, batchtopk",
    ),
    (
        "saelens/batchtopk-scaled",
        Format::SaeLens,
        "6.54.12, batchtopk",
    ),
    (
        "saelens/matryoshka-exported",
        Format::SaeLens,
        "6.54.12, jumprelu",
    ),
    (
        "saelens/matryoshka-checkpoint",
        Format::SaeLens,
        "6.54.12, matryoshka_batchtopk",
    ),
    (
        "saelens-old/standard",
        Format::SaeLens,
        "before 6, standard",
    ),
    ("saelens-old/topk", Format::SaeLens, "before 6, topk"),
    (
        "saelens-old/log-threshold",
        Format::SaeLens,
        "before 6, jumprelu",
    ),
    (
        "saelens-old/finetuned",
        Format::SaeLens,
        "before 6, standard",
    ),
    (
        "dictionary-learning/AutoEncoder",
        Format::DictionaryLearning,
        "AutoEncoder",
    ),
    (
        "dictionary-learning/AutoEncoderNew",
        Format::DictionaryLearning,
        "AutoEncoderNew",
    ),
    (
        "dictionary-learning/GatedAutoEncoder",
        Format::DictionaryLearning,
        "GatedAutoEncoder",
    ),
    (
        "dictionary-learning/JumpReluAutoEncoder",
        Format::DictionaryLearning,
        "JumpReluAutoEncoder",
    ),
    (
        "dictionary-learning/AutoEncoderTopK",
        Format::DictionaryLearning,
        "AutoEncoderTopK",
    ),
    (
        "dictionary-learning/BatchTopKSAE",
        Format::DictionaryLearning,
        "BatchTopKSAE",
    ),
    (
        "dictionary-learning/MatryoshkaBatchTopKSAE",
        Format::DictionaryLearning,
        "MatryoshkaBatchTopKSAE",
    ),
    ("sparsify/sae/layers.5", Format::Sparsify, "topk"),
    (
        "sparsify/transcoder/layers.5.mlp",
        Format::Sparsify,
        "transcoder, topk",
    ),
    (
        "gemma-scope/layer_20/width_16k/average_l0_71",
        Format::GemmaScope,
        "1, jumprelu",
    ),
    ("gemma-scope/compressed", Format::GemmaScope, "1, jumprelu"),
    (
        "gemma-scope/embedding/width_4k",
        Format::GemmaScope,
        "1, jumprelu",
    ),
    (
        "gemma-scope-2/resid_post/layer_9_width_16k_l0_medium",
        Format::GemmaScope2,
        "2, jumprelu",
    ),
    (
        "gemma-scope-2/transcoder/layer_9_affine",
        Format::GemmaScope2,
        "2, jumprelu",
    ),
    ("llama-scope", Format::LlamaScope, "jumprelu"),
    (
        "qwen-scope/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5",
        Format::QwenScope,
        "topk",
    ),
    (
        "circuit-tracer/jumprelu",
        Format::CircuitTracer,
        "per-layer transcoder, jumprelu",
    ),
];

#[test]
fn every_source_gives_its_own_codes_and_reconstructions() {
    for (name, format, dialect) in FOLDERS {
        let folder = fixture("foreign").join(name);
        let (dictionary, found) = read(&folder).unwrap();
        assert_eq!(
            (found.format, found.dialect.as_str()),
            (format, dialect),
            "{name}"
        );
        assert_same(&dictionary, &folder);
        assert_eq!(read_as(format, &folder).unwrap().0, dictionary, "{name}");
        assert!(found.files.iter().all(|f| f.is_file()), "{name}");
    }
    for name in ["circuit-tracer/relu-skip", "circuit-tracer/topk"] {
        let folder = fixture("foreign").join(name);
        assert_same(&read(&folder).unwrap().0, &folder);
    }
}

/// A fixture that no test reads proves nothing.
#[test]
fn every_fixture_is_read() {
    let mut open = vec![fixture("foreign")];
    while let Some(folder) = open.pop() {
        open.extend(
            folder
                .read_dir()
                .unwrap()
                .map(|e| e.unwrap().path())
                .filter(|p| p.is_dir()),
        );
        if folder.join("expected.safetensors").exists() {
            let listed = FOLDERS.iter().any(|(name, ..)| folder.ends_with(name));
            let others = ["relu-skip", "circuit-tracer/topk"];
            assert!(
                listed || others.iter().any(|o| folder.ends_with(o)),
                "{}",
                folder.display()
            );
        }
    }
}

#[test]
fn single_files_are_recognised_by_their_names() {
    for file in [
        "saelens/topk/sae_weights.safetensors",
        "saelens/topk/cfg.json",
        "dictionary-learning/AutoEncoderTopK/ae.pt",
        "sparsify/sae/layers.5/sae.safetensors",
        "gemma-scope/compressed/params.npz",
        "gemma-scope-2/transcoder/layer_9_affine/params.safetensors",
        "llama-scope/checkpoints/final.safetensors",
        "qwen-scope/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5/layer7.sae.pt",
        "circuit-tracer/topk/layer_3.safetensors",
    ] {
        let file = fixture("foreign").join(file);
        let folder = if file.ends_with("final.safetensors") {
            fixture("foreign/llama-scope")
        } else {
            file.parent().unwrap().to_owned()
        };
        assert_eq!(
            read(&file).unwrap(),
            read(&folder).unwrap(),
            "{}",
            file.display()
        );
    }
}

#[test]
fn points_are_told_in_our_words() {
    let about = |name: &str| {
        read(&fixture("foreign").join(name))
            .unwrap()
            .0
            .about()
            .clone()
    };
    for (name, reads, writes, model) in [
        ("saelens/standard", "resid_post.3", "", "gpt2-small"),
        (
            "saelens/skip-transcoder",
            "mlp_in.3",
            "mlp_contrib.3",
            "gpt2-small",
        ),
        ("saelens-old/standard", "resid_pre.8", "", "gpt2-small"),
        ("saelens-old/topk", "z.8", "", "gpt2-small"),
        (
            "dictionary-learning/AutoEncoderTopK",
            "resid_post.8",
            "",
            "EleutherAI/pythia-70m-deduped",
        ),
        (
            "sparsify/sae/layers.5",
            "resid_post.5",
            "",
            "HuggingFaceTB/SmolLM2-135M",
        ),
        (
            "sparsify/transcoder/layers.5.mlp",
            "mlp_in.5",
            "mlp_out.5",
            "",
        ),
        ("gemma-scope/embedding/width_4k", "embed", "", ""),
        (
            "gemma-scope-2/resid_post/layer_9_width_16k_l0_medium",
            "resid_post.9",
            "",
            "google/gemma-v3-1b-pt",
        ),
        (
            "gemma-scope-2/transcoder/layer_9_affine",
            "mlp_in.9",
            "mlp_contrib.9",
            "gemma-v3-1b-pt",
        ),
        ("llama-scope", "resid_post.15", "", ""),
        (
            "qwen-scope/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5",
            "resid_post.7",
            "",
            "",
        ),
        (
            "circuit-tracer/jumprelu",
            "mlp_in.3",
            "mlp_contrib.3",
            "google/gemma-2-2b",
        ),
    ] {
        let about = about(name);
        let found = (
            about.reads.join(" "),
            about.writes.join(" "),
            about.model.unwrap_or_default(),
        );
        assert_eq!(found, (reads.into(), writes.into(), model.into()), "{name}");
    }
    let about = about("saelens/standard");
    assert_eq!(
        (about.context, about.prepend_bos, about.dataset.as_deref()),
        (Some(128), Some(false), Some("some/text"))
    );
    assert_eq!(about.other["extra"]["kept"][1], 2);
}

#[test]
fn what_was_folded_is_told() {
    let notes = |name: &str| {
        read(&fixture("foreign").join(name))
            .unwrap()
            .1
            .notes
            .join("; ")
    };
    for (name, note) in [
        ("saelens/topk-rescaled", "decoder norms folded"),
        ("saelens/batchtopk-scaled", "activation scale 0.37 folded"),
        ("saelens-old/finetuned", "scaling_factor folded"),
        ("saelens/jumprelu", "thresholds below 0"),
        ("llama-scope", "the threshold with it"),
        ("gemma-scope/embedding/width_4k", "sqrt(d)"),
        ("qwen-scope/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5", "k = 5"),
        ("dictionary-learning/AutoEncoder", "not of norm 1"),
    ] {
        assert!(notes(name).contains(note), "{name}: {}", notes(name));
    }
    assert_eq!(notes("saelens/standard"), "");
}

#[test]
fn the_parts_are_those_of_the_file() {
    let parts = |name: &str| read(&fixture("foreign").join(name)).unwrap().0.into_parts();
    assert_eq!(
        parts("saelens/topk-rescaled").activation,
        Activation::TopK { k: 5 }
    );
    assert_eq!(
        parts("saelens/standard-layer-norm").scaling,
        Scaling::LayerNorm
    );
    assert!(
        parts("saelens-old/standard").centred,
        "absent apply_b_dec_to_input means true"
    );
    assert!(!parts("saelens-old/topk").centred);
    assert!(!parts("dictionary-learning/JumpReluAutoEncoder").centred);
    assert!(parts("dictionary-learning/BatchTopKSAE").centred);
    let (dictionary, found) = read(&fixture("foreign/saelens/standard")).unwrap();
    assert_eq!(found.sparsity.unwrap().len(), dictionary.d_sae());
}
