//! The keys of the course; `acts.rs` does what they say.

use crate::tui::keys::{Binding, bind};

pub(super) const KEYS: &[Binding] = &[
    bind("h left", "left", "signal", "The signal to the left"),
    bind("l right", "right", "signal", "The signal to the right"),
    bind("k up", "up", "checkpoint", "The checkpoint before"),
    bind("j down", "down", "checkpoint", "The next checkpoint"),
    bind("g home", "first", "", "The first checkpoint"),
    bind("G end", "last", "", "The last checkpoint"),
    bind("H", "leftmost", "", "The first signal"),
    bind("L", "rightmost", "", "The last signal"),
    bind(
        "n",
        "next",
        "finding",
        "The next finding that is not waived, further down or to the right",
    ),
    bind("N", "previous", "", "The one before"),
    bind(
        "enter",
        "drill",
        "behind it",
        "What is behind this cell: its audit in the audit screen, at this signal",
    ),
    bind(
        "w",
        "waive",
        "waive",
        "Let this finding pass: type the reason, which is written into waivers.toml beside the run",
    ),
    bind("W", "take_back", "", "Take the waiver of this finding back"),
    bind(
        "f",
        "findings",
        "findings",
        "Signals alone that have a finding at any checkpoint, or all again",
    ),
    bind("o", "open", "open", "Type the folder of a pipeline"),
    bind(
        "r",
        "again",
        "",
        "Read the audits again, those that have come too",
    ),
];
