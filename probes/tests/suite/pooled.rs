//! Attention-pooled probes. Golden values: torch 2 in float64, its own L-BFGS with strong Wolfe steps from zero, run once.

use candlescope_probes::pooled::{PooledProbe, Spans};
use candlescope_probes::roc::auroc_value;
use candlescope_probes::{LogisticOptions, LogisticProbe, ProbeError, Score};
use ndarray::{Array2, Axis, s};

use crate::{close, congruential, gaussian, noisy_labels};

/// 30 items of 1 to 5 tokens; feature 0 of the token with the largest feature 3 says the class, every eleventh flipped.
fn items() -> (Array2<f32>, Vec<usize>, Vec<bool>) {
    let lengths: Vec<usize> = (0..30).map(|i| 1 + (i * 3) % 5).collect();
    let x = congruential(lengths.iter().sum(), 4);
    let mut start = 0;
    let label = |(i, &n): (usize, &usize)| {
        let span = x.slice(s![start..start + n, ..]);
        start += n;
        let loud = (1..n).fold(0, |b, t| if span[[t, 3]] > span[[b, 3]] { t } else { b });
        (span[[loud, 0]] > 0.0) != (i % 11 == 0)
    };
    let labels = lengths.iter().enumerate().map(label).collect();
    (x, lengths, labels)
}

#[test]
fn it_matches_torch() {
    let (x, lengths, labels) = items();
    assert_eq!(labels.iter().filter(|&&l| l).count(), 12);
    let spans = Spans::new(x.view(), &lengths).unwrap();
    let probe = PooledProbe::fit(spans, &labels, 1.0).unwrap();
    assert!(
        close(probe.loss, 15.997026051211034, 1e-9),
        "{}",
        probe.loss
    );
    let scores = probe.scores(spans).unwrap();
    for (item, expected) in [
        (0, 0.47616815131553003),
        (1, -1.3022616562523261),
        (2, -2.1364704095808973),
        (3, -0.29399439788552995),
        (7, 0.5075773272617137),
    ] {
        assert!(
            close(scores[item], expected, 2e-5),
            "{item}: {}",
            scores[item]
        );
    }
    let start: usize = lengths[..4].iter().sum();
    let shares = probe.attention(x.slice(s![start..start + lengths[4], ..]));
    let expected = [0.6550058068732881, 0.00545199481937682, 0.33954219830733506];
    for (share, expected) in shares.iter().zip(expected) {
        assert!(close(*share, expected, 2e-5), "{shares:?}");
    }
}

#[test]
fn of_single_tokens_it_is_the_logistic_probe() {
    let x = congruential(40, 5);
    let labels = noisy_labels(&x);
    let lengths = [1; 40];
    let spans = Spans::new(x.view(), &lengths).unwrap();
    let pooled = PooledProbe::fit(spans, &labels, 0.5).unwrap();
    let options = LogisticOptions {
        penalty: candlescope_probes::Penalty::Fixed(0.5),
        ..LogisticOptions::default()
    };
    let plain = LogisticProbe::fit(x.view(), &labels, &options).unwrap();
    let both = pooled
        .scores(spans)
        .unwrap()
        .into_iter()
        .zip(plain.scores(x.view()).unwrap());
    for (a, b) in both {
        assert!(close(a, b, 1e-5), "{a} {b}");
    }
    assert!(pooled.query.iter().all(|q| *q == 0.0));
}

#[test]
fn the_order_of_tokens_does_not_matter_and_one_loud_token_among_many_is_found() {
    // Of 8 tokens one is marked (feature 1), and its feature 0 says the class; the others' feature 0 is noise twice as large.
    let n = 120;
    let mut x = gaussian(8 * n, 6, 4);
    let labels: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
    for (i, &label) in labels.iter().enumerate() {
        for t in 0..8 {
            x[[8 * i + t, 0]] *= 2.0;
        }
        let token = 8 * i + (i * 5) % 8;
        x[[token, 0]] = if label { 1.0 } else { -1.0 };
        x[[token, 1]] += 6.0;
    }
    let lengths = vec![8; n];
    let (train, test) = (8 * 60, 60);
    let fitted = x.slice(s![..train, ..]);
    let spans = Spans::new(fitted, &lengths[..60]).unwrap();
    let probe = PooledProbe::fit(spans, &labels[..60], 10.0).unwrap();
    let held = x.slice(s![train.., ..]);
    let held = Spans::new(held, &lengths[60..]).unwrap();
    let found = auroc_value(&probe.scores(held).unwrap(), &labels[test..]).unwrap();
    let means = Array2::from_shape_fn((n, 6), |(i, j)| {
        x.slice(s![8 * i..8 * i + 8, j]).mean().unwrap()
    });
    let plain = LogisticProbe::fit(
        means.slice(s![..60, ..]),
        &labels[..60],
        &LogisticOptions::default(),
    )
    .unwrap();
    let mean = plain.scores(means.slice(s![60.., ..])).unwrap();
    let mean = auroc_value(&mean, &labels[test..]).unwrap();
    assert!(found > 0.95 && mean < found - 0.1, "{found} {mean}");
    let marked = probe.attention(x.slice(s![..8, ..]));
    assert!(marked[0] > 0.8, "{marked:?}");
    // Tokens turned round.
    let mut back = x.clone();
    for i in 0..n {
        for t in 0..8 {
            back.row_mut(8 * i + t).assign(&x.row(8 * i + 7 - t));
        }
    }
    let back = back.slice(s![train.., ..]);
    let turned = probe
        .scores(Spans::new(back, &lengths[60..]).unwrap())
        .unwrap();
    for (a, b) in turned.iter().zip(probe.scores(held).unwrap()) {
        assert!(close(*a, b, 1e-9), "{a} {b}");
    }
}

#[test]
fn what_cannot_be_pooled_is_refused() {
    let (x, lengths, labels) = items();
    assert!(matches!(
        Spans::new(x.view(), &lengths[1..]),
        Err(ProbeError::Length { .. })
    ));
    let mut none = lengths.clone();
    none[0] = 0;
    none[1] += lengths[0];
    assert!(matches!(
        Spans::new(x.view(), &none),
        Err(ProbeError::TooFew { .. })
    ));
    let mut broken = x.clone();
    broken[[3, 1]] = f32::NAN;
    assert!(matches!(
        Spans::new(broken.view(), &lengths),
        Err(ProbeError::NonFinite { .. })
    ));
    let spans = Spans::new(x.view(), &lengths).unwrap();
    assert!(PooledProbe::fit(spans, &[true; 30], 1.0).is_err());
    assert!(PooledProbe::fit(spans, &labels, 0.0).is_err());
    let probe = PooledProbe::fit(spans, &labels, 1.0).unwrap();
    let narrow = x.select(Axis(1), &[0, 1]);
    assert!(
        probe
            .scores(Spans::new(narrow.view(), &lengths).unwrap())
            .is_err()
    );
}
