//! The keys of the attention screen.

use crate::tui::keys::{Binding, bind};

/// The table that drives dispatch, footer and help.
pub(super) const KEYS: &[Binding] = &[
    bind("> .", "next_head", "head", "The next head"),
    bind("< ,", "previous_head", "head", "The head before"),
    bind(
        "f tab",
        "survey",
        "all heads",
        "The map of all heads of the model with their kinds on this prompt; or the pattern again",
    ),
    bind(
        "x",
        "cut_head",
        "cut head",
        "Knock the head out: its z is set to 0 at every position; again brings it back",
    ),
    bind("K", "deeper", "layer", "One layer deeper"),
    bind("J", "shallower", "layer", "One layer back"),
    bind(
        "j down",
        "later",
        "query",
        "The next query: the token that looks; in the map of all heads, one layer back",
    ),
    bind(
        "k up",
        "earlier",
        "query",
        "The query before; in the map of all heads, one layer deeper",
    ),
    bind(
        "l right",
        "next_key",
        "key",
        "The next key: the token that is looked at; in the map of all heads, the next head",
    ),
    bind("h left", "previous_key", "key", "The key before"),
    bind(
        "v",
        "kind",
        "kind",
        "The kind that is looked for among all heads: previous token, induction, duplicate, current, first; goes to the strongest",
    ),
    bind(
        "E",
        "cut_edge",
        "cut edge",
        "Knock the edge from query to key out in this head, before the softmax; again brings it back",
    ),
    bind(
        "i",
        "impact",
        "impact",
        "What the next token would lose without each head of this layer, one pass a head",
    ),
    bind(
        "w",
        "weighted",
        "weighted",
        "Weight times the length of what the head moves from there; or the weight alone",
    ),
    bind(
        "S",
        "scores",
        "scores",
        "Scores before the softmax; or the weights again",
    ),
    bind(
        "a",
        "lens",
        "lens",
        "Back to the lens at this layer and token",
    ),
    bind(
        "n",
        "next_of_kind",
        "",
        "Of all heads the next weaker one of the kind that is looked for",
    ),
    bind(
        "N",
        "previous_of_kind",
        "",
        "Of all heads the next stronger one of the kind that is looked for",
    ),
    bind("d", "digits", "", "Numbers in the cells, or colours alone"),
    bind("g home", "first_key", "", "The first key"),
    bind("G end", "own_key", "", "The query itself as key"),
    bind(
        "enter",
        "strongest",
        "",
        "The key with the largest number in this row; in the map of all heads, look at this one",
    ),
    bind(
        "o",
        "follow",
        "",
        "The key becomes the query: follow the information back",
    ),
    bind("+ =", "wider", "", "Wider cells"),
    bind("_", "narrower", "", "Narrower cells"),
    bind(
        "r",
        "again",
        "",
        "Compute it again, after it failed or was stopped",
    ),
];
