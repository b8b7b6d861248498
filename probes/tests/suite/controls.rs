//! Nulls, control tasks, lexical baselines, noise.

use candlescope_probes::controls::{NullDistribution, control_labels, label_shuffle, selectivity};
use candlescope_probes::folds::{out_of_fold, stratified_folds};
use candlescope_probes::fragility::fragility;
use candlescope_probes::lexical::{
    BagOfWords, bag_of_words_out_of_fold, length_baseline, lexical_margin, words,
};
use candlescope_probes::roc::auroc_value;
use candlescope_probes::{FragilityOptions, LogisticOptions, MassMean, ProbeError, Whitening};
use ndarray::ArrayView2;

use crate::two_classes;

fn mass_mean(x: ArrayView2<f32>, labels: &[bool]) -> Result<MassMean, ProbeError> {
    MassMean::fit(x, labels, Whitening::None)
}

#[test]
fn the_null_counts_itself() {
    let null = NullDistribution::new(7, 4.0, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(
        (null.n, null.draws, null.mean, null.p_upper),
        (7, 4, 2.5, 0.4)
    );
    assert_eq!(null.quantiles[4], (0.5, 2.5));
    assert_eq!(
        NullDistribution::new(7, 9.0, vec![0.0; 99])
            .unwrap()
            .p_upper,
        0.01
    );
    assert_eq!(
        NullDistribution::new(7, 9.0, vec![0.0; 99]).unwrap().z,
        None
    );
}

#[test]
fn shuffled_labels_scatter_about_chance() {
    let (x, labels) = two_classes(80, 30, 2.0, 8);
    let folds = stratified_folds(&labels, 4, 0).unwrap();
    let held_out = |l: &[bool]| auroc_value(&out_of_fold(x.view(), l, &folds, mass_mean)?, l);
    let null = label_shuffle(&labels, 100, 3, held_out).unwrap();
    assert!(null.observed > 0.7 && null.p_upper < 0.011, "{null:?}");
    assert!((null.mean - 0.5).abs() < 0.05 && null.sd > 0.03, "{null:?}");
    assert_eq!(null, label_shuffle(&labels, 100, 3, held_out).unwrap());
    // In-sample, shuffled labels are separated too: exactly what the null is there to show.
    let in_sample = |l: &[bool]| {
        use candlescope_probes::Score;
        auroc_value(&mass_mean(x.view(), l)?.scores(x.view())?, l)
    };
    assert!(label_shuffle(&labels, 50, 3, in_sample).unwrap().mean > 0.7);
}

#[test]
fn control_tasks_go_by_type() {
    let types = ["b", "a", "b", "c", "a", "d", "e", "f"];
    let labels = control_labels(&types, 4);
    assert!(labels[0] == labels[2] && labels[1] == labels[4]);
    let mut turned = types;
    turned.reverse();
    let mut other = control_labels(&turned, 4);
    other.reverse();
    assert_eq!(labels, other);
    // A score that reads the types perfectly is not selective; one that reads the task only is.
    let task = [true, false, true, false, false, true, false, true];
    let found = selectivity(&task, &types, 40, 1, |_| Ok(0.9)).unwrap();
    assert!(found.selectivity.abs() < 1e-12 && found.types == 6 && found.types_repeat);
    let only_task = |l: &[bool]| Ok(if l == task { 0.9 } else { 0.5 });
    assert!(
        selectivity(&task, &types, 40, 1, only_task)
            .unwrap()
            .selectivity
            > 0.3
    );
    assert!(
        !selectivity(&task, &[1, 2, 3, 4, 5, 6, 7, 8], 40, 1, |_| Ok(0.9))
            .unwrap()
            .types_repeat
    );
}

#[test]
fn words_alone_can_explain_a_probe() {
    let texts: Vec<Vec<String>> = (0..60)
        .map(|i| {
            words(&format!(
                "{} a {} today, please!",
                if i % 2 == 0 { "Build" } else { "Bake" },
                ["cake", "bomb", "boat"][i % 3]
            ))
        })
        .collect();
    assert_eq!(texts[0], ["build", "a", "cake", "today", "please"]);
    let labels: Vec<bool> = (0..60).map(|i| i % 2 == 0).collect();
    let bag = BagOfWords::fit(&texts, &labels, &LogisticOptions::default()).unwrap();
    assert_eq!(
        (bag.vocabulary_size(), bag.strongest(1)[0].0.as_str()),
        (8, "build")
    );
    let unknown = bag.scores(&[words("nothing known")]).unwrap();
    assert!(unknown[0].is_finite());
    let folds = stratified_folds(&labels, 5, 0).unwrap();
    let lexical =
        bag_of_words_out_of_fold(&texts, &labels, &folds, &LogisticOptions::default()).unwrap();
    let probe: Vec<f64> = (0..60)
        .map(|i| f64::from(i % 2 == 0) + 0.5 * f64::from(i % 5))
        .collect();
    let margin = lexical_margin(&probe, &lexical, &labels, 0.95).unwrap();
    assert_eq!((margin.n, margin.bag_of_words.value), (60, 1.0));
    assert!(
        margin.margin.difference < 0.0 && margin.margin.p_value < 0.05,
        "{margin:?}"
    );
    let length = length_baseline(
        &[3, 4, 5, 9, 8, 7],
        &[true, true, true, false, false, false],
        0.95,
    )
    .unwrap();
    assert_eq!((length.auroc.value, length.best), (0.0, 1.0));
}

#[test]
fn noise_finds_the_weaker_probe() {
    let options = FragilityOptions::default();
    let star = |shift: f32| {
        let (x, labels) = two_classes(120, 16, shift, 2);
        fragility(
            &mass_mean(x.view(), &labels).unwrap(),
            x.view(),
            &labels,
            &options,
        )
        .unwrap()
    };
    let (weak, strong) = (star(8.0), star(80.0));
    // Both are saturated without noise. Noise σ leaves accuracy Φ(shift/2σ): under 0.6 for σ > 2·shift: 16 and 160.
    assert!(weak.clean > 0.99 && strong.clean > 0.99);
    assert_eq!((weak.n, weak.per_seed.len()), (120, 10));
    assert_eq!((weak.sigma_star, strong.sigma_star), (Some(30.0), None));
    let mean = weak.levels.iter().find(|l| l.sigma == 10.0).unwrap().mean;
    // Φ(8/(2·√(10² + 1))) = 0.655.
    assert!((mean - 0.655).abs() < 0.04, "{mean}");
    assert_eq!(weak, star(8.0));
    let mut bad = options.clone();
    bad.grid = vec![1.0, 0.5];
    let (x, labels) = two_classes(20, 4, 3.0, 2);
    let probe = mass_mean(x.view(), &labels).unwrap();
    assert!(matches!(
        fragility(&probe, x.view(), &labels, &bad),
        Err(ProbeError::Range { .. })
    ));
}
