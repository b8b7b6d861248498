//! What the terminal can show, from its environment.
//!
//! Always: only what is passed in is read, so that tests and `--script` decide it; an unknown terminal gets less, not more.
//! Conventions: no-color.org, `FORCE_COLOR` as Node's supports-color reads it, `COLORFGBG` as rxvt sets it.

use super::{Background, Theme, Tier};

impl Theme {
    /// The theme that the variables call for, on a terminal that is `utf8` or not.
    ///
    /// Colours: a `NO_COLOR` that is not empty takes all, else `FORCE_COLOR` (0 to 3) says how many, else `COLORTERM` and
    /// `TERM`. Background: `CANDLESCOPE_THEME` (`dark` or `light`), else `COLORFGBG`, else dark.
    pub fn detect(env: &dyn Fn(&str) -> Option<String>, utf8: bool) -> Self {
        let get = |name: &str| env(name).map(|v| v.to_lowercase()).unwrap_or_default();
        let term = get("TERM");
        let tier = if get("NO_COLOR").is_empty() {
            forced(&get("FORCE_COLOR"), offered(&get("COLORTERM"), &term))
        } else {
            Tier::NoColour
        };
        let background = match get("CANDLESCOPE_THEME").as_str() {
            "light" => Background::Light,
            "dark" => Background::Dark,
            _ => from_rxvt(&get("COLORFGBG")),
        };
        let plain = ["dumb", "vt100", "vt220"].contains(&term.as_str());
        Self::new(tier, background, !utf8 || plain)
    }
}

/// What the terminal says of itself.
fn offered(colorterm: &str, term: &str) -> Tier {
    let known = |names: &[&str]| names.iter().any(|name| term.contains(name));
    if term.is_empty() || known(&["dumb", "vt100", "vt220"]) {
        Tier::NoColour
    } else if ["truecolor", "24bit"].contains(&colorterm)
        || known(&["direct", "kitty", "alacritty", "ghostty", "wezterm"])
    {
        Tier::True
    } else if known(&["256"]) {
        Tier::Ansi256
    } else {
        Tier::Ansi16
    }
}

/// `FORCE_COLOR`'s word over what is offered: a number is exact, anything else asks for some colour at least.
fn forced(force: &str, offered: Tier) -> Tier {
    match force {
        "" => offered,
        "0" | "false" => Tier::NoColour,
        "1" => Tier::Ansi16,
        "2" => Tier::Ansi256,
        "3" => Tier::True,
        _ => offered.max(Tier::Ansi16),
    }
}

/// rxvt's `foreground;background` as palette numbers.
fn from_rxvt(pair: &str) -> Background {
    match pair.rsplit(';').next().and_then(|last| last.parse().ok()) {
        Some(7u8 | 9..=15) => Background::Light,
        _ => Background::Dark,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, &str)]) -> Theme {
        let env = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| (*value).to_owned())
        };
        Theme::detect(&env, true)
    }

    #[test]
    fn colours_follow_the_environment() {
        let cases: &[(&[(&str, &str)], Tier)] = &[
            (&[], Tier::NoColour),
            (&[("TERM", "dumb")], Tier::NoColour),
            (&[("TERM", "linux")], Tier::Ansi16),
            (&[("TERM", "screen-256color")], Tier::Ansi256),
            (
                &[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")],
                Tier::True,
            ),
            (&[("TERM", "xterm-direct")], Tier::True),
            (
                &[("TERM", "xterm-kitty"), ("NO_COLOR", "1")],
                Tier::NoColour,
            ),
            (&[("TERM", "xterm-kitty"), ("NO_COLOR", "")], Tier::True),
            (&[("FORCE_COLOR", "3"), ("NO_COLOR", "1")], Tier::NoColour),
            (&[("TERM", "dumb"), ("FORCE_COLOR", "1")], Tier::Ansi16),
            (
                &[("TERM", "xterm-kitty"), ("FORCE_COLOR", "0")],
                Tier::NoColour,
            ),
            (&[("FORCE_COLOR", "true")], Tier::Ansi16),
        ];
        for (pairs, tier) in cases {
            assert_eq!(found(pairs).tier, *tier, "{pairs:?}");
        }
    }

    #[test]
    fn the_background_is_asked_for_or_guessed() {
        let back = |pairs: &[(&str, &str)]| found(pairs).background;
        assert_eq!(back(&[]), Background::Dark);
        assert_eq!(back(&[("CANDLESCOPE_THEME", "light")]), Background::Light);
        assert_eq!(back(&[("COLORFGBG", "0;15")]), Background::Light);
        assert_eq!(back(&[("COLORFGBG", "15;default;0")]), Background::Dark);
        let both = [("COLORFGBG", "0;15"), ("CANDLESCOPE_THEME", "DARK")];
        assert_eq!(back(&both), Background::Dark);
    }

    #[test]
    fn ascii_where_nothing_else_is_sure() {
        assert!(!found(&[("TERM", "xterm")]).ascii);
        assert!(found(&[("TERM", "dumb")]).ascii);
        assert!(Theme::detect(&|_| None, false).ascii);
    }
}
