//! The keys of the directions screen.

use crate::tui::keys::{Binding, bind};

/// The table that drives dispatch, footer and help.
pub(super) const KEYS: &[Binding] = &[
    bind(
        "r",
        "read",
        "read",
        "Make a direction for every layer and position, and say how well each separates harmful from harmless prompts",
    ),
    bind("h left", "left", "position", "The position before"),
    bind("l right", "right", "position", "The next position"),
    bind("k up", "deeper", "layer", "One layer deeper"),
    bind("j down", "shallower", "layer", "One layer back"),
    bind(
        "enter",
        "try",
        "try",
        "Try this direction on the model: what ablating it does to refusal and to ordinary answers, what adding it does",
    ),
    bind(
        "t",
        "try_all",
        "try all",
        "Try all directions, the best separating first; the map fills in while they are tried",
    ),
    bind(
        "v",
        "quantity",
        "shows",
        "What the map shows: separation, reliability, length, bypass, induce, KL",
    ),
    bind("V", "quantity_back", "", "The quantity before"),
    bind(
        "a",
        "ablate",
        "ablate",
        "Take this direction out of every layer, as an intervention of all screens; again takes it away",
    ),
    bind(
        "A",
        "add",
        "add",
        "Add this direction at its layer, as an intervention of all screens; again takes it away",
    ),
    bind(",", "less", "dose", "Less of it, by a step"),
    bind(".", "more", "dose", "More of it, by a step"),
    bind("<", "much_less", "", "Less by five steps"),
    bind(">", "much_more", "", "More by five steps"),
    bind(
        "0",
        "zero",
        "",
        "Dose 0, as if it was not there; again for dose 1",
    ),
    bind(
        "o",
        "generate",
        "answers",
        "The answers with the interventions and without, side by side",
    ),
    bind(
        "space",
        "pin",
        "compare",
        "Compare all others with this direction by cosine; again with the chosen one",
    ),
    bind(
        "c",
        "chosen",
        "chosen",
        "Go to the direction that the rule chooses among the tried ones, or that separates best",
    ),
    bind("g home", "first", "", "The first layer"),
    bind("G end", "last", "", "The last layer"),
];
