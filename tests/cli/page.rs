//! `report`: the page is well-formed, refers to nothing, and shows what the store holds.

use super::*;
use roxmltree::{Document, ParsingOptions};

fn page_of(site: &Site, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let ran = site.run(&[&["report", "--output", file.to_str().unwrap()], arguments].concat());
    assert_eq!((ran.code, ran.stdout.trim_end()), (0, file.to_str().unwrap()), "{ran:?}");
    std::fs::read_to_string(file).unwrap()
}

fn parsed(page: &str) -> Document<'_> {
    Document::parse_with_options(page, ParsingOptions { allow_dtd: true, ..ParsingOptions::default() })
        .unwrap_or_else(|why| panic!("{why}\n{page}"))
}

fn texts<'a>(document: &'a Document<'_>, tag: &str) -> Vec<&'a str> {
    document.descendants().filter(|node| node.has_tag_name(tag)).filter_map(|node| node.text()).collect()
}

#[test]
fn the_page_is_well_formed_and_refers_to_nothing() {
    let page = page_of(&Site::furnished(), &[]);
    assert!(page.starts_with("<!DOCTYPE html>"));
    let document = parsed(&page);
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url(") && !page.contains("@import"));
    for node in document.descendants() {
        assert!(!["script", "link", "img", "iframe", "object"].contains(&node.tag_name().name()), "{node:?}");
        assert!(["src", "href"].iter().all(|name| node.attribute(*name).is_none()), "{node:?}");
    }
}

#[test]
fn every_plot_is_there_and_says_what_it_means() {
    let page = page_of(&Site::furnished(), &["--budget", "4MiB"]);
    let document = parsed(&page);
    let plots: Vec<_> = document.descendants().filter(|node| node.has_tag_name("figure")).collect();
    assert_eq!(plots.len(), 5);
    for plot in plots {
        let svg = plot.children().find(|node| node.has_tag_name("svg")).unwrap();
        assert!(svg.descendants().any(|node| node.has_tag_name("rect") || node.has_tag_name("path")));
        let caption = plot.children().find(|node| node.has_tag_name("figcaption")).unwrap();
        assert!(caption.text().is_some_and(|text| text.len() > 20));
    }
    assert!(texts(&document, "text").contains(&"budget, 4.0 MiB"));
    let titles = texts(&document, "title");
    // 20,400 days after 1970-01-01.
    for expected in
        ["2025-11-08: 10 uses", "2025-11-08: 80.0 %", "2025-11-08: 80.0 ms", "2025-11-11: 2 uses", "2025-11-11: 50.0 %"]
    {
        assert!(titles.contains(&expected), "{expected}: {titles:?}");
    }
}

#[test]
fn a_label_is_shown_and_stays_text() {
    let page = page_of(&Site::furnished(), &[]);
    let document = parsed(&page);
    assert!(texts(&document, "td").contains(&"unit <1> & co"));
    assert!(!page.contains("<1>"));
}

#[test]
fn a_range_is_drawn_where_the_day_of_a_compilation_is_not_known() {
    let site = Site::empty();
    for day in 20_400..20_403 {
        let at = UNIX_EPOCH + Duration::from_secs(day * DAY_S);
        let hints = HintStore::open(HintOptions::new(&site.options()).clock(move || at));
        hints.record_compile(&unit(1), 1, Duration::from_millis(5));
        hints.record_hit(&unit(1));
    }
    let page = page_of(&site, &[]);
    let document = parsed(&page);
    assert!(texts(&document, "title").contains(&"2025-11-09: from 50.0 % to 100.0 %"), "{page}");
}

#[test]
fn what_is_not_known_is_said_and_not_drawn() {
    let site = Site::empty();
    site.put(1, Kind::CODE, 100);
    let page = page_of(&site, &[]);
    let document = parsed(&page);
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("figure")).count(), 1, "bytes alone");
    assert!(page.contains("nothing is known of its uses") && page.contains("of an application that sets none"));

    let site = Site::empty();
    drop(journal(&site));
    let page = page_of(&site, &[]);
    parsed(&page);
    assert!(page.contains("The application stores no code."));
}

#[test]
fn programs_get_the_figures() {
    let site = Site::furnished();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let (found, code) = site.json(&["report", "-o", file.to_str().unwrap(), "-n", "2"]);
    assert_eq!((code, found["days"].as_array().unwrap().len()), (0, 32));
    assert_eq!(found["days"][31]["uses"], 2);
    assert_eq!(found["hottest"].as_array().unwrap().len(), 2);
    assert_eq!(found["output"], file.to_str().unwrap());
}

#[test]
fn a_page_that_cannot_be_written_is_a_failure() {
    let ran = Site::furnished().run(&["report", "--output", "/no/such/folder/report.html"]);
    assert!(ran.code == 3 && ran.stderr.contains("/no/such/folder/report.html"), "{ran:?}");
}
