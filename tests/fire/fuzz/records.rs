//! Files of records: problems in every format, traces, samples, verdicts, journals, prompt sets.

use std::sync::Arc;

use data_gen::collection::{collect, plain_answers};
use data_gen::contamination::Benchmarks;
use data_gen::filters::{FilterSettings, PathVerdicts, columns};
use data_gen::import::{self, Columns};
use data_gen::{inspect, official};
use infer::journal::{self, Journal};
use infer::scripted::ScriptedEngine;
use infer::solve::solve_one;
use model::lineage::Record;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::reaction::reactions;
use protocol::trace_stats::TraceStats;
use protocol::{
    ByteVocab, Gold, Group, Method, Origin, Problem, PromptSet, Question, Sample, Settings, Setup,
    SpanKind, Stream, Trace, Vocab, jsonl,
};
use train::{Requirements, TrainOn};

use super::{Corpus, Place, Target, fuzz};

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u00",
    "\\\"",
    "\n",
    "\t",
    " ",
    "\"id\"",
    "\"problem\"",
    "\"answer\"",
    "\"kind\"",
    "\"choices\"",
    "\"integer\"",
    "\"math\"",
    "\"choice\"",
    "\"A\"",
    "\"42\"",
    "42",
    "\"version\":1",
    "\"version\":2",
    "\"ids\"",
    "\"spans\"",
    "\"text\"",
    "\"year\":2024",
    "AIME 2024 I",
    "\"said\"",
    "\"ended\"",
    "\"finish\"",
    "\"solution\"",
    "\\\\boxed{3}",
    "id,problem,answer\n",
    "\"\"\"",
    ",,,,",
];

/// Reads a file of problems, and does with it what commands do.
fn problems_file(place: &Place, name: &str, input: &[u8]) -> bool {
    let file = place.write(name, input);
    let Ok(mut rows) = import::rows(&[file], &Columns::default()) else {
        return false;
    };
    if plain_answers(&mut rows, false).is_err() {
        return false;
    }
    let mut benchmarks = Benchmarks::default();
    let first: Vec<Problem> = rows.iter().take(1).map(|row| row.problem.clone()).collect();
    benchmarks.add("first", &first);
    let found = collect(rows, Some(2030), &benchmarks);
    !found.problems.is_empty()
}

/// Levels and dictionaries of Parquet are made for 1,024 rows at a time; a page of 64 KiB is taken
/// whatever is stored of it, and an entry of a dictionary is held in sixteen bytes.
const PARQUET: usize = 8 << 20;

fn problems(name: &'static str, ending: &'static str, corpus: Corpus) {
    let target = Target {
        name,
        corpus,
        inputs: [100_000, 1_000_000],
        base: if ending == "parquet" {
            PARQUET
        } else {
            2 << 20
        },
        factor: 400,
        elsewhere: false,
    };
    let file = format!("aime2024.{ending}");
    fuzz(&target, Place::new, |place, input| {
        problems_file(place, &file, input)
    });
}

const LINES: [&str; 4] = [
    "{\"id\":\"a\",\"problem\":\"What is 6 * 7?\",\"answer\":42}\n{\"id\":\"b\",\"problem\":\"Half of 1?\",\"kind\":\"math\",\"answer\":\"\\\\frac{1}{2}\"}",
    "{\"id\":\"c\",\"problem\":\"Which?\",\"kind\":\"choice\",\"choices\":[\"one\",\"two\"],\"answer\":\"B\",\"source\":\"x\",\"split\":\"test\"}",
    "{\"ID\":\"2024-I-3\",\"Problem\":\"Find $x$ with $x^2=4$ and $x>0$.\",\"Answer\":\"025\",\"Year\":2024}",
    "{\"problem\":\"How many?\",\"solution\":\"So there are \\\\boxed{12}.\",\"level\":\"Level 5\",\"url\":\"https://x/2023_AIME_I_Problems\"}",
];

#[test]
fn problems_as_lines_of_json() {
    problems(
        "problems .jsonl",
        "jsonl",
        Corpus::json(LINES.map(str::to_owned).to_vec(), WORDS),
    );
}

#[test]
fn problems_as_json() {
    let mut valid: Vec<String> = LINES
        .iter()
        .map(|line| format!("[{}]", line.replace('\n', ",")))
        .collect();
    valid.push(format!("{{\"rows\":[{}],\"count\":1}}", LINES[1]));
    problems("problems .json", "json", Corpus::json(valid, WORDS));
}

const TABLE: [&str; 3] = [
    "id,problem,answer\na,What is 6 * 7?,42\nb,\"Half, of \"\"1\"\"?\",1/2\n",
    "ID,Year,Question,Answer\n1983-1,1983,\"Find $x$\nand more\",60\n",
    "question,A,B,C,D,answer\nWhich?,one,two,three,four,C\nWho?,a,b,c,d,1\n",
];

#[test]
fn problems_as_csv() {
    problems("problems .csv", "csv", Corpus::of(&TABLE, WORDS));
}

#[test]
fn problems_as_tsv() {
    let tabs = TABLE.map(|text| text.replace(',', "\t"));
    let tabs: Vec<&str> = tabs.iter().map(String::as_str).collect();
    problems("problems .tsv", "tsv", Corpus::of(&tabs, WORDS));
}

/// Small tables as this toolkit's own libraries write them.
fn parquet_tables() -> Vec<Vec<u8>> {
    let write = |schema: &str, fill: &dyn Fn(&mut SerializedFileWriter<&mut Vec<u8>>)| {
        let mut bytes = Vec::new();
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let mut writer =
            SerializedFileWriter::new(&mut bytes, schema, Arc::default()).expect("a writer");
        fill(&mut writer);
        writer.close().expect("a table");
        bytes
    };
    let texts = |texts: [&str; 2]| texts.map(ByteArray::from);
    let plain = "message m { required int64 id; required binary problem (UTF8); required binary answer (UTF8); }";
    let plain = write(plain, &|writer| {
        let mut group = writer.next_row_group().expect("a group");
        let mut column = group.next_column().expect("a column").expect("a column");
        let _ = column
            .typed::<Int64Type>()
            .write_batch(&[60, 61], None, None)
            .expect("ids");
        column.close().expect("a column");
        for values in [texts(["What?", "Who?"]), texts(["033", "204"])] {
            let mut column = group.next_column().expect("a column").expect("a column");
            let _ = column
                .typed::<ByteArrayType>()
                .write_batch(&values, None, None)
                .expect("texts");
            column.close().expect("a column");
        }
        group.close().expect("a group");
    });
    let nested = "message m { optional binary problem (UTF8); optional double answer; \
                  optional group choices (LIST) { repeated group list { optional binary element (UTF8); } } }";
    let nested = write(nested, &|writer| {
        let mut group = writer.next_row_group().expect("a group");
        let mut column = group.next_column().expect("a column").expect("a column");
        let _ = column
            .typed::<ByteArrayType>()
            .write_batch(&texts(["What?", "Who?"]), Some(&[1, 1]), None)
            .expect("texts");
        column.close().expect("a column");
        let mut column = group.next_column().expect("a column").expect("a column");
        let _ = column
            .typed::<DoubleType>()
            .write_batch(&[1.0, 0.0], Some(&[1, 1]), None)
            .expect("numbers");
        column.close().expect("a column");
        let mut column = group.next_column().expect("a column").expect("a column");
        let values = ["a", "b", "c", "d"].map(ByteArray::from);
        let _ = column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&[3, 3, 3, 3]), Some(&[0, 1, 0, 1]))
            .expect("lists");
        column.close().expect("a column");
        group.close().expect("a group");
    });
    vec![plain, nested]
}

#[test]
fn problems_as_parquet() {
    let corpus = Corpus {
        valid: parquet_tables(),
        words: &[
            "PAR1",
            "\u{15}\u{0}",
            "\u{19}",
            "\u{1}\u{0}\u{0}\u{0}",
            "\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{1}",
        ],
        json: false,
    };
    problems("problems .parquet", "parquet", corpus);
}

/// A group of two paths with sentences of a word, so that its record is short.
fn short_trace(method: Method) -> Trace {
    let text = |text: &str| text.to_owned();
    let prompts = PromptSet {
        name: text("s"),
        math: text("{problem}"),
        choice: text("{problem}{choices}"),
        math_example: text("{problem}"),
        choice_example: text("{problem}{choices}"),
        math_seed: String::new(),
        choice_seed: String::new(),
        triggers: vec![text("Sum.")],
        openers: vec![text("<summarize>")],
        comment: text("Peers: {peers}"),
        peer: text("{n}: {summary}"),
        peer_separator: text(";"),
        reflection: text("Hm."),
        no_peers: text("None."),
        alone: text("Hm."),
        forced_math: text("{close}Answer: "),
        forced_choice: text("{close}Answer: "),
        moa: text("{question} {answers}"),
        moa_answer: text("{n}: {answer}"),
        moa_separator: text(";"),
        moa_stop: text("{close}"),
    };
    let settings = Settings {
        paths: 2,
        turn_tokens: 12,
        max_tokens: 60,
        summary_tokens: 8,
        answer_tokens: 12,
        peers: 1,
        ..Preset::Default.settings(method)
    };
    let question = Question {
        text: text("6*7?"),
        kind: AnswerKind::Integer,
        choices: Vec::new(),
    };
    let setup = Setup {
        question,
        settings,
        prompts,
        stream: Stream::of_run(1),
        positions: 400,
        beginnings: Vec::new(),
        planted: 0,
    };
    let vocab = ByteVocab;
    let mut group = Group::new(0, setup, &vocab).expect("the settings work");
    let mut engine = ScriptedEngine::new(&vocab, 400)
        .say(0, 0, "It is 6 sevens.\n\n")
        .say(0, 0, "42</summarize>")
        .say(0, 0, "Yes.</think>\\boxed{42}")
        .say(0, 1, "It is 41?\n\n")
        .say(0, 1, "41</summarize>")
        .say(0, 1, "No.</think>42");
    let ended = solve_one(&mut group, &mut engine, &vocab, &mut |_| false);
    assert!(ended.expect("the engine works"), "the group ends");
    let origin = Origin {
        seed: 1,
        recipe: text("r"),
        model: text("m"),
        tokenizer: vocab.hash().to_owned(),
        device: text("d"),
    };
    group.into_trace(text("p"), 0, origin)
}

fn problem() -> Problem {
    Problem {
        id: "p".into(),
        question: Question {
            text: "6*7?".into(),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        gold: Gold::new("42"),
        source: None,
        split: None,
    }
}

const LIMITS: FilterSettings = FilterSettings {
    max_tokens: 16_384,
    summary_tokens: 256,
    summary_least: 4,
    progress: 0.9,
    copying: 0.9,
    repetition: 0.3,
    hesitation: 30.0,
    language: 0.05,
    uptake: 0.0,
    pass_rate: [0.1, 0.9],
    all_right: 0.5,
};

#[test]
fn traces() {
    let valid = [Method::Cot, Method::LeapT, Method::Leap].map(|method| {
        serde_json::to_string(&short_trace(method)).expect("a trace has a JSON form")
    });
    let target = Target {
        name: "traces",
        corpus: Corpus::json(valid.to_vec(), WORDS),
        inputs: [100_000, 1_000_000],
        base: 2 << 20,
        factor: 400,
        elsewhere: false,
    };
    let problem = problem();
    fuzz(
        &target,
        || (),
        |(), input| {
            let mut taken = false;
            for trace in jsonl::records::<Trace>(input)
                .map_while(Result::ok)
                .filter(|trace| trace.check().is_ok())
            {
                // Everything that is done with traces of others.
                taken = true;
                let _ = columns(&trace, &problem, &LIMITS);
                let _ = TraceStats::of([&trace]);
                let _ = reactions(&trace);
                let _ = trace.replay(&ByteVocab);
                for path in 0..trace.paths.len() {
                    if let Ok(sample) = Sample::of_path(&trace, path) {
                        let _ = inspect::Picture::of(&sample, &ByteVocab, &|_| 1.0);
                    }
                }
            }
            taken
        },
    );
}

#[test]
fn samples() {
    let trace = short_trace(Method::LeapT);
    let sample = |path| Sample::of_path(&trace, path).expect("it holds its prompt");
    let valid = (0..2).map(|path| serde_json::to_string(&sample(path)).expect("JSON"));
    let target = Target {
        name: "samples",
        corpus: Corpus::json(valid.collect(), WORDS),
        inputs: [100_000, 1_000_000],
        base: 1 << 20,
        factor: 400,
        elsewhere: false,
    };
    let needs = Requirements {
        tokenizer_hash: ByteVocab.hash(),
        bos: None,
        vocabulary: 257,
        positions: 400,
        max_tokens: 400,
    };
    let train_on = TrainOn::Own;
    fuzz(
        &target,
        || (),
        |(), input| {
            let Ok(samples) = jsonl::read::<Sample>(input) else {
                return false;
            };
            let mut counts = inspect::Counts::default();
            let mut pictures = Vec::new();
            for sample in &samples {
                counts.add(sample, &|kind| {
                    f64::from(u8::from(kind == SpanKind::Thought))
                });
                pictures.push(inspect::Picture::of(sample, &ByteVocab, &|_| 1.0));
            }
            let _ = inspect::html::page("samples", &counts, &pictures);
            train::check(&samples, &train_on, &needs).is_ok()
        },
    );
}

#[test]
fn verdicts() {
    let verdicts = columns(&short_trace(Method::LeapT), &problem(), &LIMITS);
    let valid = verdicts
        .iter()
        .map(|line| serde_json::to_string(line).expect("JSON"));
    let target = Target {
        name: "verdicts",
        corpus: Corpus::json(valid.collect(), WORDS),
        inputs: [100_000, 1_000_000],
        base: 256 << 10,
        factor: 200,
        elsewhere: false,
    };
    fuzz(
        &target,
        || (),
        |(), input| {
            let verdicts = jsonl::read::<PathVerdicts>(input);
            verdicts.is_ok_and(|lines| lines.iter().all(|line| line.passes(&[])))
        },
    );
}

#[test]
fn journals() {
    let trace = serde_json::to_string(&short_trace(Method::Cot)).expect("JSON");
    let said = r#"{"said":{"problem":"p","group":0,"path":1,"ids":[1,2,3],"finish":"eos"}}"#;
    let valid = vec![
        format!("{said}\n{said}\n"),
        format!("{said}\n{{\"ended\":{trace}}}\n"),
        r#"{"ended":{"problem":"p","group":1,"origin":{"recipe":"r"}}}"#.to_owned() + "\n",
    ];
    let target = Target {
        name: "journals",
        corpus: Corpus::json(valid, WORDS),
        inputs: [100_000, 1_000_000],
        // The journal is read and written through buffers of a megabyte.
        base: 5 << 20,
        factor: 200,
        elsewhere: false,
    };
    fuzz(&target, Place::new, |place, input| {
        let path = place.write("journal", input);
        let unit =
            |problem: &str, group: u32| (problem == "p" && group < 2).then_some(group as usize);
        let Ok((journal, _)) = Journal::open(&path, &unit) else {
            return false;
        };
        let to = place.path("traces.jsonl");
        let done = journal.finish(&to).is_ok();
        let _ = journal::is_whole(&to, [("p", 0), ("p", 1)].into_iter(), "r");
        done
    });
}

#[test]
fn prompt_sets() {
    let clean = toml::to_string(&PromptSet::clean()).expect("TOML");
    let short = toml::to_string(&short_trace(Method::Cot).setup.prompts).expect("TOML");
    let target = Target {
        name: "prompt sets",
        corpus: Corpus::of(
            &[&short, &clean],
            &[
                "=",
                "[",
                "]",
                "[[",
                "]]",
                "\"",
                "\"\"\"",
                "'''",
                "\n",
                "{",
                "}",
                ".",
                "a.a.a.a.",
                "{problem}",
                "{peers}",
                "{n}",
                "\\u",
                "#",
                "1979-05-27T07:32:00Z",
                "[a]\n",
            ],
        ),
        inputs: [100_000, 1_000_000],
        base: 1 << 20,
        factor: 1000,
        elsewhere: false,
    };
    let settings = Preset::Default.settings(Method::LeapT);
    let question = problem().question;
    fuzz(
        &target,
        || (),
        |(), input| {
            let Ok(text) = std::str::from_utf8(input) else {
                return false;
            };
            let set: Option<PromptSet> = toml::from_str(text).ok();
            let Some(set) = set.filter(|set| set.check().is_ok()) else {
                return false;
            };
            let _ = set.user(&question, &settings);
            let _ = set.agent(&question, &["a".into(), "b".into()], &settings);
            let _ = set.comment(&["a".into(), "{n}{summary}".into()]);
            let _ = set.forced(AnswerKind::Math, true, true);
            let _ = set.trigger(&Stream::of_run(1));
            true
        },
    );
}

#[test]
fn sentences_in_python() {
    let target = Target {
        name: "prompts.py",
        corpus: Corpus::of(
            &[
                "A = \"\"\"Text {x}\n\"\"\"\nB = [\"a\", 'b', f'{c}']\nSYSTEM = (\n  'one '\n  \"two\"\n)\n",
                "# comment\nimport os\nX = r'\\boxed{}' + 'y'\ndef f(a, b=1):\n    return \"\"\"z\"\"\"\n",
            ],
            &[
                "\"\"\"", "'''", "\\", "(", ")", "[", "]", "#", "\n", "=", "f\"", "r'", "\\x",
                "\\u12", "\\N{", "\\777", " ",
            ],
        ),
        inputs: [100_000, 1_000_000],
        base: 64 << 10,
        factor: 200,
        elsewhere: false,
    };
    fuzz(
        &target,
        || (),
        |(), input| {
            let text = String::from_utf8_lossy(input);
            // The right sentences are not part of this project, so none of these is a prompt set.
            assert!(official::prompt_set(&text, Some(&text)).is_err());
            !data_gen::python::strings(&text).is_empty()
        },
    );
}

#[test]
fn lineage() {
    let record = r#"{"schema":1,"weights":"00ff","made_from":{"base":"","samples":"aa","recipe":"bb","step":12,"toolkit":"0.1.0","exported":{"from":"cc","from_weights":"dd","dtype":"bf16"},"merged":{"base":"a","adapter":"b","dtype":"f32"}}}"#;
    let target = Target {
        name: "lineage.json",
        corpus: Corpus::json(vec![record.to_owned()], WORDS),
        inputs: [100_000, 1_000_000],
        base: 64 << 10,
        factor: 100,
        elsewhere: false,
    };
    fuzz(
        &target,
        || (),
        |(), input| serde_json::from_slice::<Record>(input).is_ok(),
    );
}
