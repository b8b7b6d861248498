//! Crosscoders with what is shared, exclusive, shrunk and decoupled planted; sums against least squares row by row.
#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2, Axis, array, concatenate, s};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{About, Activation, Parts, Scaling};

fn relu(encoder: Array2<f32>, decoder: Array2<f32>, bias: Array1<f32>) -> Dictionary {
    Dictionary::new(Parts {
        encoder_bias: Array1::zeros(encoder.nrows()),
        encoder,
        decoder,
        decoder_bias: bias,
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    })
    .unwrap()
}

fn noise(rng: &mut ChaCha8Rng, shape: (usize, usize)) -> Array2<f32> {
    Array2::from_shape_fn(shape, |_| rng.random::<f32>() * 2.0 - 1.0)
}

#[test]
fn norms_by_hand() {
    let decoder = array![
        [3.0_f32, 4.0, 3.0, 4.0],
        [3.0, 4.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 2.0],
        [3.0, 4.0, -0.3, 0.4],
        [0.0, 0.0, 0.0, 0.0],
        [2.0, 0.0, 0.0, 1.75],
    ];
    let dictionary = relu(Array2::ones((6, 4)), decoder, Array1::zeros(4));
    let pairs = decoder_pairs(&dictionary, &[2, 2], [0, 1]).unwrap();
    let classes = [
        Class::Shared,
        Class::OnlyFirst,
        Class::OnlySecond,
        Class::OnlyFirst,
        Class::Neither,
        Class::Shared,
    ];
    assert_eq!(pairs.iter().map(|p| p.class).collect::<Vec<_>>(), classes);
    assert_eq!(pairs[0].norms, [5.0, 5.0]);
    assert_eq!((pairs[0].relative, pairs[0].cosine), (Some(0.5), Some(1.0)));
    // ½ ((0.5 − 5)/5 + 1), and (−0.9 + 1.6) / 2.5.
    assert!((pairs[3].relative.unwrap() - 0.05).abs() < 1e-7);
    assert!((pairs[3].cosine.unwrap() - 0.28).abs() < 1e-7);
    assert_eq!((pairs[4].relative, pairs[4].cosine), (None, None));
    assert_eq!(
        (pairs[5].relative, pairs[5].cosine),
        (Some(0.4375), Some(0.0))
    );
    let counts = relative_histogram(&pairs);
    assert_eq!((counts[10], counts[19], counts.iter().sum()), (1, 1, 5_u64));
    // The other way round everything is mirrored.
    let turned = decoder_pairs(&dictionary, &[2, 2], [1, 0]).unwrap();
    assert_eq!(turned[1].class, Class::OnlySecond);
    // A model of another width has norms and no cosine.
    let uneven = decoder_pairs(&dictionary, &[3, 1], [0, 1]).unwrap();
    assert!(uneven[0].cosine.is_none() && uneven[0].relative.is_some());
    for (blocks, pair) in [
        (&[2, 3][..], [0, 1]),
        (&[2, 2], [0, 0]),
        (&[2, 2], [0, 2]),
        (&[usize::MAX, 5], [0, 1]),
    ] {
        assert!(decoder_pairs(&dictionary, blocks, pair).is_err());
    }
}

/// `β` as least squares has it, from the rows themselves.
fn direct(y: &Array2<f32>, codes: &Array1<f32>, d: &Array1<f32>) -> f64 {
    let (mut over, mut under) = (0.0, 0.0);
    for (y, f) in y.outer_iter().zip(codes) {
        for (y, d) in y.iter().zip(d) {
            let z = f64::from(*f) * f64::from(*d);
            over += f64::from(*y) * z;
            under += z * z;
        }
    }
    over / under
}

#[test]
fn scaling_is_least_squares() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (width, latents) = (5, 9);
    let bias = Array1::from_shape_fn(2 * width, |_| rng.random::<f32>());
    let dictionary = relu(
        noise(&mut rng, (latents, 2 * width)),
        noise(&mut rng, (latents, 2 * width)),
        bias.clone(),
    );
    let rows = noise(&mut rng, (300, 2 * width));
    let mut scaling = LatentScaling::new(&dictionary, &[width, width], [0, 1]).unwrap();
    for from in [0, 128, 256] {
        let part = rows.slice(s![from..(from + 128).min(300), ..]);
        scaling.add(&dictionary, part).unwrap();
    }
    let codes = crate::dense(&dictionary.encode(rows.view()).unwrap(), latents);
    let out = dictionary.reconstruct(rows.view()).unwrap();
    for (found, pair) in scaling
        .all()
        .iter()
        .zip(decoder_pairs(&dictionary, &[width, width], [0, 1]).unwrap())
    {
        let latent = found.latent;
        assert_eq!(found.owner, usize::from(pair.norms[1] > pair.norms[0]));
        let row = dictionary.parts().decoder.row(latent);
        let d = row
            .slice(s![found.owner * width..(found.owner + 1) * width])
            .to_owned();
        let f = codes.column(latent).to_owned();
        assert_eq!(found.fired, f.iter().filter(|f| **f > 0.0).count() as u64);
        for m in 0..2 {
            let block = s![.., m * width..(m + 1) * width];
            let own = row.slice(s![m * width..(m + 1) * width]);
            let part = f.view().insert_axis(Axis(1)).dot(&own.insert_axis(Axis(0)));
            let error = &rows.slice(block) - &out.slice(block) + &part;
            let rebuilt = &out.slice(block) - &bias.slice(s![m * width..(m + 1) * width]);
            let expected = [direct(&error, &f, &d), direct(&rebuilt, &f, &d)];
            let betas = [found.beta_error.unwrap()[m], found.beta_rebuilt.unwrap()[m]];
            for (beta, expected) in betas.iter().zip(expected) {
                assert!(
                    (beta - expected).abs() < 1e-5,
                    "{latent} {m}: {beta} {expected}"
                );
            }
        }
        let [a, b] = found.beta_error.unwrap();
        if let Some(nu) = found.nu_error {
            let expected = if found.owner == 0 { b / a } else { a / b };
            assert!((nu - expected).abs() < 1e-12);
        }
    }
}

/// Latents on orthogonal axes: 0 shared, 1 the second model's alone, 2 shrunk, 3 decoupled from 4.
#[test]
fn what_is_planted_is_told_apart() {
    let width = 5;
    let axis = |i: usize| {
        let mut row = Array1::<f32>::zeros(width);
        row[i] = 1.0;
        row
    };
    let zero = Array1::<f32>::zeros(width);
    let beside = |a: &Array1<f32>, b: &Array1<f32>| concatenate![Axis(0), *a, *b];
    let decoder = [
        beside(&axis(0), &axis(0)),
        beside(&zero, &axis(1)),
        beside(&zero, &axis(2)),
        beside(&zero, &axis(3)),
        beside(&axis(3), &zero),
    ];
    // Each latent reads its axis in the second model; 4 reads it in the first.
    let encoder = [
        beside(&zero, &axis(0)),
        beside(&zero, &axis(1)),
        beside(&zero, &axis(2)),
        beside(&zero, &axis(3)),
        beside(&axis(3), &zero),
    ];
    let stack = |rows: &[Array1<f32>]| {
        let flat: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
        Array2::from_shape_vec((rows.len(), 2 * width), flat).unwrap()
    };
    let bias = Array1::zeros(2 * width);
    let dictionary = relu(stack(&encoder), stack(&decoder), bias);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    // Both models have the concepts 0, 2 and 3; only the second has 1.
    let rows = Array2::from_shape_fn((400, width), |_| {
        f32::from(rng.random::<f32>() < 0.3) * rng.random::<f32>()
    });
    let mut first = rows.clone();
    first.column_mut(1).fill(0.0);
    let both = concatenate![Axis(1), first, rows];
    let mut scaling = LatentScaling::new(&dictionary, &[width, width], [0, 1]).unwrap();
    scaling.add(&dictionary, both.view()).unwrap();
    let pairs = decoder_pairs(&dictionary, &[width, width], [0, 1]).unwrap();
    let classes: Vec<Class> = pairs.iter().map(|p| p.class).collect();
    let second = Class::OnlySecond;
    assert_eq!(
        classes,
        [Class::Shared, second, second, second, Class::OnlyFirst]
    );
    let found = scaling.all();
    let presence: Vec<Presence> = found.iter().map(|s| s.presence(0.2)).collect();
    assert_eq!(presence[1], Presence::New);
    assert_eq!(presence[2], Presence::Shrunk);
    assert_eq!(presence[3], Presence::Decoupled);
    assert_eq!(presence[4], Presence::Decoupled);
    let near = |found: Option<f64>, expected: f64| {
        assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?}");
    };
    near(found[0].nu_error, 1.0);
    near(found[0].nu_rebuilt, 1.0);
    near(found[1].nu_error, 0.0);
    near(found[2].nu_error, 1.0);
    near(found[2].nu_rebuilt, 0.0);
    near(found[3].nu_rebuilt, 1.0);
    assert!(scaling.of(5).is_err());
    let silent = LatentScaling::new(&dictionary, &[width, width], [0, 1]).unwrap();
    assert_eq!(silent.of(1).unwrap().presence(0.2), Presence::Unknown);
    assert!(LatentScaling::new(&dictionary, &[4, 6], [0, 1]).is_err());
}

#[test]
fn turns_by_hand() {
    let of = |decoder: Array2<f32>| relu(Array2::ones((3, 2)), decoder, Array1::zeros(2));
    let before = of(array![[1.0_f32, 0.0], [0.0, 2.0], [0.0, 0.0]]);
    let model = of(array![[0.0_f32, 3.0], [0.0, 1.0], [1.0, 0.0]]);
    let data = of(array![[2.0_f32, 0.0], [1.0, 0.0], [1.0, 0.0]]);
    assert_eq!(
        rotations(&before, &model).unwrap(),
        [Some(1.0), Some(0.0), None]
    );
    let turns = stage_wise(&before, &model, &data).unwrap();
    let order: Vec<(usize, f64)> = turns.iter().map(|t| (t.latent, t.excess)).collect();
    assert_eq!(order, [(0, 1.0), (1, -1.0)]);
    let narrow = relu(Array2::ones((3, 1)), Array2::ones((3, 1)), Array1::zeros(1));
    assert!(rotations(&before, &narrow).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Batches do not matter beyond rounding, the models change places with everything else, and scaling a model's rows does
    /// with its reconstruction what it should: nothing to the ratio of the classes.
    #[test]
    fn sums_do_not_depend_on_batches_nor_on_the_order_of_the_models(
        seed in 0_u64..1000, cut in 1_usize..59,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (width, latents) = (4, 6);
        let dictionary = relu(
            noise(&mut rng, (latents, 2 * width)),
            noise(&mut rng, (latents, 2 * width)),
            Array1::zeros(2 * width),
        );
        let rows = noise(&mut rng, (60, 2 * width));
        let blocks = [width, width];
        let mut whole = LatentScaling::new(&dictionary, &blocks, [0, 1]).unwrap();
        whole.add(&dictionary, rows.view()).unwrap();
        let mut parts = LatentScaling::new(&dictionary, &blocks, [0, 1]).unwrap();
        parts.add(&dictionary, rows.slice(s![..cut, ..])).unwrap();
        parts.add(&dictionary, rows.slice(s![cut.., ..])).unwrap();
        let mut turned = LatentScaling::new(&dictionary, &blocks, [1, 0]).unwrap();
        turned.add(&dictionary, rows.view()).unwrap();
        let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-4 * (1.0 + a.abs()),
            (a, b) => a.is_none() == b.is_none(),
        };
        for ((a, b), c) in whole.all().iter().zip(parts.all()).zip(turned.all()) {
            prop_assert_eq!(a.fired, b.fired);
            prop_assert!(close(a.nu_error, b.nu_error) && close(a.nu_rebuilt, b.nu_rebuilt));
            prop_assert_eq!(a.owner, 1 - c.owner);
            prop_assert!(close(a.nu_error, c.nu_error) && close(a.nu_rebuilt, c.nu_rebuilt));
        }
        for pair in decoder_pairs(&dictionary, &blocks, [0, 1]).unwrap() {
            prop_assert!((0.0..=1.0).contains(&pair.relative.unwrap()));
            prop_assert!((-1.0..=1.0).contains(&pair.cosine.unwrap()));
        }
    }
}
