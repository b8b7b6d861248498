//! The keys of the diff; `acts.rs` does what they say.

use crate::tui::keys::{Binding, bind};

pub(super) const KEYS: &[Binding] = &[
    bind(
        "o",
        "other",
        "other",
        "Type the name or path of the model that the open one is compared with",
    ),
    bind(
        ",",
        "station_back",
        "checkpoint",
        "Take the checkpoint before as the other model, of the run that is open",
    ),
    bind(
        ".",
        "station_on",
        "checkpoint",
        "Take the next checkpoint of the run",
    ),
    bind("enter", "compare", "compare", "Compare the two"),
    bind(
        "tab",
        "pane",
        "pane",
        "Give the keys to the next pane: weights, tokens, answers, latents",
    ),
    bind("backtab", "pane_back", "", "To the pane before"),
    bind("j down", "down", "row", "Further down: a layer, a token"),
    bind("k up", "up", "row", "Further up"),
    bind("h left", "left", "", "In weights: the matrix to the left"),
    bind(
        "l right",
        "right",
        "",
        "In weights: the matrix to the right",
    ),
    bind("g home", "first", "", "The first row"),
    bind("G end", "last", "", "The last row"),
    bind(
        "n",
        "next",
        "",
        "The next token after which the likeliest differs; of weights the one that changed most",
    ),
    bind("N", "previous", "", "The token before"),
    bind("p", "prompt", "prompt", "Edit the prompt that both read"),
    bind(
        "s",
        "swap",
        "swap",
        "Changes from the second to the first: swap the two",
    ),
    bind("r", "again", "", "Compare again"),
];
