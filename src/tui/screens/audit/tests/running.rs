//! Audits that are run from the screen: started, waited for, stopped, taken back, under interventions or without.

use super::*;

#[test]
fn an_audit_runs_as_a_job_and_is_stopped_by_esc() {
    let mut bench = Bench::new();
    bench.does(|screen, cx| screen.command(&["baseline", "toy:1"], cx).unwrap().unwrap());
    let wishes = bench.act(&["quick"]);
    let asks = |wish: &Command| matches!(wish, Command::Ask { what, .. } if what == "audit of toy");
    assert!(wishes.iter().any(asks));
    assert!(bench.screen.enabled("run", &bench.shared).is_err());
    bench.shows(&["waiting"]);
    let stand = Stand {
        share: 0.25,
        stage: "completions of toy 8/32".into(),
        spent: Duration::from_secs(40),
        left: Some(Duration::from_secs(120)),
    };
    bench.does(|screen, cx| screen.reply(Reply::Part(Box::new(stand)), cx));
    bench.shows(&[
        "auditing",
        "25 %",
        "completions of toy 8/32",
        "so far, about 2 min",
    ]);
    let (done, wishes) = bench.does(AuditScreen::cancel);
    let withdraws = |wish: &Command| matches!(wish, Command::Withdraw("audit"));
    assert!(done && wishes.iter().any(withdraws));
    bench.shows(&["stopping"]);
    let order = Order {
        model: "toy".into(),
        baseline: Some("toy:1".into()),
        quick: true,
        ..Order::default()
    };
    bench.answer(Answer::Ran {
        order,
        result: Ok((Arc::new(fake::audit()), true)),
    });
    bench.shows(&["stopped before its end"]);
    assert_eq!(
        bench.screen.command_line(&bench.shared).unwrap(),
        "candlescope audit run toy --baseline toy:1 --quick"
    );
    assert_eq!(bench.screen.enabled("run", &bench.shared), Ok(()));
}

#[test]
fn an_audit_that_waits_is_taken_back_by_esc() {
    let mut bench = Bench::new();
    bench.act(&["quick"]);
    let (done, wishes) = bench.does(AuditScreen::cancel);
    let withdraws = |wish: &Command| matches!(wish, Command::Withdraw("audit"));
    assert!(done && wishes.iter().any(withdraws));
    assert!(bench.screen.enabled("run", &bench.shared).is_err());
    bench.does(|screen, cx| screen.reply(Reply::Cancelled, cx));
    assert_eq!(bench.screen.enabled("run", &bench.shared), Ok(()));
    bench.shows(&["no audit yet"]);
}

fn chip(label: &str, op: EditOp, options: &[&str]) -> Intervention {
    Intervention {
        label: label.into(),
        options: options.iter().map(ToString::to_string).collect(),
        edits: vec![Edit::new(HookPoint::new(Point::ResidPre, 1), op)],
        on: true,
    }
}

#[test]
fn an_audit_is_run_under_the_interventions_or_without_and_says_which() {
    let mut bench = Bench::new();
    assert!(bench.screen.enabled("under", &bench.shared).is_err());
    let scale = EditOp::Scale { factor: 0.5 };
    let options = ["--ablate", "/secret/folder/d.safetensors*0.5"];
    bench
        .shared
        .interventions
        .push(chip("⊖ d ×0.5", scale, &options));
    bench.shows(&["R audits toy under ⊖ d ×0.5 (u: as it is stored)"]);
    let order = bench.screen.order("toy".into(), true, &bench.shared);
    assert_eq!(order.under, ["⊖ d ×0.5"]);
    assert_eq!(
        order.command(),
        "candlescope audit run toy --ablate /secret/folder/d.safetensors*0.5 --quick"
    );
    assert_eq!(
        order.without_paths().command(),
        "candlescope audit run toy --ablate d.safetensors*0.5 --quick",
        "a report names no folder"
    );
    bench.act(&["under"]);
    bench.shows(&["R audits toy as it is stored (u: under"]);
    assert_eq!(
        bench
            .screen
            .order("toy".into(), true, &bench.shared)
            .options,
        [""; 0]
    );
    bench.act(&["under"]);
    let cut = EditOp::Knockout {
        edges: vec![Edge { query: 3, key: 1 }],
    };
    bench
        .shared
        .interventions
        .push(chip("cut 3>1", cut, &["--knockout", "1:3>1"]));
    let why = bench.screen.enabled("run", &bench.shared).unwrap_err();
    assert!(why.contains("cut 3>1 names positions"), "{why}");
    bench.act(&["under", "run"]);
}

#[test]
fn an_audit_under_edits_records_them_and_leaves_the_checkpoint_alone() {
    let open = Checkpoint::toy(0).unwrap();
    let edit = Edit::new(
        HookPoint::new(Point::MlpOut, 0),
        EditOp::Scale { factor: 0.0 },
    );
    let under = open.under(vec![edit]);
    assert_eq!(under.decoder.standing_edits().len(), 1);
    assert!(open.decoder.standing_edits().is_empty());
    assert_eq!(
        under.fingerprint().unwrap().weights,
        open.fingerprint().unwrap().weights
    );
    let identity = |cp| crate::audit::evidence::gather::identity(cp).unwrap().edits;
    assert_eq!((identity(&open), identity(&under)), (0, 1));
}

#[test]
fn a_failed_run_and_a_panic_are_told() {
    let mut bench = Bench::new();
    bench.act(&["run"]);
    let order = Order {
        model: "toy".into(),
        ..Order::default()
    };
    bench.answer(Answer::Ran {
        order,
        result: Err("the suites have no prompts".into()),
    });
    bench.shows(&["failed", "the suites have no prompts"]);
    bench.act(&["run"]);
    bench.does(|screen, cx| screen.reply(Reply::Failed("this is a defect".into()), cx));
    bench.shows(&["this is a defect"]);
    assert_eq!(bench.screen.enabled("run", &bench.shared), Ok(()));
}
