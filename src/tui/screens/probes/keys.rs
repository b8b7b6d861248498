//! The keys of the probes screen.

use crate::tui::keys::{Binding, bind};

/// The table that drives dispatch, footer and help.
pub(super) const KEYS: &[Binding] = &[
    bind(
        "r",
        "sweep",
        "sweep",
        "Fit a probe at every layer and point on the built-in harmful and harmless prompts, and judge it on others",
    ),
    bind("h left", "left", "point", "The point before"),
    bind("l right", "right", "point", "The next point"),
    bind("k up", "deeper", "layer", "One layer deeper"),
    bind("j down", "shallower", "layer", "One layer back"),
    bind(
        "v",
        "quantity",
        "shows",
        "What the map shows: test AUROC, shuffled labels, control tasks, selectivity",
    ),
    bind("V", "quantity_back", "", "The quantity before"),
    bind(
        "tab x",
        "pane",
        "examples/layers",
        "The test prompts by score, or every layer's probe on every other layer",
    ),
    bind("n", "next", "example", "The next example"),
    bind("N", "previous", "example", "The example before"),
    bind(
        "w",
        "wrong",
        "wrong",
        "Go to the next example on the wrong side of the probe's boundary",
    ),
    bind("i", "turn", "", "The examples by score from the other end"),
    bind(
        "c",
        "chosen",
        "chosen",
        "Go to the place with the best AUROC on validation prompts",
    ),
    bind("o", "lens", "lens", "Look at this layer in the lens"),
    bind("g home", "first", "", "The first layer"),
    bind("G end", "last", "", "The last layer"),
];
