//! One signal's section of the page: verdict and reason, its quantities, limits, charts, findings, evidence, explanation.
//!
//! Always: what a reader needs to decide comes first and open; what they may want to check is folded below.

use std::fmt::Write;

use super::super::super::catalogue;
use super::super::super::measure::Value;
use super::super::super::result::{Item, SignalResult};
use super::super::super::wording;
use super::super::draw;
use super::super::text::escaped;
use super::{chip, tone};

/// The section.
pub fn section(out: &mut String, signal: &SignalResult, doc: Option<&str>) {
    let _ = write!(
        out,
        "<section class=\"signal {}\" id=\"{}\"><div class=\"head\">{}<h2>{} · {}</h2><span class=\"meta\"><code>{}</code> · {} · {}</span></div>\
         <p class=\"reason\">{}</p>",
        tone(signal.verdict),
        escaped(&signal.id),
        chip(signal.verdict),
        signal.number,
        escaped(&signal.title),
        escaped(&signal.id),
        escaped(&signal.stage),
        wording::duration(signal.seconds),
        escaped(&signal.reason)
    );
    if let Some(doc) = doc {
        let _ = write!(
            out,
            "<details><summary>What this is and how it is computed</summary><div class=\"in\">{}</div></details>",
            prose(doc)
        );
    }
    values(out, signal);
    if !signal.findings.is_empty() {
        out.push_str("<h3>Findings</h3><ul class=\"plain\">");
        for finding in &signal.findings {
            let _ = write!(out, "<li>{}</li>", escaped(finding));
        }
        out.push_str("</ul>");
    }
    if !signal.charts.is_empty() {
        out.push_str("<h3>Charts</h3><div class=\"charts\">");
        for chart in &signal.charts {
            let (title, about) = (escaped(&chart.title), escaped(&chart.about));
            let _ = write!(
                out,
                "<figure><figcaption>{title}<span class=\"sub\">{about}</span></figcaption>{}</figure>",
                draw::chart(chart)
            );
        }
        out.push_str("</div>");
    }
    checks(out, signal);
    items(out, &signal.items);
    out.push_str("</section>");
}

fn values(out: &mut String, signal: &SignalResult) {
    if signal.values.is_empty() {
        return;
    }
    let any = |has: fn(&Value) -> bool| signal.values.iter().any(has);
    let (paired, null, test) = (
        any(|value| value.baseline.is_some() || value.delta.is_some()),
        any(|value| value.null.is_some()),
        any(|value| value.test.is_some() || value.mdd.is_some()),
    );
    let on_line = any(|value| !draw::interval(value).is_empty());
    out.push_str("<h3>Quantities</h3><div class=\"scroll\"><table class=\"quantities\"><thead><tr><th>Quantity</th><th class=\"r\">n</th><th class=\"r\">Value</th>");
    for (shown, names) in [
        (on_line, &["0 to 1"][..]),
        (null, &["Null"]),
        (paired, &["Baseline", "Change"]),
        (test, &["Test"]),
    ] {
        for name in names.iter().filter(|_| shown) {
            let class = if *name == "0 to 1" {
                ""
            } else {
                " class=\"r\""
            };
            let _ = write!(out, "<th{class}>{name}</th>");
        }
    }
    out.push_str("</tr></thead><tbody>");
    for value in &signal.values {
        let meaning = catalogue::signal(&signal.id)
            .and_then(|entry| entry.quantity(&value.name))
            .map_or("", |quantity| quantity.meaning);
        let _ = write!(
            out,
            "<tr><td>{}<span class=\"sub\">{meaning}</span></td>",
            escaped(&wording::phrase(&value.name))
        );
        let exact = value.value.is_some() && value.interval.is_none();
        let n = value.n.map_or_else(
            || {
                if exact {
                    "exact".to_owned()
                } else {
                    String::new()
                }
            },
            |n| n.to_string(),
        );
        let _ = write!(out, "<td class=\"r\">{n}</td>");
        estimate_cell(out, value);
        if on_line {
            let _ = write!(out, "<td>{}</td>", draw::interval(value));
        }
        if null {
            null_cell(out, value);
        }
        if paired {
            let baseline = value
                .baseline
                .map(|baseline| wording::number(&value.unit, baseline))
                .unwrap_or_default();
            let _ = write!(out, "<td class=\"r nw\">{}</td>", escaped(&baseline));
            change_cell(out, value);
        }
        if test {
            test_cell(out, value);
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}

/// The estimate over its interval, or why there is none.
pub fn estimate_cell(out: &mut String, value: &Value) {
    let Some(estimate) = value.value else {
        let why = value.why.as_deref().unwrap_or("not measured");
        let _ = write!(
            out,
            "<td class=\"r\">n/a<span class=\"sub\">{}</span></td>",
            escaped(why)
        );
        return;
    };
    let shown = format!(
        "{}{}",
        wording::number(&value.unit, estimate),
        wording::unit(&value.unit)
    );
    let interval = value.interval.as_ref().map_or_else(String::new, |ends| {
        let method = format!("{:.0} % {}", ends.level * 100.0, ends.method);
        format!(
            "<span class=\"sub\" title=\"{}\">{}</span>",
            escaped(&method),
            escaped(&wording::interval(&value.unit, ends))
        )
    });
    let _ = write!(
        out,
        "<td class=\"r nw\"><strong>{}</strong>{interval}</td>",
        escaped(&shown)
    );
}

/// The change against the baseline over its interval.
pub fn change_cell(out: &mut String, value: &Value) {
    let shown = value.delta.as_ref().map_or_else(String::new, |delta| {
        let interval = delta.interval.as_ref().map(|ends| {
            format!(
                "<span class=\"sub\">{}</span>",
                escaped(&wording::interval(&value.unit, ends))
            )
        });
        format!(
            "<strong>{}</strong>{}",
            escaped(&wording::change(&value.unit, delta.value)),
            interval.unwrap_or_default()
        )
    });
    let _ = write!(out, "<td class=\"r nw\">{shown}</td>");
}

fn null_cell(out: &mut String, value: &Value) {
    let shown = value.null.as_ref().map_or_else(String::new, |null| {
        let z = value
            .value
            .and_then(|estimate| null.z(estimate))
            .map(|z| format!(", z = {z:+.1}"));
        let p = null.p.map(|p| format!(", p = {}", wording::p_value(p)));
        format!(
            "{} ± {}<span class=\"sub\">{} {}{}{}</span>",
            escaped(&wording::number(&value.unit, null.mean)),
            escaped(&wording::number(&value.unit, null.sd)),
            null.n,
            escaped(&null.kind),
            z.unwrap_or_default(),
            escaped(&p.unwrap_or_default())
        )
    });
    let _ = write!(out, "<td class=\"r wrap\">{shown}</td>");
}

fn test_cell(out: &mut String, value: &Value) {
    let shown = value.test.as_ref().map_or_else(String::new, |test| {
        let p = test.p_adjusted.unwrap_or(test.p);
        let raw = test
            .p_adjusted
            .map(|_| format!(", raw {}", wording::p_value(test.p)))
            .unwrap_or_default();
        let statistic = test
            .statistic
            .map(|statistic| format!(", {}", wording::number("", statistic)))
            .unwrap_or_default();
        let label = if test.p_adjusted.is_some() {
            "Holm p"
        } else {
            "p"
        };
        format!(
            "{label} {}<span class=\"sub\">{}{}{}</span>",
            escaped(&wording::p_value(p)),
            escaped(&test.name),
            escaped(&statistic),
            escaped(&raw)
        )
    });
    let least = value.mdd.map_or_else(String::new, |mdd| {
        let least = wording::change(&value.unit, mdd);
        format!(
            "<span class=\"sub\">detectable from {}</span>",
            escaped(least.trim_start_matches('+'))
        )
    });
    let _ = write!(out, "<td class=\"r wrap\">{shown}{least}</td>");
}

fn checks(out: &mut String, signal: &SignalResult) {
    if signal.checks.is_empty() {
        return;
    }
    out.push_str("<h3>Limits of the policy</h3><div class=\"scroll\"><table><thead><tr><th>Outcome</th><th>Quantity</th><th>Limit</th><th>Reason</th></tr></thead><tbody>");
    for check in &signal.checks {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"nw\">{}</td><td class=\"small\">{}</td><td class=\"small\">{}</td></tr>",
            chip(check.verdict),
            escaped(&wording::phrase(&check.value)),
            escaped(&check.limit),
            escaped(&check.reason)
        );
    }
    out.push_str("</tbody></table></div>");
}

fn items(out: &mut String, items: &[Item]) {
    if items.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<details><summary>Evidence: {} prompts</summary><div class=\"in scroll\"><table class=\"items\"><thead><tr><th>Id</th><th>Label</th>\
         <th>Prompt</th><th>Completion</th><th>Detectors</th><th>Numbers</th></tr></thead><tbody>",
        items.len()
    );
    for item in items {
        let flags: String = item
            .flags
            .iter()
            .map(|flag| format!("<span class=\"flag\">{}</span>", escaped(flag)))
            .collect::<Vec<_>>()
            .concat();
        let votes: Vec<_> = item
            .votes
            .iter()
            .map(|(name, vote)| format!("{}: {}", escaped(name), escaped(vote)))
            .collect();
        let numbers: Vec<_> = item
            .numbers
            .iter()
            .map(|(name, number)| {
                format!(
                    "{} {}",
                    escaped(&wording::phrase(name)),
                    wording::number("", *number)
                )
            })
            .collect();
        let _ = write!(
            out,
            "<tr><td><code>{}</code></td><td>{}<br/>{flags}</td><td class=\"quote\"><bdi>{}</bdi></td><td class=\"quote\"><bdi>{}</bdi></td><td>{}</td><td class=\"nw\">{}</td></tr>",
            escaped(&item.id),
            escaped(&item.label),
            escaped(&item.prompt_excerpt),
            escaped(&item.completion_excerpt),
            votes.join("<br/>"),
            numbers.join("<br/>")
        );
    }
    out.push_str("</tbody></table></div></details>");
}

/// Plain text as paragraphs and lists, with back-ticks as code.
fn prose(doc: &str) -> String {
    let mut out = String::new();
    for block in doc
        .split("\n\n")
        .map(str::trim)
        .filter(|block| !block.is_empty())
    {
        let lines: Vec<_> = block.lines().map(str::trim).collect();
        if lines.iter().all(|line| line.starts_with("- ")) {
            let rows: String = lines
                .iter()
                .map(|line| format!("<li>{}</li>", with_code(&line[2..])))
                .collect::<Vec<_>>()
                .concat();
            let _ = write!(out, "<ul class=\"plain\">{rows}</ul>");
        } else {
            let _ = write!(out, "<p>{}</p>", with_code(&lines.join(" ")));
        }
    }
    out
}

fn with_code(line: &str) -> String {
    let pieces: Vec<&str> = line.split('`').collect();
    if pieces.len().is_multiple_of(2) {
        return escaped(line);
    }
    pieces
        .iter()
        .enumerate()
        .map(|(i, piece)| {
            if i % 2 == 1 {
                format!("<code>{}</code>", escaped(piece))
            } else {
                escaped(piece)
            }
        })
        .collect()
}
