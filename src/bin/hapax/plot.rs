//! Plots as inline SVG. Pure: numbers in, text out. Colours come from the page's style sheet; the title of each mark, which
//! browsers show under the pointer, says its figures.

use crate::page::escaped;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 28.0;
const GRID_LINES: usize = 4;
/// Names below a plot, so that they stay apart.
const NAMES_AT_MOST: usize = 7;
const ROW: f64 = 26.0;

/// What one column shows.
pub struct Column {
    /// Below it.
    pub name: String,
    /// Up to here it is certain.
    pub least: f64,
    /// Up to here it is possible; the same as `least` where it is known exactly.
    pub most: f64,
    /// Under the pointer.
    pub title: String,
}

/// How a plot as a whole reads.
pub struct Scale {
    /// For those who cannot see it.
    pub description: String,
    /// The axis ends here; [`axis_top`] chooses well.
    pub top: f64,
    /// Writes a value.
    pub label: fn(f64) -> String,
}

/// Columns from the bottom up: solid as far as it is certain, lighter as far as it is possible.
pub fn bars(scale: &Scale, columns: &[Column]) -> String {
    let frame = Frame::new(scale, columns);
    let mut svg = frame.begin();
    for (at, column) in columns.iter().enumerate() {
        let (x, width) = (frame.x(at) + frame.step * 0.1, frame.step * 0.8);
        let title = escaped(&column.title);
        for (class, value) in [("possible", column.most), ("certain", column.least)] {
            if value > 0.0 {
                let (y, height) = (frame.y(value), frame.y(0.0) - frame.y(value));
                let _ = writeln!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{title}</title></rect>"
                );
            }
        }
    }
    svg + "</svg>\n"
}

/// For each column that has a value the stretch from the least to the most that it can be.
pub fn spans(scale: &Scale, columns: &[Option<Column>], names: &[String]) -> String {
    let frame = Frame::named(scale, names);
    let mut svg = frame.begin();
    for (at, column) in columns.iter().enumerate() {
        let Some(column) = column else { continue };
        let (x, width) = (frame.x(at) + frame.step * 0.1, frame.step * 0.8);
        // A value that is known exactly is a line.
        let height = (frame.y(column.least) - frame.y(column.most)).max(3.0);
        let y = frame.y(column.most) - if column.least == column.most { 1.5 } else { 0.0 };
        let class = if column.least == column.most { "certain" } else { "possible" };
        let title = escaped(&column.title);
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{title}</title></rect>"
        );
    }
    svg + "</svg>\n"
}

/// An area that steps up, below a line that it is held against.
pub fn area(scale: &Scale, columns: &[Column], limit: f64, limit_name: &str) -> String {
    let frame = Frame::new(scale, columns);
    let mut svg = frame.begin();
    let mut path = format!("M{LEFT:.1} {:.1}", frame.y(0.0));
    for (at, column) in columns.iter().enumerate() {
        let _ = write!(path, " V{:.1} H{:.1}", frame.y(column.least), frame.x(at + 1));
    }
    let title = columns.last().map_or_else(String::new, |column| escaped(&column.title));
    let _ = writeln!(svg, "<path class=\"certain\" d=\"{path} V{:.1} Z\"><title>{title}</title></path>", frame.y(0.0));
    let (y, name) = (frame.y(limit), escaped(limit_name));
    let _ =
        writeln!(svg, "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" />", WIDTH - RIGHT);
    let _ = writeln!(svg, "<text class=\"limit\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>", LEFT + 6.0, y + 14.0);
    svg + "</svg>\n"
}

/// One row for each, the longest first if they come so.
pub fn ranking(description: &str, rows: &[Column], label: fn(f64) -> String) -> String {
    let most = rows.iter().map(|row| row.most).fold(0.0, f64::max);
    let (names, height) = (WIDTH * 0.4, ROW * rows.len() as f64 + 4.0);
    let mut svg = begin(description, height);
    for (at, row) in rows.iter().enumerate() {
        let y = ROW * at as f64 + 4.0;
        let width = if most > 0.0 { (WIDTH - names - 90.0) * row.most / most } else { 0.0 };
        let (name, title) = (escaped(&shortened(&row.name)), escaped(&row.title));
        let _ = writeln!(
            svg,
            "<text class=\"right\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>\n<rect class=\"certain\" x=\"{names:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{title}</title></rect>\n<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            names - 8.0,
            y + 15.0,
            ROW - 6.0,
            names + width + 6.0,
            y + 15.0,
            escaped(&label(row.most)),
        );
    }
    svg + "</svg>\n"
}

struct Frame<'a> {
    scale: &'a Scale,
    names: Vec<&'a str>,
    /// A column's width.
    step: f64,
}

impl<'a> Frame<'a> {
    fn new(scale: &'a Scale, columns: &'a [Column]) -> Frame<'a> {
        Self::over(scale, columns.iter().map(|column| &*column.name).collect())
    }

    fn named(scale: &'a Scale, names: &'a [String]) -> Frame<'a> {
        Self::over(scale, names.iter().map(|name| &**name).collect())
    }

    fn over(scale: &'a Scale, names: Vec<&'a str>) -> Frame<'a> {
        let step = (WIDTH - LEFT - RIGHT) / names.len().max(1) as f64;
        Frame { scale, names, step }
    }

    fn x(&self, column: usize) -> f64 {
        LEFT + self.step * column as f64
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / self.scale.top).clamp(0.0, 1.0)
    }

    fn begin(&self) -> String {
        let mut svg = begin(&self.scale.description, HEIGHT);
        for line in 0..=GRID_LINES {
            let value = self.scale.top * line as f64 / GRID_LINES as f64;
            let (y, label) = (self.y(value), escaped(&(self.scale.label)(value)));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" />\n<text class=\"right\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            );
        }
        let every = self.names.len().div_ceil(NAMES_AT_MOST).max(1);
        for (at, name) in self.names.iter().enumerate().step_by(every) {
            let (x, name) = (self.x(at) + self.step / 2.0, escaped(name));
            let _ = writeln!(svg, "<text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text>", HEIGHT - 8.0);
        }
        svg
    }
}

fn begin(description: &str, height: f64) -> String {
    let description = escaped(description);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{description}\">\n<title>{description}</title>\n"
    )
}

/// What is on an axis, and so which steps read well.
#[derive(Clone, Copy)]
pub enum Steps {
    /// 1, 2 or 5 times a power of ten.
    Counts,
    /// A power of two.
    Bytes,
    /// Nanoseconds: as counts below a second, then what clocks and calendars divide by.
    Times,
}

/// Where an axis ends that goes up to `most`: the least that is no less, and whose quarters read well.
pub fn axis_top(most: f64, steps: Steps) -> f64 {
    const SECOND: f64 = 1e9;
    const SECONDS: [f64; 17] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0,
        86_400.0,
    ];
    if most <= 0.0 {
        return GRID_LINES as f64;
    }
    let least = most / GRID_LINES as f64;
    let step = match steps {
        Steps::Bytes => least.log2().ceil().exp2(),
        Steps::Times if least > SECOND / 2.0 => {
            let seconds = SECONDS.into_iter().find(|seconds| seconds * SECOND >= least);
            seconds.map_or_else(|| of_ten(least / 86_400e9) * 86_400e9, |seconds| seconds * SECOND)
        }
        Steps::Counts | Steps::Times => of_ten(least),
    };
    step * GRID_LINES as f64
}

fn of_ten(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let candidates = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    // The last is above, but for what rounding does.
    candidates.into_iter().find(|candidate| *candidate >= least).unwrap_or(least)
}

fn shortened(name: &str) -> String {
    const LETTERS_AT_MOST: usize = 42;
    if name.chars().count() <= LETTERS_AT_MOST {
        return name.to_owned();
    }
    name.chars().take(LETTERS_AT_MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_above_the_most_at_a_number_that_reads_well() {
        const MINUTE: f64 = 60e9;
        const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
        for (most, steps, expected) in [
            (0.0, Steps::Counts, 4.0),
            (1.0, Steps::Counts, 2.0),
            (3.0, Steps::Counts, 4.0),
            (8.1, Steps::Counts, 20.0),
            (100.0, Steps::Counts, 200.0),
            (1000.0, Steps::Bytes, 1024.0),
            (GIB, Steps::Bytes, GIB),
            (1.1 * GIB, Steps::Bytes, 2.0 * GIB),
            (30e6, Steps::Times, 40e6),
            (3.0 * MINUTE, Steps::Times, 4.0 * MINUTE),
            (4.5 * MINUTE, Steps::Times, 8.0 * MINUTE),
            (6.0 * 86_400e9, Steps::Times, 8.0 * 86_400e9),
        ] {
            let top = axis_top(most, steps);
            assert!(top >= most && (top - expected).abs() < 1e-6 * expected, "{most}: {top}, not {expected}");
        }
    }

    #[test]
    fn what_is_named_by_others_is_escaped() {
        let row = Column { name: "<b>&\"".to_owned(), least: 1.0, most: 1.0, title: "<i>".to_owned() };
        let svg = ranking("a & b", &[row], |value| value.to_string());
        assert!(
            svg.contains("&lt;b&gt;&amp;&quot;") && svg.contains("&lt;i&gt;") && svg.contains("a &amp; b"),
            "{svg}"
        );
        assert!(!svg.contains("<b>") && !svg.contains("<i>"), "{svg}");
    }
}
