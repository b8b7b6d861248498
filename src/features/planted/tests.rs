//! The same options give the same numbers, rows are written as they are trained on, intervals are those made by hand.

#![allow(clippy::unwrap_used)]

use candlescope_sae::synthetic::PowerLaw;

use super::*;

fn options() -> BenchOptions {
    BenchOptions {
        world: PlantedSpec {
            d: 10,
            features: 6,
            rates: PowerLaw {
                highest: 0.2,
                lowest: 0.1,
                exponent: 1.0,
            },
            seed: 11,
            ..PlantedSpec::default()
        },
        repeats: 2,
        d_sae: 6,
        k: Some(1),
        kinds: vec![(Kind::TopK, None), (Kind::Relu, None)],
        batch: 64,
        batches: 10,
        steps: 60,
        lr: 3e-3,
        b_dec: Bias::Zero,
        held: 256,
        found_at: 0.9,
        tries: 3,
    }
}

#[test]
fn the_same_options_give_the_same_numbers() {
    let run = || {
        let mut last = [0, 0];
        let found = bench(&options(), &mut |doing| {
            last = doing.steps;
            ControlFlow::Continue(())
        });
        (found.unwrap().unwrap(), last)
    };
    let (first, last) = run();
    assert_eq!(last[0], last[1], "all steps that were planned are done");
    let seeds: Vec<u64> = first.runs.iter().map(|run| run.seed).collect();
    assert_eq!(seeds, [11, 11, 12, 12]);
    let numbers = |of: &Bench| {
        of.runs
            .iter()
            .map(|r| r.numbers.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&first), numbers(&run().0));
    let [topk, relu] = &first.standings[..] else {
        panic!("two architectures");
    };
    assert!(topk.coefficient.is_none() && topk.tuned.is_none());
    assert_eq!(relu.coefficient, relu.tuned.map(|t| t.coefficient));
    assert_eq!(topk.summary[0].mean, Some(1.0), "L0 of TopK is k");
    assert!(topk.summary[13].mean.is_none(), "no trees, no absorption");
}

#[test]
fn rows_are_written_as_they_are_trained_on() {
    let options = BenchOptions {
        kinds: vec![(Kind::TopK, None)],
        repeats: 1,
        steps: 2,
        ..options()
    };
    let found = bench(&options, &mut |_| ControlFlow::Continue(())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = write(folder.path(), &options, &found.unwrap()).unwrap();
    assert_eq!(files.len(), 5);
    let rows = std::fs::read(folder.path().join("seed-11/rows.npy")).unwrap();
    let world = options.world(0).unwrap();
    let row = &rows[128 + 4 * 10 * 70..][..4];
    assert_eq!(row, world.batch(1)[(6, 0)].to_le_bytes());
    let plan = std::fs::read(folder.path().join("plan.json")).unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
    assert_eq!((&plan["k"], &plan["steps"]), (&1.into(), &2.into()));
    let held = std::fs::read(folder.path().join("seed-11/strengths.npy")).unwrap();
    assert_eq!(held.len(), 128 + 4 * 256 * 6);
}

/// Mean 2, standard deviation 1, three values: 2 ± 4.302653 / √3 (Student's table, two degrees of freedom).
#[test]
fn an_interval_over_repeats_by_hand() {
    let found = Summary::of(&[1.0, 2.0, 3.0]);
    assert_eq!(found.mean, Some(2.0));
    let [low, high] = found.interval.unwrap();
    assert!((high - 4.484_137).abs() < 1e-5 && (low + 0.484_137).abs() < 1e-5);
    assert_eq!(Summary::of(&[1.0]).interval, None);
    assert_eq!(Summary::of(&[]).mean, None);
}
