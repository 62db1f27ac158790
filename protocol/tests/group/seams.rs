//! Where texts meet: cuts and stop strings inside tokens, odd summaries, few paths.

use protocol::{Group, Method, PathEnd, PathKey, Prompt, SpanKind, TemplateError, Trace, Vocab};

use crate::driver::{check, drawn, drive, drive_all, group, settings, setup};

/// Tokens of several bytes; what is none of them is spelled in bytes.
struct Pieces(&'static [&'static str]);

impl Vocab for Pieces {
    fn encode(&self, text: &str) -> Vec<u32> {
        let (mut ids, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, ..] = rest {
            let piece = self
                .0
                .iter()
                .position(|piece| rest.starts_with(piece.as_bytes()));
            let (id, length) = match piece {
                Some(at) => (300 + at as u32, self.0[at].len()),
                None => (u32::from(*first), 1),
            };
            ids.push(id);
            rest = &rest[length..];
        }
        ids
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        match id.checked_sub(300) {
            Some(at) => self.0[at as usize].as_bytes().to_vec(),
            None => u8::try_from(id).map_or_else(|_| Vec::new(), |byte| vec![byte]),
        }
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: self.encode(user),
            think_open: true,
        })
    }

    fn eos(&self) -> &[u32] {
        &[256]
    }

    fn hash(&self) -> &str {
        "pieces"
    }
}

/// Two paths; path 0 writes these, path 1 something plain.
fn run(pieces: &'static [&'static str], method: Method, texts: [&str; 3]) -> Trace {
    let vocab = Pieces(pieces);
    let group = Group::new(0, setup(settings(method, 2), 1000), &vocab).expect("it fits");
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0..3) => texts[n].to_string(),
        (_, 0) => "t".repeat(99),
        (_, 1) => " other </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let (trace, said) = drive_all(group, &vocab, &write, &mut |_| 0);
    let first = said.iter().find(|completion| completion.key.path == 0);
    let span = &trace.paths[0].spans[1];
    let ids: Vec<u32> = span.ids.iter().chain(&span.dropped).copied().collect();
    assert_eq!(
        ids,
        first.expect("it was asked").ids,
        "sampled ids never change"
    );
    trace.replay(&vocab).expect("it replays");
    trace
}

#[test]
fn a_cut_at_a_blank_line_inside_a_token_encodes_what_stays_of_it_again() {
    let text = "yes.\n\nNo this is long enough to fill the turn it has";
    let trace = run(
        &[".\n\nNo"],
        Method::Leap,
        [text, " s </summarize>", "</think>"],
    );
    let spans = &trace.paths[0].spans;
    assert_eq!((spans[1].text.as_str(), spans[1].ids.len()), ("yes", 3));
    assert_eq!(spans[2].text, ".\n\nSum up. <summarize> So");
    assert_eq!(spans[1].dropped.len(), 40 - 3);
}

#[test]
fn a_stop_string_that_ends_inside_a_token_takes_nothing_behind_it() {
    let trace = run(
        &["ink>\nand so"],
        Method::Cot,
        ["done </think>\nand so", "2", ""],
    );
    check(&trace, 0, "Thought:done </th|Bridge:ink>|Answer:2");
}

#[test]
fn the_end_of_a_tag_may_be_merged_with_a_line_end() {
    let texts = ["t<summarize>\n ", " s </summarize>\n", "</think>"];
    let trace = run(&[">\n"], Method::LeapT, texts);
    check(
        &trace,
        0,
        "Thought:t<summarize|Trigger:>|Summary: s </summarize|Bridge:>|\
         Comment: <comment> Peer 1: \"So other\" </comment>\n\n|\
         Bridge:Let me weigh what the others say.|Thought:</think>|Answer:2",
    );
    assert!(drawn(&trace, 1).contains("Peer 1: \"s\""));
}

#[test]
fn an_empty_summary_is_heard_as_empty() {
    let texts = ["t<summarize>", "</summarize>", "</think>"];
    let trace = run(&[], Method::LeapT, texts);
    assert!(drawn(&trace, 1).contains("Peer 1: \"\""));
    assert_eq!(trace.paths[0].cut_summaries, 0);
}

#[test]
fn tags_and_quotes_in_a_summary_are_words_like_others() {
    let said = " \"a\" {n} <summarize> <comment> b </comment> <thi </summarize>";
    let mut settings = settings(Method::Leap, 2);
    settings.summary_tokens = 99;
    settings.max_tokens = 300;
    let write = move |key: PathKey, n: usize| match (key.path, n) {
        (_, 0) => "t".repeat(99),
        (0, 1) => said.to_string(),
        (_, 1) => " s </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let trace = drive(group(settings, 2000), &write);
    let heard = "Peer 1: \"So \"a\" {n} <summarize> <comment> b </comment> <thi\"";
    assert!(drawn(&trace, 1).contains(heard), "{}", drawn(&trace, 1));
}

#[test]
fn a_summary_that_begins_its_closing_tag_at_the_limit_gets_the_rest_of_it() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (_, 0) => "t".repeat(99),
        // 24 tokens: the tag is cut in the middle.
        (0, 1) => " twelve bytes </summarize>".to_string(),
        (_, 1) => " s </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let trace = drive(group(settings(Method::Leap, 2), 2000), &write);
    assert!(drawn(&trace, 0).contains("Summary: twelve bytes </summariz|Bridge:e>"));
    assert!(drawn(&trace, 1).contains("Peer 1: \"So twelve bytes\""));
    assert_eq!(trace.paths[0].cut_summaries, 1);
}

#[test]
fn a_character_that_is_cut_at_the_limit_of_a_summary_is_left_out() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (_, 0) => "t".repeat(99),
        (0, 1) => "a".repeat(23) + "\u{e9}",
        (_, 1) => " s </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let trace = drive(group(settings(Method::Leap, 2), 2000), &write);
    let summary = trace.paths[0]
        .spans
        .iter()
        .find(|span| span.kind == SpanKind::Summary);
    let summary = summary.expect("it summed up");
    assert_eq!((summary.ids.len(), summary.dropped.len()), (23, 1));
    assert!(drawn(&trace, 1).contains(&format!("\"So{}...\"", "a".repeat(23))));
}

#[test]
fn the_end_of_a_thought_inside_a_summary_is_left_out() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (_, 0) => "t".repeat(99),
        (0, 1) => " s </think>".to_string(),
        (_, 1) => " s </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let trace = drive(group(settings(Method::Leap, 2), 2000), &write);
    assert!(drawn(&trace, 0).contains("Summary: s |Bridge:... </summarize>"));
    assert_eq!(trace.paths[0].cut_summaries, 1);
}

#[test]
fn one_path_and_no_path_left() {
    let write = |_: PathKey, n: usize| match n {
        0 => "t".repeat(99),
        1 => " s </summarize>".to_string(),
        2 => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let trace = drive(group(settings(Method::Leap, 1), 2000), &write);
    assert!(drawn(&trace, 0).contains(
        "Comment: <comment> Nobody else is working on it any more. </comment>\n\n|\
         Bridge:So I go on by myself.|"
    ));
    let fails = |_: PathKey, _: usize| "FAIL".to_string();
    let trace = drive(group(settings(Method::Leap, 3), 2000), &fails);
    let failed = |end: &PathEnd| *end == PathEnd::Failed("scripted".into());
    assert!(trace.paths.iter().all(|path| failed(&path.end)));
    assert!(trace.blocks.is_empty());
}
