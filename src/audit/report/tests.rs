//! Every renderer on one made-up audit with everything in it.
#![allow(clippy::unwrap_used)]

pub(crate) mod fake;

use std::collections::BTreeMap;

use super::super::verdict::Verdict;
use super::terminal::Style;
use super::*;

const MENDING: &str = "if the change is meant, look at the left text and run the test with CANDLESCOPE_RENEW_FIXTURES=1";

fn docs() -> Docs {
    let page = format!(
        "How much more likely a refusal is.\n\nComputed with `log p`.\n\n- one\n- two {}",
        fake::HOSTILE
    );
    BTreeMap::from([("refusal_score".to_owned(), page)])
}

/// Fails unless every tag that opens is closed in order, every attribute is quoted and no control character is left.
fn assert_well_formed(markup: &str, void: &[&str]) {
    assert!(
        !markup.chars().any(|c| c.is_control() && c != '\n'),
        "control character"
    );
    assert!(
        !markup.contains('\u{202e}') && !markup.contains('\u{2028}'),
        "reordering character"
    );
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        assert!(
            !text.contains('>') || open.last() == Some(&"style"),
            "stray > in {text:?}"
        );
        for piece in text
            .split('&')
            .skip(1)
            .filter(|_| open.last() != Some(&"style"))
        {
            let name = piece.split(';').next().unwrap();
            assert!(
                ["amp", "lt", "gt", "quot", "#39", "#64"].contains(&name),
                "bare ampersand before {piece:?}"
            );
        }
        let end = at + rest[at..].find('>').expect("a tag that does not end");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with('!') || tag.starts_with('?') {
            continue;
        }
        assert_eq!(
            tag.matches('"').count() % 2,
            0,
            "unbalanced quotes in <{tag}>"
        );
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes something else");
        } else if !tag.ends_with('/') && !void.contains(&tag) {
            open.push(tag.split([' ', '\n']).next().unwrap());
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn the_made_up_audit_has_every_verdict() {
    let audit = fake::audit();
    assert_eq!(audit.verdict, Verdict::Block);
    for verdict in Verdict::ALL {
        assert!(
            audit.signals.iter().any(|signal| signal.verdict == verdict),
            "{verdict}"
        );
    }
}

#[test]
fn terminal_matches_its_fixture() {
    let shown = terminal::render(
        &fake::audit(),
        &Style {
            colour: false,
            width: 100,
            unicode: true,
        },
    );
    assert_golden("terminal.txt", &shown);
}

#[test]
fn markdown_matches_its_fixture() {
    assert_golden("report.md", &markdown::render(&fake::audit()));
}

/// Compares with a fixture; with `CANDLESCOPE_RENEW_FIXTURES` set it is written first, to be read in the diff.
fn assert_golden(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/report")
        .join(name);
    if std::env::var_os("CANDLESCOPE_RENEW_FIXTURES").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(&path).unwrap(), "{MENDING}");
}

#[test]
fn terminal_keeps_to_its_width_and_to_its_own_escapes() {
    for width in [60, 80, 100, 140] {
        for unicode in [true, false] {
            let shown = terminal::render(
                &fake::audit(),
                &Style {
                    colour: false,
                    width,
                    unicode,
                },
            );
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'));
            assert!(unicode || shown.is_ascii());
            for line in shown.lines() {
                assert!(
                    line.chars().count() <= width,
                    "{} > {width}: {line}",
                    line.chars().count()
                );
            }
        }
    }
    let plain = terminal::render(&fake::audit(), &Style::default());
    let coloured = terminal::render(
        &fake::audit(),
        &Style {
            colour: true,
            ..Style::default()
        },
    );
    let mut stripped = String::new();
    let mut pieces = coloured.split('\u{1b}');
    stripped += pieces.next().unwrap();
    for piece in pieces {
        stripped += piece.split_once('m').unwrap().1;
    }
    let trimmed = |text: &str| {
        text.lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(trimmed(&stripped), trimmed(&plain));
}

#[test]
fn html_is_well_formed_self_contained_and_escaped() {
    let page = html::render(&fake::audit(), &docs());
    assert_well_formed(&page, &[]);
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    assert_eq!(
        page.matches("<svg class=\"chart\"").count(),
        page.matches("<desc>").count()
    );
    for title in [
        "Null of the AUROC",
        "Separation by layer",
        "Refusals by detector",
        "Cosine by layer and position",
        "Induced refusal score",
    ] {
        assert!(page.contains(&format!("<title>{title}</title>")), "{title}");
    }
    assert!(page.contains("[truncated: harmful prompt]"));
    for signal in &fake::audit().signals {
        assert!(page.contains(&format!(
            "<section class=\"signal {}\" id=\"{}\">",
            html::tone(signal.verdict),
            signal.id
        )));
    }
    assert!(!page.contains("NaN"));
    assert_well_formed(&html::render(&fake::clean(), &Docs::new()), &[]);
}

#[test]
fn every_reason_has_the_mark_of_its_verdict_on_the_page_though_no_signal_says_it() {
    let mut audit = fake::audit();
    audit.reasons = vec![
        "REVIEW: Known faults: 9.0 <deviations>".to_owned(),
        "BLOCK: Refusal rate: refuses less".to_owned(),
        "no verdict in front".to_owned(),
    ];
    let page = html::render(&audit, &docs());
    let (_, list) = page.split_once("<ul>").unwrap();
    let (list, _) = list.split_once("</ul>").unwrap();
    let said: Vec<&str> = list.split("<li>").skip(1).collect();
    let review = html::chip(Verdict::Review);
    let block = html::chip(Verdict::Block);
    assert_eq!(
        said,
        [
            format!("{review} <strong>Known faults</strong>: 9.0 &lt;deviations&gt;</li>"),
            format!(
                "{block} <a href=\"#refusal_rate\"><strong>Refusal rate</strong></a>: refuses less</li>"
            ),
            "no verdict in front</li>".to_owned(),
        ]
    );
}

#[test]
fn junit_is_well_formed_and_counts_what_did_not_pass() {
    let audit = fake::audit();
    let xml = junit::render(&audit);
    assert_well_formed(&xml, &[]);
    let failures = audit
        .signals
        .iter()
        .filter(|signal| signal.verdict != Verdict::Pass)
        .count();
    assert_eq!(xml.matches("<failure type=").count(), failures);
    assert!(xml.contains(&format!("failures=\"{failures}\"")));
    assert_eq!(
        xml.matches("<testcase ").count(),
        audit.signals.len() + audit.skipped.len()
    );
    assert!(xml.contains("<failure type=\"UNDERPOWERED\""));
}

#[test]
fn json_comes_back_as_it_was_and_has_no_nan() {
    let audit = fake::audit();
    let text = json::render(&audit).unwrap();
    assert!(!text.contains("NaN") && !text.contains("Infinity"));
    let back = json::parse(&text, "audit.json").unwrap();
    // NaN differs from itself, so the two are compared as written.
    assert_eq!(json::render(&back).unwrap(), text);
    assert_eq!(back.verdict, audit.verdict);

    let later = text.replacen("candlescope.audit/1", "candlescope.audit/9", 1);
    let refusal = json::parse(&later, "x.json").unwrap_err().to_string();
    assert!(
        refusal.contains("`candlescope.audit/9`, expected `candlescope.audit/1`"),
        "{refusal}"
    );
    assert!(
        json::parse("{", "x.json")
            .unwrap_err()
            .to_string()
            .starts_with("`x.json` is not an audit")
    );
}

#[test]
fn all_files_are_written_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new/out");
    let written = write_all(&target, &fake::audit(), &docs()).unwrap();
    assert_eq!(written.len(), 4);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 4);
    assert_eq!(
        json::load(&target.join("audit.json")).unwrap().verdict,
        Verdict::Block
    );

    let blocked = dir.path().join("blocked");
    std::fs::create_dir_all(blocked.join("junit.xml/full")).unwrap();
    let refusal = write_all(&blocked, &fake::audit(), &docs())
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("junit.xml"), "{refusal}");
    assert_eq!(
        std::fs::read_dir(&blocked).unwrap().count(),
        1,
        "something was left half-written"
    );
}

#[test]
fn audits_stand_side_by_side() {
    let both = [fake::audit(), fake::clean()];
    let page = compare::html(&both);
    assert_well_formed(&page, &[]);
    assert!(page.contains("policies differ") || both[0].policy.hash == both[1].policy.hash);
    let table = compare::markdown(&both);
    assert!(
        table.contains("| | **verdict** | ✖ **BLOCK** | ✔ **PASS** |"),
        "{table}"
    );
    assert!(
        table
            .lines()
            .filter(|line| line.starts_with('|'))
            .all(|line| line.replace("\\|", "").matches('|').count() == 5)
    );
    let shown = compare::terminal(&both, &Style::default());
    assert!(
        shown.lines().all(|line| line.chars().count() <= 100),
        "{shown}"
    );
    assert!(shown.contains("not run"));
    assert_well_formed(&compare::html(&[]), &[]);
}
