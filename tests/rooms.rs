//! Rooms use only rooms below them. The table here is the house's order; a new room or a new arrow is a decision, made here.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each room with the rooms it may use, lowest first: it may only name rooms that stand before it.
const HOUSE: &[(&str, &[&str])] = &[
    ("files", &[]),
    ("config", &["files"]),
    ("hooks", &["config"]),
    ("text", &["files"]),
    ("model", &["files", "config", "hooks", "text"]),
    ("lens", &["files", "config", "hooks", "model", "text"]),
    (
        "activations",
        &["files", "config", "hooks", "model", "text"],
    ),
    ("steer", &["files", "config", "hooks", "model", "text"]),
    (
        "probing",
        &["files", "config", "hooks", "model", "text", "steer"],
    ),
    (
        "features",
        &[
            "files",
            "config",
            "hooks",
            "model",
            "text",
            "activations",
            "steer",
            "probing",
        ],
    ),
    (
        "compare",
        &["config", "hooks", "model", "lens", "steer", "features"],
    ),
    (
        "train",
        &["files", "config", "hooks", "model", "text", "activations"],
    ),
    ("pocket", &["files", "hooks", "text", "model"]),
    (
        "audit",
        &[
            "files",
            "hooks",
            "model",
            "text",
            "pocket",
            "activations",
            "steer",
            "features",
        ],
    ),
    (
        "organism",
        &[
            "files", "config", "hooks", "model", "text", "pocket", "steer", "train", "audit",
        ],
    ),
    (
        "pipeline",
        &[
            "files", "config", "hooks", "model", "text", "pocket", "steer", "features", "train",
            "audit", "organism",
        ],
    ),
    (
        "tui",
        &[
            "config",
            "files",
            "hooks",
            "text",
            "model",
            "lens",
            "activations",
            "steer",
            "probing",
            "features",
            "compare",
            "train",
            "audit",
            "pipeline",
        ],
    ),
    (
        "cli",
        &[
            "files",
            "config",
            "hooks",
            "text",
            "model",
            "lens",
            "activations",
            "steer",
            "probing",
            "features",
            "train",
            "audit",
            "pocket",
            "organism",
            "pipeline",
            "tui",
        ],
    ),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found
}

/// The rooms that code names, comments apart: `crate::room` and the first names inside `crate::{…}`.
fn named(code: &str) -> BTreeSet<String> {
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut names = BTreeSet::new();
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let (mut depth, mut first) = (0, true);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => first = true,
                c if first && !c.is_whitespace() => {
                    names.insert(word(&list[i..]));
                    first = false;
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn a_room_uses_only_the_rooms_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let house: BTreeMap<_, _> = HOUSE.iter().copied().collect();
    let mut rooms = 0;
    for entry in std::fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        rooms += 1;
        let room = path.file_name().unwrap().to_str().unwrap();
        let may = house
            .get(room)
            .unwrap_or_else(|| panic!("room `{room}` is not in the table"));
        for file in sources(&path) {
            for name in named(&std::fs::read_to_string(&file).unwrap()) {
                let other = name != room && house.contains_key(name.as_str());
                assert!(
                    !other || may.contains(&name.as_str()),
                    "{}: room `{room}` must not use `{name}`",
                    file.display()
                );
            }
        }
    }
    assert_eq!(rooms, HOUSE.len());
}

#[test]
fn the_table_has_no_cycle() {
    for (i, (room, uses)) in HOUSE.iter().enumerate() {
        for used in *uses {
            let above = HOUSE[..i].iter().any(|(name, _)| name == used);
            assert!(above, "`{room}` uses `{used}`, which is not below it");
        }
    }
}

#[test]
fn names_are_found_in_lists_too() {
    let code = "use crate::{\n    a::{b, c::{d}},\n    e, // crate::no\n    f::g,\n};\nlet x = crate::h::i();";
    let found: Vec<_> = named(code).into_iter().collect();
    assert_eq!(found, ["a", "e", "f", "h"]);
}
