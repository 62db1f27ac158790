//! Rows of answers, as `leap grade` reads them: our own cases, the golden files of other graders,
//! and hostile input.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail on rows that cannot be read, and say what they measured"
)]

mod fixtures;

use std::time::{Duration, Instant};

use protocol::Stream;
use protocol::grade::row::{Method, Row, RowError};
use protocol::grade::{AnswerKind, canonical, equal, grade};
use serde_json::{Value, json};

const OWN: &str = include_str!("golden/answers.jsonl");

fn parsed(text: &str) -> impl Iterator<Item = Value> {
    let lines = text.split('\n').filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap())
}

fn verdict(row: &Value) -> (Option<String>, Option<bool>, Method) {
    let row: Row = serde_json::from_value(row.clone()).unwrap();
    let verdict = row.grade().unwrap();
    (verdict.extracted, verdict.correct, verdict.method)
}

#[test]
fn our_own_rows_are_read_as_they_say() {
    let mut wrong = Vec::new();
    let mut all = 0;
    for row in parsed(OWN) {
        let (extracted, correct, _) = verdict(&row);
        let expected = row.get("expected_extracted");
        let read = expected.is_none_or(|expected| *expected == json!(extracted));
        if !read || json!(correct) != row["expected_correct"] {
            wrong.push(format!("{row} gives {extracted:?}, {correct:?}"));
        }
        all += 1;
    }
    assert!(all > 800, "only {all} rows");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn adversarial_rows_are_graded_as_the_policy_says() {
    let Some(files) = fixtures::files("grading", "adversarial", ".jsonl") else {
        return;
    };
    for row in files.iter().flat_map(|(_, text)| parsed(text)) {
        let (extracted, correct, _) = verdict(&row);
        let also = row["also_accept"].as_array().cloned().unwrap_or_default();
        let found = json!(extracted);
        let fine = found == row["expected_extracted"] || also.contains(&found);
        assert!(fine, "{} gives {extracted:?}", row["id"]);
        assert_eq!(json!(correct), row["expected_correct"], "{}", row["id"]);
    }
}

#[test]
fn multiple_choice_rows_give_what_their_suites_expect() {
    let Some(files) = fixtures::files("grading", "mcq", ".jsonl") else {
        return;
    };
    for row in files.iter().flat_map(|(_, text)| parsed(text)) {
        if row["tier"] != "core" {
            continue;
        }
        let graded: Row = serde_json::from_value(row.clone()).unwrap();
        let graded = graded.grade().unwrap();
        if row["expected_extracted_known"] == true {
            let found = json!(graded.extracted);
            assert_eq!(found, row["expected_extracted"], "{}", row["id"]);
        }
        if !row["expected_correct"].is_null() {
            let right = json!(graded.correct);
            assert_eq!(right, row["expected_correct"], "{}", row["id"]);
        }
        if let Some(expected) = row["expected_value"].as_f64() {
            let value = graded.value.unwrap();
            assert!((value - expected).abs() < 1e-12, "{}: {value}", row["id"]);
        }
    }
}

#[test]
fn numbers_whose_digits_json_loses_are_refused() {
    let read = |row: &str| serde_json::from_str::<Row>(row).map_err(|error| error.to_string());
    let big = "123456789012345678901234567890";
    for row in [
        format!(r#"{{"kind": "integer", "gold": {big}, "pred": "1"}}"#),
        format!(r#"{{"kind": "integer", "gold": "1", "pred": -{big}}}"#),
        format!(r#"{{"kind": "integer", "gold": 1, "pred": "1", "id": {big}}}"#),
    ] {
        let error = read(&row).unwrap_err();
        assert!(error.contains("write it as text"), "{error}");
    }
    let text = format!(r#"{{"kind": "integer", "gold": "{big}", "pred": "{big}1"}}"#);
    assert_eq!(read(&text).unwrap().grade().unwrap().correct, Some(false));
    let largest =
        r#"{"kind": "integer", "gold": 18446744073709551615, "pred": "18446744073709551615"}"#;
    assert_eq!(read(largest).unwrap().grade().unwrap().correct, Some(true));
    let decimal = r#"{"kind": "math", "gold": 0.5, "pred": 5e-1}"#;
    assert_eq!(read(decimal).unwrap().grade().unwrap().correct, Some(true));
}

#[test]
fn a_row_that_cannot_be_graded_says_why() {
    #[track_caller]
    fn check(row: Value, expected: &RowError) {
        let row: Row = serde_json::from_value(row).unwrap();
        assert_eq!(row.grade().unwrap_err(), *expected);
    }
    check(
        json!({"kind": "essay", "pred": "x"}),
        &RowError::Kind("essay".into()),
    );
    check(json!({"kind": "integer", "gold": 4}), &RowError::Nothing);
    check(
        json!({"kind": "mcq_pass_at_k", "gold": "A", "texts": ["A"], "options": {"k": 2}}),
        &RowError::PassAtK { k: 2, texts: 1 },
    );
}

#[test]
fn without_a_gold_nothing_is_right_or_wrong() {
    let (extracted, correct, method) =
        verdict(&json!({"kind": "integer", "text": "\\boxed{7}", "gold": null}));
    assert_eq!(
        (extracted.as_deref(), correct, method),
        (Some("7"), None, Method::Boxed)
    );
    let (_, correct, _) = verdict(&json!({"kind": "integer", "text": "\\boxed{7}", "gold": 7}));
    assert_eq!(correct, Some(true));
}

// ---- hostile input -------------------------------------------------------------------------

/// Longest time that one input may take, whatever it is.
const LIMIT: Duration = Duration::from_millis(50);

/// Pieces that mean something to the reader: they reach further than random bytes.
const PIECES: &str = r"\boxed{ } { \frac \frac{ \sqrt \sqrt[3]{ ^ _ ^{ _{ ( ) [ ] \{ \} | \left| \right| \left( \right) 
 + - * / = < > \le \ge \ne \pm \cup \cap \in \approx \equiv \pmod{ \cdot \times , ; : . ! % $ \$ $$ \( \) \[ \] \, \! ~ & \\
 0 1 2 3.5 204 1,234 0.1\overline{6} 2e9 99999999999999999999999 x y n e i \pi \theta \infty sin \sin \log_2 \ln \exp \binom{ \lfloor \rfloor
 \text{ \mathrm{ \textbf{ \text{and} \text{or} \text{cm} km % ^\circ \begin{pmatrix} \end{pmatrix} \sum_{k=1}^n ! !! ² − ≤ π √ ∞
 <think> </think> <answer> </answer> answer Answer: is not option C (C) A B D E and or because Peer 1's ** __ `  # <|im_end|> final";

struct Pieces {
    stream: Stream,
    next: u64,
    pieces: Vec<String>,
    seeds: Vec<String>,
}

impl Pieces {
    fn below(&mut self, n: usize) -> usize {
        self.next += 1;
        self.stream.below(self.next, n)
    }

    fn piece(&mut self) -> String {
        let at = self.below(self.pieces.len() + 4);
        match self.pieces.get(at) {
            Some(piece) => piece.clone(),
            None => [" ", "\n", "the answer is ", "\u{ff5c}"][at - self.pieces.len()].to_string(),
        }
    }

    /// Mostly short texts; now and then one piece or stretch over and over.
    fn text(&mut self) -> String {
        match self.below(20) {
            0 => {
                let most = [40, 400, 4000][self.below(3)];
                let count = self.below(most) + 1;
                let tail = self.text_of(6);
                self.text_of(3).repeat(count) + &tail
            }
            1..=5 => {
                let at = self.below(self.seeds.len());
                let mut text = self.seeds[at].clone();
                for _ in 0..=self.below(4) {
                    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
                    let at = places.get(self.below(places.len().max(1))).copied();
                    let at = at.unwrap_or(0);
                    match self.below(3) {
                        0 => text.truncate(at),
                        1 => text = text.split_off(at),
                        _ => text.insert_str(at, &self.piece()),
                    }
                }
                text
            }
            6 => {
                let inner = self.text_of(30);
                format!("\\boxed{{{inner}}}")
            }
            _ => self.text_of(24),
        }
    }

    fn text_of(&mut self, most: usize) -> String {
        (0..=self.below(most)).map(|_| self.piece()).collect()
    }
}

/// Time that this thread worked, where the system tells; other processes may slow the wall's clock.
struct Clock(Instant, Option<Duration>);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), Self::worked())
    }

    fn elapsed(&self) -> Duration {
        let wall = self.0.elapsed();
        // The system counts in ticks of a few milliseconds: what is short is not asked about.
        if wall < LIMIT / 2 {
            return wall;
        }
        let worked = self.1.zip(Self::worked());
        worked.map_or(wall, |(before, after)| {
            after.saturating_sub(before).min(wall)
        })
    }

    fn worked() -> Option<Duration> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
    }
}

/// The longest time that one call took, and the text.
fn slowest(inputs: u64) -> (Duration, String) {
    let texts =
        |row: &Value| ["text", "pred", "gold"].map(|key| row[key].as_str().map(String::from));
    let mut pieces = Pieces {
        stream: Stream::of_run(20_260).named("hostile"),
        next: 0,
        pieces: PIECES.split_whitespace().map(String::from).collect(),
        seeds: parsed(OWN).flat_map(|row| texts(&row)).flatten().collect(),
    };
    let (mut slowest, mut of) = (Duration::ZERO, String::new());
    for number in 0..inputs {
        let (text, gold) = (pieces.text(), pieces.text_of(8));
        let kind = [AnswerKind::Integer, AnswerKind::Math, AnswerKind::Choice][number as usize % 3];
        let work = || {
            let mut longest = Duration::ZERO;
            let mut timed = |call: &dyn Fn()| {
                let start = Clock::start();
                call();
                longest = longest.max(start.elapsed());
            };
            timed(&|| _ = grade(&gold, &text, kind));
            timed(&|| _ = equal(&gold, &text, kind));
            timed(&|| _ = equal(&text, &text, kind));
            timed(&|| drop(canonical(&text, kind)));
            longest
        };
        if let Some(answer) = grade(&gold, &text, kind).answer {
            assert_eq!(canonical(&answer, kind), answer, "key of {text:?}");
        }
        let mut time = work();
        // The machine may have been busy: what is slow is slow every time.
        if time > LIMIT {
            time = (0..3).map(|_| work()).min().unwrap();
        }
        if time > slowest {
            (slowest, of) = (time, text);
        }
    }
    (slowest, of)
}

fn check_hostile(inputs: u64) {
    let (slowest, of) = slowest(inputs);
    let head: String = of.chars().take(200).collect();
    eprintln!("{inputs} inputs, slowest {slowest:?}: {head:?}");
    assert!(slowest <= LIMIT, "{slowest:?} for {of:?}");
}

#[test]
fn a_hundred_thousand_hostile_inputs() {
    check_hostile(100_000);
}

#[test]
#[ignore = "minutes; run by name"]
fn a_million_hostile_inputs() {
    check_hostile(1_000_000);
}
