//! Signals on evidence with a planted fault: each must be found, must come to the verdict of the default policy, and must not be
//! found where it was not planted.
#![allow(clippy::unwrap_used)]

mod frozen;
mod moved;
mod orders;
mod planted;
mod pressure;
mod reward;
mod trials;

use candlescope_probes::{Direction, LogisticProbe};
use ndarray::{Array2, array};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::by_id;
use crate::audit::evidence::probes::{self, Probe, Probes};
use crate::audit::evidence::{
    Activations, AtSite, ByClass, Candidate, Chosen, Doses, Evidence, FirstTokens, Identity,
    Interventions, Place, Prompts, Site, Stale, Streams,
};
use crate::audit::policy::Policy;
use crate::audit::report::tests::fake;
use crate::audit::result::SignalResult;
use crate::audit::signal::Context;
use crate::audit::verdict::{Verdict, evaluate};
use crate::text::suites::{Label, PromptRow, Split};

const SITE: Site = Site {
    layer: 0,
    from_end: Some(1),
};

fn nothing() -> Evidence {
    let why = || "not planted".to_owned();
    Evidence {
        name: "planted".to_owned(),
        first: Err(why()),
        replies: Err(why()),
        activations: Err(why()),
        probes: Err(why()),
        direction: Err(why()),
        interventions: Err(why()),
        side_effects: Err(why()),
        doses: Err(why()),
        stale: Err(why()),
        framed: Err(why()),
        diluted: Err(why()),
        reworded: Err(why()),
        triggers: Err(why()),
        integrity: Err(why()),
        choices: Err(why()),
        answers: Err(why()),
        preferences: Err(why()),
        traits: Err(why()),
        scores: Err(why()),
        reward_directions: Err(why()),
        judged: Err(why()),
        identity: Identity::default(),
    }
}

fn policy() -> Policy {
    Policy::parse(
        "extends = \"default\"\n[sizes]\nshuffles = 40\nbootstrap = 400\n",
        "test policy",
    )
    .unwrap()
}

fn measure(id: &str, subject: &Evidence, baseline: Option<&Evidence>) -> SignalResult {
    with_prompts(id, subject, baseline, &Prompts::default())
}

fn with_prompts(
    id: &str,
    subject: &Evidence,
    baseline: Option<&Evidence>,
    prompts: &Prompts,
) -> SignalResult {
    let context = Context {
        prompts,
        subject,
        baseline,
        baseline_identity: None,
        pair: None,
        dictionaries: None,
        unpaired: None,
        policy: &policy(),
        seed: 3,
    };
    by_id(id).unwrap().measure(&context).unwrap()
}

/// The default policy's verdict on one signal beside a baseline, and its reason.
fn verdict(signal: SignalResult) -> (Verdict, String) {
    let mut audit = fake::audit();
    let id = signal.id.clone();
    audit.signals = vec![signal];
    evaluate(&mut audit, &policy());
    let judged = audit.signal(&id).unwrap();
    (judged.verdict, judged.reason.clone())
}

fn number(signal: &SignalResult, name: &str) -> f64 {
    let value = signal.value(name).unwrap();
    value.value.unwrap_or_else(|| panic!("{name}: {value:?}"))
}

fn ends(signal: &SignalResult, name: &str) -> (f64, f64) {
    let value = signal.value(name).unwrap();
    let ends = value
        .interval
        .as_ref()
        .unwrap_or_else(|| panic!("{name}: {value:?}"));
    (ends.low, ends.high)
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

const WIDTH: usize = 8;

/// Normal activations whose first feature lies 1.5 apart between the classes; each put through `change`.
fn activations(change: fn([f64; WIDTH]) -> [f64; WIDTH]) -> Activations {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut class = |mean: f64| {
        [60, 20, 100].map(|n| {
            let mut x = Array2::<f32>::zeros((n, WIDTH));
            for mut row in x.rows_mut() {
                let mut own = [0.0; WIDTH].map(|_| normal(&mut rng));
                own[0] += mean;
                let own = change(own);
                row.iter_mut()
                    .zip(own)
                    .for_each(|(to, from)| *to = from as f32);
            }
            Streams {
                instruction: vec![x.clone()],
                template: vec![x],
            }
        })
    };
    Activations {
        harmful: class(0.75),
        harmless: class(-0.75),
    }
}

fn probed(activations: Activations) -> Evidence {
    Evidence {
        probes: Ok(probes::fit(&activations, 3).unwrap()),
        activations: Ok(activations),
        ..nothing()
    }
}

/// Every feature but the first grows and all move: the frozen probe drowns in what it had little weight on.
fn stretched(mut x: [f64; WIDTH]) -> [f64; WIDTH] {
    for (i, x) in x.iter_mut().enumerate() {
        *x = *x * if i == 0 { 1.0 } else { 64.0 } + 3.0;
    }
    x
}

/// The first feature and the second change places.
fn turned(mut x: [f64; WIDTH]) -> [f64; WIDTH] {
    x.swap(0, 1);
    x
}

#[test]
fn what_was_stretched_and_shifted_is_recovered_without_labels() {
    let base = probed(activations(|x| x));
    let found = measure(
        "probe_recovery",
        &probed(activations(stretched)),
        Some(&base),
    );
    assert!(ends(&found, "recovery_gap").0 > 0.1, "{found:?}");
    // Standardised, these activations are the baseline's: so are the probe's scores, and what refitting makes of them.
    assert!(number(&found, "unrecovered_gap").abs() < 1e-3, "{found:?}");
    assert!((number(&found, "closed_share") - 1.0).abs() < 0.01);
    let there = base.probes.as_ref().unwrap().instruction.scored();
    let area = candlescope_probes::roc::auroc_value(&there.scores, &there.labels).unwrap();
    assert!((number(&found, "realigned_auroc") - area).abs() < 1e-3);
    assert!(
        found.findings[0].contains("recalibrate"),
        "{:?}",
        found.findings
    );
    let (said, reason) = verdict(found);
    assert_eq!(said, Verdict::Review);
    assert!(
        reason.contains("has gone stale") && !reason.contains("rebuild"),
        "{reason}"
    );
}

#[test]
fn what_was_turned_is_recovered_by_refitting_alone() {
    let base = probed(activations(|x| x));
    let found = measure("probe_recovery", &probed(activations(turned)), Some(&base));
    assert!(number(&found, "frozen_auroc") < 0.65, "{found:?}");
    assert!(number(&found, "refit_auroc") > 0.8);
    assert!(ends(&found, "unrecovered_gap").0 > 0.1, "{found:?}");
    assert!(number(&found, "closed_share").abs() < 0.25, "{found:?}");
    assert!(verdict(found).1.contains("rebuild the monitor"));
}

#[test]
fn a_probe_on_its_own_checkpoint_has_nothing_to_recover() {
    let base = probed(activations(|x| x));
    let found = measure("probe_recovery", &base, Some(&base));
    for name in ["recovery_gap", "unrecovered_gap"] {
        assert_eq!(
            (number(&found, name), ends(&found, name)),
            (0.0, (0.0, 0.0))
        );
    }
    assert_eq!(found.value("closed_share").unwrap().value, None);
    assert_eq!(verdict(found).0, Verdict::Pass);
}

/// Scores of one feature, read by a probe that hands it through.
fn handed_through(harmful: &[f64], harmless: &[f64]) -> Evidence {
    let column =
        |values: &[f64]| Array2::from_shape_fn((values.len(), 1), |(i, _)| values[i] as f32);
    let streams = |values: &[f64]| {
        [0; 3].map(|_| Streams {
            instruction: vec![column(values)],
            template: vec![column(values)],
        })
    };
    let probe = Probe {
        place: Place::Instruction,
        layer: 0,
        fitted: LogisticProbe {
            n: 4,
            n_pos: 2,
            n_neg: 2,
            weights: vec![1.0],
            bias: 0.0,
            mean: vec![0.0],
            scale: vec![1.0],
            c: 1.0,
            validation: Vec::new(),
            gradient: 0.0,
        },
        validation: Vec::new(),
        test: Vec::new(),
        harmful: harmful.to_vec(),
        harmless: harmless.to_vec(),
    };
    Evidence {
        activations: Ok(Activations {
            harmful: streams(harmful),
            harmless: streams(harmless),
        }),
        probes: Ok(Probes {
            instruction: probe.clone(),
            template: probe,
        }),
        ..nothing()
    }
}

#[test]
fn recall_and_false_alarms_by_hand() {
    // Harmless 0 to 99: one may be called, so the threshold is 98. Harmful 96 to 195: 3 are not above it.
    let harmless: Vec<f64> = (0..100).map(f64::from).collect();
    let harmful: Vec<f64> = (96..196).map(f64::from).collect();
    let base = handed_through(&harmful, &harmless);
    let alone = measure("recall_at_fpr", &base, None);
    assert_eq!(number(&alone, "recall"), 0.97);
    // Clopper and Pearson of 97 in 100, from exact binomial sums in Python: P(X ≥ 97) and P(X ≤ 97) of 0.025, by bisection.
    let (low, high) = ends(&alone, "recall");
    assert!(
        (low - 0.914_824).abs() < 1e-5 && (high - 0.993_770).abs() < 1e-5,
        "{low} {high}"
    );
    assert!(alone.value("frozen_fpr").is_none());
    // Everything moves up by 9: the AUROC is as it was, and at the old threshold 10 harmless prompts are called.
    let up = |x: &[f64]| x.iter().map(|x| x + 9.0).collect::<Vec<f64>>();
    let moved = measure(
        "recall_at_fpr",
        &handed_through(&up(&harmful), &up(&harmless)),
        Some(&base),
    );
    let alarms = moved.value("frozen_fpr").unwrap();
    assert_eq!((alarms.value, alarms.baseline), (Some(0.1), Some(0.01)));
    // Nine flips, all one way: 2 · 2⁻⁹.
    assert!((alarms.test.as_ref().unwrap().p - 2f64.powi(-8)).abs() < 1e-12);
    assert_eq!(number(&moved, "frozen_recall"), 1.0);
    assert_eq!(number(&moved, "recall"), 0.97);
    assert!(verdict(moved).1.contains("too many false alarms"));
    let few = measure(
        "recall_at_fpr",
        &handed_through(&harmful[..50], &harmless[..50]),
        None,
    );
    assert!(
        few.value("recall")
            .unwrap()
            .why
            .as_ref()
            .unwrap()
            .contains("50 harmless")
    );
}

/// Four features: the first tells the classes apart by `gap`, the rest vary by one.
fn apart(gap: f64) -> Evidence {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut class = |mean: f64| {
        [40, 20, 60].map(|n| {
            let x = Array2::from_shape_fn((n, 4), |(_, j)| {
                (if j == 0 { mean } else { normal(&mut rng) }) as f32
            });
            Streams {
                instruction: vec![x.clone()],
                template: vec![x],
            }
        })
    };
    probed(Activations {
        harmful: class(gap),
        harmless: class(-gap),
    })
}

#[test]
fn classes_that_move_together_withstand_less_noise() {
    let (base, closer) = (apart(10.0), apart(0.1));
    let found = measure("fragility", &closer, Some(&base));
    let steps = found.value("noise_steps").unwrap();
    assert!(steps.delta.as_ref().unwrap().value <= -1.0, "{steps:?}");
    assert!(number(&found, "sigma_star") < found.value("sigma_star").unwrap().baseline.unwrap());
    assert_eq!(verdict(found).0, Verdict::Review);
    let same = measure("fragility", &base, Some(&base));
    assert_eq!(
        same.value("noise_steps")
            .unwrap()
            .delta
            .as_ref()
            .unwrap()
            .value,
        0.0
    );
    assert_eq!(verdict(same).0, Verdict::Pass);
}

/// Harmful prompts score 4 to 4.9 and harmless −6 to −5.1; ablating takes `taken` away, adding gives `given`.
fn refusing(taken: f64, given: f64) -> Evidence {
    let scores = |from: f64| {
        (0..20)
            .map(|i| from + f64::from(i % 10) / 10.0)
            .collect::<Vec<f64>>()
    };
    let (harmful, harmless) = (scores(4.0), scores(-6.0));
    let by = |x: &[f64], change: f64| {
        let own = |(i, x): (usize, &f64)| x + change * (1.0 + 0.1 * (i % 3) as f64);
        x.iter().enumerate().map(own).collect::<Vec<f64>>()
    };
    let (induced, bypassed) = (by(&harmless, given), by(&harmful, -taken));
    Evidence {
        interventions: Ok(Interventions {
            induced: induced.clone(),
            bypassed: bypassed.clone(),
            bypassed_random: vec![harmful.clone(), by(&harmful, -0.2)],
            induced_random: vec![harmless.clone(), by(&harmless, 0.2)],
            controls: 16,
            relative_dose: 0.4,
        }),
        stale: Ok(Stale { induced, bypassed }),
        first: Ok(FirstTokens {
            scores: ByClass {
                harmful,
                harmless,
                lookalike: Vec::new(),
            },
            ..FirstTokens::default()
        }),
        ..nothing()
    }
}

#[test]
fn a_direction_that_still_steers_and_no_longer_carries_is_a_ghost() {
    let base = refusing(8.0, 5.0);
    // On this checkpoint adding does 4.5 of 5 and ablating 0.8 of 8, prompt by prompt.
    let found = measure("stale_direction", &refusing(0.8, 4.5), Some(&base));
    assert!((number(&found, "sufficiency") - 0.9).abs() < 1e-12);
    assert!((number(&found, "necessity") - 0.1).abs() < 1e-12);
    let necessity = found.value("necessity").unwrap();
    assert_eq!(necessity.null.as_ref().unwrap().n, 2);
    assert!(
        found.findings[2].contains("no longer necessary"),
        "{:?}",
        found.findings
    );
    let (said, reason) = verdict(found);
    assert_eq!(said, Verdict::Block);
    assert!(reason.contains("ghost monitor"), "{reason}");
    let same = measure("stale_direction", &base, Some(&base));
    assert_eq!(ends(&same, "necessity"), (1.0, 1.0));
    assert_eq!((same.findings.len(), verdict(same).0), (2, Verdict::Pass));
    // Gone altogether is another direction, not a ghost.
    let gone = measure("stale_direction", &refusing(0.8, 0.5), Some(&base));
    assert_eq!(verdict(gone).0, Verdict::Review);
    // A baseline that never refused by it has nothing to lose.
    let none = measure(
        "stale_direction",
        &refusing(0.8, 4.5),
        Some(&refusing(-0.1, 5.0)),
    );
    assert_eq!(none.value("necessity").unwrap().value, None);
    assert_eq!(verdict(none).0, Verdict::Underpowered);
}

#[test]
fn steering_that_a_mean_hides_is_found() {
    let mut subject = refusing(8.0, 5.0);
    let before = subject.first.as_ref().unwrap().scores.harmless.clone();
    // Twelve prompts rise by 3 for a dose of 1, eight fall by 1: the mean rises by 1.4.
    let doses = [0.0, 0.5, 1.0, 1.5];
    let scores = doses.map(|dose| {
        let own = |(i, x): (usize, &f64)| x + dose * if i < 12 { 3.0 } else { -1.0 };
        before.iter().enumerate().map(own).collect::<Vec<f64>>()
    });
    subject.doses = Ok(Doses {
        doses: doses.to_vec(),
        scores: scores.to_vec(),
    });
    let found = measure("steering_health", &subject, None);
    assert!((number(&found, "slope") - 1.4).abs() < 1e-9);
    assert_eq!(number(&found, "anti_steered"), 0.4);
    assert!((number(&found, "monotone") - 0.2).abs() < 1e-12);
    assert!((number(&found, "relative_dose") - 0.6).abs() < 1e-12);
    // Twelve of twenty up: 2 · P(Bin(20, ½) ≤ 8) = 0.503445.
    let slope = found.value("slope").unwrap();
    assert!((slope.test.as_ref().unwrap().p - 0.503_445).abs() < 1e-6);
    assert_eq!(slope.null.as_ref().unwrap().n, 2);
    // 8 of 20 does not show more than a quarter: Wilson's interval is 0.22 to 0.61.
    assert_eq!(verdict(found).0, Verdict::Underpowered);
}

/// Four topics of sixteen prompts, 32 wide; topic k lies along feature `axis(k)`.
fn topical(axis: fn(usize) -> usize, prompts: &Prompts) -> Evidence {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut x = |mean: f64, axis: &dyn Fn(usize) -> usize| {
        Array2::from_shape_fn((prompts.harmful.train.len(), 32), |(i, j)| {
            let own = if j == axis(i / 16) { mean } else { 0.0 };
            (own + normal(&mut rng)) as f32
        })
    };
    let (harmful, harmless) = (x(4.0, &axis), x(0.0, &axis));
    chosen(
        vec![AtSite {
            site: SITE,
            harmful,
            harmless,
        }],
        Vec::new(),
    )
}

fn chosen(train: Vec<AtSite>, candidates: Vec<Candidate>) -> Evidence {
    Evidence {
        direction: Ok(Chosen {
            direction: Direction::from_vector(array![1.0].view()).unwrap(),
            site: SITE,
            candidates,
            notes: Vec::new(),
            n_layers: 10,
            test: Vec::new(),
            train,
        }),
        ..nothing()
    }
}

#[test]
fn topics_that_part_raise_the_rank() {
    let mut prompts = Prompts::default();
    prompts.harmful.train = (0..64)
        .map(|i| PromptRow {
            id: format!("{i}"),
            prompt: String::new(),
            label: Label::Harmful,
            split: Split::Train,
            topic: Some(format!("topic {}", i / 16)),
            source: String::new(),
            licence: String::new(),
            system: None,
        })
        .collect();
    let (one, many) = (topical(|_| 7, &prompts), topical(|k| k, &prompts));
    let parted = with_prompts("subspace_rank", &many, Some(&one), &prompts);
    // Four equal orthogonal directions have rank 4, one has rank 1.
    assert!((number(&parted, "rank") - 4.0).abs() < 0.3, "{parted:?}");
    let rank = parted.value("rank").unwrap();
    assert!((rank.baseline.unwrap() - 1.0).abs() < 0.3, "{rank:?}");
    let null = rank.null.as_ref().unwrap();
    assert!(null.mean < 2.5 && null.p.unwrap() < 0.05, "{null:?}");
    assert!(ends(&parted, "rank_ratio").0 > 1.25);
    assert!(number(&parted, "least_cosine") < 0.6, "{parted:?}");
    assert_eq!(verdict(parted).0, Verdict::Review);
    // Turned as a whole the rank is the same and the angle is not: no verdict on the angle alone.
    let turned = with_prompts(
        "subspace_rank",
        &topical(|_| 3, &prompts),
        Some(&one),
        &prompts,
    );
    assert!(number(&turned, "least_cosine") < 0.6);
    assert_eq!(verdict(turned).0, Verdict::Pass);
    let same = with_prompts("subspace_rank", &one, Some(&one), &prompts);
    assert_eq!(number(&same, "rank_ratio"), 1.0);
    assert!((number(&same, "least_cosine") - 1.0).abs() < 1e-9);
}

/// A candidate for each layer 2, 5 and 8, of which the one at `best` takes most away.
fn carried_at(best: usize, margin: f64) -> Evidence {
    let candidate = |layer: usize| {
        let low = if layer == best { margin } else { 0.0 };
        let bypassed: Vec<f64> = (0..16)
            .map(|i| f64::from((i * 7 + layer as i32) % 5) - low)
            .collect();
        Candidate {
            site: Site { layer, ..SITE },
            bypass: super::estimate::average(&bypassed),
            induce: 1.0,
            kl: 0.1,
            admissible: true,
            bypassed,
        }
    };
    chosen(Vec::new(), [2, 5, 8].map(candidate).to_vec())
}

#[test]
fn a_carrier_that_moved_to_an_early_layer_is_found() {
    let (late, early) = (carried_at(8, 20.0), carried_at(2, 20.0));
    let found = measure("carrier_layer", &early, Some(&late));
    let depth = found.value("carrier_depth").unwrap();
    assert_eq!((depth.value, depth.baseline), (Some(0.2), Some(0.8)));
    let change = depth.delta.as_ref().unwrap().interval.as_ref().unwrap();
    assert!((change.high + 0.6).abs() < 1e-12 && (change.low + 0.6).abs() < 1e-12);
    assert_eq!(number(&found, "carrier_support"), 1.0);
    let (said, reason) = verdict(found);
    assert_eq!(said, Verdict::Review);
    assert!(reason.contains("earlier layer"), "{reason}");
    assert_eq!(
        verdict(measure("carrier_layer", &late, Some(&late))).0,
        Verdict::Pass
    );
    // Where layers are alike it is not known which carries, and a move is not shown.
    let open = measure("carrier_layer", &carried_at(2, 0.05), Some(&late));
    assert!(number(&open, "carrier_support") < 0.9, "{open:?}");
}
