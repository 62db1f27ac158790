//! Grading through its public surface: cases of our own, and the golden files of other graders.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail on rows that cannot be read, and say what they skipped or measured"
)]

mod fixtures;

use proptest::prelude::*;
use protocol::grade::{AnswerKind, Found, Grade, answer_region, canonical, equal, extract, grade};
use serde_json::Value;

// ---- golden files --------------------------------------------------------------------------

/// Rows of every `grading/<stem>*.jsonl`; `None` (after a message) without the fixtures.
fn rows(stem: &str) -> Option<Vec<(String, Value)>> {
    let mut rows = Vec::new();
    for (file, text) in fixtures::files("grading", stem, ".jsonl")? {
        for line in text.split('\n').filter(|l| !l.trim().is_empty()) {
            rows.push((file.clone(), serde_json::from_str(line).unwrap()));
        }
    }
    Some(rows)
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or("")
}

fn report(title: &str, right: usize, all: usize, wrong: &[String]) {
    eprintln!("{title}: {right}/{all}");
    wrong.iter().for_each(|w| eprintln!("  {w}"));
}

#[test]
fn adversarial_rows_are_graded_as_the_policy_says() {
    let Some(rows) = rows("adversarial") else {
        return;
    };
    let mut wrong = Vec::new();
    let all = rows.len();
    for (_, row) in rows {
        let kind = if text(&row, "kind") == "mcq" {
            AnswerKind::Choice
        } else {
            AnswerKind::Integer
        };
        let own: String = match row["segments"].as_array() {
            Some(parts) => parts
                .iter()
                .filter(|s| text(s, "role") == "model")
                .map(|s| text(s, "text"))
                .collect(),
            None => text(&row, "text").to_owned(),
        };
        let context = &row["context"];
        let prefilled = context["think_prefilled"].as_bool().unwrap_or(false);
        let stopped = context["finish_reason"].as_str().unwrap_or("stop") == "stop";
        let region = answer_region(&own, prefilled, stopped).unwrap_or("");
        let graded = grade(text(&row, "gold"), region, kind);
        let mut fine: Vec<Option<&str>> = vec![row["expected_extracted"].as_str()];
        if let Some(more) = row["also_accept"].as_array() {
            fine.extend(more.iter().map(Value::as_str));
        }
        let correct = row["expected_correct"].as_bool().unwrap();
        // A letter beyond the options of the question is an answer here, and a wrong one: the
        // grader does not know how many options there were.
        let out_of_range = kind == AnswerKind::Choice && !correct && graded.grade == Grade::Wrong;
        let read = fine.contains(&graded.answer.as_deref()) || out_of_range;
        if (graded.grade == Grade::Right) != correct || !read {
            wrong.push(format!(
                "{} ({}): {graded:?}",
                text(&row, "id"),
                text(&row, "tier")
            ));
        }
    }
    report("adversarial", all - wrong.len(), all, &wrong);
    assert!(
        wrong.is_empty(),
        "{} rows disagree:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn answer_pairs_agree_with_their_suites() {
    let Some(rows) = rows("answer_pairs") else {
        return;
    };
    let mut tally =
        std::collections::BTreeMap::<(String, String), (usize, usize, Vec<String>)>::new();
    for (_, row) in rows {
        let kind = match text(&row, "kind") {
            "integer" => AnswerKind::Integer,
            "mcq" => AnswerKind::Choice,
            _ => AnswerKind::Math,
        };
        let (gold, pred) = (text(&row, "gold"), text(&row, "pred"));
        let expected = row["expected"].as_bool().unwrap();
        let mut verdict = equal(gold, pred, kind);
        if row["symmetric"].as_bool() == Some(true) && equal(pred, gold, kind) != expected {
            verdict = !expected;
        }
        let key = (text(&row, "tier").to_owned(), text(&row, "kind").to_owned());
        let entry = tally.entry(key).or_default();
        entry.1 += 1;
        if verdict == expected {
            entry.0 += 1;
        } else {
            let tail = |t: &str| {
                t.chars()
                    .rev()
                    .take(90)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect::<String>()
            };
            entry.2.push(format!(
                "{} expected {expected}: {:?} | {:?} {}",
                text(&row, "id"),
                tail(gold),
                tail(pred),
                row["tags"]
            ));
        }
        assert!(
            !(kind == AnswerKind::Integer && verdict && !expected && text(&row, "tier") == "core"),
            "false credit: {row}"
        );
    }
    let mut failures = Vec::new();
    for ((tier, kind), (right, all, wrong)) in &tally {
        report(&format!("answer_pairs {tier} {kind}"), *right, *all, wrong);
        let exact = ["integer", "decimal", "fraction", "mcq"].contains(&kind.as_str());
        let enough = if exact {
            right == all
        } else {
            *right as f64 >= 0.97 * *all as f64
        };
        if tier == "core" && !enough {
            failures.push(format!("{kind}: {right}/{all}"));
        }
    }
    assert!(failures.is_empty(), "core rows: {failures:?}");
}

#[test]
fn multiple_choice_rows_agree_with_their_suites() {
    let Some(rows) = rows("mcq") else { return };
    let mut wrong = Vec::new();
    let mut all = 0;
    for (_, row) in rows {
        let (kind, tier) = (text(&row, "kind"), text(&row, "tier"));
        let known = row["expected_extracted_known"].as_bool() == Some(true);
        let expected = row["expected_extracted"].as_str();
        let verdict = match kind {
            "mcq_extract" | "mcq_score" if known => {
                extract(text(&row, "text"), AnswerKind::Choice).0.as_deref() == expected
            }
            "mcq_score" => {
                equal(text(&row, "gold"), text(&row, "text"), AnswerKind::Choice)
                    == (row["expected_correct"] == Value::Bool(true))
            }
            "mcq_pass_at_k" => {
                let texts = row["texts"].as_array().unwrap();
                let right = texts
                    .iter()
                    .filter(|t| {
                        let graded =
                            grade(text(&row, "gold"), t.as_str().unwrap(), AnswerKind::Choice);
                        graded.grade == Grade::Right
                    })
                    .count();
                let k = row["options"]["k"].as_u64().unwrap();
                protocol::stats::pass_at_k(texts.len() as u64, right as u64, k)
                    .is_some_and(|v| (v - row["expected_value"].as_f64().unwrap()).abs() < 1e-12)
            }
            "numeric_normalize" => {
                Some(canonical(text(&row, "text"), AnswerKind::Integer).as_str()) == expected
            }
            "boxed_extract" | "aime_score" => {
                let (answer, found) = extract(text(&row, "text"), AnswerKind::Integer);
                // The suite's extractor looks at boxes only.
                let boxed = answer.filter(|_| found == Found::Boxed);
                boxed.as_deref() == expected
            }
            _ => continue,
        };
        if tier != "core" {
            if !verdict {
                eprintln!("other convention: {} {}", text(&row, "id"), row["tags"]);
            }
            continue;
        }
        all += 1;
        if !verdict {
            let (answer, found) = extract(text(&row, "text"), AnswerKind::Choice);
            wrong.push(format!(
                "{}: {:?} gives {answer:?} {found:?}",
                text(&row, "id"),
                text(&row, "text")
            ));
        }
    }
    report("mcq core", all - wrong.len(), all, &wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// ---- reading answers -----------------------------------------------------------------------

/// `expected`: the canonical answer, or `-` for none.
#[track_caller]
fn check_integer(text: &str, expected: &str) {
    let (answer, found) = extract(text, AnswerKind::Integer);
    assert_eq!(
        answer.as_deref().unwrap_or("-"),
        expected,
        "{found:?} in {text:?}"
    );
}

#[track_caller]
fn check_choice(text: &str, expected: &str) {
    let (answer, found) = extract(text, AnswerKind::Choice);
    assert_eq!(
        answer.as_deref().unwrap_or("-"),
        expected,
        "{found:?} in {text:?}"
    );
}

#[track_caller]
fn check_math(gold: &str, answer: &str, expected: bool) {
    assert_eq!(
        equal(gold, answer, AnswerKind::Math),
        expected,
        "{gold:?} against {answer:?}"
    );
}

#[track_caller]
fn check_key(answer: &str, expected: &str) {
    assert_eq!(
        canonical(answer, AnswerKind::Math),
        expected,
        "of {answer:?}"
    );
}

#[test]
fn a_box_is_read_through_wrappers() {
    check_integer(r"\boxed{204}", "204");
    check_integer(r"\boxed{ 0204. }", "204");
    check_integer(r"\boxed{$204$}", "204");
    check_integer(r"\boxed{\textbf{204}}", "204");
    check_integer(r"\boxed{\mathbf{204}}", "204");
    check_integer(r"\boxed{\text{204 apples}}", "204");
    check_integer(r"\boxed{\text{Answer: }204}", "204");
    check_integer(r"\boxed{\text{The answer is } 204}", "204");
    check_integer(r"\boxed{204 \text{ square units}}", "204");
    check_integer(r"\boxed{204 \text{ km/h}}", "204");
    check_integer(r"\boxed{204\ \mathrm{km}/\mathrm{h}}", "204");
    check_integer(r"\boxed{\$204}", "204");
    check_integer(r"\boxed{204\%}", "204");
    check_integer(r"\boxed{204 cm^2}", "204");
    check_integer(r"\boxed{(204)}", "204");
    check_integer(r"\boxed{\{204\}}", "204");
    check_integer(r"\boxed{\displaystyle 204}", "204");
    check_integer(r"\boxed{{204}}", "204");
    check_integer(r"\boxed{-204}", "-204");
    check_integer(r"\boxed{-0}", "0");
    check_integer(r"\framebox[3cm][c]{204}", "204");
    check_integer(r"\fbox {204}", "204");
    check_integer(r"\boxed{\boxed{\boxed{204}}}", "204");
    check_integer("\\boxed{204\u{200b}}", "204");
}

#[test]
fn what_evaluates_to_an_integer_is_one() {
    check_integer(r"\boxed{1,204}", "1204");
    check_integer(r"\boxed{1\,204}", "1204");
    check_integer(r"\boxed{1\!204}", "1204");
    check_integer(r"\boxed{12,345,678}", "12345678");
    check_integer(r"\boxed{1 204}", "1204");
    check_integer(r"\boxed{200+4}", "204");
    check_integer(r"\boxed{2^{10}}", "1024");
    check_integer(r"\boxed{2^10}", "1024");
    check_integer(r"\boxed{\sqrt{144}}", "12");
    check_integer(r"\boxed{\sqrt{2}\cdot\sqrt{8}}", "4");
    check_integer(r"\boxed{\sqrt[3]{-27}}", "-3");
    check_integer(r"\boxed{\frac{1}{\sqrt2-1}-\sqrt2}", "1");
    check_integer(r"\boxed{\binom{10}{3}}", "120");
    check_integer(r"\boxed{5!}", "120");
    check_integer(r"\boxed{\log_2 8}", "3");
    check_integer(r"\boxed{\lfloor 7/2 \rfloor}", "3");
    check_integer(r"\boxed{|-5|}", "5");
    check_integer(r"\boxed{2\sin 30^\circ}", "1");
    check_integer(r"\boxed{2.5 \times 10^{3}}", "2500");
    check_integer(r"\boxed{2.5e3}", "2500");
    check_integer(r"\boxed{0.\overline{9}}", "1");
    check_integer(r"\boxed{i^2}", "-1");
    check_integer(r"\boxed{1204 \bmod 1000}", "204");
    check_integer(r"\boxed{N \equiv 204 \pmod{1000}}", "204");
    check_integer(r"\boxed{204 = m + n}", "204");
    check_integer(r"\boxed{x \approx 204}", "204");
    check_integer(r"\boxed{AB^2 = 204}", "204");
    check_integer(r"\boxed{f(3) = 204}", "204");
    check_integer(r"\boxed{|z|^2 = 204}", "204");
    check_integer(r"\boxed{\text{Area} = 204}", "204");
    check_integer(r"\boxed{204 \text{ or } 204}", "204");
}

#[test]
fn what_is_no_single_integer_is_no_answer() {
    check_integer(r"\boxed{204_5}", "-");
    check_integer(r"\boxed{204i}", "-");
    check_integer(r"\boxed{204:1}", "-");
    check_integer(r"\boxed{204.000001}", "-");
    check_integer(r"\boxed{\sqrt{41617}}", "-");
    check_integer(r"\boxed{\sqrt{41616.0000000000000000001}}", "-");
    check_integer(r"\boxed{(204, 0)}", "-");
    check_integer(r"\boxed{204 \text{ and } 205}", "-");
    check_integer(r"\boxed{x=204, y=3}", "-");
    check_integer(r"\boxed{204 5}", "-");
    check_integer(r"\boxed{2 hundred}", "-");
    check_integer(r"\boxed{2 \text{ less than } 206}", "-");
    check_integer(r"\boxed{\text{at least } 204}", "-");
    check_integer(r"\boxed{> 204}", "-");
    check_integer(r"\boxed{204/0}", "-");
    check_integer(r"\boxed{0^0}", "-");
    check_integer(r"\boxed{10^{10^{10}}}", "-");
    check_integer(r"\boxed{1e999999999}", "-");
    check_integer(r"\boxed{(((2^{999})^{999})^{999})^{999}}", "-");
    check_integer(r"\boxed{e^{\pi\sqrt{163}}}", "-");
    check_integer(r"\boxed{\infty}", "-");
    check_integer(r"\boxed{\emptyset}", "-");
    check_integer(r"\boxed{no solution}", "-");
    check_integer(r"\boxed{?}", "-");
}

#[test]
fn a_phrase_counts_and_a_stray_number_does_not() {
    check_integer("The answer is 204.", "204");
    check_integer("So the answer is **204**.", "204");
    check_integer("**Final Answer**\n\n204", "204");
    check_integer("**Final Answer:** $204$", "204");
    check_integer("Answer: 204 minutes", "204");
    check_integer("ANSWER = 204", "204");
    check_integer("The final answer is $m+n = 204$.", "204");
    check_integer("The answer is: \\[\n204\n\\]", "204");
    check_integer("The answer to the second question is 204.", "204");
    check_integer("The answer is 204 because 5 divides it.", "204");
    check_integer("The answer is 204, not 205.", "204");
    check_integer("The answer is 100. Wait, the answer is 204.", "204");
    check_integer("<answer>204</answer>", "204");
    check_integer("{\"answer\": 204}", "204");
    check_integer("204", "204");
    check_integer("$204$", "204");
    check_integer("the answer is therefore $204$.", "204");
    check_integer(r#"{"work": "1+1", "answer": "204"}"#, "204");
    check_integer("We get 204", "-");
    check_integer("The total is 204.", "-");
    check_integer("Is the answer 204?", "-");
    check_integer("The answer is 204th.", "-");
    check_integer("so x = 3 and 4 + 200 gives 204.", "-");
    check_integer("The answer is 204 or 205.", "-");
    check_integer("The answer is between 200 and 204.", "-");
    check_integer("The answer is 2 more than 202.", "-");
    check_integer("The answer isn't 204.", "-");
    check_integer("The answer is definitely not 204.", "-");
    check_integer("If the answer is 204, then n is even.", "-");
    check_integer("The previous answer was wrong: 204", "-");
    check_integer("I could not find the answer.", "-");
    check_integer("", "-");
}

#[test]
fn the_last_box_wins() {
    check_integer(r"\boxed{100} no: \boxed{204}", "204");
    check_integer(r"The answer is 100. \boxed{204} The answer is 5.", "204");
    check_integer(r"\boxed{204} and \boxed{}", "204");
    check_integer(r"\boxed{204}, as asked in \boxed{answer}", "204");
    check_integer(r"\boxed{204} then \boxed{20", "204");
    check_integer(r"\boxed{204} then \boxed{x}", "-");
    check_integer(r"{ \boxed{204} } } {", "204");
}

#[test]
fn a_letter_is_read_where_it_is_meant() {
    check_choice("Answer: C", "C");
    check_choice("The correct answer is **(D)**.", "D");
    check_choice("The correct option is B.", "B");
    check_choice(r"\boxed{B \text{ (42)}}", "B");
    check_choice(r"\boxed{\textbf{(A)}\ 12}", "A");
    check_choice(r"Answer: $\text{B}$", "B");
    check_choice(r"Answer: \(B\)", "B");
    check_choice("answer: c)", "C");
    check_choice("<answer>C</answer>", "C");
    check_choice("The answer is A because of entropy.", "A");
    check_choice("Option C is correct.", "C");
    check_choice("Everything considered:\n\n**C**", "C");
    check_choice("{'answer': 'C'}", "C");
    check_choice("The answer is E = mc^2.", "-");
    check_choice(r"\boxed{\text{A or C}}", "-");
    check_choice(r"\boxed{AC}", "-");
    check_choice("Answer: A and B", "-");
    check_choice("The answer is a matter of taste.", "-");
    check_choice("Answer: I don't know", "-");
    check_choice("A\nB\nC\nD", "-");
    check_choice("The answer is D2O.", "-");
    check_choice("Answer: Boron", "-");
}

#[test]
fn the_region_is_what_follows_the_reasoning() {
    #[track_caller]
    fn check(own: &str, prefilled: bool, stopped: bool, expected: Option<&str>) {
        assert_eq!(answer_region(own, prefilled, stopped), expected, "{own:?}");
    }
    check("<think>a</think>b", false, true, Some("b"));
    check("a</think>b", true, true, Some("b"));
    check("a</think>b", true, false, Some("b"));
    check("<think>a</think>b<think>c</think>d", false, true, Some("d"));
    check("a", true, true, None);
    check("<think>a", false, true, None);
    check("<think>a</think>b<think>c", false, true, None);
    check("a", false, true, Some("a"));
    check("a", false, false, None);
    check("a</think>b<|im_end|>c</think>d", true, true, Some("b"));
    check(
        "a<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}></think>b",
        true,
        true,
        None,
    );
}

// ---- comparing -----------------------------------------------------------------------------

#[test]
fn values_are_compared_exactly() {
    check_math(r"\frac{1}{2}", "0.5", true);
    check_math(r"\frac12", "1/2", true);
    check_math(r"\frac{1}{3}", "0.3333", false);
    check_math(r"\frac{1}{3}", "0.333333", true);
    check_math(r"\frac{2}{3}", "0.666667", true);
    check_math("204", "203.99999999999", false);
    check_math("1", "0.9999999999", false);
    check_math("1000000000000", r"\sqrt{1000000000000000000000001}", false);
    check_math("1.22", "1,22", true);
    check_math("x = 1.22", "1,22", true);
    check_math("1234", "1,234", true);
    check_math("1.234", "1,234", false);
    check_math("1,234", "1.234", false);
    check_math("3.14", r"\pi", false);
    check_math("2", r"\sqrt{2}^2", true);
    check_math(r"\sqrt{12}", r"2\sqrt{3}", true);
    check_math(r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}", true);
    check_math(r"\frac{1}{\sqrt2+\sqrt3}", r"\sqrt3-\sqrt2", true);
    check_math(r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}", true);
    check_math(r"\frac{\pi}{4}", r"\arctan 1", true);
    check_math(r"\ln 8", r"3\ln 2", true);
    check_math(r"2\frac{1}{3}", r"\frac73", true);
    check_math("3 1/2", "7/2", true);
    check_math("10%", "0.1", true);
    check_math("10%", "0.2", false);
    check_math("x^2-1", "(x-1)(x+1)", true);
    check_math(r"\frac{x^2-1}{x-1}", "x+1", true);
    check_math(r"\sin^2 x + \cos^2 x", "1", true);
    check_math("|x|", "x", false);
    check_math(r"\sqrt{x^2}", "x", false);
    check_math("xy", "yx", true);
    check_math("x", "y", false);
    check_math(r"e^{i\pi}", "-1", true);
    check_math(r"\binom{n}{2}", r"\frac{n(n-1)}{2}", true);
    check_math(r"\frac{(n+1)!}{n!}", "n+1", true);
    check_math(r"\sin 2^\circ", r"\sin 2", false);
    check_math(r"\sin 2^\circ", r"\sin\frac{\pi}{90}", true);
    check_math(r"\tan 45^\circ", "1", true);
    check_math(r"\sin x^\circ", r"\sin\frac{\pi x}{180}", true);
    check_math(r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt5}{4}", true);
    check_math(r"0\infty", "0", false);
    check_math(r"a\sqrt{b}", r"\sqrt{a^2 b}", false);
    check_math("no solution", "No solution", true);
    check_math("yes", "no", false);
}

#[test]
fn a_list_or_a_pair_is_no_decimal_number() {
    for (gold, answer) in [
        ("(1,5)", "1.5"),
        ("[1,5]", "1.5"),
        (r"\{2,3\}", "2.3"),
        ("2,3", "2.3"),
        ("(1,5)", r"\frac32"),
        ("1.5", "(1,5)"),
        ("1.5", "[1,5]"),
        ("2.3", r"\{2,3\}"),
        (r"\frac32", r"\left(1,5\right)"),
    ] {
        check_math(gold, answer, false);
    }
    check_math("1.5", "1,5", true);
    check_math(r"\frac32", "x = 1,5", true);
    check_math("2,3", "2,3", true);
    check_math("(1,5)", "(1, 5)", true);
}

#[test]
fn collections_are_compared_by_what_they_are() {
    check_math("(1,2)", "(2,1)", false);
    check_math(r"\{1,2\}", r"\{2,1\}", true);
    check_math("1,2", "2,1", true);
    check_math("1, 2", "1, 2, 3", false);
    check_math(r"\pm 3", "3, -3", true);
    check_math("x=1, y=2", "x=2, y=1", false);
    check_math("x=1, y=2", "y=2, x=1", true);
    check_math("x=1, y=2", "1, 2", true);
    check_math("x=1, y=2", "2, 1", false);
    check_math("(1,2), (3,4)", "(3,4), (1,2)", true);
    check_math("[0,1)", "[0,1]", false);
    check_math(r"0 \le x < 1", "[0,1)", true);
    check_math(
        r"(-\infty, 2) \cup (3, \infty)",
        r"x < 2 \text{ or } x > 3",
        true,
    );
    check_math(r"(-\infty, 2) \cup (2, \infty)", r"x \ne 2", true);
    check_math(r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)", true);
    check_math(
        r"\mathbb{R} \setminus \{0\}",
        r"(-\infty,0)\cup(0,\infty)",
        true,
    );
    check_math(r"-1 < x < 1", r"|x| < 1", true);
    check_math("1:2:3", "2:4:6", true);
    check_math("1:2:3", "2:4:7", false);
    check_math("y = 2x + 1", "2x - y + 1 = 0", true);
    check_math("y = 2x + 1", "2x+1", true);
    check_math("2x + y = 1", "1", false);
    check_math(
        r"\{1,2,3\}",
        r"\boxed{1}, \boxed{2} \text{ and } \boxed{3}",
        true,
    );
    check_math("4", r"\boxed{3} or rather \boxed{4}", true);
}

#[test]
fn keys_are_canonical() {
    check_key(r"\frac{28}{6}", "14/3");
    check_key("0.50", "1/2");
    check_key("x = 5", "5");
    check_key("m+n = 204", "204");
    check_key(r"\text{Yes}", "\"yes\"");
    check_key("2, 1, 2", r"\{1, 2\}");
    check_key("(1, 1/2)", "(1, 1/2)");
    check_key("y=2, x=1", r"\{x = 1, y = 2\}");
    check_key("x=1, x=3", r"\{1, 3\}");
    assert_eq!(canonical("0042", AnswerKind::Integer), "42");
    assert_eq!(canonical("(c)", AnswerKind::Choice), "C");
    // Different writings, one key.
    for (a, b) in [
        (r"\frac{1}{\sqrt3}", r"\frac{\sqrt3}{3}"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"2\pi r", r"r \cdot 2 \cdot \pi"),
        (r"\sin(x)+1", r"1+\sin x"),
        ("a_1 + a_2", "a_{2} + a_{1}"),
        (r"x \ge 5", r"5 \le x"),
    ] {
        assert_eq!(
            canonical(a, AnswerKind::Math),
            canonical(b, AnswerKind::Math),
            "{a} and {b}"
        );
    }
}

#[test]
fn a_verdict_names_where_the_answer_stood() {
    let graded = grade("204", r"The answer is \boxed{205}", AnswerKind::Integer);
    assert_eq!(
        (graded.grade, graded.answer.as_deref()),
        (Grade::Wrong, Some("205"))
    );
    assert_eq!(graded.found, Found::Boxed);
    let graded = grade("204", r"\boxed{204, 205}", AnswerKind::Integer);
    assert_eq!(
        (graded.grade, graded.answer, graded.found),
        (Grade::NoAnswer, None, Found::Boxed)
    );
    assert_eq!(
        serde_json::to_string(&Grade::NoAnswer).unwrap(),
        "\"no_answer\""
    );
    assert_eq!(serde_json::to_string(&Found::Boxed).unwrap(), "\"boxed\"");
    assert_eq!(
        serde_json::to_string(&AnswerKind::Choice).unwrap(),
        "\"choice\""
    );
}

// ---- hostile input -------------------------------------------------------------------------

#[test]
fn hostile_text_is_graded_in_linear_time() {
    let long = 20_000;
    let texts = [
        "\\boxed{".repeat(long),
        format!("{}204{}", "\\boxed{".repeat(long), "}".repeat(long)),
        format!("\\boxed{{{}}}", "(".repeat(long)),
        format!("\\boxed{{{}1}}", "-".repeat(2000)),
        format!("\\boxed{{2{}}}", "^2".repeat(1000)),
        format!("\\boxed{{2{}}}", "^{2".repeat(1000) + &"}".repeat(1000)),
        format!("\\boxed{{1{}}}", "!".repeat(2000)),
        format!("\\boxed{{{}}}", "\\frac".repeat(700)),
        format!("\\boxed{{{}}}", "\\sqrt{".repeat(600) + &"}".repeat(600)),
        format!("\\boxed{{{}}}", "9".repeat(4000)),
        format!("\\boxed{{{}}}", "(x+y+z)".repeat(500)),
        format!("\\boxed{{{}}}", "(a+b)^{12}".repeat(400)),
        format!("\\boxed{{{}1}}", "\\pm ".repeat(800)),
        format!("\\boxed{{{}}}", "1\\pm 1,".repeat(400)),
        format!(
            "\\boxed{{{}}}",
            "\\sqrt{99999999999999999999999999999999999977}+".repeat(80) + "1"
        ),
        format!("\\boxed{{{} 2}}", "\\sin".repeat(40)),
        format!(
            "\\boxed{{{}2{}}}",
            "\\sin(".repeat(40),
            "^\\circ)".repeat(40)
        ),
        format!("\\boxed{{{} 2}}", "\\ln".repeat(40)),
        format!("\\boxed{{{}2{}}}", "|f(".repeat(20), ")|".repeat(20)),
        format!("\\boxed{{\\text{{{}}}}}", "\\text{".repeat(500)),
        "the answer is ".repeat(long),
        "answer: $".repeat(long),
        "$".repeat(long),
        "\\( ".repeat(long),
        "{".repeat(long),
        "option ".repeat(long),
        "it's ".repeat(long),
        "A\n".repeat(long),
        "\\".repeat(long),
        "\u{ff5c}".repeat(long),
        format!(
            "\\boxed{{{}}}",
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}".repeat(90)
        ),
    ];
    for text in &texts {
        let head: String = text.chars().take(20).collect();
        for kind in [AnswerKind::Integer, AnswerKind::Math, AnswerKind::Choice] {
            let start = std::time::Instant::now();
            let graded = grade("204", text, kind);
            equal(text, text, kind);
            canonical(text, kind);
            assert!(
                start.elapsed().as_secs_f64() < 2.0,
                "{head:?} {kind:?} took {:?}",
                start.elapsed()
            );
            let nested = text.ends_with('}') && text.contains("{204}");
            assert!(graded.grade != Grade::Right || nested, "{graded:?}");
        }
    }
}

fn any_kind() -> impl Strategy<Value = AnswerKind> {
    prop_oneof![
        Just(AnswerKind::Integer),
        Just(AnswerKind::Math),
        Just(AnswerKind::Choice)
    ]
}

/// Strings of pieces that mean something to the reader: they reach further than random bytes.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "1",
        "2",
        "3.5",
        "204",
        "x",
        "y",
        "n",
        "e",
        "i",
        "\\pi",
        "+",
        "-",
        "*",
        "/",
        "^",
        "_",
        "=",
        "<",
        "\\le",
        ",",
        ";",
        ":",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\\{",
        "\\}",
        "|",
        "!",
        "%",
        "$",
        "\\frac",
        "\\sqrt",
        "\\pm",
        "\\cup",
        "\\text{ cm}",
        "\\text{and}",
        "\\boxed{",
        "sin",
        "log",
        "\\infty",
        "\\in",
        "\\approx",
        " ",
        "\n",
        "the answer is ",
        "Answer: ",
        "A",
        "C",
        ".",
        "\"",
        "\\left|",
        "\\right|",
        "\\binom",
        "\\log_2",
        "&",
        "\\\\",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\sum_{k=1}^n",
        "\u{b2}",
        "\u{2212}",
        "^\\circ",
        "0",
        "10",
        "and",
        "'",
        "#",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_panics(text in ".{0,200}", kind in any_kind()) {
        grade(&text, &text, kind);
        equal(&text, &text, kind);
        answer_region(&text, false, true);
    }

    #[test]
    fn a_key_is_its_own_key(text in pieces(), kind in any_kind()) {
        let key = canonical(&text, kind);
        prop_assert_eq!(&canonical(&key, kind), &key, "of {:?}", text);
    }

    #[test]
    fn a_readable_answer_equals_itself(text in pieces(), kind in any_kind()) {
        if let (Some(answer), _) = extract(&text, kind) {
            prop_assert!(equal(&answer, &answer, kind), "{:?}", answer);
            prop_assert!(grade(&answer, &text, kind).grade == Grade::Right, "{:?} of {:?}", answer, text);
        }
    }

    #[test]
    fn every_integer_is_read_back(value in any::<i64>(), zeros in 0usize..4) {
        let sign = if value < 0 { "-" } else { "" };
        let digits = value.unsigned_abs().to_string();
        let text = format!("\\boxed{{{sign}{}{digits}}}", "0".repeat(zeros));
        let expected = value.to_string();
        prop_assert_eq!(extract(&text, AnswerKind::Integer).0, Some(expected.clone()));
        prop_assert_eq!(canonical(&text, AnswerKind::Math), expected);
    }

    #[test]
    fn different_integers_differ(a in any::<i32>(), b in any::<i32>(), exact in any::<bool>()) {
        prop_assume!(a != b);
        let kind = if exact { AnswerKind::Integer } else { AnswerKind::Math };
        prop_assert!(!equal(&a.to_string(), &b.to_string(), kind));
        let boxed = format!("\\boxed{{{b}}}");
        prop_assert!(grade(&a.to_string(), &boxed, kind).grade == Grade::Wrong);
    }

    #[test]
    fn fractions_reduce(top in -999i64..999, bottom in 1i64..999, by in 1i64..50) {
        let plain = format!("\\frac{{{top}}}{{{bottom}}}");
        let scaled = format!("{}/{}", top * by, bottom * by);
        prop_assert!(equal(&plain, &scaled, AnswerKind::Math));
        prop_assert_eq!(canonical(&plain, AnswerKind::Math), canonical(&scaled, AnswerKind::Math));
    }

    #[test]
    fn one_key_means_equal(a in pieces(), b in pieces()) {
        if canonical(&a, AnswerKind::Math) == canonical(&b, AnswerKind::Math) {
            let fine = equal(&a, &b, AnswerKind::Math) || canonical(&a, AnswerKind::Math).contains(['"', '=', '<']);
            prop_assert!(fine, "{:?} and {:?}", a, b);
        }
    }
}
