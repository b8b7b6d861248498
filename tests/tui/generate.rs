//! Generate on the toy model: what is shown is what the command it copies would generate.

use candlescope::hooks::Hooks;
use candlescope::model::Checkpoint;
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::sample::SampleOptions;
use candlescope::steer::{Options, Steering};
use candlescope::tui::script::Stage;
use candlescope::tui::theme::Theme;

use super::{press, shown};

/// Ids of the first branch of a side, `edited` or `unedited`.
fn ids(stage: &Stage, side: &str) -> Vec<u32> {
    let app = &stage.runtime.app;
    let rows = app.screen().data(&app.shared).unwrap().rows;
    rows.iter()
        .filter(|row| row[0] == side && row[1] == "0")
        .map(|row| row[3].parse().unwrap())
        .collect()
}

/// What the library generates with the options that the chips carry.
fn generated(stage: &Stage, sample: SampleOptions, edited: bool) -> Vec<u32> {
    let toy = Checkpoint::toy(0).unwrap();
    let shared = &stage.runtime.app.shared;
    let prompt: Vec<u32> = shared.tokens.iter().map(|token| token.id).collect();
    let mut hooks = Hooks::new();
    for chip in shared.interventions.iter().filter(|_| edited) {
        let steering = Steering::from_option(&chip.options).unwrap();
        let vector = steering
            .source
            .load(&toy, false, &Options::default())
            .unwrap();
        hooks = hooks.edits(steering.edits(&vector, toy.config()).unwrap());
    }
    let options = GenerateOptions {
        max_new: 20,
        sample,
        stop: toy.stop_ids(),
    };
    let out = generate(&toy.decoder, &[&prompt], &options, &hooks, &mut |_, _| {
        Continue::Yes
    });
    out.unwrap().remove(0).ids
}

#[test]
fn what_is_shown_is_what_the_copied_command_generates() {
    let mut stage = shown("generate", Theme::dark(), (100, 30));
    for line in ["type :max 20", "enter", "t t", "S S S"] {
        press(&mut stage, line);
    }
    let sample = SampleOptions {
        temperature: 1.0,
        seed: 3,
        ..SampleOptions::default()
    };
    assert_eq!(ids(&stage, "unedited"), generated(&stage, sample, false));
    // An addition and an ablation, both dosed while they are being computed, held and gone on with.
    press(&mut stage, "a j enter");
    stage.line("> > . .", ".".as_ref()).unwrap();
    stage.line("space space", ".".as_ref()).unwrap();
    press(&mut stage, ",");
    press(&mut stage, "a h enter");
    press(&mut stage, ", , ,");
    let edited = ids(&stage, "edited");
    assert_eq!(edited, generated(&stage, sample, true));
    assert_ne!(edited, ids(&stage, "unedited"));
    assert_eq!(ids(&stage, "unedited"), generated(&stage, sample, false));
    let app = &stage.runtime.app;
    let line = app.screen().command_line(&app.shared).unwrap();
    assert!(
        line.contains("--seed 3 --add contrast:2@2*") && line.ends_with("*0.7 --compare"),
        "{line}"
    );
}

#[test]
fn rewound_it_says_the_same_again_and_a_branch_says_something_else() {
    let mut stage = shown("generate", Theme::dark(), (100, 30));
    press(&mut stage, "type :max 20");
    press(&mut stage, "enter");
    let before = ids(&stage, "unedited");
    press(&mut stage, "g l l l r");
    assert_eq!(ids(&stage, "unedited"), before[..3]);
    press(&mut stage, "space");
    assert_eq!(ids(&stage, "unedited"), before);
    press(&mut stage, "g l l b 1");
    assert_eq!(ids(&stage, "unedited"), before, "the trunk is left alone");
    let app = &stage.runtime.app;
    let rows = app.screen().data(&app.shared).unwrap().rows;
    let branch: Vec<&Vec<String>> = rows.iter().filter(|row| row[1] == "1").collect();
    assert_eq!(branch.len(), 20);
    assert_eq!(branch[2][6], "true");
    assert_ne!(branch[2][3], before[2].to_string());
}
