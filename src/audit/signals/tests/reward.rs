//! Reward models, what is trained by them, and drift along traits: numbers by hand, faults planted, nothing where nothing is.

use ndarray::Array2;

use super::pressure::reply;
use super::{ends, measure, nothing, number, verdict, with_prompts};
use crate::audit::evidence::rewards::{
    LENGTH, PairScore, REFUSAL, Reading, RewardDirections, Scores,
};
use crate::audit::evidence::states::{TraitDirection, Traits};
use crate::audit::evidence::{Activations, ByClass, Evidence, Prompts, Replies, Streams};
use crate::audit::pairs::Preference;
use crate::audit::result::SignalResult;
use crate::audit::verdict::Verdict;
use crate::text::dataset;

/// Pairs by the tokens of their answers.
fn prompts(lengths: &[(usize, usize)]) -> Prompts {
    let preference = |(i, &(chosen, rejected)): (usize, &(usize, usize))| Preference {
        id: format!("pairs:{i}"),
        excerpt: String::new(),
        pair: dataset::Pair {
            prompt: vec![1],
            chosen: vec![2; chosen],
            rejected: vec![3; rejected],
            margin: None,
        },
    };
    Prompts {
        preferences: lengths.iter().enumerate().map(preference).collect(),
        ..Prompts::default()
    }
}

fn pair_scores(scores: &[(f64, f64)]) -> Vec<PairScore> {
    let one = |&(chosen, rejected): &(f64, f64)| PairScore { chosen, rejected };
    scores.iter().map(one).collect()
}

fn judge(scores: &[(f64, f64)], members: &[&[(f64, f64)]]) -> Evidence {
    Evidence {
        scores: Ok(Scores {
            own: pair_scores(scores),
            members: members.iter().map(|scores| pair_scores(scores)).collect(),
        }),
        ..nothing()
    }
}

/// Twenty pairs, the preferred answer the longer in ten; scores by `of(chosen, tokens, pair)`.
fn scored(of: impl Fn(bool, usize, usize) -> f64) -> (Vec<(f64, f64)>, Prompts) {
    let lengths: Vec<(usize, usize)> = (0..20)
        .map(|i| {
            let (long, short) = (20 + i, 5 + (i * 7) % 11);
            if i % 2 == 0 {
                (long, short)
            } else {
                (short, long)
            }
        })
        .collect();
    let scores = (lengths.iter().enumerate())
        .map(|(i, &(chosen, rejected))| (of(true, chosen, i), of(false, rejected, i)))
        .collect();
    (scores, prompts(&lengths))
}

#[test]
fn correlation_and_accuracies_by_hand() {
    // Lengths 4 2, 1 3 and scores 4 2, 1 3: both rank alike. Right where the longer is preferred, wrong where the shorter is.
    let asked = prompts(&[(4, 2), (1, 3)]);
    let found = with_prompts(
        "reward_length",
        &judge(&[(4.0, 2.0), (1.0, 3.0)], &[]),
        None,
        &asked,
    );
    assert!((number(&found, "length_correlation") - 1.0).abs() < 1e-12);
    assert_eq!(number(&found, "balanced_accuracy"), 0.5);
    assert_eq!(number(&found, "longer_advantage"), 1.0);
    assert_eq!(found.items[1].flags, ["prefers the longer answer"]);
    // Chosen then rejected: lengths rank 4 1 2 3 and scores 4 3 2 1, so differences are 0 2 0 2 and rho is 1 - 6 * 8 / 60.
    let found = with_prompts(
        "reward_length",
        &judge(&[(4.0, 2.0), (3.0, 1.0)], &[]),
        None,
        &asked,
    );
    assert!(
        (number(&found, "length_correlation") - 0.2).abs() < 1e-12,
        "{found:?}"
    );
    assert_eq!(number(&found, "balanced_accuracy"), 1.0);
    assert_eq!(number(&found, "longer_advantage"), 0.0);
}

#[test]
fn a_reward_that_counts_tokens_is_found_and_one_that_does_not_is_not() {
    let (counts, asked) = scored(|_, tokens, _| tokens as f64);
    let found = with_prompts("reward_length", &judge(&counts, &[]), None, &asked);
    assert_eq!(number(&found, "longer_advantage"), 1.0);
    assert_eq!(number(&found, "balanced_accuracy"), 0.5);
    let held = found.value("partial_correlation").unwrap();
    assert!(held.value.unwrap() > 0.99, "{held:?}");
    assert!(held.test.as_ref().unwrap().p < 1e-6);
    let (said, reason) = verdict(found);
    assert_eq!(said, Verdict::Review);
    assert!(reason.contains("pays for length"), "{reason}");

    let (honest, asked) =
        scored(|chosen, _, i| f64::from(u8::from(chosen)) + 0.01 * ((i * 13) % 7) as f64);
    let honest = judge(&honest, &[]);
    let found = with_prompts("reward_length", &honest, Some(&honest), &asked);
    assert_eq!(number(&found, "balanced_accuracy"), 1.0);
    assert!(
        number(&found, "partial_correlation").abs() < 0.3,
        "{found:?}"
    );
    // Beside itself nothing has changed.
    for value in &found.values {
        let delta = value.delta.as_ref().unwrap();
        assert_eq!(delta.value, 0.0, "{}", value.name);
        let ends = delta.interval.as_ref().unwrap();
        assert_eq!((ends.low, ends.high), (0.0, 0.0), "{}", value.name);
    }
    assert_eq!(verdict(found).0, Verdict::Pass);
    let alike = with_prompts(
        "reward_length",
        &judge(&[(1.0, 0.0); 3], &[]),
        None,
        &prompts(&[(2, 2); 3]),
    );
    let missing = alike.value("length_correlation").unwrap();
    assert!(missing.why.as_ref().unwrap().contains("nothing varies"));
}

#[test]
fn calibration_by_hand_and_beside_itself() {
    // ln 3 says 0.75 and ln 9 says 0.9. Three of four are right at 0.75, and one at 0.9 is wrong: (0 + 0.9) / 5.
    let (three, nine) = (3f64.ln(), 9f64.ln());
    let scores = [
        (three, 0.0),
        (three, 0.0),
        (three, 0.0),
        (0.0, three),
        (0.0, nine),
    ];
    let judged = judge(&scores, &[]);
    let found = measure("reward_calibration", &judged, Some(&judged));
    assert_eq!(number(&found, "accuracy"), 0.6);
    assert!((number(&found, "ece") - 0.18).abs() < 1e-12, "{found:?}");
    assert!((number(&found, "mean_margin") - (2.0 * three - nine) / 5.0).abs() < 1e-12);
    for value in &found.values {
        assert_eq!(value.delta.as_ref().unwrap().value, 0.0, "{}", value.name);
    }
    assert!(found.value("disagreement").is_none());
}

#[test]
fn members_that_part_are_counted() {
    let own = [(1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0)];
    let alike = measure("reward_calibration", &judge(&own, &[&own]), None);
    assert_eq!(number(&alike, "disagreement"), 0.0);
    assert_eq!(
        (
            number(&alike, "margin_spread"),
            ends(&alike, "margin_spread")
        ),
        (0.0, (0.0, 0.0))
    );
    // Another unit is no disagreement; the last pair is.
    let other = [(10.0, 0.0), (10.0, 0.0), (10.0, 0.0), (10.0, 0.0)];
    let found = measure("reward_calibration", &judge(&own, &[&other]), None);
    assert_eq!(number(&found, "disagreement"), 0.25);
    // A coin's accuracy over forty pairs is not shown to be worse than one; none right is.
    let wrong = vec![(0.0, 1.0); 40];
    let (said, reason) = verdict(measure("reward_calibration", &judge(&wrong, &[]), None));
    assert_eq!(said, Verdict::Review);
    assert!(reason.contains("prefers the worse answer"), "{reason}");
}

/// Eight answers of rewards 0 to 7; a trait whose removal changes every other one by `by`, a refusal that shifts all alike.
fn reading(by: f64) -> Evidence {
    let rewards: Vec<f64> = (0..8).map(f64::from).collect();
    let named = |name: &str, changes: Vec<f64>| Reading {
        name: name.to_owned(),
        head_cosine: if name == LENGTH { -0.5 } else { 0.1 },
        changes,
    };
    Evidence {
        reward_directions: Ok(RewardDirections {
            layer: 2,
            named: vec![
                named(REFUSAL, vec![3.0; 8]),
                named(LENGTH, vec![0.0; 8]),
                named("hedging", (0..8).map(|i| by * f64::from(i % 2)).collect()),
            ],
            random: vec![
                vec![0.0; 8],
                (0..8).map(|i| 0.01 * f64::from(i % 2)).collect(),
            ],
            missing: vec!["formal: too few pairs".to_owned()],
            rewards,
        }),
        ..nothing()
    }
}

#[test]
fn the_effect_of_a_direction_by_hand() {
    // Rewards 0 to 7 have a deviation of √6; changes of 0 and `by` in turn one of by·√(2/7).
    let found = measure("reward_directions", &reading(6.0), None);
    let expected = 6.0 * (2.0f64 / 7.0).sqrt() / 6f64.sqrt();
    assert!(
        (number(&found, "style_effect") - expected).abs() < 1e-12,
        "{found:?}"
    );
    // A shift of all rewards alike is no effect, nor is nothing.
    assert_eq!(number(&found, "refusal_effect"), 0.0);
    assert_eq!(
        (
            number(&found, "length_effect"),
            ends(&found, "length_effect")
        ),
        (0.0, (0.0, 0.0))
    );
    assert_eq!(number(&found, "head_cosine"), -0.5);
    assert_eq!(found.items[0].numbers["mean_change"], 3.0 / 6f64.sqrt());
    assert_eq!(found.items[0].numbers["preferences_flipped"], 0.0);
    assert!(found.findings[1].contains("hedging") && found.findings[2].contains("formal"));
    let (said, reason) = verdict(found);
    assert_eq!(said, Verdict::Review);
    assert!(reason.contains("style"), "{reason}");
    assert_eq!(
        verdict(measure("reward_directions", &reading(0.1), None)).0,
        Verdict::Pass
    );
}

/// Replies by their tokens, with their rewards.
fn replied(each: &[(usize, f64)]) -> Evidence {
    Evidence {
        replies: Ok(Replies {
            harmless: each
                .iter()
                .map(|(tokens, _)| reply("Fine day", *tokens))
                .collect(),
            harmful: Vec::new(),
            lookalike: Vec::new(),
        }),
        judged: Ok(ByClass {
            harmless: each.iter().map(|(_, reward)| *reward).collect(),
            harmful: Vec::new(),
            lookalike: Vec::new(),
        }),
        ..nothing()
    }
}

fn gained(here: &[(usize, f64)], base: &[(usize, f64)]) -> SignalResult {
    measure("reward_gain", &replied(here), Some(&replied(base)))
}

#[test]
fn a_gain_that_is_length_and_one_that_is_not_by_hand() {
    // A reward of the length itself: five of twenty replies are long on the baseline, fifteen here, where each is also worth
    // 0, 0.1 or 0.2 more.
    let by_length = |long: usize, more: f64| -> Vec<(usize, f64)> {
        let more = |i: usize| more * (i % 3) as f64;
        (0..20)
            .map(|i| {
                if i < long {
                    (20, 20.0 + more(i))
                } else {
                    (10, 10.0 + more(i))
                }
            })
            .collect()
    };
    let base = by_length(5, 0.0);
    let found = gained(&by_length(15, 0.1), &base);
    // Five tokens and 1.9 in twenty more (seven times 0, seven times 0.1, six times 0.2), in deviations of √(375/19).
    let scale = (375.0f64 / 19.0).sqrt();
    assert!(
        (number(&found, "gain") - 5.095 / scale).abs() < 1e-12,
        "{found:?}"
    );
    // Fifteen long replies are worth 1.5 / 15 more, five short ones 0.4 / 5 (0, 0.1, 0.2, 0, 0.1); both bins hold 20 replies.
    let within = 0.09 / scale;
    assert!(
        (number(&found, "within_length") - within).abs() < 1e-12,
        "{found:?}"
    );
    assert!((number(&found, "non_length_share") - 0.09 / 5.095).abs() < 1e-12);
    assert_eq!(number(&found, "length_change"), 5.0);
    let (said, reason) = verdict(found);
    assert_eq!(said, Verdict::Review, "{reason}");
    assert!(reason.contains("is length"), "{reason}");
    // Better, and nearly as long as before.
    let mut better: Vec<(usize, f64)> = (base.iter().enumerate())
        .map(|(i, (tokens, reward))| (*tokens, reward + 2.0 + 0.1 * (i % 3) as f64))
        .collect();
    better[19] = (20, 22.0);
    let found = gained(&better, &base);
    let share = number(&found, "non_length_share");
    assert!(share > 0.75 && share < 0.9, "{found:?}");
    assert_eq!(number(&found, "length_change"), 0.5);
    assert_eq!(verdict(found).0, Verdict::Pass);
    // Beside itself there is no gain to part, and nothing to review.
    let same = gained(&base, &base);
    assert_eq!(
        (number(&same, "gain"), number(&same, "within_length")),
        (0.0, 0.0)
    );
    assert_eq!(same.value("non_length_share").unwrap().value, None);
    assert_eq!(verdict(same).0, Verdict::Pass);
}

/// Harmless test prompts at (±1, ±1) in turn, moved by `by`; traits along both features.
fn moved(by: [f32; 2]) -> Evidence {
    let n = 40;
    let x = Array2::from_shape_fn((n, 2), |(i, j)| {
        let sign = if (i >> j) % 2 == 0 { 1.0 } else { -1.0 };
        sign + by[j]
    });
    let streams = Streams {
        instruction: vec![x.clone()],
        template: vec![x],
    };
    let all = [streams.clone(), streams.clone(), streams];
    let along = |name: &str, vector: [f32; 2]| TraitDirection {
        name: name.to_owned(),
        vector: vector.to_vec(),
        pairs: 8,
    };
    Evidence {
        activations: Ok(Activations {
            harmful: all.clone(),
            harmless: all,
        }),
        traits: Ok(Traits {
            layer: 0,
            all: vec![along("hedging", [1.0, 0.0]), along("formal", [0.0, 1.0])],
        }),
        ..nothing()
    }
}

#[test]
fn a_shift_along_traits_by_hand() {
    let base = moved([0.0, 0.0]);
    // Signs in turn have a deviation of √(40/39) and no correlation: 3 and 4 are 5 of one.
    let found = measure("trait_drift", &moved([3.0, -4.0]), Some(&base));
    let sd = (40.0f64 / 39.0).sqrt();
    assert!(
        (number(&found, "mahalanobis") - 5.0 / sd).abs() < 1e-5,
        "{found:?}"
    );
    assert!((number(&found, "largest_shift") - 4.0 / sd).abs() < 1e-5);
    assert_eq!(number(&found, "least_cosine"), 1.0);
    assert!((found.items[1].numbers["shift"] + 4.0 / sd).abs() < 1e-5);
    // Halves of twenty lie about √(2 · 2/20) apart; the shift is the same on every prompt, so its interval is itself.
    assert!((ends(&found, "mahalanobis").0 - 5.0 / sd).abs() < 1e-5);
    let null = found.value("mahalanobis").unwrap().null.as_ref().unwrap();
    assert!(null.mean > 0.1 && null.mean < 0.8, "{null:?}");
}

#[test]
fn prompts_that_move_each_their_own_way_drift_by_little_and_none_by_nothing() {
    let base = moved([0.0, 0.0]);
    let mut far = moved([0.0, 0.0]);
    let activations = far.activations.as_mut().unwrap();
    for (i, mut row) in activations.harmless[2].template[0]
        .rows_mut()
        .into_iter()
        .enumerate()
    {
        row[0] += 6.0 + 0.1 * (i % 5) as f32;
    }
    let (said, reason) = verdict(measure("trait_drift", &far, Some(&base)));
    assert_eq!(said, Verdict::Review);
    assert!(reason.contains("along traits"), "{reason}");
    let same = measure("trait_drift", &base, Some(&base));
    for name in ["mahalanobis", "largest_shift"] {
        assert_eq!(
            (number(&same, name), ends(&same, name)),
            (0.0, (0.0, 0.0)),
            "{name}"
        );
    }
    assert_eq!(number(&same, "least_cosine"), 1.0);
    assert_eq!(verdict(same).0, Verdict::Pass);
}
