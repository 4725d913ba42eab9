//! The page says what the results say, and nothing of theirs becomes markup.

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};

use super::synthetic::{FORMATS, lost, results};
use crate::{
    report::{document, number::percent},
    results::{Results, RunReport},
};

fn page(results: &Results) -> String {
    document::page(results).into_string()
}

/// Returns the body, which is well-formed XML as well.
fn body(page: &str) -> &str {
    &page[page.find("<body>").unwrap()..page.find("</html>").unwrap()]
}

fn parsed(body: &str) -> Document<'_> {
    let options = ParsingOptions { nodes_limit: u32::MAX, ..ParsingOptions::default() };
    Document::parse_with_options(body, options).unwrap()
}

/// Returns the tooltips of every picture whose label starts with some words.
fn titles(document: &Document<'_>, label: &str) -> Vec<String> {
    let is_picture =
        |node: &Node<'_, '_>| node.attribute("aria-label").is_some_and(|l| l.starts_with(label));
    let pictures = document.descendants().filter(is_picture);
    let titles = pictures.flat_map(|node| node.descendants()).filter(|n| n.has_tag_name("title"));
    titles.map(|title| title.text().unwrap_or_default().to_owned()).collect()
}

/// Checks "layer, method: value" of every layer and method against the means over seeds.
fn check_layers(
    results: &Results,
    titles: &[String],
    format: &str,
    of: impl Fn(&crate::results::CellReport) -> f64,
) {
    let runs = || results.runs.iter().filter(|r| r.task == "digits-deep" && r.format == format);
    for title in titles {
        let (place, value) = title.rsplit_once(": ").unwrap();
        let (layer, method) = place.split_once(", ").unwrap();
        let cells = runs().filter(|run| run.method == method).flat_map(|run| &run.cells);
        let values: Vec<f64> = cells.filter(|cell| cell.name == layer).map(&of).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let shown: f64 = value.parse().unwrap();
        assert!((shown - mean).abs() <= 0.006 * mean, "{format}, {title}: {mean}");
    }
}

/// Checks that each row of scales is covered from its first visit to the end, and nothing twice.
fn check_bands(document: &Document<'_>, format: &str) {
    let label = format!("Loss scale by layer and step of measured in {format}, digits-deep");
    let is_picture = |node: &Node<'_, '_>| node.attribute("aria-label") == Some(&label);
    let picture = document.descendants().find(is_picture).unwrap();
    let mut widths = BTreeMap::<String, f64>::new();
    for path in picture.descendants().filter(|node| node.has_tag_name("path")) {
        let name = path.descendants().find(|node| node.has_tag_name("title")).unwrap().text();
        let layer = name.unwrap().split_once(": ").unwrap().0.to_owned();
        for band in path.attribute("d").unwrap().split_terminator('z') {
            let (left, rest) = band[1..].split_once(' ').unwrap();
            let sides: Vec<&str> = rest.split(['h', 'v', '-']).collect();
            assert_eq!(sides[1], sides[4], "{band} is no rectangle");
            let (left, width): (f64, f64) = (left.parse().unwrap(), sides[1].parse().unwrap());
            assert!(left >= 122.0 && left + width <= 294.3, "{band} leaves the picture");
            *widths.entry(layer.clone()).or_default() += width;
        }
    }
    assert_eq!(widths.len(), 50);
    assert!(widths.values().all(|width| (150.0..173.0).contains(width)), "{widths:?}");
}

#[test]
fn the_page_needs_nothing_from_outside_and_is_well_formed() {
    let page = page(&results());
    for forbidden in ["http:", "https:", "<script", "@import", "src=", "<link", "javascript"] {
        assert!(!page.contains(forbidden), "the page contains {forbidden}");
    }
    // Every anchor of the contents leads somewhere.
    let document = parsed(body(&page));
    for link in document.descendants().filter_map(|node| node.attribute("href")) {
        let id = link.strip_prefix('#').unwrap();
        assert!(document.descendants().any(|node| node.attribute("id") == Some(id)), "{link}");
    }
    for picture in document.descendants().filter(|node| node.has_tag_name("svg")) {
        let is_said = picture.attribute("aria-label").is_some_and(|label| !label.is_empty());
        assert!(is_said || picture.attribute("aria-hidden") == Some("true"));
    }
    assert!(
        !page.contains("NaN") && !page.contains(">inf"),
        "the page shows a number that is none"
    );
}

#[test]
fn every_metric_is_in_its_picture() {
    let results = results();
    let page = page(&results);
    let document = parsed(body(&page));
    for format in FORMATS {
        let titles = titles(&document, &format!("accuracy at the end of digits-deep in {format},"));
        let runs = || results.runs.iter().filter(|r| r.task == "digits-deep" && r.format == format);
        let title = |method: &str| {
            titles.iter().find(|title| title.starts_with(&format!("{method}: "))).unwrap()
        };
        for run in runs() {
            let seeds = title(&run.method).split_once("seeds ").unwrap().1;
            let shown: Vec<&str> = seeds.split(", ").collect();
            assert!(shown.contains(&&percent(run.metric)[..]), "{seeds}: {}", run.metric);
            assert_eq!(run.stopped.is_some(), title(&run.method).contains("stopped: overflow"));
        }
    }
}

#[test]
fn every_layer_is_in_its_pictures() {
    let results = results();
    let page = page(&results);
    let document = parsed(body(&page));
    for format in FORMATS {
        let loss = titles(&document, &format!("Underflow by layer and method in {format}, digits"));
        let mass = titles(&document, &format!("Lost mass by layer and method in {format}, digits"));
        assert_eq!([loss.len(), mass.len()], [50 * 8; 2]);
        check_layers(&results, &loss, format, |cell| cell.underflow_real);
        check_layers(&results, &mass, format, |cell| cell.lost_mass);
        let errors =
            titles(&document, &format!("Relative L2 error of gradients in {format}, digits"));
        assert_eq!(errors.len(), 49 * 8);
        let scales = titles(
            &document,
            &format!("Loss scale by layer and step of measured in {format}, digits"),
        );
        let run = results.runs.iter().find(|run| run.method == "measured" && run.format == format);
        for scale in run.unwrap().cells.iter().flat_map(|cell| {
            cell.scales_log2.iter().flatten().map(|k| format!("{}: K = {k}", cell.name))
        }) {
            assert!(scales.contains(&scale), "{scale} is not drawn");
        }
        check_bands(&document, format);
    }
}

#[test]
fn steps_and_failures_are_said() {
    let results = results();
    let page = page(&results);
    let document = parsed(body(&page));
    let steps = titles(&document, "Steps to the target of digits-deep in e4m3");
    assert!(steps.contains(&"none, steps by seed: not reached, not reached, not reached".into()));
    let text: String = document.descendants().filter_map(|node| node.text()).collect();
    let [digits, shapes] = ["digits-deep", "shapes-unet"].map(|task| lost(&results, task));
    let failed = format!(
        "failed in digits-deep in e4m3 (\u{2212}{digits}, stopped) and shapes-unet in e4m3 \
         (\u{2212}{shapes}, stopped)"
    );
    for sentence in [
        &failed[..],
        "measured: equal to f32 in 8 of 8",
        "198 runs of 2 tasks in 4 gradient formats, by 8 methods beside f32",
    ] {
        assert!(text.contains(sentence), "not said: {sentence}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let mut results = results();
    let hostile = "<script>alert(1)</script>\"' onload=x &amp; ]]> -->";
    results.tasks[0].name = hostile.into();
    results.command = hostile.into();
    for run in results.runs.iter_mut().filter(|run| run.task == "digits-deep") {
        run.task = hostile.into();
        run.configuration = hostile.into();
        for name in [&mut run.method, &mut run.format] {
            *name = format!("{name}{hostile}");
        }
        for cell in &mut run.cells {
            cell.name += hostile;
        }
    }
    let page = page(&results);
    assert!(!page.contains("<script"));
    let document = parsed(body(&page));
    assert!(document.descendants().all(|node| !node.has_tag_name("script")));
    let names = document.descendants().filter(|node| node.text() == Some(hostile)).count();
    assert!(names >= 3, "the name stands in {names} places");
}

#[test]
fn periods_are_told_apart() {
    let mut results = results();
    let own = results.runs.iter().filter(|run| run.method == "measured").cloned();
    let slower: Vec<_> = own.map(|run| RunReport { period: 100, ..run }).collect();
    results.runs.extend(slower);
    let page = page(&results);
    let document = parsed(body(&page));
    let titles = titles(&document, "accuracy at the end of digits-deep in e5m2,");
    for method in ["measured/10: ", "measured/100: ", "none: "] {
        assert_eq!(titles.iter().filter(|title| title.starts_with(method)).count(), 1, "{method}");
    }
    let text: String = document.descendants().filter_map(|node| node.text()).collect();
    for method in ["measured/10", "measured/100"] {
        assert!(text.contains(&format!("{method}: equal to f32 in 8 of 8")), "{method}");
    }
}

/// Every method of every place is in the picture that the page opens with, and where it is says how far it ended.
#[test]
fn the_page_opens_with_every_method_in_every_place() {
    let results = results();
    let page = page(&results);
    let before = |part: &str| page.find(part).unwrap();
    assert!(before("id=\"overview\"") < before("<nav") && before("<nav") < before("<table"));
    let document = parsed(body(&page));
    for task in ["digits-deep", "shapes-unet"] {
        for format in FORMATS {
            let titles = titles(&document, &format!("Points to f32 of {task} in {format}, by"));
            assert_eq!(titles.len(), 8, "{task}, {format}");
            let of = |method: &str| {
                titles.iter().find(|title| title.starts_with(&format!("{method}: "))).unwrap()
            };
            assert!(of("measured").ends_with(", equal"), "{}", of("measured"));
            for method in ["none", "fixed:20"] {
                let failed = of(method).ends_with(", failed");
                assert!(failed || format != "e4m3", "{}", of(method));
            }
        }
    }
}

/// Tables that are wider than a phone are moved within their own frame.
#[test]
fn every_table_is_in_a_frame_that_scrolls() {
    let page = page(&results());
    let document = parsed(body(&page));
    let tables = document.descendants().filter(|node| node.has_tag_name("table"));
    let frames = tables.map(|table| table.parent().unwrap().attribute("class"));
    let frames: Vec<_> = frames.collect();
    assert!(frames.len() >= 6 && frames.iter().all(|class| *class == Some("scroll")), "{frames:?}");
}
