//! An HTML page that refers to nothing outside of itself. Well-formed as XML, too.

use crate::show;

/// Light and dark follow the reader's system.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2430; --paper: #ffffff; --faint: #d9dee6; --mark: #2f6fbb; --limit: #b3401f; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe5ee; --paper: #14181f; --faint: #333b47; --mark: #6ea8ec; --limit: #f0885f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 820px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
figure { margin: 0; } figcaption, .note { font-size: 0.9em; opacity: 0.8; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { text-align: right; padding: 0.15em 0.6em; border-bottom: 1px solid var(--faint); }
td:last-child, th:last-child, .pairs td, .pairs th { text-align: left; }
.pairs th { font-weight: normal; opacity: 0.8; }
.wide { overflow-x: auto; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--ink); }
.right { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--faint); } line.limit { stroke: var(--limit); stroke-dasharray: 6 4; } svg text.limit { fill: var(--limit); }
.certain { fill: var(--mark); } .possible { fill: var(--mark); opacity: 0.4; }
";

/// The page so far.
pub struct Page(String);

impl Page {
    pub fn new(title: &str) -> Page {
        let title = escaped(title);
        Page(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
             <meta name=\"viewport\" content=\"width=device-width\" />\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        ))
    }

    pub fn heading(&mut self, text: &str) {
        self.0 += &format!("<h2>{}</h2>\n", escaped(text));
    }

    pub fn note(&mut self, text: &str) {
        self.0 += &format!("<p class=\"note\">{}</p>\n", escaped(text));
    }

    /// A plot and what it means.
    pub fn figure(&mut self, svg: &str, caption: &str) {
        self.0 += &format!("<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n", escaped(caption));
    }

    /// Names and values.
    pub fn pairs(&mut self, pairs: &[(&str, String)]) {
        self.0 += "<table class=\"pairs\">\n";
        for (name, value) in pairs {
            self.0 += &format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value));
        }
        self.0 += "</table>\n";
    }

    pub fn table<const COLUMNS: usize>(
        &mut self,
        headings: [&str; COLUMNS],
        rows: impl Iterator<Item = [String; COLUMNS]>,
    ) {
        let row = |cells: [String; COLUMNS], tag: &str| {
            let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        self.0 += "<div class=\"wide\"><table>\n";
        self.0 += &row(headings.map(str::to_owned), "th");
        self.0.extend(rows.map(|cells| row(cells, "td")));
        self.0 += "</table></div>\n";
    }

    pub fn finish(self) -> String {
        self.0 + "</body>\n</html>\n"
    }
}

/// As text between tags, or between quotes.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in show::printable(text).chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            // No characters of XML.
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}
