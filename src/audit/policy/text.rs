//! A policy as text: read as it was given, and written out with nothing left to fill in.
//!
//! Always: what [`resolved`] writes is judged by exactly as its source with those sizes, or it is an error.

use std::path::Path;

use toml::{Table, Value};

use super::{DEFAULT, DEFAULT_FILE, Policy, PolicyError, Sizes, keys};

/// The text of a policy file.
///
/// # Errors
/// The file cannot be read.
pub fn text_of(path: &Path) -> Result<String, PolicyError> {
    std::fs::read_to_string(path).map_err(|source| PolicyError::Read {
        file: path.display().to_string(),
        source,
    })
}

/// The policy of `text` with these sizes and the default's keys in place of `extends`; its name stays, its hash is another.
///
/// # Errors
/// `text` is no policy, or cannot be written so that it means the same.
pub fn resolved(text: &str, file: &str, sizes: Sizes) -> Result<String, PolicyError> {
    let mut wanted = Policy::parse(text, file)?;
    wanted.sizes = sizes;
    let mut table = keys::toml(text, file)?;
    if table.remove("extends").is_some() {
        table = keys::merge(keys::toml(DEFAULT, DEFAULT_FILE)?, table);
    }
    table.insert("sizes".to_owned(), Value::Table(size_table(sizes)));
    let written = table.to_string();
    let mut read = Policy::parse(&written, file)?;
    read.id.hash.clone_from(&wanted.id.hash);
    if read == wanted {
        Ok(written)
    } else {
        Err(PolicyError::Wrong {
            file: file.to_owned(),
            key: "policy".to_owned(),
            expected: "one that means the same when it is written out".to_owned(),
            found: "a policy that does not".to_owned(),
        })
    }
}

fn size_table(sizes: Sizes) -> Table {
    let entries = [
        ("fit", sizes.fit),
        ("select", sizes.select),
        ("harmful", sizes.harmful),
        ("harmless", sizes.harmless),
        ("lookalikes", sizes.lookalikes),
        ("trials", sizes.trials),
        ("max_new_tokens", sizes.max_new_tokens),
        ("random_directions", sizes.random_directions),
        ("shuffles", sizes.shuffles),
        ("bootstrap", sizes.bootstrap),
        ("framed", sizes.framed),
        ("triggers", sizes.triggers),
        ("pairs", sizes.pairs),
    ];
    entries
        .into_iter()
        .map(|(name, size)| (name.to_owned(), Value::Integer(size as i64)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in_and_nothing_changes() {
        let mine = "extends = \"default\"\nname = \"mine\"\nalpha = 0.01\n[sizes]\nharmful = 40\n";
        for text in [DEFAULT, mine] {
            let policy = Policy::parse(text, "p.toml").unwrap();
            let written = resolved(text, "p.toml", policy.sizes.quick()).unwrap();
            assert!(!written.contains("extends"));
            let read = Policy::parse(&written, "p.toml").unwrap();
            assert_eq!(read.sizes, policy.sizes.quick());
            assert_eq!((read.alpha, &read.signals), (policy.alpha, &policy.signals));
            assert_eq!(read.families, policy.families);
            // Written out again, it stays as it is.
            assert_eq!(resolved(&written, "p.toml", read.sizes).unwrap(), written);
        }
    }
}
