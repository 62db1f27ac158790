//! The grader: what models write is read by it, and some of it is hostile by accident.

use protocol::grade::row::Row;
use protocol::grade::{self, AnswerKind};

use super::{Corpus, Target, fuzz};

const WORDS: &[&str] = &[
    "\\boxed{",
    "\\boxed",
    "\\fbox{",
    "}",
    "{",
    "\\frac{",
    "\\dfrac12",
    "\\sqrt{",
    "\\sqrt[3]{",
    "^",
    "^{",
    "_",
    "_{",
    "!",
    "!!",
    "9^9^9",
    "2^{1000}",
    "100000!",
    "10^{10^{10}}",
    "\\binom{",
    "\\cdot",
    "\\times",
    "\\pi",
    "\\left(",
    "\\right)",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "|",
    "+",
    "-",
    "*",
    "/",
    "=",
    "\\neq",
    "\\leq",
    "<",
    ">",
    ",",
    ";",
    "%",
    "\\%",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\text{",
    "\\mathrm{",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\\\",
    "&",
    "x",
    "y",
    "sin",
    "\\sin",
    "\\log_2",
    "\\ln",
    "e",
    "i",
    "\\infty",
    "\\cup",
    "\\cap",
    "\\in",
    "\\circ",
    "^\\circ",
    "The answer is ",
    "Therefore, ",
    "final answer: ",
    "**",
    "A",
    "(B)",
    "option C",
    "0.",
    ".5",
    "1,000,000",
    "3 1/2",
    "0.333333",
    "1e9",
    "1e-400",
    "\\overline{3}",
    "<think>",
    "</think>",
    "<|im_end|>",
    "half",
    "dozen",
    "twenty-one",
    "\u{221a}",
    "\u{00b2}",
    "\u{ff11}",
    "\u{2212}",
    "\u{03c0}",
    "\n\n",
    " ",
];

fn corpus() -> Corpus {
    Corpus::of(
        &[
            "So we get $x = 42$.\n\nThe answer is \\boxed{42}.",
            "\\boxed{\\frac{\\sqrt{3}}{2} + 2\\pi}",
            "The final answer is $\\left\\{1, 2, \\frac{3}{4}\\right\\}$.",
            "\\boxed{x^2 + 2x + 1 = (x+1)^2}",
            "**Answer:** (C) 12 apples",
            "\\boxed{\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}}",
            "\\boxed{(-\\infty, 3] \\cup [5, \\infty)}",
            "Therefore 10\\% of 3,600 is 360, so the answer is 360.",
            "\\boxed{2^{10} \\cdot 5!}",
            "\\boxed{\\binom{10}{3} + \\log_2 8 - \\sin 30^\\circ}",
            "</think>\n\nIt is $\\sqrt[3]{2+\\sqrt{5}}$.",
            "\\boxed{\\text{three and a half}}",
            "\\boxed{a = 1, b = -2, c = 0.333333}",
        ],
        WORDS,
    )
}

const KINDS: [AnswerKind; 3] = [AnswerKind::Integer, AnswerKind::Math, AnswerKind::Choice];
const GOLDS: [&str; 6] = [
    "42",
    "\\frac{1}{2}",
    "x^2+1",
    "C",
    "\\{1,2,3\\}",
    "\\sqrt{2}+\\pi",
];

#[test]
fn answers_of_models() {
    let target = Target {
        name: "grade",
        corpus: corpus(),
        inputs: [100_000, 1_000_000],
        base: 4 << 20,
        factor: 1 << 10,
        elsewhere: false,
    };
    fuzz(
        &target,
        || 0_usize,
        |turn, input| {
            let text = String::from_utf8_lossy(input);
            *turn += 1;
            let kind = KINDS[*turn % KINDS.len()];
            let gold = GOLDS[*turn % GOLDS.len()];
            let region = grade::answer_region(&text, *turn % 2 == 0, true).unwrap_or(&text);
            let graded = grade::grade(gold, region, kind);
            if let Some(key) = &graded.answer {
                assert_eq!(
                    grade::canonical(key, kind),
                    *key,
                    "the key of a key is the key"
                );
            }
            graded.answer.is_some()
        },
    );
}

#[test]
fn statements_held_against_each_other() {
    let target = Target {
        name: "grade: equal",
        corpus: corpus(),
        inputs: [100_000, 1_000_000],
        base: 4 << 20,
        factor: 1 << 10,
        elsewhere: false,
    };
    fuzz(
        &target,
        || 0_usize,
        |turn, input| {
            let text = String::from_utf8_lossy(input);
            *turn += 1;
            let kind = KINDS[*turn % 2];
            // One half against the other, and against itself.
            let middle = (0..=text.len() / 2)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            let (a, b) = text.split_at(middle.unwrap_or_default());
            let same = grade::equal(a, b, kind);
            assert_eq!(same, grade::equal(a, b, kind), "twice the same verdict");
            let _ = grade::stated(&text, AnswerKind::Math);
            same
        },
    );
}

#[test]
fn rows_of_answers() {
    let rows = [
        r#"{"id":1,"gold":"42","text":"The answer is \\boxed{42}","kind":"integer"}"#,
        r#"{"id":"a","gold":3,"pred":"3.0","kind":"math","context":{"think_prefilled":true,"finish_reason":"length"}}"#,
        r#"{"gold":"B","segments":[{"role":"model","text":"</think>"},{"role":"forced","text":"Answer: "},{"role":"model","text":"B"}],"kind":"choice","options":{"choices":["1","2","3"]}}"#,
        r#"{"gold":"7","texts":["\\boxed{7}","8","9","7"],"kind":"integer","options":{"k":2}}"#,
    ];
    let target = Target {
        name: "grade: rows",
        corpus: Corpus::json(rows.map(str::to_owned).to_vec(), WORDS),
        inputs: [100_000, 1_000_000],
        base: 4 << 20,
        factor: 1 << 10,
        elsewhere: false,
    };
    fuzz(
        &target,
        || (),
        |(), input| {
            let rows = protocol::jsonl::read::<Row>(input);
            rows.is_ok_and(|rows| rows.iter().all(|row| row.grade().is_ok()))
        },
    );
}
