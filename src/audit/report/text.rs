//! Foreign text made safe to show: prompts, completions and token names may hold anything.
//!
//! Always: what comes out has no control character, no character that reorders or hides others, and is one line; in
//! [`escaped`] it also has no character that means something to HTML or XML.

pub use crate::text::visible::visible;

/// [`visible`], safe between tags and inside quoted attributes of HTML and XML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// [`visible`], safe in a cell of a Markdown table and unable to become markup, a mention or a link.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
    }
    out
}

/// `text` in lines of at most `width` characters, broken at spaces where there are any.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let room = if used == 0 {
            width
        } else {
            width.saturating_sub(used + 1)
        };
        if word.len() > room && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            if let Some(line) = lines.last_mut() {
                line.extend(word);
            }
            lines.push(String::new());
            word = rest;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            used += word.len();
            line.extend(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_gets_through() {
        assert_eq!(visible("a\u{1b}[31mb\0\nc"), "a⟨U+001B⟩[31mb⟨U+0000⟩⏎c");
        assert_eq!(
            visible("x\u{202e}gnp.exe\u{200b}"),
            "x⟨U+202E⟩gnp.exe⟨U+200B⟩"
        );
        assert_eq!(escaped("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
        assert_eq!(
            markdown("a|b <b> @all `x`"),
            "a\\|b &lt;b&gt; &#64;all \\`x\\`"
        );
    }

    #[test]
    fn lines_are_broken_at_spaces_and_long_words_anywhere() {
        assert_eq!(
            wrapped("one two three four", 9),
            vec!["one two", "three", "four"]
        );
        assert_eq!(wrapped("abcdefghijkl", 8), vec!["abcdefgh", "ijkl"]);
        assert_eq!(wrapped("", 10), vec![""]);
    }
}
