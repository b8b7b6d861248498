//! Directions, their reliability, their similarity, random nulls.

use candlescope_probes::direction::{
    cosine, covariance_matched_directions, isotropic_directions, spearman_brown, split_half,
};
use candlescope_probes::similarity::disattenuate;
use candlescope_probes::stats::bootstrap::BootstrapOptions;
use candlescope_probes::{Contrast, Direction, ProbeError, similarity};
use ndarray::{Array2, array};

use crate::gaussian;

/// Two classes of n items, d wide, whose means differ by `shift` along the given axis, with own noise plus shared noise.
fn contrast(
    noise: &(Array2<f32>, Array2<f32>),
    axis: usize,
    shift: f32,
) -> (Array2<f32>, Array2<f32>) {
    let (mut positive, negative) = noise.clone();
    positive.column_mut(axis).mapv_inplace(|v| v + shift);
    (positive, negative)
}

#[test]
fn the_difference_of_means_by_hand() {
    let positive = array![[4.0_f32, 1.0], [2.0, 1.0]];
    let negative = array![[0.0_f32, -2.0], [0.0, -4.0]];
    let r = Direction::difference_of_means(positive.view(), negative.view())
        .unwrap()
        .at(3, -1);
    assert_eq!(
        (r.norm, r.n_pos, r.n_neg, r.layer, r.position),
        (5.0, 2, 2, Some(3), Some(-1))
    );
    assert_eq!(r.vector, vec![0.6, 0.8]);
    assert_eq!(r.negative_norm, Some(3.0));
    assert_eq!(r.scaled(), vec![3.0, 4.0]);
    let p = r.project(array![[5.0_f32, 0.0]].view()).unwrap();
    assert!((p[0] - 3.0).abs() < 1e-6);
    let without = r.orthogonal_to(array![0.0_f32, 2.0].view()).unwrap();
    assert!((without.norm - 3.0).abs() < 1e-6 && without.vector == vec![1.0, 0.0]);
    assert!(matches!(
        r.orthogonal_to(array![3.0_f32, 4.0].view()),
        Err(ProbeError::NoDirection { .. })
    ));
    let same = Direction::difference_of_means(positive.view(), positive.view());
    assert!(matches!(same, Err(ProbeError::NoDirection { .. })));
    assert!((cosine(&[1.0, 0.0], &[3.0, 4.0]).unwrap() - 0.6).abs() < 1e-7);
}

#[test]
fn means_in_f64_keep_small_differences() {
    // A common offset of 10⁴ with a difference of 10⁻²: f32 sums over 4,000 rows would lose it.
    let positive = Array2::from_elem((4_000, 2), 10_000.01_f32);
    let negative = Array2::from_elem((4_000, 2), 10_000.0_f32);
    let expected = f64::from(10_000.01_f32) - 10_000.0;
    let r = Direction::difference_of_means(positive.view(), negative.view()).unwrap();
    assert!((r.norm / (expected * 2_f64.sqrt()) - 1.0).abs() < 1e-9);
}

#[test]
fn split_half_agrees_with_the_closed_form() {
    let noise = (gaussian(64, 100, 1), gaussian(64, 100, 2));
    let (positive, negative) = contrast(&noise, 0, 4.0);
    let reliability = split_half(positive.view(), negative.view(), 400, 0.95, 7).unwrap();
    // ‖r‖² = 16, noise 100·(1/64 + 1/64) = 3.125: reliability 16/19.125 = 0.837, halves 16/22.25 = 0.719.
    assert!((reliability.full - 0.837).abs() < 0.04, "{reliability:?}");
    assert!((reliability.half_cosine - 0.719).abs() < 0.06);
    assert!(reliability.full_range.contains(reliability.full));
    let both = Contrast {
        positive: positive.view(),
        negative: negative.view(),
    };
    let closed = similarity(
        &both,
        &both,
        true,
        &BootstrapOptions {
            resamples: 200,
            ..Default::default()
        },
    )
    .unwrap();
    assert!(
        (closed.reliability_first - reliability.full).abs() < 0.02,
        "{} {}",
        closed.reliability_first,
        reliability.full
    );
    assert_eq!(
        reliability,
        split_half(positive.view(), negative.view(), 400, 0.95, 7).unwrap()
    );
    assert!((spearman_brown(0.5) - 2.0 / 3.0).abs() < 1e-15);
    // No signal at all: nothing comes back.
    let nothing = split_half(noise.0.view(), noise.1.view(), 200, 0.95, 7).unwrap();
    assert!(nothing.half_cosine.abs() < 0.15, "{nothing:?}");
}

#[test]
fn similarity_sees_through_own_and_shared_noise() {
    let options = BootstrapOptions {
        resamples: 400,
        ..Default::default()
    };
    let noise = (gaussian(64, 100, 1), gaussian(64, 100, 2));
    let fresh = (gaussian(64, 100, 3), gaussian(64, 100, 4));
    let view = |c: &(Array2<f32>, Array2<f32>)| (c.0.clone(), c.1.clone());
    // The same direction on different prompts: the raw cosine is low, the corrected one near 1.
    let (a, b) = (
        view(&contrast(&noise, 0, 4.0)),
        view(&contrast(&fresh, 0, 4.0)),
    );
    let first = Contrast {
        positive: a.0.view(),
        negative: a.1.view(),
    };
    let second = Contrast {
        positive: b.0.view(),
        negative: b.1.view(),
    };
    let same = similarity(&first, &second, false, &options).unwrap();
    assert!(same.cosine < 0.9, "{same:?}");
    assert!((same.disattenuated.unwrap() - 1.0).abs() < 0.08, "{same:?}");
    assert!(same.interval.unwrap().contains(1.0), "{same:?}");
    // Orthogonal directions on the same prompts: shared noise fakes a cosine, pairing removes it.
    let c = view(&contrast(&noise, 1, 4.0));
    let third = Contrast {
        positive: c.0.view(),
        negative: c.1.view(),
    };
    let naive = similarity(&first, &third, false, &options).unwrap();
    let paired = similarity(&first, &third, true, &options).unwrap();
    assert!(naive.disattenuated.unwrap() > 0.1, "{naive:?}");
    assert!(paired.disattenuated.unwrap().abs() < 0.1, "{paired:?}");
    assert!(paired.interval.unwrap().contains(0.0), "{paired:?}");
    // A contrast with itself is exactly 1.
    let own = similarity(&first, &first, true, &options).unwrap();
    assert!((own.disattenuated.unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(disattenuate(0.45, 0.9, 0.9), Some(0.5));
    assert_eq!(disattenuate(0.45, -0.1, 0.9), None);
}

#[test]
fn random_directions_follow_their_covariance() {
    let isotropic = isotropic_directions(64, 200, 5).unwrap();
    let norms = isotropic.outer_iter().map(|r| r.dot(&r));
    assert!(norms.into_iter().all(|n| (n - 1.0).abs() < 1e-5));
    let share = isotropic.column(0).iter().map(|v| v * v).sum::<f32>() / 200.0;
    assert!((share * 64.0 - 1.0).abs() < 0.35, "{share}");
    let mut x = gaussian(100, 20, 6);
    x.column_mut(4).mapv_inplace(|v| v * 20.0 + 300.0);
    let matched = covariance_matched_directions(x.view(), 100, 5).unwrap();
    let along: f32 = matched.column(4).iter().map(|v| v * v).sum::<f32>() / 100.0;
    // Axis 4 has variance 400 beside 19 of all others; the mean of 300 must not count. With g normal and a² = 19/400 the
    // mean of g²/(g² + a²) is 1 − a·√(π/2)·exp(a²/2)·erfc(a/√2) = 0.77.
    assert!((along - 0.77).abs() < 0.06, "{along}");
    let mean: f32 = matched.column(4).sum() / 100.0;
    assert!(mean.abs() < 0.3, "{mean}");
}
