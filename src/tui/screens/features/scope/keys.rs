//! The keys of the oscilloscope.

use crate::tui::keys::{Binding, bind};

/// The table that drives dispatch, footer and help.
pub const KEYS: &[Binding] = &[
    bind("space", "hold", "pause/go on", "Pause, or go on"),
    bind("left h", "left", "rewind", "The token before"),
    bind("right l", "right", "forward", "The next token"),
    bind("H", "far_left", "", "Ten tokens back"),
    bind("L", "far_right", "", "Ten tokens on"),
    bind("g home", "first", "", "The first token"),
    bind("G end", "last", "", "The last token, and follow new ones"),
    bind("n down j", "next", "lane", "The next lane"),
    bind("N up k", "previous", "lane", "The lane before"),
    bind(
        "+ = .",
        "more",
        "turn up",
        "Turn the lane's latent up by a step: at the last token at once, elsewhere from the cursor on with b",
    ),
    bind("- ,", "less", "turn down", "Turn it down by a step"),
    bind(
        "w",
        "way",
        "way",
        "How it is turned: added to, held at a value, scaled",
    ),
    bind(
        "a",
        "ablate",
        "ablate",
        "Hold the lane's latent at 0; again leaves it as it is",
    ),
    bind("0", "reset", "reset", "Leave the lane's latent as it is"),
    bind(
        "b",
        "branch",
        "branch",
        "Branch from the token under the cursor with the latents as they are turned",
    ),
    bind("< backtab", "previous_branch", "", "The branch before"),
    bind("> tab", "next_branch", "", "The next branch"),
    bind(
        "c",
        "compare",
        "compare",
        "Beside every lane that of the run it was branched from, and where the two part",
    ),
    bind(
        "d",
        "diverge",
        "",
        "Go to the first token where the two differ",
    ),
    bind(
        "f",
        "fill",
        "fill",
        "Lanes for the strongest latents of the token under the cursor",
    ),
    bind("x", "drop", "", "Take this lane away"),
    bind("s", "seed", "", "Draw again with the next seed"),
    bind(
        "t",
        "temperature",
        "",
        "Greedy, temperature 0.7, temperature 1.0",
    ),
];
