//! A screen as a page: its characters in one preformatted block, looks as spans.
//!
//! Always: the page needs nothing but itself, its text can be selected and searched, and foreign text means nothing to it.

use std::fmt::Write;

use ratatui::buffer::Buffer;

use super::super::theme::Theme;
use super::runs::{Ink, hex, rows};
use crate::audit::report::text::escaped;

/// The buffer as a page with `title`, on the theme's paper.
pub fn html(buffer: &Buffer, title: &str, theme: Theme) -> String {
    let (paper, text) = theme.paper();
    let title = escaped(title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>{title}</title>\n\
         <style>body{{background:{};color:{};margin:1.5rem}}pre{{font:15px/1.2 ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}}</style>\n\
         </head><body><pre>",
        hex(paper),
        hex(text)
    );
    for runs in rows(buffer, theme) {
        for run in runs {
            let words = escaped(&run.text);
            let look = look(run.ink);
            let _ = if look.is_empty() {
                write!(out, "{words}")
            } else {
                write!(out, "<span style=\"{look}\">{words}</span>")
            }; // writing to a String cannot fail
        }
        out.push('\n');
    }
    out.push_str("</pre></body></html>\n");
    out
}

fn look(ink: Ink) -> String {
    let colour = |name, colour: Option<_>| colour.map(|rgb| format!("{name}:{}", hex(rgb)));
    let when = |there: bool, rule: &str| there.then(|| rule.to_owned());
    let rules = [
        colour("color", ink.fore),
        colour("background", ink.back),
        when(ink.bold, "font-weight:bold"),
        when(ink.italic, "font-style:italic"),
        match (ink.underlined, ink.struck) {
            (true, true) => when(true, "text-decoration:underline line-through"),
            (underlined, false) => when(underlined, "text-decoration:underline"),
            (false, struck) => when(struck, "text-decoration:line-through"),
        },
    ];
    rules.into_iter().flatten().collect::<Vec<_>>().join(";")
}
