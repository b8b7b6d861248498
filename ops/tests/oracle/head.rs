//! The tiled head against all logits at once in f64: values, gradients, and the places where tiles meet.

use candle_core::{DType, Result, Tensor, Var};
use candlescope_ops::*;
use proptest::prelude::*;

use super::tracked::check;
use super::{bits, close, f64s, flat, random};

/// Hidden states and a head whose logits are of order `size`.
fn model(seed: u64, count: usize, width: usize, vocab: usize, size: f64) -> (Tensor, Tensor) {
    let scale = size / (width as f64).sqrt();
    let hidden = (random(seed, &[count, width]) * scale).unwrap();
    (hidden, random(seed ^ 1, &[vocab, width]))
}

fn targets(seed: u64, count: usize, vocab: usize) -> Vec<u32> {
    (0..count as u64)
        .map(|i| ((seed ^ (i * 2_654_435_761)) % vocab as u64) as u32)
        .collect()
}

fn matches(hidden: &Tensor, head: &Tensor, targets: &[u32], options: HeadOptions) -> Result<()> {
    let fast = token_logprobs(hidden, head, targets, options)?;
    let exact = token_logprobs(&f64s(hidden), &f64s(head), targets, options)?;
    // Logits of order 10 are rounded at 1e-6 in a sum of some hundred terms, at 1 / temperature.
    let tolerance = 1e-5 / options.temperature.min(1.0);
    close(&fast.logps, &exact.logps, tolerance);
    close(&fast.entropy, &exact.entropy, tolerance);
    close(&fast.mean_logit, &exact.mean_logit, 1e-5);
    assert_eq!(fast.top1, exact.top1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn values_match(
        count in 1usize..20, width in 1usize..80, vocab in 1usize..300, temperature in 0.3f64..3.0,
        softcap in prop::option::of(2.0f64..30.0), seed: u64,
    ) {
        let (hidden, head) = model(seed, count, width, vocab, 4.0);
        let options = HeadOptions { temperature, softcap };
        matches(&hidden, &head, &targets(seed, count, vocab), options).unwrap();
    }

    #[test]
    fn gradients_match(
        count in 1usize..20, width in 1usize..40, vocab in 2usize..300, temperature in 0.5f64..2.0,
        softcap in prop::option::of(2.0f64..30.0), seed: u64,
    ) {
        let (hidden, head) = model(seed, count, width, vocab, 3.0);
        let targets = targets(seed, count, vocab);
        let options = HeadOptions { temperature, softcap };
        check("token_logprobs", &[hidden, head], 2e-5, &|t| {
            Ok(token_logprobs(&t[0], &t[1], &targets, options)?.logps)
        });
    }

    #[test]
    fn divergence_matches(
        count in 1usize..20, width in 1usize..60, other in 1usize..60, vocab in 1usize..300,
        temperature in 0.5f64..2.0, softcap in prop::option::of(2.0f64..30.0), seed: u64,
    ) {
        let (hidden_p, head_p) = model(seed, count, width, vocab, 3.0);
        let (hidden_q, head_q) = model(seed ^ 9, count, other, vocab, 3.0);
        let options = HeadOptions { temperature, softcap };
        let fast = token_kl(&hidden_p, &head_p, &hidden_q, &head_q, options).unwrap();
        let exact = token_kl(&f64s(&hidden_p), &f64s(&head_p), &f64s(&hidden_q), &f64s(&head_q), options).unwrap();
        close(&fast, &exact, 2e-5);
        let none = token_kl(&hidden_p, &head_p, &hidden_p, &head_p, options).unwrap();
        prop_assert_eq!(flat(&none), vec![0.0; count]);
    }
}

/// More positions and tokens than a tile has, neither a multiple; targets at the edges of the tiles.
#[test]
fn tiles_meet_without_a_seam() {
    let (count, width, vocab) = (515, 6, 8200);
    let (hidden, head) = model(3, count, width, vocab, 3.0);
    let mut targets = targets(5, count, vocab);
    targets[..5].copy_from_slice(&[0, 4095, 4096, 8191, 8199]);
    let options = HeadOptions {
        temperature: 0.7,
        softcap: Some(20.0),
    };
    matches(&hidden, &head, &targets, options).unwrap();
    check(
        "token_logprobs",
        &[hidden.clone(), head.clone()],
        2e-5,
        &|t| Ok(token_logprobs(&t[0], &t[1], &targets, options)?.logps),
    );
    let other = (&head * 0.9).unwrap();
    let fast = token_kl(&hidden, &head, &hidden, &other, options).unwrap();
    let (hidden, head, other) = (f64s(&hidden), f64s(&head), f64s(&other));
    close(
        &fast,
        &token_kl(&hidden, &head, &hidden, &other, options).unwrap(),
        2e-5,
    );
}

/// A hand-computed row: logits ln 1, ln 2, ln 5, so p = 1/8, 2/8, 5/8.
#[test]
fn a_row_by_hand() {
    let device = candle_core::Device::Cpu;
    let hidden = Tensor::new(&[[1f32]], &device).unwrap();
    let head = Tensor::new(&[[0f32], [2f32.ln()], [5f32.ln()]], &device).unwrap();
    let at = |target| token_logprobs(&hidden, &head, &[target], HeadOptions::default()).unwrap();
    let found = at(1);
    assert!((flat(&found.logps)[0] - 0.25f64.ln()).abs() < 1e-6);
    // -(1/8 ln 1/8 + 2/8 ln 2/8 + 5/8 ln 5/8)
    assert!((flat(&found.entropy)[0] - 0.900_256_1).abs() < 1e-6);
    assert!((flat(&found.mean_logit)[0] - 10f64.ln() / 3.0).abs() < 1e-6);
    assert_eq!((found.top1, at(2).top1), (vec![false], vec![true]));
    // At temperature 1/2 the odds are squared: 1, 4, 25 of 30.
    let options = HeadOptions {
        temperature: 0.5,
        softcap: None,
    };
    let cold = token_logprobs(&hidden, &head, &[2], options).unwrap();
    assert!((flat(&cold.logps)[0] - (25.0f64 / 30.0).ln()).abs() < 1e-6);
    // KL of 1/8, 2/8, 5/8 from the uniform distribution: ln 3 less the entropy.
    let flat_head = Tensor::zeros((3, 1), DType::F32, &device).unwrap();
    let kl = token_kl(&hidden, &head, &hidden, &flat_head, HeadOptions::default()).unwrap();
    assert!((flat(&kl)[0] - (3f64.ln() - 0.900_256_1)).abs() < 1e-6);
}

/// Tracking changes no bit; a frozen bf16 head passes the gradient on.
#[test]
fn a_frozen_narrow_head() {
    let (hidden, head) = model(1, 9, 33, 50, 3.0);
    let narrow = head.to_dtype(DType::BF16).unwrap();
    let wide = narrow.to_dtype(DType::F32).unwrap();
    let targets = targets(2, 9, 50);
    let grad = |head: &Tensor| {
        let var = Var::from_tensor(&hidden).unwrap();
        let found = token_logprobs(&var, head, &targets, HeadOptions::default()).unwrap();
        let grads = backward(&found.logps.sum_all().unwrap()).unwrap();
        grads.get(&var).unwrap().clone()
    };
    assert_eq!(bits(&grad(&narrow)), bits(&grad(&wide)));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let (hidden, head) = model(1, 2, 3, 4, 1.0);
    let error = |targets: &[u32], options| {
        token_logprobs(&hidden, &head, targets, options)
            .unwrap_err()
            .to_string()
    };
    let fine = HeadOptions::default();
    assert!(error(&[1], fine).contains("1 targets for 2 positions"));
    assert!(error(&[1, 4], fine).contains("target 4 is not in a vocabulary of 4"));
    let cold = HeadOptions {
        temperature: 0.0,
        ..fine
    };
    assert!(error(&[1, 2], cold).contains("temperature is 0"));
    let capped = HeadOptions {
        softcap: Some(-1.0),
        ..fine
    };
    assert!(error(&[1, 2], capped).contains("softcap is Some(-1.0)"));
    let other = random(5, &[7, 3]);
    let error = token_kl(&hidden, &head, &hidden, &other, fine).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("p has 2 positions and 4 tokens, q 2 and 7")
    );
}
