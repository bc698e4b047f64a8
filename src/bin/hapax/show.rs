//! Figures as people read them. Pure text.

const NS_PER_DAY: u64 = 86_400_000_000_000;

/// `1,234`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 entry`, `2 entries`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `312.4 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// `43.0 ms`, `2.3 s`, `7.0 min`.
pub fn time(ns: f64) -> String {
    const UNITS: [(f64, &str); 6] = [(1e3, "ns"), (1e3, "us"), (1e3, "ms"), (60.0, "s"), (60.0, "min"), (24.0, "h")];
    let mut scaled = ns;
    for (at, (next, unit)) in UNITS.into_iter().enumerate() {
        if scaled < next {
            return if at == 0 { format!("{scaled:.0} {unit}") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= next;
    }
    format!("{scaled:.1} days")
}

pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The day of a moment, counted from 1970-01-01.
pub fn day_of_ns(unix_ns: u64) -> u32 {
    (unix_ns / NS_PER_DAY) as u32
}

/// `2025-11-20`. Gregorian, by the 400-year cycle that begins on 1 March (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", 2021).
pub fn date(day: u32) -> String {
    let day = u64::from(day) + 719_468; // from 0000-03-01
    let cycle = day / 146_097;
    let in_cycle = day % 146_097;
    let year_in_cycle = (in_cycle - in_cycle / 1_460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let in_year = in_cycle - (365 * year_in_cycle + year_in_cycle / 4 - year_in_cycle / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_in_cycle + 400 * cycle + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// What came from a file, without anything that a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Columns side by side; all but the last are aligned to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text += "  ";
            if column + 1 < columns {
                text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
            }
            text += cell;
        }
        text.push('\n');
    }
    text
}

/// Names and values, one pair a line.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("  {name:width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_expected() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(1_048_575), bytes(5 << 29)],
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "2.5 GiB"]
        );
        assert_eq!(
            [time(0.0), time(12.4), time(43e6), time(90e9), time(48.0 * 3600e9)],
            ["0 ns", "12 ns", "43.0 ms", "1.5 min", "2.0 days"]
        );
    }

    /// The expected dates are those of `date -u -d @SECONDS`.
    #[test]
    fn dates_follow_the_calendar_over_leap_years() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_412, "2025-11-20"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day), expected, "{day}");
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(printable("a\x1b[31mb\nc é"), "a\u{fffd}[31mb\u{fffd}c é");
    }
}
