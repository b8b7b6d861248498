//! Signals 18 to 23 on evidence made by hand: what each says is known, and a change moves one and leaves the others.

use candlescope_sae::Codes;
use candlescope_sae::diff::{Class, DecoderPair, Presence, Scaled};

use super::*;
use crate::audit::evidence::dictionary::{Crossed, Dictionaries, Frozen, Turn, Turned};
use crate::features::compare::{Counts, CrossLatent, Examples};
use crate::features::quality::ContextSums;

/// Texts; each has four tokens.
const TEXTS: usize = 60;

/// Firing of `fires(model, text, row, latent)` over four latents.
fn counts(fires: impl Fn(usize, usize, usize, usize) -> bool) -> Counts {
    let mut counts = Counts::new(4);
    for text in 0..TEXTS {
        let codes = [0, 1].map(|model| {
            let mut codes = Codes::new();
            for row in 0..4 {
                let latents = (0..4_u32).filter(|&l| fires(model, text, row, l as usize));
                codes.push(latents.map(|l| (l, 1.0)));
            }
            codes
        });
        counts.add([&codes[0], &codes[1]]);
    }
    counts
}

/// Latent 0 fires in each text once, latent 1 in all rows, latent 2 in two; latent 3 is silent.
fn as_ever(_: usize, _: usize, row: usize, latent: usize) -> bool {
    match latent {
        0 => row == 0,
        1 => true,
        2 => row < 2,
        _ => false,
    }
}

/// Losses of a text in which `spliced` is the cross-entropy with the dictionary, of 8 clean and 18 with zeros.
fn sums(spliced: f64) -> Vec<ContextSums> {
    let one = ContextSums {
        tokens: 4,
        ce: [8.0, spliced, 18.0],
        kl: [spliced - 8.0, 10.0],
    };
    vec![one; TEXTS]
}

fn frozen() -> Frozen {
    let fits = || {
        (0..TEXTS)
            .map(|i| [2.0 + (i % 3) as f64, 10.0])
            .collect::<Vec<_>>()
    };
    Frozen {
        point: "resid_post.1".to_owned(),
        d_sae: 4,
        texts: (0..TEXTS).map(|i| format!("text {i}")).collect(),
        tokens: 4 * TEXTS as u64,
        fits: [fits(), fits()],
        counts: counts(as_ever),
        examples: Examples::new(4, 2),
        losses: Ok([sums(9.5), sums(9.5)]),
    }
}

fn dictionaries(frozen: Frozen) -> Dictionaries {
    let why = "not planted".to_owned();
    Dictionaries {
        frozen: Ok(frozen),
        turned: Err(why.clone()),
        crossed: Err(why),
    }
}

fn through(id: &str, dictionaries: &Dictionaries) -> SignalResult {
    let (subject, prompts) = (nothing(), Prompts::default());
    let context = Context {
        prompts: &prompts,
        subject: &subject,
        baseline: Some(&subject),
        baseline_identity: None,
        pair: None,
        dictionaries: Some(dictionaries),
        unpaired: None,
        policy: &policy(),
        seed: 3,
    };
    by_id(id).unwrap().measure(&context).unwrap()
}

const OF_FROZEN: [&str; 4] = [
    "dictionary_fvu",
    "dictionary_ce",
    "latent_crossings",
    "latent_density",
];

#[test]
fn a_checkpoint_beside_itself_stands_still() {
    let found = dictionaries(frozen());
    let all = OF_FROZEN.map(|id| through(id, &found));
    let [fvu, ce, crossings, density] = &all;
    assert_eq!(
        (number(fvu, "fvu_ratio"), ends(fvu, "fvu_ratio")),
        (1.0, (1.0, 1.0))
    );
    assert!((number(fvu, "fvu") - 0.3).abs() < 1e-12);
    assert!((number(ce, "ce_recovered") - 0.85).abs() < 1e-12);
    assert!((number(ce, "kl_score") - 0.85).abs() < 1e-12);
    for name in ["births", "deaths"] {
        assert_eq!(
            (number(crossings, name), ends(crossings, name)),
            (0.0, (0.0, 0.0))
        );
    }
    assert_eq!(number(crossings, "tested_crossings"), 0.0);
    assert_eq!(
        (number(density, "shifted"), number(density, "changed")),
        (0.0, 0.0)
    );
    for (signal, name) in [(fvu, "fvu"), (ce, "ce_recovered"), (ce, "kl_score")] {
        let change = signal.value(name).unwrap().delta.as_ref().unwrap();
        assert_eq!(change.value, 0.0, "{name}");
    }
    for signal in all {
        let (said, reason) = verdict(signal);
        assert_eq!(said, Verdict::Pass, "{reason}");
        assert!(reason.contains("no limit applies"), "{reason}");
    }
}

/// The numbers of all four signals, by name.
fn numbers(found: &Dictionaries) -> Vec<(String, f64)> {
    let of = |id: &str| {
        let values = through(id, found).values;
        values.into_iter().map(|v| (v.name, v.value.unwrap()))
    };
    OF_FROZEN.into_iter().flat_map(of).collect()
}

/// The quantities that differ from those of a checkpoint beside itself.
fn moved(found: Frozen) -> Vec<String> {
    let before = numbers(&dictionaries(frozen()));
    let now = numbers(&dictionaries(found));
    let pairs = before.into_iter().zip(now);
    let moved = pairs.filter(|((_, a), (_, b))| a != b);
    moved.map(|((name, _), _)| name).collect()
}

#[test]
fn a_worse_fit_moves_the_fit_alone() {
    // By 1.2 and 1.8 in turn, which over these texts is 1.5.
    let mut worse = frozen();
    for (i, fit) in worse.fits[1].iter_mut().enumerate() {
        fit[0] *= if i % 2 == 0 { 1.2 } else { 1.8 };
    }
    assert_eq!(moved(worse.clone()), ["fvu_ratio", "fvu"]);
    let found = through("dictionary_fvu", &dictionaries(worse));
    assert!((number(&found, "fvu_ratio") - 1.5).abs() < 1e-12);
    let (low, high) = ends(&found, "fvu_ratio");
    assert!(
        1.2 < low && low < 1.5 && 1.5 < high && high < 1.8,
        "{low} {high}"
    );
    assert!((number(&found, "fvu") - 0.45).abs() < 1e-12);
    let change = found.value("fvu").unwrap().delta.clone().unwrap();
    assert!((change.value - 0.15).abs() < 1e-12);
    assert!(change.interval.unwrap().low > 0.05);
    let mut exact = frozen();
    exact.fits[0].iter_mut().for_each(|fit| fit[0] = 0.0);
    let found = through("dictionary_fvu", &dictionaries(exact));
    assert!(found.value("fvu_ratio").unwrap().why.is_some());
}

#[test]
fn a_loss_moves_the_losses_alone() {
    let mut worse = frozen();
    worse.losses = Ok([sums(9.5), sums(11.5)]);
    assert_eq!(moved(worse.clone()), ["ce_recovered", "kl_score"]);
    let found = through("dictionary_ce", &dictionaries(worse));
    let value = found.value("ce_recovered").unwrap();
    assert!((value.value.unwrap() - 0.65).abs() < 1e-12);
    assert!((value.delta.as_ref().unwrap().value + 0.2).abs() < 1e-12);
    let mut harmless = frozen();
    let unharmed = ContextSums {
        ce: [8.0, 9.0, 8.0],
        ..sums(9.0)[0]
    };
    harmless.losses = Ok([sums(9.0), vec![unharmed; TEXTS]]);
    let found = through("dictionary_ce", &dictionaries(harmless));
    assert!(found.value("ce_recovered").unwrap().value.is_none());
    assert!((number(&found, "kl_score") - 0.9).abs() < 1e-12);
}

#[test]
fn latents_that_die_and_are_born_are_counted_and_listed() {
    // Latent 0 falls silent here, latent 3 fires in two rows of each text.
    let mut found = frozen();
    found.counts = counts(|model, text, row, latent| match (model, latent) {
        (1, 0) => false,
        (1, 3) => row < 2,
        _ => as_ever(model, text, row, latent),
    });
    let all = ["births", "deaths", "tested_crossings", "shifted", "changed"];
    assert_eq!(moved(found.clone()), all);
    let crossings = through("latent_crossings", &dictionaries(found.clone()));
    // Four latents are alive on either: 0 died (60 to 0), 3 was born (0 to 120).
    for name in ["births", "deaths"] {
        assert_eq!(number(&crossings, name), 0.25);
    }
    assert_eq!(number(&crossings, "tested_crossings"), 0.5);
    let listed: Vec<_> = crossings
        .items
        .iter()
        .map(|i| (i.id.as_str(), i.label.as_str()))
        .collect();
    assert_eq!(listed, [("latent 3", "born"), ("latent 0", "died")]);
    let density = through("latent_density", &dictionaries(found));
    assert_eq!(
        (number(&density, "shifted"), number(&density, "changed")),
        (0.5, 0.5)
    );
    let null = density.value("shifted").unwrap().null.clone().unwrap();
    assert!(
        null.n == 40 && null.p.unwrap() < 0.05 && null.mean < 0.25,
        "{null:?}"
    );
}

#[test]
fn a_latent_that_fires_more_often_is_no_birth() {
    let mut found = frozen();
    found.counts = counts(|model, text, row, latent| {
        as_ever(model, text, row, latent) || (model == 1 && latent == 0 && row < 3)
    });
    assert_eq!(moved(found), ["shifted", "changed"]);
}

#[test]
fn few_firings_are_no_life() {
    // Seven firings in 48 tokens: below the least that counts, whatever the share.
    let mut found = frozen();
    found.counts = counts(|model, text, row, latent| {
        as_ever(model, text, row, latent) || (model == 1 && latent == 3 && row == 0 && text < 7)
    });
    assert!(moved(found.clone()).is_empty());
    found.tokens = 8_000_000;
    assert!((found.floors().alive - 1e-5).abs() < 1e-18);
}

#[test]
fn turns_of_a_refit_are_ranked_by_their_excess() {
    let turn = |latent: usize, here: f64, control: Option<f64>| Turn {
        latent,
        here,
        control,
    };
    let of = |turns: Vec<Turn>| {
        let mut all = dictionaries(frozen());
        all.turned = Ok(Turned {
            turns,
            without_row: 1,
        });
        through("decoder_rotation", &all)
    };
    let found = of(vec![
        turn(0, 0.5, Some(0.5)),
        turn(1, 0.3, Some(0.1)),
        turn(3, 0.1, Some(0.1)),
    ]);
    assert_eq!(
        (
            number(&found, "median_turn"),
            number(&found, "largest_turns")
        ),
        (0.3, 0.5)
    );
    assert_eq!(number(&found, "median_excess"), 0.0);
    assert!((number(&found, "largest_excesses") - 0.2).abs() < 1e-12);
    assert_eq!(found.items[0].id, "latent 1");
    assert_eq!(found.findings.len(), 1);
    let alone = of(vec![turn(0, 0.5, None), turn(1, 0.3, None)]);
    let why = alone.value("median_excess").unwrap().why.clone().unwrap();
    assert!(why.contains("--refit-control"), "{why}");
    assert_eq!(alone.items[0].id, "latent 0");
    assert_eq!(verdict(alone).0, Verdict::Pass);
}

#[test]
fn new_latents_are_those_that_scaling_does_not_find() {
    let latent = |latent: usize, class: Class, presence: Presence, fired: u64| CrossLatent {
        pair: DecoderPair {
            latent,
            norms: [0.0, 1.0],
            relative: Some(1.0),
            cosine: None,
            class,
        },
        density: 0.1,
        scaled: Scaled {
            latent,
            fired,
            owner: 1,
            beta_error: None,
            beta_rebuilt: None,
            nu_error: Some(0.1),
            nu_rebuilt: Some(0.1),
        },
        presence,
        examples: Vec::new(),
    };
    let mut all = dictionaries(frozen());
    all.crossed = Ok(Crossed {
        tokens: 48,
        limit: 0.2,
        latents: vec![
            latent(7, Class::OnlySecond, Presence::New, 5),
            latent(8, Class::OnlySecond, Presence::Shrunk, 5),
            latent(9, Class::Shared, Presence::New, 5),
            latent(1, Class::Shared, Presence::Shrunk, 5),
            latent(2, Class::OnlySecond, Presence::New, 0),
        ],
    });
    let found = through("new_latents", &all);
    assert_eq!(
        (number(&found, "new_share"), number(&found, "own_share")),
        (0.25, 0.5)
    );
    // Wilson of 1 in 4.
    let (low, high) = ends(&found, "new_share");
    assert!(
        (low - 0.045_587).abs() < 1e-5 && (high - 0.699_358).abs() < 1e-5,
        "{low} {high}"
    );
    let listed: Vec<_> = found
        .items
        .iter()
        .map(|i| (i.id.as_str(), i.label.as_str()))
        .collect();
    assert_eq!(listed, [("latent 7", "new"), ("latent 8", "own")]);
}
