//! Damaged files of every format: an error or a dictionary, never a panic, and no memory that the file does not have.

use std::path::{Path, PathBuf};

use candlescope_sae::format::{Format, read, read_as};
use proptest::prelude::*;

use super::{copy, fixture};

/// One folder of each format and container, and the file that is damaged.
const TARGETS: [(&str, &str); 16] = [
    ("saelens/jumprelu", "sae_weights.safetensors"),
    ("saelens/jumprelu", "cfg.json"),
    ("saelens/batchtopk-scaled", "activation_scaler.json"),
    ("saelens/standard", "sparsity.safetensors"),
    ("saelens-old/finetuned", "sae_weights.safetensors"),
    ("saelens-old/topk", "cfg.json"),
    ("dictionary-learning/AutoEncoderTopK", "ae.pt"),
    ("dictionary-learning/MatryoshkaBatchTopKSAE", "ae.pt"),
    ("dictionary-learning/GatedAutoEncoder", "config.json"),
    ("sparsify/sae/layers.5", "sae.safetensors"),
    ("gemma-scope/compressed", "params.npz"),
    ("gemma-scope/layer_20/width_16k/average_l0_71", "params.npz"),
    (
        "gemma-scope-2/transcoder/layer_9_affine",
        "params.safetensors",
    ),
    ("llama-scope", "hyperparams.json"),
    (
        "qwen-scope/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5",
        "layer7.sae.pt",
    ),
    ("circuit-tracer/topk", "config.yaml"),
];

/// A copy of a target in a temporary folder of the same name, which some readers look at.
fn target(index: usize, temporary: &Path) -> (PathBuf, Vec<u8>) {
    let (name, file) = TARGETS[index % TARGETS.len()];
    let from = fixture("foreign").join(name);
    let to = temporary.join(from.file_name().unwrap());
    copy(&from, &to);
    if name == "llama-scope" {
        copy(&from.join("checkpoints"), &to.join("checkpoints"));
    }
    let path = to.join(file);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

fn try_all(path: &Path) {
    let folder = path.parent().unwrap();
    let _ = read(folder);
    for format in Format::ALL {
        let _ = read_as(format, folder);
        let _ = read_as(format, path);
    }
}

#[test]
fn every_beginning_of_every_file() {
    for index in 0..TARGETS.len() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, bytes) = target(index, temporary.path());
        for length in (0..bytes.len()).step_by(bytes.len() / 60 + 1) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let whole = read(path.parent().unwrap());
            // Words about a dictionary may be cut short; its numbers may not.
            let words = path.extension().is_some_and(|e| e == "yaml");
            assert!(
                words || whole.is_err(),
                "{} of {length} bytes",
                path.display()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bits_and_bytes(
        index in 0..TARGETS.len(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u8>()), 1..6),
    ) {
        let temporary = tempfile::tempdir().unwrap();
        let (path, mut bytes) = target(index, temporary.path());
        let size = bytes.len();
        for (at, early, value) in flips {
            // The tables are at the beginning, of a zip archive at the end.
            let at = at.index(if early { size.min(400) } else { size });
            let at = if early && value % 2 == 0 { size - 1 - at } else { at };
            bytes[at] ^= value | 1;
        }
        std::fs::write(&path, &bytes).unwrap();
        try_all(&path);
    }

    #[test]
    fn noise_under_every_name(noise in prop::collection::vec(any::<u8>(), 0..200), index in 0..TARGETS.len(), magic in 0..4usize) {
        let temporary = tempfile::tempdir().unwrap();
        let (path, _) = target(index, temporary.path());
        let mut bytes = [b"".as_slice(), b"PK\x03\x04", b"\x40\0\0\0\0\0\0\0", b"{\"k\": "][magic].to_vec();
        bytes.extend(noise);
        std::fs::write(&path, &bytes).unwrap();
        try_all(&path);
    }
}

/// Headers that promise more than the file has are refused before memory is taken.
#[test]
fn lengths_that_lie() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("params.safetensors");
    for (table, words) in [
        (
            r#"{"w_enc":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}}"#,
            "beyond any file",
        ),
        (
            r#"{"w_enc":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#,
            "do not fit",
        ),
        (
            r#"{"w_enc":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            "do not fit",
        ),
        (
            r#"{"w_enc":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,4]}}"#,
            "do not fit",
        ),
        (
            r#"{"w_enc":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#,
            "F8_E4M3",
        ),
        (
            r#"{"w_enc":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            "w_enc",
        ),
    ] {
        let mut bytes = (table.len() as u64).to_le_bytes().to_vec();
        bytes.extend(table.as_bytes());
        bytes.extend([0; 8]);
        std::fs::write(&path, &bytes).unwrap();
        let error = read(temporary.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(
        read(temporary.path())
            .unwrap_err()
            .to_string()
            .contains("header")
    );
}
