//! The keys of the training screen; `acts.rs` does what they say.

use crate::tui::keys::{Binding, bind};

pub(super) const KEYS: &[Binding] = &[
    bind(
        "j down",
        "down",
        "row",
        "Further down in the list that has the keys",
    ),
    bind("k up", "up", "row", "Further up in it"),
    bind("g home", "first", "", "Its first row"),
    bind("G end", "last", "", "Its last row"),
    bind(
        "tab",
        "focus",
        "runs or part",
        "Give the keys to the part below, or back to the runs",
    ),
    bind(
        "enter",
        "enter",
        "",
        "Into the run: give the keys to the part below",
    ),
    bind(
        "v",
        "part",
        "part",
        "The next part: curves, samples, data, events",
    ),
    bind("V", "part_back", "", "The part before"),
    bind("h left", "left", "step", "The cursor one logged step back"),
    bind("l right", "right", "step", "The cursor one logged step on"),
    bind(
        "H",
        "far_left",
        "",
        "The cursor back by a tenth of the chart",
    ),
    bind(
        "L",
        "far_right",
        "",
        "The cursor on by a tenth of the chart",
    ),
    bind("f", "follow", "", "Let the cursor follow the newest step"),
    bind(
        "u",
        "scale",
        "",
        "The axis of values logarithmic, or linear again",
    ),
    bind(
        "c",
        "compare",
        "compare",
        "Keep this run's curves under those of any other; again to drop it",
    ),
    bind(
        "t",
        "track",
        "",
        "Colour a sample's tokens by the next quantity it has",
    ),
    bind(
        "o",
        "open",
        "open",
        "Type the path of a run, or of a folder with runs",
    ),
    bind(
        "O",
        "open_model",
        "",
        "Open the run's model: its tokenizer shows the targets of the data",
    ),
    bind("r", "look", "", "Look again which runs there are"),
    bind("ctrl-d pagedown", "page_down", "", "Further down in a text"),
    bind("ctrl-u pageup", "page_up", "", "Further up in a text"),
];
