//! Several audits side by side: the same quantity in one row, one column for each audit.
//!
//! Always: the rows are those of any of the audits, so that what one lacks is seen; a warning says when policies or suites
//! differ, because then the numbers are not of one measure. No test is made here: a paired change needs `--baseline`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::measure::Value;
use super::super::result::{Audit, SignalResult};
use super::super::wording;
use super::html::{chip, head, tone};
use super::terminal::{Style, cut, paragraph};
use super::text::{escaped, markdown as safe};
use super::{draw, glyph};

/// One row: a quantity of a signal, with the column of each audit.
struct Row<'a> {
    signal: &'a str,
    title: &'a str,
    number: u32,
    name: &'a str,
    cells: Vec<Option<&'a Value>>,
}

fn rows(audits: &[Audit]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for one in signals(audits) {
        let mut names: Vec<&str> = Vec::new();
        for audit in audits {
            for value in audit
                .signal(&one.id)
                .map(|signal| signal.values.as_slice())
                .unwrap_or_default()
            {
                if !names.contains(&value.name.as_str()) {
                    names.push(&value.name);
                }
            }
        }
        rows.extend(names.into_iter().map(|name| {
            Row {
                signal: &one.id,
                title: &one.title,
                number: one.number,
                name,
                cells: audits
                    .iter()
                    .map(|audit| audit.signal(&one.id).and_then(|signal| signal.value(name)))
                    .collect(),
            }
        }));
    }
    rows
}

/// The signals that any audit has, by number.
fn signals(audits: &[Audit]) -> Vec<&SignalResult> {
    let all: BTreeMap<(u32, &str), &SignalResult> = audits
        .iter()
        .flat_map(|audit| &audit.signals)
        .map(|signal| ((signal.number, signal.id.as_str()), signal))
        .collect();
    all.into_values().collect()
}

/// What makes the columns hard to compare.
fn warnings(audits: &[Audit]) -> Vec<String> {
    let Some(first) = audits.first() else {
        return Vec::new();
    };
    let differs = |of: fn(&Audit) -> String| audits.iter().any(|audit| of(audit) != of(first));
    let mut warnings = Vec::new();
    for (what, of) in [
        (
            "policies differ, so verdicts follow different limits",
            (|audit: &Audit| audit.policy.hash.clone()) as fn(&Audit) -> String,
        ),
        (
            "prompt suites differ, so the numbers come from different prompts",
            |audit| {
                audit
                    .provenance
                    .suites
                    .iter()
                    .map(|suite| format!("{}{}{};", suite.name, suite.hash, suite.n))
                    .collect::<Vec<_>>()
                    .concat()
            },
        ),
        ("decoding differs", |audit| {
            audit.provenance.decoding.clone()
        }),
        ("seeds differ", |audit| audit.provenance.seed.to_string()),
        ("versions of candlescope differ", |audit| {
            audit.tool_version.clone()
        }),
    ] {
        if differs(of) {
            warnings.push(what.to_owned());
        }
    }
    warnings
}

/// One HTML page.
pub fn html(audits: &[Audit]) -> String {
    let mut out = head("candlescope audits side by side");
    out += "<header class=\"top\"><div><p class=\"eyebrow\">Checkpoint audits</p><h1>Side by side</h1></div></header><main>";
    for warning in warnings(audits) {
        let _ = write!(
            out,
            "<p class=\"warn\"><strong>Careful:</strong> {}.</p>",
            escaped(&warning)
        );
    }
    out += "<div class=\"cards\">";
    for audit in audits {
        let _ = write!(
            out,
            "<div class=\"card\"><p class=\"eyebrow\">{}</p><h2>{}</h2><div class=\"banner {}\" style=\"margin:0 0 12px;padding:10px 16px\"><div class=\"word\" style=\"font-size:22px\">{} {}</div></div><ul class=\"plain small\">",
            escaped(&format!(
                "{}, {} parameters",
                audit.subject.family,
                wording::parameters(audit.subject.n_params)
            )),
            escaped(&audit.subject.name),
            tone(audit.verdict),
            glyph(audit.verdict),
            audit.verdict.word()
        );
        for reason in &audit.reasons {
            let _ = write!(out, "<li>{}</li>", escaped(reason));
        }
        out += "</ul></div>";
    }
    out += "</div><h2>Verdicts</h2><div class=\"scroll\"><table><thead><tr><th class=\"r\">#</th><th>Signal</th>";
    let names: String = audits
        .iter()
        .map(|audit| format!("<th>{}</th>", escaped(&audit.subject.name)))
        .collect::<Vec<_>>()
        .concat();
    out += &names;
    out += "</tr></thead><tbody>";
    for one in signals(audits) {
        let _ = write!(
            out,
            "<tr><td class=\"r soft\">{}</td><td>{}</td>",
            one.number,
            escaped(&one.title)
        );
        for audit in audits {
            let cell = audit.signal(&one.id).map_or_else(
                || "<span class=\"chip t-none\">NOT RUN</span>".to_owned(),
                |signal| chip(signal.verdict),
            );
            let _ = write!(out, "<td>{cell}</td>");
        }
        out += "</tr>";
    }
    out += "</tbody></table></div><h2 style=\"margin-top:28px\">Quantities</h2><div class=\"scroll\"><table><thead><tr><th class=\"r\">#</th><th>Quantity</th>";
    out += &names;
    out += "</tr></thead><tbody>";
    for row in rows(audits) {
        let (number, name, title) = (
            row.number,
            escaped(&wording::phrase(row.name)),
            escaped(row.title),
        );
        let _ = write!(
            out,
            "<tr id=\"{}.{}\"><td class=\"r soft\">{number}</td><td>{name}<span class=\"sub\">{title}</span></td>",
            escaped(row.signal),
            escaped(row.name)
        );
        for cell in row.cells {
            let (shown, mini) = cell.map_or_else(
                || ("not run".to_owned(), String::new()),
                |value| (wording::estimate(value), draw::interval(value)),
            );
            let _ = write!(out, "<td class=\"nw\">{}{mini}</td>", escaped(&shown));
        }
        out += "</tr>";
    }
    out + "</tbody></table></div></main><footer><div><p class=\"soft\">Columns are separate audits: intervals that overlap are not a test. For a paired test on the same prompts, audit one with the other as <code>--baseline</code>.</p></div></footer></body></html>\n"
}

/// The same as a Markdown table.
pub fn markdown(audits: &[Audit]) -> String {
    let mut out = String::from("## Audits side by side\n\n");
    for warning in warnings(audits) {
        let _ = writeln!(out, "- careful: {}", safe(&warning));
    }
    let columns = |cell: &dyn Fn(&Audit) -> String| {
        audits
            .iter()
            .map(|audit| format!(" {} |", cell(audit)))
            .collect::<Vec<_>>()
            .concat()
    };
    let _ = writeln!(
        out,
        "\n| # | |{}",
        columns(&|audit| safe(&audit.subject.name))
    );
    let _ = writeln!(out, "|--:|---|{}", columns(&|_| "---".to_owned()));
    let _ = writeln!(
        out,
        "| | **verdict** |{}",
        columns(&|audit| format!("{} **{}**", glyph(audit.verdict), audit.verdict.word()))
    );
    for one in signals(audits) {
        let verdict = |audit: &Audit| {
            audit.signal(&one.id).map_or_else(
                || "not run".to_owned(),
                |signal| format!("{} {}", glyph(signal.verdict), signal.verdict.word()),
            )
        };
        let _ = writeln!(
            out,
            "| {} | **{}** |{}",
            one.number,
            safe(&one.title),
            columns(&verdict)
        );
        for row in rows(audits).into_iter().filter(|row| row.signal == one.id) {
            let cells: String = row
                .cells
                .iter()
                .map(|cell| {
                    format!(
                        " {} |",
                        cell.map_or_else(String::new, |value| safe(&wording::estimate(value)))
                    )
                })
                .collect::<Vec<_>>()
                .concat();
            let _ = writeln!(out, "| | {} |{cells}", safe(&wording::phrase(row.name)));
        }
    }
    out
}

/// The same for a terminal.
pub fn terminal(audits: &[Audit], style: &Style) -> String {
    let mut out = String::new();
    for warning in warnings(audits) {
        paragraph(&mut out, "careful: ", &warning, *style);
    }
    let label = 34;
    let room = (style.width.clamp(60, 200).saturating_sub(label) / audits.len().max(1))
        .saturating_sub(2)
        .max(12);
    let line = |first: &str, cells: Vec<String>| {
        let mut line = format!("{:<label$}", cut(&style.plain(first), label - 1, *style));
        for cell in cells {
            let _ = write!(line, "{:<room$}  ", cut(&style.plain(&cell), room, *style));
        }
        line.trim_end().to_owned()
    };
    out += &style.strong(&line(
        "",
        audits
            .iter()
            .map(|audit| audit.subject.name.clone())
            .collect(),
    ));
    out.push('\n');
    let verdicts = |pick: &dyn Fn(&Audit) -> Option<super::super::verdict::Verdict>| {
        let cells: Vec<_> = audits
            .iter()
            .map(|audit| {
                pick(audit).map_or_else(
                    || format!("{:<room$}", "not run"),
                    |verdict| style.verdict(verdict, room),
                )
            })
            .collect();
        cells.join("  ")
    };
    let _ = writeln!(
        out,
        "{:<label$}{}",
        "verdict",
        verdicts(&|audit| Some(audit.verdict)).trim_end()
    );
    for one in signals(audits) {
        let title = cut(
            &style.plain(&format!("{} {}", one.number, one.title)),
            label - 1,
            *style,
        );
        let found = verdicts(&|audit| audit.signal(&one.id).map(|signal| signal.verdict));
        let _ = writeln!(
            out,
            "\n{}{}",
            style.strong(&format!("{title:<label$}")),
            found.trim_end()
        );
        for row in rows(audits).into_iter().filter(|row| row.signal == one.id) {
            let cells = row
                .cells
                .iter()
                .map(|cell| cell.map_or_else(String::new, wording::estimate))
                .collect();
            let _ = writeln!(
                out,
                "{}",
                line(&format!("  {}", wording::phrase(row.name)), cells)
            );
        }
    }
    out
}
