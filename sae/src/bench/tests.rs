//! A contest on a small world: features that stand at right angles are found by every architecture.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use super::*;
use crate::synthetic::{PlantedSpec, PowerLaw, ScoreOptions, score};
use crate::train::{Bias, Dead, Recipe};

fn world() -> World {
    let spec = PlantedSpec {
        d: 16,
        features: 16,
        rates: PowerLaw {
            highest: 0.12,
            lowest: 0.12,
            exponent: 1.0,
        },
        seed: 3,
        ..PlantedSpec::default()
    };
    World::new(spec, 256, 20).unwrap()
}

#[test]
fn rows_are_the_planted_batches_over_and_over() {
    let world = world();
    assert_eq!(world.rows().dim(), (20 * 256, 16));
    assert_eq!(world.batch(7), world.planted().batch(7, 256).0);
    assert_eq!(world.batch(27), world.batch(7));
    let empty = World::new(world.planted().spec().clone(), 256, 0);
    assert!(empty.unwrap_err().to_string().contains("0 batches of 256"));
}

#[test]
fn every_architecture_finds_what_stands_alone() {
    let world = world();
    for kind in Kind::ALL {
        let coefficient = match kind {
            Kind::JumpRelu => 4.0,
            Kind::Gated => 0.5,
            _ => 0.14,
        };
        let mut recipe = Recipe::new(16, kind.architecture(2, coefficient, 16, 200));
        (recipe.lr, recipe.b_dec) = (1e-3, Bias::Zero);
        recipe.dead = Dead {
            after: 256 * 200,
            resample_every: 0,
        };
        assert_eq!(recipe.architecture.name(), kind.name());
        let mut steps = 0;
        let ended = train(&world, recipe, 2000, &mut |report| {
            steps = report.step;
            ControlFlow::Continue(())
        });
        let ended = ended.unwrap().unwrap();
        let options = ScoreOptions {
            batches: 2,
            rows: 512,
            ..ScoreOptions::default()
        };
        let score = score(world.planted(), &ended.dictionary, &options).unwrap();
        let name = kind.name();
        assert_eq!(steps, 2000);
        let cosine = score.recovery.matched;
        assert!(cosine > 0.85, "{name}: {cosine}");
        let l0 = score.quality.l0.unwrap();
        assert!((ended.l0 - l0).abs() < 0.6, "{name}: {} {l0}", ended.l0);
    }
}

#[test]
fn a_run_that_is_told_to_stop_gives_nothing() {
    let recipe = Recipe::new(8, Kind::TopK.architecture(2, 0.0, 8, 0));
    let mut left = 3;
    let stopped = train(&world(), recipe.clone(), 100, &mut |_| {
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(stopped.unwrap().is_none() && left == 0);
    let none = train(&world(), recipe, 0, &mut |_| ControlFlow::Continue(()));
    assert!(none.unwrap_err().to_string().contains("steps"));
}

/// `L0 = 10 / c` is 4 at `c = 2.5`; from 0.1 it takes strides to 6.4 and halves from there.
#[test]
fn a_coefficient_is_found_by_what_it_does() {
    let mut asked = Vec::new();
    let mut of = |c: f64| {
        asked.push(c);
        Ok(Some(10.0 / c))
    };
    let found = tune(4.0, 0.1, 12, &mut of).unwrap().unwrap();
    assert!((found.l0 / 4.0 - 1.0).abs() <= 0.03, "{found:?}");
    assert_eq!(found.tries, asked.len());
    assert_eq!(asked[..4], [0.1, 0.4, 1.6, 6.4]);
    assert!((asked[4] - 3.2).abs() < 1e-9);
    // Too few tries: the nearest of them.
    let few = tune(4.0, 0.1, 3, &mut |c| Ok(Some(10.0 / c))).unwrap();
    assert_eq!(few.map(|f| f.coefficient), Some(1.6));
    assert_eq!(tune(4.0, 0.1, 3, &mut |_| Ok(None)).unwrap(), None);
}
