//! Damaged files by the thousand: both parsers and the index reader return, whatever the bytes.
//! The long run of the same mutations is `examples/fuzz_files.rs`.

#![allow(clippy::unwrap_used)]

mod files_samples;

use files_samples::*;
use proptest::prelude::*;

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || 0usize..4096;
    let length = prop_oneof![
        proptest::sample::select(&LENGTHS[..]),
        any::<u64>(),
        0u64..4096
    ];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        (at(), any::<u8>()).prop_map(|(at, value)| Mutation::Byte { at, value }),
        at().prop_map(|at| Mutation::Truncate { at }),
        (at(), any::<u8>()).prop_map(|(length, value)| Mutation::Append { length, value }),
        (at(), any::<bool>(), length.clone()).prop_map(|(at, wide, value)| Mutation::Length {
            at,
            wide,
            value
        }),
        (at(), length).prop_map(|(at, value)| Mutation::Digits { at, value }),
        (0usize..3, at(), at()).prop_map(|(other, from, to)| Mutation::Splice { other, from, to }),
        (at(), at(), at()).prop_map(|(from, length, to)| Mutation::Repeat { from, length, to }),
    ]
}

fn damage() -> impl Strategy<Value = (usize, Vec<Mutation>)> {
    (0usize..3, proptest::collection::vec(mutation(), 1..5))
}

#[test]
fn the_seeds_themselves_are_accepted() {
    assert!(gguf_seeds().into_iter().all(drive_gguf));
    assert!(safetensors_seeds().into_iter().all(drive_safetensors));
    assert!(index_seeds().iter().all(|seed| drive_index(seed)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn gguf_never_panics((seed, mutations) in damage()) {
        drive_gguf(mutate(&gguf_seeds(), seed, &mutations));
    }

    /// What is accepted here is accepted by the format's own crate: this reader is the stricter of the two.
    #[test]
    fn safetensors_never_panics_and_is_the_stricter((seed, mutations) in damage()) {
        let bytes = mutate(&safetensors_seeds(), seed, &mutations);
        let theirs = safetensors::SafeTensors::deserialize(&bytes).is_ok();
        let ours = drive_safetensors(bytes);
        prop_assert!(theirs || !ours);
    }

    #[test]
    fn an_index_never_panics((seed, mutations) in damage()) {
        drive_index(&mutate(&index_seeds(), seed, &mutations));
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!drive_gguf(bytes.clone()));
        prop_assert!(!drive_safetensors(bytes));
    }
}
