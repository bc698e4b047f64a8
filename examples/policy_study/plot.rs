//! Line charts as SVG text that needs nothing else. Knows figures; no policies, no caches.

use std::fmt::Write;

/// One chart of a row of charts.
pub struct Chart {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub log_y: bool,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    /// With x above 0, on a logarithmic axis.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// Told apart by most who do not see all colours (Okabe and Ito; the last is of Tol's).
const COLOURS: [&str; 9] =
    ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#882255"];
const LEGEND_LINE: f64 = 20.0;

/// The charts side by side, `columns` in a row, with one legend: a name has the same colour in all of them.
pub fn svg(charts: &[Chart], columns: usize) -> String {
    let mut names: Vec<&str> = Vec::new();
    for line in charts.iter().flat_map(|chart| &chart.lines) {
        if !names.contains(&&*line.name) {
            names.push(&line.name);
        }
    }
    let rows = charts.len().div_ceil(columns);
    let width = WIDTH * columns as f64;
    // Where each name stands in the legend, in as many lines as it takes.
    let (mut x, mut y) = (LEFT, HEIGHT * rows as f64 + 14.0);
    let places: Vec<(f64, f64)> = names
        .iter()
        .map(|name| {
            let room = 40.0 + 7.5 * name.len() as f64;
            if x > LEFT && x + room > width {
                (x, y) = (LEFT, y + LEGEND_LINE);
            }
            x += room;
            (x - room, y)
        })
        .collect();
    let height = y + 16.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, chart) in charts.iter().enumerate() {
        let (x, y) = (WIDTH * (at % columns) as f64, HEIGHT * (at / columns) as f64);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        draw(&mut svg, chart, &names);
        svg += "</g>\n";
    }
    for (at, (name, (x, y))) in names.iter().zip(places).enumerate() {
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            x + 18.0,
            COLOURS[at % COLOURS.len()],
            x + 23.0,
            y + 4.0,
            escaped(name)
        );
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, chart: &Chart, names: &[&str]) {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let x_axis = Axis::new(points().map(|point| point.0), true, LEFT, WIDTH - RIGHT);
    let y_axis = Axis::new(points().map(|point| point.1), chart.log_y, HEIGHT - BOTTOM, TOP);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"20\" font-weight=\"bold\">{}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
         <text transform=\"translate(14 {TOP}) rotate(-90)\" text-anchor=\"end\">{}</text>",
        escaped(&chart.title),
        WIDTH - RIGHT,
        HEIGHT - 10.0,
        escaped(&chart.x_label),
        escaped(&chart.y_label)
    );
    for tick in y_axis.ticks() {
        let y = y_axis.place(tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            short(tick)
        );
    }
    for tick in x_axis.ticks() {
        let x = x_axis.place(tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            short(tick)
        );
    }
    for line in &chart.lines {
        let colour = COLOURS[names.iter().position(|name| *name == line.name).unwrap_or(0) % COLOURS.len()];
        let places: Vec<(f64, f64)> = line.points.iter().map(|&(x, y)| (x_axis.place(x), y_axis.place(y))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in places {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

/// From figures to places in the picture.
struct Axis {
    least: f64,
    greatest: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(figures: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
        for figure in figures {
            (least, greatest) = (least.min(figure), greatest.max(figure));
        }
        match log {
            true => Axis { least: least.max(1e-9), greatest: greatest.max(least * 1.0001), log, from, to },
            false => Axis { least: 0.0, greatest: greatest.max(1e-9) * 1.05, log, from, to },
        }
    }

    fn place(&self, figure: f64) -> f64 {
        let share = match self.log {
            true => (figure.max(self.least) / self.least).ln() / (self.greatest / self.least).ln(),
            false => (figure - self.least) / (self.greatest - self.least),
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let step = round_up(self.greatest / 6.0);
            return (0..7).map(|n| f64::from(n) * step).filter(|&tick| tick <= self.greatest).collect();
        }
        let mut ticks = Vec::new();
        let mut decade = 10f64.powf(self.least.log10().floor());
        while decade <= self.greatest {
            let wide = self.greatest / self.least > 300.0;
            let of_decade: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
            ticks.extend(of_decade.iter().map(|n| n * decade));
            decade *= 10.0;
        }
        ticks.retain(|tick| (self.least * 0.999..=self.greatest * 1.001).contains(tick));
        ticks
    }
}

/// To 1, 2 or 5 times a power of ten.
fn round_up(figure: f64) -> f64 {
    let decade = 10f64.powf(figure.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * decade).find(|&n| n >= figure * 0.999).unwrap_or(figure)
}

fn short(figure: f64) -> String {
    match figure {
        f if f >= 1e12 => format!("{}T", f / 1e12),
        f if f >= 1e9 => format!("{}G", f / 1e9),
        f if f >= 1e6 => format!("{}M", f / 1e6),
        f if f >= 1e3 => format!("{}k", f / 1e3),
        f => format!("{}", (f * 1e6).round() / 1e6),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
