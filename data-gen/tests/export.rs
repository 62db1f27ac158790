//! Samples in forms of others say what the samples say, and pictures show all of it.

use std::fs::File;

use data_gen::export::ExportError;
use data_gen::export::card::Card;
use data_gen::export::messages::{Conversation, Template};
use data_gen::export::tokens::{IGNORED, TokenWriter};
use data_gen::inspect::{Count, Counts, Picture, html, token_text};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use protocol::{ByteVocab, Prompt, Sample, SampleSpan, SpanKind, TemplateError, Vocab};

fn own(kind: SpanKind) -> bool {
    kind.is_sampled()
}

fn weight(kind: SpanKind) -> f64 {
    f64::from(u8::from(own(kind)))
}

fn sample(id: &str, spans: &[(SpanKind, &str)]) -> Sample {
    let spans = spans.iter().map(|(kind, text)| {
        let mut ids = ByteVocab.encode(text);
        if *kind == SpanKind::Answer {
            ids.push(ByteVocab::EOS);
        }
        SampleSpan { kind: *kind, ids }
    });
    Sample {
        version: Sample::VERSION,
        id: id.into(),
        problem: "p".into(),
        tokenizer: ByteVocab.hash().into(),
        spans: spans.collect(),
    }
}

fn path(id: &str) -> Sample {
    sample(
        id,
        &[
            (SpanKind::Prompt, "What is 6 * 7?"),
            (SpanKind::Thought, "21 and"),
            (SpanKind::Trigger, " <summarize>"),
            (SpanKind::Summary, " 21 </summarize>"),
            (SpanKind::Comment, " <comment> \u{e9}42 </comment>\n"),
            (SpanKind::Thought, "So 42.</think>"),
            (SpanKind::Answer, "\\boxed{42}"),
        ],
    )
}

fn ids(field: &Field) -> Vec<i32> {
    let Field::ListInternal(list) = field else {
        panic!("{field:?} is no list")
    };
    let value = |field: &Field| match field {
        Field::Int(value) => *value,
        other => panic!("{other:?} is no id"),
    };
    list.elements().iter().map(value).collect()
}

#[test]
fn parquet_holds_the_ids_and_labels_of_every_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("train.parquet");
    // More tokens than a row group takes.
    let long = "x".repeat(700_000);
    let samples = [
        path("p#0.0"),
        sample(
            "p#0.1",
            &[
                (SpanKind::Prompt, "q"),
                (SpanKind::Thought, &long),
                (SpanKind::Answer, "1"),
            ],
        ),
        sample(
            "p#0.2",
            &[(SpanKind::Prompt, &long), (SpanKind::Answer, "2")],
        ),
        path("p#1.0"),
    ];
    let mut writer = TokenWriter::create(&file, "bytes").expect("a file");
    for sample in &samples {
        writer.write(sample, &own).expect("written");
    }
    writer.finish().expect("a whole file");
    let reader = SerializedFileReader::new(File::open(&file).expect("the file")).expect("Parquet");
    assert!(reader.metadata().num_row_groups() > 1);
    let rows: Vec<_> = reader
        .get_row_iter(None)
        .expect("rows")
        .map(|row| row.expect("a row"))
        .collect();
    assert_eq!(rows.len(), samples.len());
    for (row, sample) in rows.iter().zip(&samples) {
        let columns: Vec<(&String, &Field)> = row.get_column_iter().collect();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "problem", "input_ids", "labels"]);
        assert_eq!(*columns[0].1, Field::Str(sample.id.clone()));
        let expected: Vec<(i32, i32)> = sample
            .spans
            .iter()
            .flat_map(|span| {
                span.ids
                    .iter()
                    .map(|&id| (id as i32, if own(span.kind) { id as i32 } else { IGNORED }))
            })
            .collect();
        let found: Vec<(i32, i32)> = ids(columns[2].1)
            .into_iter()
            .zip(ids(columns[3].1))
            .collect();
        assert_eq!(found, expected, "{}", sample.id);
    }
}

#[test]
fn the_first_token_has_no_label_and_what_cannot_be_trained_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("train.parquet");
    let mut writer = TokenWriter::create(&file, "bytes").expect("a file");
    let mut refused = |sample: &Sample, trained: &dyn Fn(SpanKind) -> bool| {
        writer
            .write(sample, trained)
            .expect_err("refused")
            .to_string()
    };
    let alone = sample("x", &[(SpanKind::Thought, "a")]);
    assert_eq!(refused(&alone, &own), "no token of sample `x` carries loss");
    assert!(refused(&path("x"), &|_| false).contains("carries loss"));
    let other = Sample {
        tokenizer: "words".into(),
        ..path("x")
    };
    assert!(refused(&other, &own).contains("was made with tokenizer words"));
    let mut huge = path("x");
    huge.spans[1].ids[0] = u32::MAX;
    assert!(refused(&huge, &own).contains("holds token 4294967295"));
}

/// Bytes with a chat template that opens a thought.
struct Chat;

impl Vocab for Chat {
    fn encode(&self, text: &str) -> Vec<u32> {
        ByteVocab.encode(text)
    }
    fn bytes(&self, id: u32) -> Vec<u8> {
        ByteVocab.bytes(id)
    }
    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: self.encode(&format!("<user>{user}</user><think>\n")),
            think_open: true,
        })
    }
    fn eos(&self) -> &[u32] {
        ByteVocab.eos()
    }
    fn hash(&self) -> &str {
        "bytes"
    }
}

#[test]
fn messages_say_what_was_asked_and_all_that_was_written() {
    let say = |vocab: &dyn Vocab, sample: &Sample| {
        let template = Template::of(vocab).expect("a template");
        template.conversation(sample, vocab)
    };
    let check = |found: &Conversation, user: &str, assistant: &str| {
        let [asked, written] = found.messages.as_slice() else {
            panic!("{} messages", found.messages.len())
        };
        assert_eq!(
            (asked.role.as_str(), asked.content.as_str()),
            ("user", user)
        );
        assert_eq!(
            (written.role.as_str(), written.content.as_str()),
            ("assistant", assistant)
        );
        let joined: String = found
            .segments
            .iter()
            .map(|segment| segment.text.as_str())
            .collect();
        assert_eq!(joined, assistant);
    };
    let written = "21 and <summarize> 21 </summarize> <comment> \u{e9}42 </comment>\nSo 42.</think>\\boxed{42}";
    let plain = say(&ByteVocab, &path("p#0.0")).expect("a conversation");
    check(&plain, "What is 6 * 7?", written);
    assert_eq!(plain.segments[3].kind, SpanKind::Comment);
    // The template has opened the thought: the answer begins with it.
    let mut chat = path("p#0.0");
    chat.spans[0].ids = Chat.prompt("What is 6 * 7?").expect("a prompt").ids;
    let found = say(&Chat, &chat).expect("a conversation");
    check(&found, "What is 6 * 7?", &format!("<think>\n{written}"));
    // A border inside a character.
    let mut divided = path("p#0.0");
    let byte = divided.spans[1].ids.len();
    divided.spans[1].ids.push(0xc3);
    divided.spans[2].ids.insert(0, 0xa9);
    assert_eq!(divided.spans[1].ids.len(), byte + 1);
    check(
        &say(&ByteVocab, &divided).expect("a conversation"),
        "What is 6 * 7?",
        &written.replacen("and", "and\u{e9}", 1),
    );
    // Another template's prompt.
    assert!(matches!(
        say(&Chat, &path("x")),
        Err(ExportError::Prompt { .. })
    ));
}

#[test]
fn pictures_show_every_token_and_count_the_loss() {
    let sample = path("p#0.0");
    let picture = Picture::of(&sample, &ByteVocab, &weight);
    assert_eq!(picture.len(), sample.len());
    let trained = picture
        .spans
        .iter()
        .flat_map(|span| &span.tokens)
        .filter(|token| token.weight > 0.0)
        .count();
    let mut counts = Counts::default();
    counts.add(&sample, &weight);
    assert_eq!(
        counts.all(),
        Count {
            tokens: sample.len() as u64,
            trained: trained as u64
        }
    );
    assert_eq!(
        trained,
        "21 and".len()
            + " 21 </summarize>".len()
            + "So 42.</think>".len()
            + "\\boxed{42}".len()
            + 1
    );
    assert_eq!(counts.present().count(), 6);
    let borders: Vec<(SpanKind, SpanKind)> = picture
        .borders()
        .map(|border| (border.before.0, border.after.0))
        .collect();
    assert_eq!(borders.len(), 6);
    let (_, after) = borders[3];
    assert_eq!(after, SpanKind::Comment);
    let last = picture.borders().last().expect("a border");
    let text: String = last
        .before
        .1
        .iter()
        .map(|token| token.text.as_str())
        .collect();
    assert_eq!(text, "ink>");
    assert_eq!(
        (
            token_text(0xc3, &ByteVocab).as_str(),
            token_text(ByteVocab::EOS, &ByteVocab).as_str()
        ),
        ("\\xc3", "<256>")
    );
    // The first token of a sample is predicted by nothing.
    let mut all = Counts::default();
    all.add(&sample, &|_| 1.0);
    assert_eq!(all.all().trained, sample.len() as u64 - 1);
    let page = html::page("a <b>", &counts, &[picture]);
    assert!(page.contains("<title>a &lt;b&gt;</title>") && page.contains("<h2>p#0.0</h2>"));
    assert_eq!(page.matches("<pre class=").count(), 7);
    let boxes = page.matches(" title=\"").count();
    let shown: usize = 6 * 8;
    assert!(
        boxes >= sample.len() && boxes <= sample.len() + shown,
        "{boxes}"
    );
    assert!(!page.contains("<summarize>") && !page.contains("http"));
}

#[test]
fn a_card_says_how_much_there_is_and_what_to_beware_of() {
    let mut counts = Counts::default();
    counts.add(&path("p#0.0"), &weight);
    let card = |ids| {
        Card {
            title: "Ours",
            tokenizer: "bytes",
            toolkit: "1.2.3",
            files: &[("train", "train.parquet"), ("test", "test.parquet")],
            ids,
            counts: &counts,
            held_out: 3,
            mixed_in: 0,
            account: None,
        }
        .text()
    };
    for part in [
        "split: test\n    path: test.parquet",
        "# Ours",
        "1 samples to train on and 3 held out",
        "| comment | 27 | 0 |",
        "`bytes`",
    ] {
        assert!(card(true).contains(part), "no `{part}` in {}", card(true));
    }
    assert!(
        card(true).contains("do not render them") && card(false).contains("drop everything up to")
    );
}
