//! Amounts as words: the same in every command, report and screen.

/// `98.4 MB`: a size for people, in powers of ten as disks and downloads are sold.
pub fn bytes(n: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    units
        .iter()
        .find(|(size, _)| n as f64 >= *size)
        .map_or_else(
            || format!("{n} B"),
            |(size, unit)| format!("{:.1} {unit}", n as f64 / size),
        )
}

/// A count of parameters: `134.5 M`.
pub fn parameters(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{:.1} K", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} B", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_for_people() {
        assert_eq!(bytes(98_362_432), "98.4 MB");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(491_400_064_000), "491.4 GB");
        assert_eq!(parameters(999), "999");
        assert_eq!(parameters(134_515_008), "134.5 M");
        assert_eq!(parameters(1_240_000_000), "1.24 B");
    }
}
