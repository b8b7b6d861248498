//! Plans that cannot be carried out are refused by name, before anything runs.

use candlescope::pipeline::Plan;

const STAGE: &str = "[[stage]]\nname = 'a'\nmethod = 'sft'\nmodel = { name = 'toy' }\n";

fn refused(text: &str) -> String {
    Plan::parse("plan.toml", text).unwrap_err().to_string()
}

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let more =
        "[[stage]]\nname = 'b'\nmethod = 'dpo'\nfrom = 'a'\noptions = { loss = 'ipo_mean' }\n";
    let text = format!("name = 'p'\nseed = 3\n[audit]\non_block = 'halt'\n{STAGE}{more}");
    let plan = Plan::parse("plan.toml", &text).unwrap();
    let again = Plan::parse("again", &plan.to_toml().unwrap()).unwrap();
    assert_eq!(plan, again);
    assert_eq!(plan.stages.len(), 2);
}

#[test]
fn what_no_stage_makes_is_named() {
    let stage =
        |from: &str| format!("name = 'p'\n{STAGE}[[stage]]\nname = 'b'\nmethod = 'ppo'\n{from}\n");
    let error = refused(&stage("from = 'c'"));
    assert!(
        error.contains("`from` names `c`") && error.contains("there are: a"),
        "{error}"
    );
    let error = refused(&stage(
        "from = 'a'\noptions = { reward = { models = ['@rm'] } }",
    ));
    assert!(
        error.contains("options.reward.models") && error.contains("`@rm`"),
        "{error}"
    );
    let error = refused(&stage("from = 'a'\ndata = { train = ['@world/x.jsonl'] }"));
    assert!(error.contains("@world/x.jsonl"), "{error}");
    // A stage cannot name itself or what comes after it.
    let error = refused(&stage("from = 'b'"));
    assert!(error.contains("made by no stage before it"), "{error}");
    let error = refused(&stage(
        "from = 'a'\ndata = { train = ['@a/../../x.jsonl'] }",
    ));
    assert!(error.contains("below what is named"), "{error}");
}

#[test]
fn what_means_nothing_is_named() {
    for (text, said) in [
        ("name = 'p'\nstage = []\n", "1 to 64 stages"),
        ("name = 'p'\nstages = []\n", "unknown field"),
        (
            "name = 'p'\n[[stage]]\nname = 'a'\nmethod = 'grpo'\nmodel = { name = 'toy' }\n",
            "one of sft, rm",
        ),
        (
            "name = 'p'\n[[stage]]\nname = 'a/b'\nmethod = 'sft'\nmodel = { name = 'toy' }\n",
            "letters, digits",
        ),
        (
            "name = 'p'\n[[stage]]\nname = 'world'\nmethod = 'sft'\nmodel = { name = 'toy' }\n",
            "not `world`",
        ),
        (
            "name = 'p'\n[[stage]]\nname = 'a'\nmethod = 'sft'\n",
            "`from`",
        ),
        ("name = 'p'\n[audit]\non_block = 'panic'\n", "on_block"),
        (
            "name = 'p'\n[[stage]]\nname = 'a'\nmethod = 'edit'\nmodel = { name = 'toy' }\n",
            "the stage whose model is edited",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(said), "{text}: {error}");
    }
    for (edit, said) in [
        ("options = { kind = 'broken' }", "unknown variant `broken`"),
        ("options = { strength = 1.0 }", "missing field `kind`"),
        (
            "options = { kind = 'quantised', strength = 0.0 }",
            "above 0 and at most 1",
        ),
        (
            "options = { kind = 'quantised', dose = 1.0 }",
            "unknown field `dose`",
        ),
        (
            "options = { kind = 'quantised' }\noptim = { lr = 1.0 }",
            "[stage.options] alone",
        ),
    ] {
        let text = format!(
            "name = 'p'\n{STAGE}[[stage]]\nname = 'b'\nmethod = 'edit'\nfrom = 'a'\n{edit}\n"
        );
        let error = refused(&text);
        assert!(
            error.contains("stage `b`") && error.contains(said),
            "{edit}: {error}"
        );
    }
    let twice = format!("name = 'p'\n{STAGE}{STAGE}");
    assert!(refused(&twice).contains("no other stage has"));
    let both = format!(
        "name = 'p'\n{STAGE}[[stage]]\nname = 'b'\nmethod = 'sft'\nfrom = 'a'\nmodel = {{ name = 'toy' }}\n"
    );
    assert!(refused(&both).contains("not both"));
}
