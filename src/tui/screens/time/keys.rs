//! The keys of the time machine; `acts.rs` does what they say.

use crate::tui::keys::{Binding, bind};

pub(super) const KEYS: &[Binding] = &[
    bind("h left", "back", "back", "The checkpoint before"),
    bind("l right", "on", "on", "The next checkpoint"),
    bind("g home", "first", "", "The first checkpoint"),
    bind("G end", "last", "", "The last checkpoint"),
    bind(
        "H",
        "stage_back",
        "",
        "The last checkpoint of the stage before",
    ),
    bind(
        "L",
        "stage_on",
        "",
        "The first checkpoint of the next stage",
    ),
    bind("space", "play", "play", "Go on by itself; again to stop"),
    bind("b", "token_back", "token", "Look after the token before"),
    bind("w", "token_on", "token", "Look after the next token"),
    bind("j down", "down", "row", "Further down in the next tokens"),
    bind("k up", "up", "row", "Further up in them"),
    bind(
        "enter",
        "follow",
        "follow",
        "Follow the next token under the cursor in the chart; again to follow the likeliest",
    ),
    bind(
        "v",
        "quantity",
        "chart",
        "What the chart shows: KL to the first checkpoint, the token's probability, the stream's length, what stands beside the layers",
    ),
    bind("V", "quantity_back", "", "The same backwards"),
    bind(
        "d",
        "beside",
        "layers",
        "Beside each layer its refusal score, or the part of the stream along the direction",
    ),
    bind(
        "p",
        "prompt",
        "prompt",
        "Edit the prompt that every checkpoint reads",
    ),
    bind(
        "o",
        "open",
        "open",
        "Type the folder of a pipeline or of a training run",
    ),
    bind(
        "O",
        "open_model",
        "",
        "Open this checkpoint as the model of all screens",
    ),
    bind("r", "again", "", "Look again which checkpoints the run has"),
    bind(
        "ctrl-d pagedown",
        "page_down",
        "",
        "Further down in the layers",
    ),
    bind("ctrl-u pageup", "page_up", "", "Further up in the layers"),
];
