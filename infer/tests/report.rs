//! What a report says, that it says it the same way twice, and that nothing breaks out of it.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it must be"
)]

mod sketch;

use infer::report::{
    Example, Fact, LossPoint, Report, Training, example_group, html, json, markdown, table,
    warnings,
};
use infer::score::{Row, Summary, compare, score};
use protocol::{PathEnd, Problem, Trace};
use sketch::{exchanging, group, problem, problems, row, scored};

/// What a hostile model, recipe or problem would write.
const HOSTILE: &str =
    "<script>alert(1)</script> \"><img src=x onerror='alert(2)'> &amp; {{ 7 * 7 }}";

fn rows() -> Vec<Summary> {
    vec![
        scored("base", ["9 9 9 -", "5 12 5 5", "1 3 2 1", "8 8 8 -"]),
        scored("LeaP-T", ["7 7 9 -", "12 12 5 5", "3 3 3 1", "8 8 4 -"]),
    ]
}

fn exchange(name: &str, problem: &Problem, trace: &Trace) -> (Summary, Example) {
    let problems = std::slice::from_ref(problem);
    let row = Row {
        name: name.into(),
        title: name.into(),
        settings: None,
    };
    let summary = score(&row, problems, std::iter::once(trace.clone())).unwrap();
    let example = Example::new(&summary, problem, trace.clone()).unwrap();
    (summary, example)
}

fn report() -> Report {
    let mut rows = rows();
    let comparisons = vec![compare(&rows[1], &rows[0]).unwrap()];
    let (summary, example) = exchange("+LeaP", &problem("a", "7"), &exchanging("a", 0, "7 9 - 7"));
    rows.push(summary);
    let points = (0..1000)
        .map(|step| LossPoint {
            step,
            loss: 3.0 / (1.0 + step as f64),
        })
        .collect();
    Report {
        title: "Tiny".into(),
        facts: vec![Fact::new("Teacher", "simulated")],
        rows,
        comparisons,
        examples: vec![example],
        trainings: vec![Training {
            name: "LeaP-T".into(),
            points,
        }],
        notes: vec!["A note.".into()],
    }
}

#[test]
fn the_table_reads_well() {
    let expected = "\
row      Pass@1 [95%]        Cons@4 [95%]         tokens per path   no answer
base     12.5 [ 0.0, 35.5]    0.0 [ 0.0, 49.0]    25.0 + 0           12.5%
LeaP-T   50.0 [17.5, 82.5]   62.5 [ 0.0, 100.0]   25.0 + 0           12.5%

4 problems, 1 group of 4 paths; scores in percent, intervals over problems
tokens: sampled + injected, mean over paths
";
    assert_eq!(table(&rows()), expected);
    assert_eq!(table(&[]), "");
}

#[test]
fn the_table_says_what_it_leaves_out() {
    let groups = ["a", "b"].map(|problem| group(problem, 0, "7 7 9 -"));
    let summary = score(&row("base"), &problems(), groups.into_iter()).unwrap();
    let last = "\nbase: 2 problems without a group, left out\n";
    assert!(table(&[summary]).ends_with(last));
}

#[track_caller]
fn check_width(name: &str) {
    let text = table(&[scored(name, ["7 7 9 -"; 4])]);
    for line in text.lines() {
        let columns = unicode_width::UnicodeWidthStr::width(line);
        assert!(columns <= 100, "{columns} columns: {line}");
    }
    assert_eq!(text.lines().count(), 5, "one line a row: {text}");
}

#[test]
fn the_table_fits_a_terminal() {
    check_width(&"a very long name ".repeat(20));
    check_width(&"\u{5b66}\u{7fd2}".repeat(60));
    check_width("two\nlines\u{1b}[31m");
}

#[test]
fn rows_of_other_sizes_are_told_apart() {
    let mut rows = rows();
    rows.push(exchange("small", &problem("a", "7"), &group("a", 0, "7 9")).0);
    let text = table(&rows);
    assert!(text.contains("Cons@N"), "{text}");
    assert!(
        text.contains("4 x 1 x 4") && text.contains("1 x 1 x 2"),
        "{text}"
    );
}

#[test]
fn markdown_keeps_its_columns() {
    let text = markdown(&[scored(
        "a|b <i> *c*",
        ["7 7 9 -", "5", "3", "4"].map(|_| "7 7 9 -"),
    )]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "| --- | --- | --- | --- | --- |");
    assert!(
        lines[2].starts_with("| a\\|b &lt;i> \\*c\\* | 12.5 [0.0, 52.3] |"),
        "{}",
        lines[2]
    );
}

#[test]
fn json_holds_everything() {
    let report = report();
    let text = json(&report.rows, &report.comparisons);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows: Vec<Summary> = serde_json::from_value(value["rows"].clone()).unwrap();
    assert_eq!(rows, report.rows);
    assert_eq!(value["comparisons"][0]["baseline"], "base");
}

#[test]
fn the_page_shows_what_it_was_given() {
    let page = html(&report());
    check_markup(&page);
    let told = [
        "<h1>Tiny</h1>",
        "<dt>Teacher</dt><dd>simulated</dd>",
        "LeaP-T <span class=\"against\">against</span> base",
        // A row's score, a path heard, a warning, a verdict, a loss.
        "<strong>50.0</strong> <span class=\"ci\">[17.5, 82.5]</span>",
        "path 1 heard path 2 (likeness 0.50)",
        "path 4 heard nobody",
        "readings with no peer left to hear",
        "<strong>a, LeaP-T: 2 of 4 right</strong>",
        "loss, nats per token",
    ];
    for text in told {
        assert!(page.contains(text), "`{text}` is not on the page");
    }
}

#[test]
fn the_page_needs_no_network() {
    let page = html(&report());
    for outside in [
        "http:", "https:", "//www", "src=", "href=", "url(", "@import", "<link", "<iframe",
    ] {
        assert!(!page.contains(outside), "`{outside}` is on the page");
    }
    assert_eq!(page.matches("<script>").count(), 1, "the one for the keys");
}

#[test]
fn the_page_is_a_function_of_the_report() {
    let text = serde_json::to_string(&report()).unwrap();
    let again: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(html(&report()), html(&again));
}

#[test]
fn an_empty_report_is_a_page() {
    check_markup(&html(&Report::default()));
    let nothing = Training {
        name: "none".into(),
        points: Vec::new(),
    };
    let broken = LossPoint {
        step: 1,
        loss: f64::NAN,
    };
    let broken = Training {
        name: "broken".into(),
        points: vec![broken],
    };
    check_markup(&html(&Report {
        trainings: vec![nothing, broken],
        ..Report::default()
    }));
}

#[test]
fn hostile_text_stays_text() {
    let problem = problem(HOSTILE, HOSTILE);
    let mut trace = exchanging(HOSTILE, 0, "7 9 - 7");
    trace.origin.model = HOSTILE.into();
    trace.origin.device = HOSTILE.into();
    for path in &mut trace.paths {
        for span in &mut path.spans {
            span.text.push_str(HOSTILE);
        }
    }
    trace.paths[1].end = PathEnd::Failed(HOSTILE.into());
    let (mut summary, mut example) = exchange(HOSTILE, &problem, &trace);
    for group in [&mut summary.by_problem[0].groups[0], &mut example.verdicts] {
        group.vote = vec![HOSTILE.into()];
        group.paths[0].answer = Some(HOSTILE.into());
    }
    let comparisons = vec![compare(&summary, &summary).unwrap()];
    let points = vec![LossPoint { step: 1, loss: 1.0 }];
    let page = html(&Report {
        title: HOSTILE.into(),
        facts: vec![Fact::new(HOSTILE, HOSTILE)],
        rows: vec![summary],
        comparisons,
        examples: vec![example],
        trainings: vec![Training {
            name: HOSTILE.into(),
            points,
        }],
        notes: vec![HOSTILE.into()],
    });
    check_markup(&page);
    assert_eq!(page.matches("<script").count(), 1, "the one for the keys");
    assert!(
        !page.contains("<img") && !page.contains("onerror='"),
        "an element broke out"
    );
    assert!(!page.contains(" 49 "), "text was taken for a template");
    assert!(
        page.contains("&lt;script&gt;alert(1)"),
        "the text itself is shown"
    );
}

#[test]
fn a_page_stays_small() {
    let mut trace = exchanging("a", 0, "7 9 - 7");
    for path in &mut trace.paths {
        path.spans[1].text = "word ".repeat(200_000);
    }
    let (summary, example) = exchange("long", &problem("a", "7"), &trace);
    let examples = vec![example; 50];
    let page = html(&Report {
        rows: vec![summary],
        examples,
        ..Report::default()
    });
    assert!(page.contains("characters left out"));
    assert_eq!(page.matches("<article>").count(), Report::MOST_EXAMPLES);
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

#[test]
fn the_example_is_chosen_by_rule() {
    // `b` has the most even split of right and wrong.
    let summary = scored("row", ["7 7 9 -", "12 12 5 5", "3 3 3 1", "8 8 8 -"]);
    assert_eq!(example_group(&summary), Some(("b", 0)));
    // A group whose paths were given something to read comes first.
    let mut groups: Vec<Trace> = vec![
        group("a", 0, "7 7 9 -"),
        group("b", 0, "12 12 5 5"),
        exchanging("c", 0, "3 3 3 3"),
    ];
    groups
        .iter_mut()
        .for_each(|trace| trace.method = protocol::Method::LeapT);
    let summary = score(&row("row"), &problems(), groups.into_iter()).unwrap();
    assert_eq!(example_group(&summary), Some(("c", 0)));
}

#[test]
fn an_example_belongs_to_its_row() {
    let summary = scored("row", ["7 7 9 -"; 4]);
    assert!(Example::new(&summary, &problem("a", "7"), group("a", 0, "7 7 9 -")).is_some());
    assert!(Example::new(&summary, &problem("a", "7"), group("a", 1, "7 7 9 -")).is_none());
    assert!(Example::new(&summary, &problem("z", "7"), group("z", 0, "7 7 9 -")).is_none());
    assert!(Example::new(&summary, &problem("b", "7"), group("a", 0, "7 7 9 -")).is_none());
    assert!(Example::new(&summary, &problem("a", "7"), group("a", 0, "7 7")).is_none());
}

#[test]
fn warnings_name_what_bent_the_numbers() {
    let mut trace = exchanging("a", 0, "7 9 - 7");
    trace.paths[0].cut_summaries = 1;
    trace.paths[1].end = PathEnd::Forced;
    trace.paths[3].end = PathEnd::Outgrown;
    let found = warnings(&exchange("row", &problem("a", "7"), &trace).0);
    let found: Vec<String> = found
        .iter()
        .map(|found| format!("{} of {}: {}", found.count, found.of, found.what))
        .collect();
    let expected = [
        "1 of 4: paths that gave no answer",
        "1 of 4: paths that used up their budget and had to answer",
        "1 of 4: paths that outgrew the model's positions and had to answer",
        "1 of 4: summaries cut at their limit",
        "1 of 4: readings with no peer left to hear",
    ];
    assert_eq!(found, expected);
    let clean = exchange("row", &problem("a", "7"), &group("a", 0, "7 9")).0;
    assert_eq!(warnings(&clean), []);
}

/// Every element that is opened is closed again, in order.
#[track_caller]
fn check_markup(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag is closed");
        let (tag, behind) = rest.split_at(end);
        rest = &behind[1..];
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        assert_eq!(
            tag.matches('"').count() % 2,
            0,
            "an attribute is not closed: <{tag}>"
        );
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name), "</{name}> closes something else"),
            false if tag.ends_with('/') || matches!(name, "!doctype" | "meta") => {}
            false => open.push(name),
        }
        if matches!(open.last(), Some(&("style" | "script"))) {
            let close = format!("</{}", open[open.len() - 1]);
            rest = &rest[rest.find(&close).expect("style and script are closed")..];
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "not closed");
}

#[test]
fn changes_of_mind_are_shown_everywhere() {
    let mut trace = exchanging("a", 0, "7 9 7 7");
    for (path, claim) in trace.paths.iter_mut().zip(["9", "7", "7", "12"]) {
        let summary = path
            .spans
            .iter_mut()
            .find(|span| span.text.contains("I added"));
        summary.unwrap().text = format!(" I get {claim}. </summarize>");
    }
    let (summary, example) = exchange("+LeaP", &problem("a", "7"), &trace);
    let report = Report {
        rows: vec![summary],
        examples: vec![example],
        ..Report::default()
    };
    let page = html(&report);
    for text in [
        "Changes of mind",
        "came over to right",
        "2 claims became right, 1 were given up",
        "(claimed \u{2717})",
        "class=\"up\"",
        "class=\"down\"",
    ] {
        assert!(page.contains(text), "no `{text}`");
    }
    let (text, markdown) = (
        infer::report::text(&report),
        infer::report::document(&report),
    );
    for written in [&text, &markdown] {
        assert!(written.contains("wrong to right"), "{written}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
}

#[test]
fn arrow_keys_belong_to_the_table_and_not_to_the_lines_of_a_picture() {
    let page = html(&report());
    // Lines behind a picture's marks are of the class `grid`, too, and come first.
    assert!(page.contains("<path class=\"grid\""));
    assert!(page.contains("querySelector(\"table.grid\")"));
    assert!(page.contains("<table class=\"grid\">"));
}
