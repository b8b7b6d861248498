//! The keys of the lens screen.

use crate::tui::keys::{Binding, bind};

/// The table that drives dispatch, footer and help.
pub(super) const KEYS: &[Binding] = &[
    bind("h left", "left", "token", "The token before"),
    bind("l right", "right", "token", "The next token"),
    bind(
        "k up",
        "up",
        "layer",
        "One layer deeper; in the list, the likelier token",
    ),
    bind(
        "j down",
        "down",
        "layer",
        "One layer back; in the list, the next token",
    ),
    bind(
        "p",
        "edit",
        "prompt",
        "Edit the last user turn; Enter reads it, Alt-Enter begins a line, Tab goes to the next turn",
    ),
    bind(
        "f",
        "appears",
        "find answer",
        "Go to the layer from which on the answer is the likeliest token: the target, or the model's own next token",
    ),
    bind(
        "v",
        "mode",
        "value",
        "Next value: probability, entropy, KL, rank of the target, norm, projection on a direction (`:project FILE`), score of a probe (`:probe FILE`)",
    ),
    bind(
        "a",
        "attention",
        "attention",
        "Look at the attention of this layer",
    ),
    bind(
        "P",
        "raw",
        "raw/chat",
        "Read the text as it is, without the chat template; or with it again",
    ),
    bind(
        "c",
        "compare",
        "compare",
        "Show the difference that the interventions make: with them minus without them",
    ),
    bind(
        "tab",
        "pane",
        "list",
        "Between the map and the list of next tokens",
    ),
    bind(
        "enter",
        "target",
        "target",
        "Follow the token that is selected in the list; the same again lets it go",
    ),
    bind(
        "d",
        "digits",
        "digits",
        "The value in digits instead of the top token",
    ),
    bind(
        "s",
        "scale",
        "scale",
        "What the ends of the colours mean: whole range, smallest to largest, 5th to 95th percentile",
    ),
    bind("g", "first_layer", "", "The first layer"),
    bind("G", "last_layer", "", "The last layer"),
    bind("0 home", "first_token", "", "The first token"),
    bind("$ end", "last_token", "", "The last token"),
    bind("ctrl-u pageup", "deeper", "", "Eight layers deeper"),
    bind("ctrl-d pagedown", "shallower", "", "Eight layers back"),
    bind(
        "backspace delete",
        "clear_target",
        "",
        "Follow no token: at each position the model's own next one is meant again",
    ),
    bind("t", "add_turn", "", "Add a turn to the conversation"),
    bind("-", "drop_turn", "", "Remove the last turn"),
    bind("+ =", "wider", "", "Wider cells"),
    bind("_", "narrower", "", "Narrower cells"),
    bind(
        "r",
        "again",
        "",
        "Compute it again, after it failed or was stopped",
    ),
];
