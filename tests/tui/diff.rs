//! The diff on toys of two seeds, so that every number has a twin in the library.

use candlescope::compare::{parting, token_changes, weight_changes};
use candlescope::model::Checkpoint;
use candlescope::tui::app::Msg;
use candlescope::tui::script::Stage;
use candlescope::tui::shared::Prompt;
use candlescope::tui::theme::Theme;

use super::runs::{close, command, rows, run, text};
use super::{press, shown};

#[test]
fn the_diff_says_what_the_library_says() {
    let mut stage = shown("diff", Theme::dark(), (120, 40));
    let (a, b) = (Checkpoint::toy(1).unwrap(), Checkpoint::toy(0).unwrap());
    let ids = stage.runtime.app.shared.prompt.encode(&b).unwrap();
    let mut go_on = |_: usize, _: usize| std::ops::ControlFlow::Continue(());
    let weights = weight_changes(&a.decoder, &b.decoder, &mut go_on).unwrap();
    let tokens = token_changes(&a.decoder, &b.decoder, &ids).unwrap();
    let parted = parting(&a.decoder, &b.decoder, &ids, 48, &b.stop_ids()).unwrap();
    let part = |stage: &Stage, name: &str| -> Vec<Vec<String>> {
        rows(stage)
            .into_iter()
            .filter(|row| row[0] == name)
            .collect()
    };
    let found = part(&stage, "weights");
    assert_eq!(found.len(), weights.len());
    for (row, change) in found.iter().zip(&weights) {
        assert_eq!(row[1], change.name());
        close(&row[2], change.relative);
    }
    let found = part(&stage, "tokens");
    assert_eq!(found.len(), ids.len());
    for (row, token) in found.iter().zip(&tokens) {
        close(&row[2], token.kl);
        close(&row[5], token.top[0].probability);
        close(&row[7], token.top[1].probability);
    }
    let fork = parted.fork.unwrap();
    let found = &part(&stage, "answers")[0];
    assert_eq!(found[2], fork.at.to_string());
    close(&found[5], fork.probabilities[0][0]);
    close(&found[7], fork.probabilities[1][1]);
    let said = text(&stage);
    assert!(
        said.contains("from toy:1 to toy") && said.contains("They part at token"),
        "{said}"
    );
    // Swapped, the answers change places.
    press(&mut stage, "s");
    close(&part(&stage, "answers")[0][5], fork.probabilities[1][1]);
    assert!(text(&stage).contains("from toy to toy:1"));
    // Another prompt is compared at once; the weights are known already.
    press(&mut stage, "p");
    stage.line("type the red house by", ".".as_ref()).unwrap();
    press(&mut stage, "enter");
    let ids = Prompt::user("the red house by").encode(&b).unwrap();
    let tokens = token_changes(&b.decoder, &a.decoder, &ids).unwrap();
    close(&part(&stage, "tokens")[0][2], tokens[0].kl);
    assert_eq!(part(&stage, "weights").len(), weights.len());
}

#[test]
fn a_model_beside_itself_has_no_diff() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    command(&mut stage, "beside toy");
    let all = rows(&stage);
    let changed = |row: &&Vec<String>| row[0] != "answers" && row[2] != "0.0";
    assert_eq!(all.iter().find(changed), None);
    assert!(
        all.iter()
            .any(|row| row[0] == "answers" && row[2].is_empty())
    );
    assert!(
        text(&stage).contains("Both answer with the same tokens"),
        "{}",
        text(&stage)
    );
}

#[test]
fn the_diff_reads_a_dictionary_and_the_checkpoints_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = shown("diff", Theme::dark(), (120, 40));
    assert!(text(&stage).contains("No dictionary is at hand"));
    let model = stage
        .runtime
        .app
        .shared
        .model
        .facts()
        .unwrap()
        .checkpoint
        .clone();
    let dictionary = super::features::made(&model, dir.path());
    command(&mut stage, &format!("latents {dictionary}"));
    let said = text(&stage);
    assert!(
        said.contains("fire in both") && said.contains("gained"),
        "{said}"
    );
    let crossed = rows(&stage)
        .iter()
        .filter(|row| row[0] == "latents")
        .count();
    assert!(crossed > 0);
    command(&mut stage, "latents no/such/dictionary");
    assert!(text(&stage).contains("no/such/dictionary"));
    press(&mut stage, ".");
    assert!(text(&stage).contains("no run is open"));
    let run = run(dir.path(), &[2, 0]);
    command(&mut stage, &format!("checkpoints {}", run.display()));
    press(&mut stage, "' d . enter");
    assert!(
        text(&stage).contains("from step 10 to toy"),
        "{}",
        text(&stage)
    );
    // The run's last checkpoint is the open model in other files.
    press(&mut stage, ". enter");
    assert!(
        text(&stage).contains("Both answer with the same tokens"),
        "{}",
        text(&stage)
    );
}

#[test]
fn a_model_that_cannot_be_opened_beside_the_open_one_is_named_and_leaving_stops_the_work() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    command(&mut stage, "beside no/such/model");
    let said = text(&stage);
    assert!(said.contains("no/such/model"), "{said}");
    stage.runtime.take(Msg::Command("beside toy:3".into()));
    stage.runtime.app.go("hooks");
    stage.wait().unwrap();
    assert!(stage.runtime.app.pending.is_empty());
    press(&mut stage, "' d");
    assert!(
        !text(&stage).contains("being compared (esc stops it)"),
        "{}",
        text(&stage)
    );
}
