//! What moved from the baseline: streams at the first tokens, the log-probabilities of answers.

use ndarray::{Array2, array};

use super::{ends, nothing, number, policy, verdict};
use crate::audit::evidence::difference::{Difference, Lens};
use crate::audit::evidence::preferences::Likelihood;
use crate::audit::evidence::{Evidence, Pair, Prompts};
use crate::audit::pairs::Preference;
use crate::audit::result::SignalResult;
use crate::audit::signal::Context;
use crate::audit::signals::by_id;
use crate::audit::verdict::Verdict;
use crate::text::dataset;

fn read(changes: Array2<f32>, lens: Option<Lens>) -> SignalResult {
    let n = changes.nrows();
    let pair = Pair {
        texts: Err("not planted".to_owned()),
        weights: Err("not planted".to_owned()),
        difference: Ok(Difference {
            layer: 1,
            texts: (0..n).map(|i| format!("text-{i}")).collect(),
            changes,
            norms: vec![10.0; n],
            lens,
        }),
    };
    let (subject, prompts) = (nothing(), Prompts::default());
    let context = Context {
        prompts: &prompts,
        subject: &subject,
        baseline: Some(&subject),
        baseline_identity: None,
        pair: Some(&pair),
        dictionaries: None,
        unpaired: None,
        policy: &policy(),
        seed: 3,
    };
    let signal = by_id("activation_difference").unwrap();
    signal.measure(&context).unwrap()
}

fn lens(z: f64) -> Lens {
    Lens {
        top: vec![("sea".to_owned(), z); 20],
        z,
        random: (0..32).map(|i| 2.0 + f64::from(i % 2)).collect(),
    }
}

#[test]
fn the_length_of_a_mean_change_and_what_is_common_by_hand() {
    // Changes (3, 4), (3, 4), (3, -4), (3, -4): the mean is (3, 0), a length of 3 on streams of 10. Squares are 25; of the
    // twelve ordered pairs of texts four have a product of 25 and eight one of -7.
    let changes = array![[3.0f32, 4.0], [3.0, 4.0], [3.0, -4.0], [3.0, -4.0]];
    let found = read(changes, Some(lens(4.0)));
    assert!((number(&found, "relative_norm") - 0.3).abs() < 1e-12);
    let common = (4.0 * 25.0 - 8.0 * 7.0) / 12.0 / 25.0;
    assert!((number(&found, "common_share") - common).abs() < 1e-12);
    // 32 draws, half 2 and half 3: mean 2.5 and deviation sqrt(8/31).
    let z = 1.5 / (8.0f64 / 31.0).sqrt();
    assert!((number(&found, "readability") - z).abs() < 1e-9);
    assert_eq!(
        found
            .value("relative_norm")
            .unwrap()
            .null
            .as_ref()
            .unwrap()
            .n,
        40
    );
}

#[test]
fn a_change_that_all_texts_share_is_told_from_one_that_none_does() {
    let shared = Array2::from_shape_fn((24, 6), |(i, j)| {
        (if j == 0 { 4.0 } else { 0.0 }) + 0.1 * ((i * 7 + j) % 5) as f32
    });
    let found = read(shared, Some(lens(8.0)));
    assert!(number(&found, "common_share") > 0.95, "{found:?}");
    let norm = found.value("relative_norm").unwrap();
    assert!(norm.test.as_ref().unwrap().p < 0.05, "{norm:?}");
    let (said, reason) = verdict(found);
    assert_eq!(said, Verdict::Review);
    assert!(reason.contains("narrow"), "{reason}");
    // As long, each along a feature of its own.
    let own = Array2::from_shape_fn((24, 24), |(i, j)| if i == j { 4.0f32 } else { 0.0 });
    let found = read(own, Some(lens(2.5)));
    assert!(number(&found, "common_share").abs() < 1e-12);
    let norm = found.value("relative_norm").unwrap();
    assert!(norm.test.as_ref().unwrap().p > 0.5, "{norm:?}");
    assert_eq!(verdict(found).0, Verdict::Pass);
}

#[test]
fn where_no_stream_changed_there_is_nothing_to_read() {
    let found = read(Array2::zeros((5, 3)), None);
    for name in [
        "relative_norm",
        "common_share",
        "top_token_z",
        "readability",
    ] {
        assert_eq!(number(&found, name), 0.0, "{name}");
    }
    assert_eq!(ends(&found, "relative_norm"), (0.0, 0.0));
    assert_eq!(verdict(found).0, Verdict::Pass);
}

fn scored(pairs: &[(f64, f64)]) -> Evidence {
    let likelihood = |&(chosen, rejected): &(f64, f64)| Likelihood { chosen, rejected };
    Evidence {
        preferences: Ok(pairs.iter().map(likelihood).collect()),
        ..nothing()
    }
}

fn margin(now: &[(f64, f64)], before: &[(f64, f64)]) -> SignalResult {
    let prompts = Prompts {
        preferences: (0..now.len())
            .map(|i| Preference {
                id: format!("pairs:{i}"),
                excerpt: String::new(),
                pair: dataset::Pair {
                    prompt: vec![1],
                    chosen: vec![2, 3],
                    rejected: vec![4],
                    margin: None,
                },
            })
            .collect(),
        ..Prompts::default()
    };
    super::with_prompts(
        "implicit_margin",
        &scored(now),
        Some(&scored(before)),
        &prompts,
    )
}

#[test]
fn the_margin_by_hand_and_what_falls_with_it() {
    let before = [(-10.0, -10.0), (-20.0, -12.0), (-5.0, -6.0), (-8.0, -7.0)];
    // Chosen by -1, -2, +1, -2; rejected by -3, -5, -2, -2: margins 2, 3, 3, 0.
    let now = [(-11.0, -13.0), (-22.0, -17.0), (-4.0, -8.0), (-10.0, -9.0)];
    let found = margin(&now, &before);
    assert!((number(&found, "margin") - 2.0).abs() < 1e-12);
    assert!((number(&found, "chosen_drift") + 1.0).abs() < 1e-12);
    assert!((number(&found, "rejected_drift") + 3.0).abs() < 1e-12);
    assert_eq!(number(&found, "chosen_falls"), 0.75);
    // The pair that did not part is no preference.
    let prefers = found.value("prefers_chosen").unwrap();
    assert_eq!((prefers.value, prefers.n), (Some(1.0), Some(3)));
    assert!(
        found
            .findings
            .iter()
            .any(|said| said.contains("less probable"))
    );
    assert_eq!(found.items[0].flags.len(), 1);
    assert_eq!(found.items[2].flags.len(), 0);
}

#[test]
fn chosen_answers_that_fall_while_the_margin_grows_are_for_review() {
    let before = vec![(-10.0, -10.0); 30];
    let moved = |by: f64| -> Vec<(f64, f64)> {
        (0..30)
            .map(|i| (-10.0 + by + 0.1 * f64::from(i % 5), -14.0))
            .collect()
    };
    let (said, reason) = verdict(margin(&moved(-2.0), &before));
    assert_eq!(said, Verdict::Review);
    assert!(reason.contains("became less probable"), "{reason}");
    assert_eq!(verdict(margin(&moved(2.0), &before)).0, Verdict::Pass);
}

#[test]
fn a_policy_beside_itself_has_a_margin_of_exactly_nothing() {
    let same = [(-10.0, -11.0), (-20.0, -12.0), (-5.0, -6.0)];
    let found = margin(&same, &same);
    for name in ["margin", "chosen_drift", "rejected_drift", "chosen_falls"] {
        assert_eq!(number(&found, name), 0.0, "{name}");
    }
    assert_eq!(ends(&found, "margin"), (0.0, 0.0));
    assert_eq!(found.value("prefers_chosen").unwrap().value, None);
    assert_eq!(verdict(found).0, Verdict::Pass);
}
