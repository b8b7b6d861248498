//! The answers in words, for a dialogue in lines: each as running text, where they part, what is being picked.

use super::picker::ENTRIES;
use super::stream::{EDITED, End, PLAIN, Stream};
use super::{GenerateScreen, Mode};
use crate::text::visible::visible;

pub(super) fn lines(screen: &GenerateScreen) -> Vec<String> {
    let mut lines = Vec::new();
    match &screen.mode {
        Mode::Keys => {}
        Mode::Prompt(editor) => {
            lines.push(format!("writing the prompt: {}", editor.field().text()));
        }
        Mode::Pick(picker) => {
            for (i, (what, from)) in ENTRIES.iter().enumerate() {
                let here = if i == picker.selected {
                    "selected: "
                } else {
                    ""
                };
                lines.push(format!("{here}{what}, {from}"));
            }
            lines.push(format!(
                "at layer {}; press j or k choose, press l or h move the layer, press enter takes it",
                picker.layer
            ));
            lines.extend(picker.wrong.iter().cloned());
        }
        Mode::Branch(selected) => {
            let top = screen.token().map(|token| token.top.as_slice());
            for (i, other) in top.unwrap_or_default().iter().enumerate() {
                let here = if i == *selected { "selected: " } else { "" };
                let share = other.log_prob.exp() * 100.0;
                lines.push(format!(
                    "{here}{} \"{}\" {share:.1} percent",
                    i + 1,
                    visible(&other.text)
                ));
            }
            lines.push("press a number takes that token, press esc none".to_owned());
        }
    }
    lines.extend(screen.failed.iter().map(|why| format!("failed: {why}")));
    if screen.held {
        lines.push("held; space goes on".to_owned());
    }
    for (name, side) in [("edited", EDITED), ("unedited", PLAIN)] {
        let branches = &screen.sides[side];
        let Some(stream) = branches.shown() else {
            continue;
        };
        let branch = if branches.branches.len() > 1 {
            format!(
                ", branch {} of {}",
                branches.current + 1,
                branches.branches.len()
            )
        } else {
            String::new()
        };
        lines.push(format!(
            "{name} answer{branch}, {}: {}",
            how(stream),
            text(stream)
        ));
    }
    if let Some(at) = screen.divergence() {
        lines.push(format!("the answers differ from token {at} on"));
    }
    if let Some(token) = screen.token() {
        lines.push(format!(
            "cursor at token {} \"{}\", {:.1} percent",
            screen.cursor,
            visible(&token.text),
            token.log_prob.exp() * 100.0
        ));
    }
    lines
}

fn how(stream: &Stream) -> String {
    let end = match stream.end {
        Some(End::Stop) => "ended by the model",
        Some(End::Length) => "cut at the length asked for",
        None => "going on",
    };
    format!("{} tokens, {end}", stream.tokens.len())
}

fn text(stream: &Stream) -> String {
    stream
        .tokens
        .iter()
        .map(|token| token.text.as_str())
        .collect()
}
