//! Data of a screen as comma-separated values.
//!
//! Always: RFC 4180, so that any reader gets the same cells back; no cell is a formula to a spreadsheet, save that numbers
//! stay numbers. Source: OWASP, "CSV Injection".

/// A header line and rows as CSV with CRLF ends. A cell that a spreadsheet would compute gets a `'` before it.
pub fn csv(headers: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| cells.join(",") + "\r\n";
    let mut out = line(headers.iter().map(|cell| quoted(cell)).collect());
    for row in rows {
        out += &line(row.iter().map(|cell| quoted(cell)).collect());
    }
    out
}

fn quoted(cell: &str) -> String {
    let formula =
        cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
    let cell = if formula {
        format!("'{cell}")
    } else {
        cell.to_owned()
    };
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let shown = csv(
            &["token", "log p, nats"],
            &[
                row(&["say \"no\"", "-1.5e-3"]),
                row(&["=HYPERLINK(\"x\")", "+2"]),
                row(&["-rm", "@a"]),
                row(&["two\nlines", ""]),
            ],
        );
        assert_eq!(
            shown,
            "token,\"log p, nats\"\r\n\
             \"say \"\"no\"\"\",-1.5e-3\r\n\
             \"'=HYPERLINK(\"\"x\"\")\",+2\r\n\
             '-rm,'@a\r\n\
             \"two\nlines\",\r\n"
        );
    }
}
