//! A screen as files: the picture in three forms, the data in two.

use std::path::Path;

use ratatui::buffer::Buffer;

use super::{csv, html, svg, text};
use crate::tui::screen::Data;
use crate::tui::theme::Theme;

/// Writes `NAME.svg`, `.html` and `.txt`, and with data `.csv` and `.json`, into a folder; gives the file names. Each file
/// appears whole or not at all.
///
/// # Errors
/// What could not be written, and why.
pub fn write(
    folder: &Path,
    name: &str,
    buffer: &Buffer,
    theme: Theme,
    data: Option<&Data>,
) -> Result<Vec<String>, String> {
    let mut files = vec![
        ("svg", svg(buffer, theme)),
        ("html", html(buffer, name, theme)),
        ("txt", text(buffer)),
    ];
    if let Some(data) = data {
        let headers: Vec<&str> = data.headers.iter().map(String::as_str).collect();
        files.push(("csv", csv(&headers, &data.rows)));
        files.push(("json", format!("{:#}\n", data.json)));
    }
    let mut written = Vec::new();
    for (ending, content) in files {
        let file = format!("{name}.{ending}");
        let part = folder.join(format!(".{file}.part"));
        let failed = |error: std::io::Error| format!("{}: {error}", folder.join(&file).display());
        std::fs::write(&part, content).map_err(failed)?;
        std::fs::rename(&part, folder.join(&file)).map_err(failed)?;
        written.push(file);
    }
    Ok(written)
}
