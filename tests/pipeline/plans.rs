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

#[test]
fn a_dictionary_stage_says_all_that_its_training_needs_and_no_more() {
    let (options, rest) = (
        "options = { reads = ['resid_post.0'], d_sae = 8, architecture = { kind = 'top-k', k = 2 } }",
        "data = { path = 'a.txt' }\nschedule = { rows = 4096, batch = 64 }",
    );
    let sae = |lines: &str| {
        format!("name = 'p'\n{STAGE}[[stage]]\nname = 'sae'\nmethod = 'dictionary'\n{lines}\n")
    };
    let whole = sae(&format!("from = 'a'\n{options}\n{rest}"));
    let plan = Plan::parse("plan.toml", &whole).unwrap();
    assert!(plan.stages[1].is_dictionary() && !plan.stages[1].is_policy());
    for (lines, said) in [
        (format!("{options}\n{rest}"), "`from` with an earlier stage"),
        (
            format!("from = 'a'\nmodel = {{ name = 'toy' }}\n{options}\n{rest}"),
            "not both",
        ),
        (
            format!("from = 'b'\n{options}\n{rest}"),
            "made by no stage before it",
        ),
        (format!("from = 'a'\n{rest}"), "missing field `reads`"),
        (format!("from = 'a'\n{options}"), "missing field `data`"),
        (
            format!("from = 'a'\nbaseline = 'a'\n{options}\n{rest}"),
            "is not audited",
        ),
        (
            format!("from = 'a'\noptim = {{ lr = 1.0 }}\n{options}\n{rest}"),
            "`optim`",
        ),
        (
            format!("from = 'a'\n{}\n{rest}", options.replace("d_sae", "width")),
            "width",
        ),
        (
            format!("from = 'a'\n{options}\n{}", rest.replace("4096", "63")),
            "at least one batch",
        ),
        (
            format!(
                "from = 'a'\n{options}\n{}",
                rest.replace("'a.txt'", "'@world/a.txt'")
            ),
            "@world/a.txt",
        ),
    ] {
        let error = refused(&sae(&lines));
        assert!(
            error.contains("stage `sae`") && error.contains(said),
            "{lines}: {error}"
        );
    }
    // It is no model: nothing begins with it, is paired with it or names it.
    for more in [
        "method = 'dpo'\nfrom = 'sae'",
        "method = 'dpo'\nfrom = 'a'\nbaseline = 'sae'",
        "method = 'ppo'\nfrom = 'a'\noptions = { reward = { models = ['@sae'] } }",
    ] {
        let error = refused(&format!("{whole}[[stage]]\nname = 'b'\n{more}\n"));
        assert!(
            error.contains("stage `b`") && error.contains("there are: a)"),
            "{error}"
        );
    }
    // A reward model says no next token.
    let rm = "[[stage]]\nname = 'rm'\nmethod = 'rm'\nfrom = 'a'\n";
    let on = whole.replace(
        "[[stage]]\nname = 'sae'",
        &format!("{rm}[[stage]]\nname = 'sae'"),
    );
    let error = refused(&on.replace("from = 'a'\noptions", "from = 'rm'\noptions"));
    assert!(error.contains("a model that answers"), "{error}");
    // What audits read through.
    let store = whole.replace("path = 'a.txt'", "store = 'a'");
    for (plan, audit, said) in [
        (&whole, "dictionary = 'a'", "stage `a` by `sft`"),
        (&whole, "refit = 64", "`audit.dictionary` with a stage"),
        (&whole, "dictionary = 'file'\nrefit = 64", "found file"),
        (
            &whole,
            "dictionary = 'sae'\nrefit = 63",
            "the 64 tokens of a step",
        ),
        (
            &store,
            "dictionary = 'sae'\nrefit = 64",
            "the rows of one model alone",
        ),
    ] {
        let error =
            refused(&plan.replace("name = 'p'\n", &format!("name = 'p'\n[audit]\n{audit}\n")));
        assert!(error.contains(said), "{audit}: {error}");
    }
    let audits = "name = 'p'\n[audit]\ndictionary = 'sae'\nrefit = 64\n";
    let plan = Plan::parse("plan.toml", &whole.replace("name = 'p'\n", audits)).unwrap();
    let again = Plan::parse("again", &plan.to_toml().unwrap()).unwrap();
    assert_eq!(plan, again);
}
