//! Pickles that ask for more than tensors: nothing is run, and the message names what was asked for.

use std::io::Write;
use std::path::Path;

use candlescope_sae::format::{Format, read_as};

use super::{copy, fixture};

/// A torch file with this pickle and one storage of `bytes` zeros.
fn torch(path: &Path, pickle: &[u8], bytes: usize) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, data) in [("ae/data.pkl", pickle), ("ae/data/0", &vec![0; bytes])] {
        archive.start_file(name, stored).unwrap();
        archive.write_all(data).unwrap();
    }
    archive.finish().unwrap();
}

fn refusal(pickle: &[u8], bytes: usize) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("ae.pt");
    torch(&path, pickle, bytes);
    read_as(Format::DictionaryLearning, &path)
        .unwrap_err()
        .to_string()
}

/// `{name: tensor}` of one f32 storage: offset, shape and strides by hand.
fn tensor(name: &str, storage: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let int = |out: &mut Vec<u8>, n: i32| {
        out.push(b'J');
        out.extend(n.to_le_bytes());
    };
    text(&mut pickle, name);
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(&mut pickle, "storage");
    pickle.extend(b"ctorch\nFloatStorage\n");
    text(&mut pickle, "0");
    text(&mut pickle, "cpu");
    int(&mut pickle, storage);
    pickle.extend(b"tQ");
    int(&mut pickle, offset);
    for axes in [shape, strides] {
        pickle.push(b'(');
        for &n in axes {
            int(&mut pickle, n);
        }
        pickle.push(b't');
    }
    pickle.extend(b"\x89}tRs.");
    pickle
}

#[test]
fn names_beyond_the_few_are_refused_by_name() {
    for (pickle, named) in [
        (
            b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.".as_slice(),
            "os.system",
        ),
        (
            b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
            "builtins.eval",
        ),
        (
            b"\x80\x02ctorch.serialization\n_load\n)R.",
            "torch.serialization._load",
        ),
        (b"\x80\x02ctorch\nload\n)R.", "torch.load"),
        (
            b"\x80\x02ctorch\nComplexFloatStorage\n.",
            "torch.ComplexFloatStorage",
        ),
        (b"(ios\nsystem\n.", "opcode 0x69"),
        (b"\x80\x02(cos\nsystem\no.", "os.system"),
        (b"\x80\x02}\x82\x01.", "opcode 0x82"),
        (b"\x80\x02]}\x81.", "opcode 0x81"),
    ] {
        let error = refusal(pickle, 0);
        assert!(
            error.contains(named) && error.contains("nothing was run"),
            "{error}"
        );
    }
}

#[test]
fn values_that_are_not_there() {
    for (pickle, words) in [
        (b"\x80\x02".as_slice(), "ends in the middle"),
        (b"\x80\x02}(X\x04\x00\x00\x00", "ends in the middle"),
        (b".", "not there"),
        (b"t.", "did not open"),
        (b"h\x07.", "did not store"),
        (b"R.", "not there"),
        (b"K\x01K\x02s.", "not there"),
        (b"K\x01.", "state_dict"),
        (b"}}K\x01s.", "a key that is not a text"),
        (b"}K\x01K\x02s.", "a key that is not a text"),
        (b"}X\x01\x00\x00\x00a}s.", "a dictionary in the dictionary"),
        (b"}(X\x01\x00\x00\x00au.", "a key without a value"),
        (b"}X\xff\xff\xff\xffa.", "ends in the middle"),
        (b"\x8a\x09123456789.", "beyond 64 bits"),
        (b"K\x01}b.", "no dictionary"),
        (b"K\x01)R.", "no function"),
    ] {
        let error = refusal(pickle, 0);
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn tensors_that_reach_beyond_their_storage() {
    let error = |storage, offset, shape: &[i32], strides: &[i32]| {
        refusal(
            &tensor("encoder.weight", storage, offset, shape, strides),
            24,
        )
    };
    assert!(error(7, 0, &[2], &[1]).contains("7 elements in 24 bytes"));
    assert!(error(6, 5, &[2], &[1]).contains("beyond a storage"));
    assert!(error(6, 0, &[2, 3], &[4, 1]).contains("beyond a storage"));
    assert!(error(6, 0, &[i32::MAX, i32::MAX], &[0, 0]).contains("beyond a storage"));
    assert!(error(6, 0, &[i32::MAX, 3], &[i32::MAX, i32::MAX]).contains("beyond a storage"));
    assert!(error(6, 0, &[2, 3], &[1]).contains("2 axes with 1 strides"));
    assert!(error(6, -1, &[2], &[1]).contains("negative"));
    // It fits: the next tensor is what is missing.
    assert!(error(6, 0, &[2, 3], &[1, 2]).contains("decoder"));
}

/// Before PyTorch 1.6 a file was a bare pickle (magic number first); a tar before that.
#[test]
fn old_files_are_refused_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("ae.pt");
    std::fs::write(
        &path,
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
    )
    .unwrap();
    let error = read_as(Format::DictionaryLearning, &path)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("PyTorch 1.6") && error.contains("torch.save it again"),
        "{error}"
    );
    std::fs::write(&path, b"PK").unwrap();
    let error = read_as(Format::DictionaryLearning, &path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no zip archive"), "{error}");
    copy(&fixture("foreign/gemma-scope/compressed"), temporary.path());
    std::fs::rename(temporary.path().join("params.npz"), &path).unwrap();
    let error = read_as(Format::DictionaryLearning, &path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("data.pkl"), "{error}");
}

/// Two million tuples in each other: the arena has no depth.
#[test]
fn nesting_costs_no_stack() {
    let mut pickle = b"\x80\x02)".to_vec();
    pickle.extend(std::iter::repeat_n(0x85, 2_000_000));
    pickle.push(b'.');
    assert!(refusal(&pickle, 0).contains("state_dict"));
}
