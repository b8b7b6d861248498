//! Records of latents: found beside the dictionary, named with `:record`, or made here of a text (`texts.rs`).
//!
//! Always: a record is of this dictionary's width and points, or refused; of two records of a latent the later one stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::features::Splice;
use crate::features::dashboard::{Dashboard, LatentRecord, Place, stored, stored_in};

/// A latent with what it was seen on.
#[derive(Debug)]
pub(super) struct Known {
    pub place: Arc<Place>,
    pub latent: LatentRecord,
}

/// What is known of latents from files.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    by_latent: BTreeMap<usize, Arc<Known>>,
}

impl Records {
    /// Those beside a dictionary, and what was wrong with files that say they are records.
    pub(super) fn beside(path: &Path, splice: &Splice) -> (Self, Vec<String>) {
        let (mut records, mut wrong) = (Self::default(), Vec::new());
        let parent = || path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let folder = if path.is_dir() {
            path.to_owned()
        } else {
            parent()
        };
        for file in stored_in(&folder) {
            if let Err(why) = records.read(&file, splice) {
                wrong.push(why);
            }
        }
        (records, wrong)
    }

    /// Takes a file in; gives how many latents it has.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(&mut self, file: &Path, splice: &Splice) -> Result<usize, String> {
        let dashboard = stored(file).map_err(|e| e.to_string())?;
        let added = self.add(dashboard, splice);
        added.map_err(|why| format!("{}: {why}", file.display()))
    }

    /// Takes records in; gives how many latents they are of.
    ///
    /// # Errors
    /// They are of another dictionary.
    pub(super) fn add(&mut self, dashboard: Dashboard, splice: &Splice) -> Result<usize, String> {
        fits(&dashboard, splice)?;
        let place = Arc::new(dashboard.place);
        let n = dashboard.latents.len();
        for latent in dashboard.latents {
            let place = Arc::clone(&place);
            let known = Known { place, latent };
            self.by_latent.insert(known.latent.index, Arc::new(known));
        }
        Ok(n)
    }

    pub(super) fn of(&self, latent: usize) -> Option<&Arc<Known>> {
        self.by_latent.get(&latent)
    }

    pub(super) fn latents(&self) -> impl Iterator<Item = usize> {
        self.by_latent.keys().copied()
    }

    pub(super) fn count(&self) -> usize {
        self.by_latent.len()
    }
}

/// Refuses records of another dictionary, by the field that differs.
fn fits(dashboard: &Dashboard, splice: &Splice) -> Result<(), String> {
    let place = &dashboard.place;
    let here = splice.dictionary().d_sae();
    if place.d_sae != here {
        let found = place.d_sae;
        return Err(format!(
            "it is of a dictionary of {found} latents, this one has {here}"
        ));
    }
    for (side, found, here) in [
        ("reads", place.reads, splice.read()),
        ("writes", place.writes, splice.write()),
    ] {
        if found != here {
            return Err(format!(
                "it is of a dictionary that {side} {found}, this one {side} {here}"
            ));
        }
    }
    let beyond = dashboard.latents.iter().find(|l| l.index >= here);
    beyond.map_or(Ok(()), |latent| {
        let index = latent.index;
        Err(format!(
            "latent {index} is beyond the {here} of this dictionary"
        ))
    })
}
